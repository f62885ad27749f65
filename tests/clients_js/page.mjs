// What the browser tests run in a page: bundled with React, as an application would be.

import { createElement } from "react";
import { createRoot } from "react-dom/client";

import { watch } from "../../clients/js/src/index.js";
import { fetch as nativeFetch } from "../../clients/js/src/native/fetch.js";
import { useStream } from "../../clients/js/src/react.js";

let root;
globalThis.renderings = 0;

function Answer({ stream, options }) {
  globalThis.renderings += 1;
  const { text, status, connection } = useStream(stream, options);
  return createElement("p", { "data-testid": "answer", "data-connection": connection.name }, `${status}: ${text}`);
}

/** Show a stream; null shows none. */
globalThis.show = (stream, token) => {
  root ??= createRoot(document.body.appendChild(document.createElement("main")));
  // As an application writes it: a new function, and a new object, at each rendering; null before its user has logged in.
  root.render(createElement(Answer, { stream, options: { token: token && (() => token) } }));
};

/** Follow a stream as React Native does, and count the characters that arrive. */
globalThis.followNatively = async (stream) => {
  globalThis.received = 0;
  const counting = async (...request) => {
    const response = await nativeFetch(...request);
    const { read, cancel } = response.body.getReader();
    const counted = async () => {
      const result = await read();
      globalThis.received += result.value?.length ?? 0;
      return result;
    };
    return { ...response, body: { getReader: () => ({ read: counted, cancel }) } };
  };
  const answer = watch(stream, { fetch: counting });
  for await (const _ of answer);
  return answer.state.text;
};

/** Follow a stream and note the connections that are made. */
globalThis.followHidden = (stream) => {
  globalThis.connections = 0;
  const counting = (...request) => {
    globalThis.connections += 1;
    return fetch(...request);
  };
  globalThis.answer = watch(stream, { fetch: counting });
  globalThis.whole = (async () => {
    for await (const _ of globalThis.answer);
    return globalThis.answer.state.text;
  })();
};

/** Follow a stream as an application does, where the network may hold events back. */
globalThis.follow = async (stream, options) => {
  const answer = watch(stream, options);
  const names = [];
  for await (const update of answer) if (update.kind === "connection") names.push(update.name);
  return { text: answer.state.text, names };
};

globalThis.setVisibility = (state) => {
  Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
};
