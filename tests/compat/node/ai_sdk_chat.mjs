// Streams as the real AI SDK client takes them, version 6 or 7: what its chat shows in the end, one line of JSON for each.
//
//   node ai_sdk_chat.mjs --version 6|7 --url URL [--url URL …]        GET each URL as a stream that is resumed
//   … --mode send [--id CHAT] [--text TEXT] [--body JSON]        POST to each URL as the chat's api, whose stream is read
//   … --mode continue --messages JSON                            POST what the chat holds: its last message goes on
//   … --mode resume --id CHAT                                    GET {URL}/{CHAT}/stream, as after a page's reload
//   … --mode read                                                GET each URL, read by readUIMessageStream as it is documented
//   … --retry                                                    after an error, resume once more in the same chat
//   … --messages JSON                                            what the chat holds at first
//
// A line: {messages, status, error, data, toolCalls, updates}: the chat's messages, ready or error, the error's text,
// the data parts received (transient ones too), the calls handed to the page, and how many updates its messages saw.

import { parseArgs } from "node:util";

const { values: options } = parseArgs({
  options: {
    version: { type: "string" },
    url: { type: "string", multiple: true, default: [] },
    mode: { type: "string", default: "stream" },
    id: { type: "string", default: "chat" },
    text: { type: "string", default: "Hi" },
    body: { type: "string", default: "{}" },
    messages: { type: "string", default: "[]" },
    retry: { type: "boolean", default: false },
  },
});

const { AbstractChat, DefaultChatTransport, readUIMessageStream } = await import(`ai${options.version}`);

class State {
  status = "ready";
  error = undefined;
  updates = 0;
  messages = JSON.parse(options.messages);

  pushMessage = (message) => {
    this.updates += 1;
    this.messages = [...this.messages, message];
  };
  popMessage = () => {
    this.messages = this.messages.slice(0, -1);
  };
  replaceMessage = (index, message) => {
    this.updates += 1;
    this.messages = this.messages.with(index, structuredClone(message));
  };
  snapshot = (value) => structuredClone(value);
}

class Chat extends AbstractChat {}

/** Without a chat: the last state of the message, in the options that readUIMessageStream has by default. */
async function readAlone(url) {
  const transport = new DefaultChatTransport({ prepareReconnectToStreamRequest: () => ({ api: url }) });
  const stream = await transport.reconnectToStream({ chatId: options.id });
  const errors = [];
  let message;
  for await (message of readUIMessageStream({ stream, onError: (error) => errors.push(String(error.message)) }));
  return { messages: message ? [message] : [], error: errors[0] ?? null };
}

async function read(url) {
  const state = new State();
  const data = [];
  const toolCalls = [];
  const errors = [];
  const whole = options.mode === "stream";
  const chat = new Chat({
    id: options.id,
    state,
    transport: new DefaultChatTransport({
      api: url,
      ...(whole && { prepareReconnectToStreamRequest: () => ({ api: url }) }),
    }),
    onData: (part) => data.push(part),
    onToolCall: ({ toolCall }) => void toolCalls.push(toolCall.toolCallId),
    onError: (error) => errors.push(String(error.message)),
  });
  if (options.mode === "send") {
    await chat.sendMessage({ text: options.text }, { body: JSON.parse(options.body) });
  } else if (options.mode === "continue") {
    await chat.sendMessage();
  } else {
    await chat.resumeStream();
  }
  if (options.retry && chat.status === "error") {
    chat.clearError();
    await chat.resumeStream();
  }
  return { messages: chat.messages, status: chat.status, error: errors[0] ?? null, data, toolCalls, updates: state.updates };
}

for (const url of options.url) {
  console.log(JSON.stringify(await (options.mode === "read" ? readAlone : read)(url)));
}
