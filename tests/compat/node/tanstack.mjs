// The packages `@tanstack/ai` and `@tanstack/ai-client` under node: a chat over `fetchServerSentEvents`.

import { ChatClient, fetchServerSentEvents } from "@tanstack/ai-client";
import { cuttingFetch } from "./cutting.mjs";
import { serve, failureOf } from "./jobs.mjs";

/** What the page shows when the client is done: its messages by their parts, its status, the errors on the way. */
async function shown(job, go) {
  const { fetch: cutting, requests } = cuttingFetch(job.cut_behind);
  const fetch = (url, init) => cutting((requests.length && job.later_url) || url, init);
  const types = [];
  const errors = [];
  const adapter = fetchServerSentEvents(job.url, { fetchClient: fetch, reconnect: { delayMs: 1 } });
  let hydration = null;
  const hydrate = (...given) => (hydration = adapter.hydrate(...given));
  const client = new ChatClient({
    threadId: job.thread_id,
    persistence: job.persistence,
    connection: { ...adapter, hydrate },
    onChunk: (chunk) => void types.push(chunk.type),
    onError: (error) => void errors.push(failureOf(error)),
  });
  client.attach();
  await go(client, hydration);
  const final = client.getMessages().map(({ id, role, parts }) => ({ id, role, parts }));
  client.dispose();
  return { final, status: client.getStatus(), errors, types, requests };
}

/** Until the client knows its thread's run, and has read that to its end. */
async function settled(client, hydration) {
  await hydration;
  do await new Promise((resolve) => setTimeout(resolve, 1));
  while (client.getIsLoading());
}

serve({
  send: (job) => shown(job, (client) => client.sendMessage(job.text)),
  hydrate: (job) => shown({ ...job, persistence: true }, settled),
});
