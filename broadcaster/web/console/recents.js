/**
 * The generations and feeds that this browser knows: the newest that the server lists, and those it has seen before.
 * They are stored in localStorage, shared by all tabs; without it (a private window) only the server's list is shown.
 * With a key they are stored where the key is, and another key clears them: what was read with an earlier one is not stored.
 */

import { getGenerationState, getStream, listStreams } from "./api.js";
import { hasKey, sentKey } from "./key.js";
import { isOver } from "./texts.js";

const KEY = "broadcaster.recents";
const KEPT = 40;

/** The newest list; null before the first one. */
let latest = null;

export const known = () => latest;

const memory = () => (hasKey() ? sessionStorage : localStorage);

function read() {
  try {
    const stored = JSON.parse(memory().getItem(KEY) ?? "[]");
    return Array.isArray(stored) ? stored : [];
  } catch {
    return [];
  }
}

function write(streams) {
  latest = streams;
  try {
    memory().setItem(KEY, JSON.stringify(streams));
  } catch {
    // Storage is full or forbidden: the list is shorter, and everything else works.
  }
}

/** The kind of a stream is missing from the state of a generation. */
const essence = ({ id, kind = "generation", status, title, model, created_at, active_at, viewers, progress = null }) => ({
  id,
  kind,
  status,
  title,
  model,
  created_at,
  active_at,
  viewers,
  progress,
});

/** Store the facts of one stream. */
export function remember(stream) {
  store(new Map(read().map((each) => [each.id, each])).set(stream.id, essence(stream)));
}

export function forgetAll() {
  write([]);
}

export function forget(id) {
  write(read().filter((each) => each.id !== id));
}

function store(byId) {
  write([...byId.values()].sort((a, b) => b.created_at - a.created_at).slice(0, KEPT));
}

/**
 * Read the list anew, newest first. A stream that was running and is not listed any more is fetched once; one that is over and
 * missing from a complete list has expired or was deleted.
 */
export async function refresh() {
  const key = sentKey();
  const { streams, next_before: rest } = await listStreams(KEPT);
  const listed = new Set(streams.map(({ id }) => id));
  if (rest === null) write(read().filter(({ id, status }) => !isOver(status) || listed.has(id)));
  const vanished = read().filter(({ id, status }) => !isOver(status) && !listed.has(id));
  const found = await Promise.allSettled(vanished.map(({ id, kind }) => (kind === "feed" ? getStream(id) : getGenerationState(id))));
  if (key !== sentKey()) return;
  const byId = new Map(read().map((each) => [each.id, each]));
  for (const stream of streams) byId.set(stream.id, essence(stream));
  for (const [index, { status, value, reason }] of found.entries()) {
    if (status === "fulfilled") byId.set(value.id, essence(value));
    else if (reason.status === 404) byId.delete(vanished[index].id);
  }
  store(byId);
}
