// What was said in each chat, in memory: your app has tables and a login of its own in place of this file.

import type { UIMessage } from "ai";

import { read } from "./broadcaster";

export type Chat = {
  user: string;
  messages: UIMessage[];
  /** The latest answer. It is among the messages once it has ended and a page was opened, or a message sent, since. */
  generation: string | null;
};

// Routes and pages are bundles of their own, and share only what is global.
const here = globalThis as typeof globalThis & { chats?: Map<string, Chat> };
const chats = (here.chats ??= new Map());

/** The chat of this id, which begins empty. Ask your login here whose chat it is. */
export function find(id: string): Chat {
  const chat: Chat = chats.get(id) ?? { user: "me", messages: [], generation: null };
  chats.set(id, chat);
  return chat;
}

/** Take the latest answer into the messages if it has ended. False: it is still being written. */
export async function settle(chat: Chat): Promise<boolean> {
  if (!chat.generation) return true;
  const answer = await read(chat.generation);
  // The id that the stream gives to its message.
  const id = `msg_${answer.id}`;
  if (answer.ended_at && !chat.messages.some((message) => message.id === id)) {
    chat.messages.push({ id, role: "assistant", parts: [{ type: "text", text: answer.text }] });
  }
  return answer.ended_at !== null;
}

export const textOf = (message: UIMessage) =>
  message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
