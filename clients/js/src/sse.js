/**
 * Text of one event stream, in any portions → its messages (WHATWG HTML, 9.2.6). The twin of broadcaster/core/sse.py:
 * a test compares the two. Pure: no DOM, no clock, no network.
 *
 * Rules
 * 1. A line ends with LF, CRLF or CR; a CR at a portion's end ends its line at once.
 * 2. A blank line dispatches a block. One without `data` dispatches nothing, yet its `id` and `retry` count.
 * 3. `id` stays in force for the blocks that follow. A block that the connection's end cuts is discarded, with its id.
 */

export class SseDecoder {
  retryMs = null;
  #id;
  #rest = "";
  #skipsLf = false;
  #type = "";
  #data = [];

  /** `lastEventId`: the last id of the connection before this one. */
  constructor(lastEventId = "") {
    this.lastEventId = lastEventId;
    this.#id = lastEventId;
  }

  /** The messages that this portion completes, each {type, data, lastEventId}. */
  decode(text) {
    if (text === "") return [];
    if (this.#skipsLf && text[0] === "\n") text = text.slice(1);
    this.#skipsLf = text.endsWith("\r");
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#rest + lines[0];
    this.#rest = lines.pop();
    const messages = [];
    for (const line of lines) {
      if (line !== "") this.#read(line);
      else this.#dispatch(messages);
    }
    return messages;
  }

  #read(line) {
    const at = line.indexOf(":");
    const name = at < 0 ? line : line.slice(0, at);
    const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^\d{1,15}$/.test(value)) this.retryMs = +value;
  }

  #dispatch(messages) {
    this.lastEventId = this.#id;
    if (this.#data.length > 0) {
      messages.push({ type: this.#type || "message", data: this.#data.join("\n"), lastEventId: this.#id });
    }
    this.#type = "";
    this.#data = [];
  }
}
