// A chat of the package `ai` with the state that a framework's hook would keep.

class State {
  status = "ready";
  error = undefined;
  messages = [];

  pushMessage = (message) => {
    this.messages = [...this.messages, message];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.messages = this.messages.with(index, structuredClone(message));
  };
  snapshot = (value) => structuredClone(value);
}

/** One chat of this version of the package. */
export function chatOf(AbstractChat, options) {
  class Chat extends AbstractChat {}
  return new Chat({ ...options, state: new State() });
}
