// useChat sends a message: begin the answer, and send the browser to its stream at the front-end.

import type { UIMessage } from "ai";

import { redirectToStream, Refusal, start } from "../../../lib/broadcaster";
import { find, settle, textOf } from "../../../lib/chats";

export async function POST(request: Request): Promise<Response> {
  const { id, messages }: { id: string; messages: UIMessage[] } = await request.json();
  const chat = find(id);
  try {
    if (!(await settle(chat))) return new Response("The last answer is still being written.", { status: 409 });
    // Of the browser's messages only the new one: it cannot change what was said before.
    const history = [...chat.messages, messages[messages.length - 1]];
    const texts = history.map((message) => ({ role: message.role, content: textOf(message) }));
    const generation = await start(texts.filter(({ content }) => content));
    Object.assign(chat, { messages: history, generation: generation.id });
    return await redirectToStream(generation.id, chat.user);
  } catch (error) {
    if (error instanceof Refusal) return new Response(error.message, { status: error.status });
    throw error;
  }
}
