// The front-end of broadcaster, called with this server's key, which no browser ever sees.

export type Generation = {
  id: string;
  status: "queued" | "running" | "finished" | "failed" | "aborted";
  text: string;
  error: { message: string } | null;
  ended_at: number | null;
  /** A part of the text has expired. */
  truncated: boolean;
};

/** A front-end that refuses a call; its text is for the page. */
export class Refusal extends Error {
  constructor(
    readonly status: number,
    detail: string,
  ) {
    super(detail);
  }
}

/** What the front-end refuses, the app refuses. */
export async function passingRefusals(respond: () => Promise<Response>): Promise<Response> {
  try {
    return await respond();
  } catch (error) {
    if (error instanceof Refusal) return new Response(error.message, { status: error.status });
    throw error;
  }
}

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: see README.md`);
  return value;
}

async function call<T>(method: string, path: string, body?: object): Promise<T> {
  const response = await fetch(setting("BROADCASTER_URL") + path, {
    method,
    headers: { authorization: `Bearer ${setting("BROADCASTER_API_KEY")}`, "content-type": "application/json" },
    body: body && JSON.stringify(body),
    cache: "no-store",
  });
  const result = await response.json();
  if (!response.ok) throw new Refusal(response.status, result.detail ?? result.title);
  return result;
}

/** Begin an answer; a worker writes it, whether or not a page watches. */
export const start = (messages: { role: string; content: string }[]) =>
  call<Generation>("POST", "/v1/generations", { messages });

export const read = (id: string) => call<Generation>("GET", `/v1/generations/${id}`);

export const stop = (id: string) => call<Generation>("POST", `/v1/generations/${id}/stop`, {});

/** Send the browser to an answer's stream: with a token for this stream alone, for ten minutes. */
export async function redirectToStream(id: string, user: string): Promise<Response> {
  const token = { actions: ["watch"], ttl_s: 600, sub: user };
  const { events_url } = await call<{ events_url: string }>("POST", `/v1/streams/${id}/tokens`, token);
  // 303: the browser follows with a GET, also after a POST.
  return new Response(null, {
    status: 303,
    headers: {
      location: `${setting("BROADCASTER_URL")}${events_url}&dialect=ai-sdk-7`,
      "cache-control": "no-store",
    },
  });
}
