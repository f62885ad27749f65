// useChat sends a message: begin the answer, and send the browser to its stream at the front-end.

import { randomUUID } from "node:crypto";

import type { UIMessage } from "ai";

import { passingRefusals, redirectToStream, start } from "../../../lib/broadcaster";
import { type Chat, find, settle, textOf } from "../../../lib/chats";

export async function POST(request: Request): Promise<Response> {
  const { id, messages }: { id?: string; messages?: UIMessage[] } = await request.json();
  const last = messages?.at(-1);
  const text = last?.role === "user" && Array.isArray(last.parts) ? textOf(last) : "";
  if (!id || !text) return new Response("Send a message of the user with a text.", { status: 400 });
  const chat = find(id);
  return passingRefusals(async () => {
    if (!(await settle(chat)) || chat.isStarting) {
      return new Response("The last answer is still being written.", { status: 409 });
    }
    return redirectToStream(await begin(chat, text), chat.user);
  });
}

/** The id of the next answer. Of the browser's messages only the new text counts: it cannot change what was said before. */
async function begin(chat: Chat, text: string): Promise<string> {
  const message: UIMessage = { id: randomUUID(), role: "user", parts: [{ type: "text", text }] };
  const history = [...chat.messages, message];
  const texts = history.map((message) => ({ role: message.role, content: textOf(message) }));
  // Set before anything is awaited: of two messages at once, one begins an answer.
  chat.isStarting = true;
  try {
    const { id } = await start(texts.filter(({ content }) => content));
    Object.assign(chat, { messages: history, generation: id });
    return id;
  } finally {
    chat.isStarting = false;
  }
}
