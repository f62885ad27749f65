// What a server renders of a component with `useStream`, for each of these options: a line each.

import { createElement } from "react";
import { renderToString } from "react-dom/server";

import { useStream } from "../../clients/js/src/react.js";

function Answer({ options }) {
  const { status, text, connection } = useStream("s", options);
  return createElement("p", { "data-connection": connection.name }, `${status}: ${text}`);
}

for (const options of JSON.parse(process.argv[2])) console.log(renderToString(createElement(Answer, { options })));
