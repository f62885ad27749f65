// README's lines for a page, with the packages themselves; esbuild bundles this file for a browser.

import { HttpAgent } from "@ag-ui/client";
import * as v6 from "ai6";
import * as v7 from "ai7";
import { chatOf } from "./ai_sdk_state.mjs";

/** The text that `useChat` of this version shows after one question. */
async function chat(version, server) {
  const { AbstractChat, DefaultChatTransport } = { 6: v6, 7: v7 }[version];
  const transport = new DefaultChatTransport({ api: `${server}/api/chat` });
  const errors = [];
  const chat = chatOf(AbstractChat, { id: `chat-${version}`, transport, onError: (error) => errors.push(error.message) });
  await chat.sendMessage({ text: "Why is the sea salty?" });
  const { parts } = chat.messages.at(-1);
  return errors[0] ?? parts.filter(({ type }) => type === "text").map(({ text }) => text).join("");
}

/** The text that an HttpAgent holds after one run. */
async function run(server) {
  const agent = new HttpAgent({ url: `${server}/agui` });
  agent.setMessages([{ id: "m1", role: "user", content: "Why is the sea salty?" }]);
  await agent.runAgent({});
  return agent.messages.at(-1).content;
}

Object.assign(globalThis, { chat, run });
