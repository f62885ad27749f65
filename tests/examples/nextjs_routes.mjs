// The routes of examples/nextjs_chat behind an HTTP server of node, without Next.js. It prints its port.

import { createServer } from "node:http";

import { POST as stop } from "../../examples/nextjs_chat/app/api/chat/[id]/stop/route.ts";
import { GET as load } from "../../examples/nextjs_chat/app/api/chat/[id]/route.ts";
import { GET as resume } from "../../examples/nextjs_chat/app/api/chat/[id]/stream/route.ts";
import { POST as send } from "../../examples/nextjs_chat/app/api/chat/route.ts";

const routes = {
  "POST /api/chat": send,
  "GET /api/chat/*": load,
  "POST /api/chat/*/stop": stop,
  "GET /api/chat/*/stream": resume,
};

async function respond(incoming, outgoing) {
  const { method, url } = incoming;
  const [, , , id, ...rest] = url.split("/");
  let body = "";
  for await (const piece of incoming) body += piece;
  const request = new Request(`http://here${url}`, { method, body: body || null });
  const pattern = id === undefined ? url : ["/api/chat/*", ...rest].join("/");
  const response = await routes[`${method} ${pattern}`](request, { params: Promise.resolve({ id }) });
  outgoing.writeHead(response.status, Object.fromEntries(response.headers)).end(await response.text());
}

const server = createServer(respond).listen(0, "127.0.0.1", () => console.log(`listening on ${server.address().port}`));
