// A `fetch` whose first streamed response breaks off, as a lost connection does.

/** Breaks off behind the block that holds `behind` (a text), or behind so many blocks (a number); null: never. */
export const cuttingFetch = (behind) => {
  let isCut = behind == null;
  const requests = [];
  const cutting = async (url, init = {}) => {
    const lastEventId = new Headers(init.headers ?? {}).get("last-event-id");
    requests.push({ method: init.method ?? "GET", url: String(url), last_event_id: lastEventId });
    const response = await fetch(url, init);
    const isStream = response.ok && response.headers.get("content-type")?.startsWith("text/event-stream");
    if (isCut || !isStream) return response;
    isCut = true;
    return new Response(brokenOff(response.body.getReader(), behind), response);
  };
  return { fetch: cutting, requests };
};

function brokenOff(reader, behind) {
  const decoder = new TextDecoder();
  const encoder = new TextEncoder();
  let came = "";
  const pull = async (controller) => {
    const { done, value } = await reader.read();
    if (done) return controller.close();
    const sent = came.length;
    came += decoder.decode(value, { stream: true });
    const end = endOf(came, behind);
    controller.enqueue(encoder.encode(came.slice(sent, end < 0 ? undefined : end)));
    if (end < 0) return;
    await reader.cancel();
    // In a turn of its own, because an error drops what has not been read yet.
    await new Promise((resolve) => setTimeout(resolve, 0));
    controller.error(new TypeError("terminated"));
  };
  return new ReadableStream({ pull, cancel: (reason) => reader.cancel(reason) }, { highWaterMark: 0 });
}

/** Where the block ends behind which to break off; -1: it has not come yet. */
function endOf(text, behind) {
  if (typeof behind === "string") {
    const at = text.indexOf(behind);
    const end = at < 0 ? -1 : text.indexOf("\n\n", at);
    return end < 0 ? -1 : end + 2;
  }
  let end = 0;
  for (let block = 0; block < behind; block += 1) {
    const at = text.indexOf("\n\n", end);
    if (at < 0) return -1;
    end = at + 2;
  }
  return end;
}
