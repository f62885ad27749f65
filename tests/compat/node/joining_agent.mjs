import { HttpAgent, runHttpRequest, transformHttpEventStream } from "@ag-ui/client";

/** An HttpAgent whose `connectAgent()` joins the newest run of its thread. */
export class JoiningAgent extends HttpAgent {
  connect({ threadId }) {
    this.abortController = new AbortController();
    const init = { headers: { ...this.headers, Accept: "text/event-stream" }, signal: this.abortController.signal };
    const address = `${this.url}?${new URLSearchParams({ threadId })}`;
    return transformHttpEventStream(runHttpRequest(() => this.fetch(address, init)));
  }
}
