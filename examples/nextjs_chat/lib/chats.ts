// What was said in each chat, in memory and without a bound: your app has tables and a login of its own in place of this
// file.

import type { UIMessage } from "ai";

import { type Generation, read, Refusal } from "./broadcaster";

export type Chat = {
  user: string;
  messages: UIMessage[];
  /** The latest answer. It is among the messages once it has ended and a page was opened, or a message sent, since. */
  generation: string | null;
  /** A request has begun the next answer, and does not know its id yet. */
  isStarting: boolean;
};

// Routes and pages are bundles of their own, and share only what is global.
const here = globalThis as typeof globalThis & { chats?: Map<string, Chat> };
const chats = (here.chats ??= new Map());

/** The chat of this id, which begins empty. Ask your login here whose chat it is. */
export function find(id: string): Chat {
  const chat: Chat = chats.get(id) ?? { user: "me", messages: [], generation: null, isStarting: false };
  chats.set(id, chat);
  return chat;
}

/** Take the latest answer into the messages if it has ended. False: it is still being written. */
export async function settle(chat: Chat): Promise<boolean> {
  const { generation } = chat;
  if (!generation) return true;
  // The id that the stream gives to its message.
  const id = `msg_${generation}`;
  const isTaken = () => chat.messages.some((message) => message.id === id);
  if (isTaken()) return true;
  const answer = await readUnlessExpired(generation);
  if (answer && !answer.ended_at) return false;
  // Another request may have taken it meanwhile, and begun the next one.
  if (chat.generation !== generation) return false;
  if (!isTaken()) {
    const text = answer ? markedText(answer) : "[This answer has expired.]";
    chat.messages.push({ id, role: "assistant", parts: [{ type: "text", text }] });
  }
  return true;
}

/** Answers are kept for BROADCASTER_RETENTION_S: a chat outlives them. */
async function readUnlessExpired(generation: string) {
  try {
    return await read(generation);
  } catch (error) {
    if (error instanceof Refusal && error.status === 404) return null;
    throw error;
  }
}

/** What is missing is marked: a reader, and the model in the next turn, do not take a part for the whole. */
function markedText({ status, text, error, truncated }: Generation): string {
  const marks = [truncated && "[An earlier part has expired.]", text];
  if (status === "failed") marks.push(`[failed: ${error?.message}]`);
  if (status === "aborted") marks.push("[stopped]");
  return marks.filter(Boolean).join(" ");
}

export const textOf = (message: UIMessage) =>
  message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
