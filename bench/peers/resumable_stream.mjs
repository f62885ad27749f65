// resumable-stream as its README shows it: the first viewer of a stream starts its producer in this process, the others
// resume it through Redis.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { listenForEvents } from "./lines.mjs";

const load = createRequire(process.env.NODE_ROOT + "/");
const { createResumableStreamContext } = await import(load.resolve("resumable-stream"));
const { createClient } = load("redis");
const [port, eventsPort] = process.argv.slice(2).map(Number);
const options = { socket: { path: process.env.REDIS_SOCKET } };
const publisher = createClient(options);
const subscriber = createClient(options);
await publisher.connect();
await subscriber.connect();
const context = createResumableStreamContext({ waitUntil: (work) => work?.catch?.(() => {}), publisher, subscriber });
const producers = new Map();

createServer(async (request, response) => {
  const name = request.url.split("/").pop();
  const produce = () => new ReadableStream({ start: (controller) => producers.set(name, { controller, seq: 0 }) });
  const stream = await context.resumableStream(request.url, produce);
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  response.flushHeaders();
  try {
    for await (const piece of stream ?? []) {
      if (!response.write(piece)) await new Promise((resume) => response.once("drain", resume));
    }
  } catch {
    response.destroy();
  }
  response.end();
}).listen(port, "127.0.0.1", 4096);

listenForEvents(eventsPort, (stream, event) => {
  const producer = producers.get(stream);
  producer?.controller.enqueue(`id: ${++producer.seq}\ndata: ${event}\n\n`);
});
