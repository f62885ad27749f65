/**
 * Finds the coloured ranges of code in a web worker, one text after another.
 *
 * Some patterns of highlight.js take time that grows with the square of a text, or faster. So each text has a time limit,
 * after which its worker is ended and a new one serves the next text.
 */

const LIMIT_MS = 2000;
const LOAD_MS = 30_000;

const MODULE = new URL("./ranges_worker.js", import.meta.url).href;

// Where Trusted Types are required, a worker's address needs a policy. This one knows a single address, and is created once.
let policy;

/** A worker; null where the page may have none. */
function createWorker() {
  try {
    policy ??= globalThis.trustedTypes?.createPolicy("code-ranges", { createScriptURL: () => MODULE });
    return new Worker(policy?.createScriptURL("") ?? MODULE, { type: "module" });
  } catch {
    return null;
  }
}

/** The worker's next message; undefined when it fails or the time is over. */
function nextMessage(worker, limitMs) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, limitMs);
    const settle = (value) => {
      clearTimeout(timer);
      resolve(value);
    };
    worker.onmessage = ({ data }) => settle(data);
    worker.onerror = (event) => {
      event.preventDefault();
      settle();
    };
  });
}

class RangeFinder {
  #worker = null;
  #last = Promise.resolve();

  /**
   * The ranges of a text as [start, end, colour]. Null when the time limit is over, when the page may have no worker, or
   * when the server does not give its modules; the next text tries again.
   */
  find(text, name) {
    this.#last = this.#last.then(() => this.#find(text, name));
    return this.#last;
  }

  async #find(text, name) {
    if (this.#worker === null && !(await this.#start())) return null;
    const ranges = nextMessage(this.#worker, LIMIT_MS);
    this.#worker.postMessage({ text, name });
    return (await ranges) ?? this.#end();
  }

  async #start() {
    this.#worker = createWorker();
    if (this.#worker === null) return false;
    const isReady = (await nextMessage(this.#worker, LOAD_MS)) !== undefined;
    if (!isReady) this.#end();
    return isReady;
  }

  #end() {
    this.#worker.terminate();
    this.#worker = null;
    return null;
  }
}

export const rangeFinder = new RangeFinder();
