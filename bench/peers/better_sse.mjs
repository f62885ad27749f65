// better-sse as its README shows it: one channel for each stream, broadcast from this process's memory. No Redis.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { listenForEvents } from "./lines.mjs";

const { createChannel, createSession } = createRequire(process.env.NODE_ROOT + "/")("better-sse");
const [port, eventsPort] = process.argv.slice(2).map(Number);
const channels = new Map();

function channelOf(stream) {
  if (!channels.has(stream)) channels.set(stream, { channel: createChannel(), seq: 0 });
  return channels.get(stream);
}

createServer(async (request, response) => {
  const session = await createSession(request, response, { keepAlive: null, serializer: (event) => event });
  channelOf(request.url.split("/").pop()).channel.register(session);
}).listen(port, "127.0.0.1", 4096);

listenForEvents(eventsPort, (stream, event) => {
  const held = channelOf(stream);
  held.channel.broadcast(event, "message", { eventId: String(++held.seq) });
});
