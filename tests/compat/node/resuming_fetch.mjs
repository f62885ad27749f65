/** A `fetch` for HttpAgent. A response that breaks off continues behind the last block that came. */
export const resumingFetch = ({ fetch = globalThis.fetch, attempts = 5, delayMs = 500 } = {}) => async (url, init) => {
  const response = await fetch(url, init);
  if (!response.ok) return response;
  const blocks = resumed(fetch, url, init, response, { attempts, delayMs });
  const pull = async (controller) => {
    const { done, value } = await blocks.next();
    done ? controller.close() : controller.enqueue(new TextEncoder().encode(`${value}\n\n`));
  };
  return new Response(new ReadableStream({ pull, cancel: () => blocks.return() }), response);
};

async function* resumed(fetch, url, init, response, { attempts, delayMs }) {
  let last = null;
  for (let failed = 0; ; ) {
    let isGreeting = last !== null; // of a response that continues: the client has one already
    try {
      if (response.status === 204) return;
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      for await (const block of blocksOf(response.body.getReader())) {
        if (block.includes('"code":"drain"')) throw new Error("the front-end ends");
        const id = /^id: (.*)$/m.exec(block)?.[1];
        // A client that was cut within the snapshot has no cursor to continue from.
        last = id ?? (last === "0-0" && !block.startsWith(":") ? null : last);
        if (!isGreeting) yield block;
        isGreeting = false;
        failed = 0;
      }
      return;
    } catch (error) {
      failed += 1;
      if (!last || init?.signal?.aborted || failed > attempts || response.status === 404) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    const headers = { ...init?.headers, "Last-Event-ID": last };
    response = await fetch(url, { ...init, headers }).catch(() => new Response(null, { status: 503 }));
  }
}

async function* blocksOf(reader) {
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (text + decoder.decode(value, { stream: true })).split("\n\n");
      text = blocks.pop();
      yield* blocks;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
