/**
 * The page: which generation is open lives in `location.hash`, so a reload or a second tab shows the same one.
 * Its contents are folded from its events (stream.js) or polled from the API every two seconds.
 */

import { BroadcasterError } from "./client/errors.js";
import { getGeneration, getGenerationState, getStream, startGeneration, stopGeneration } from "./api.js";
import { enterAsGuest, hasKey, isGuest } from "./key.js";
import { Operate } from "./operate/operate.js";
import { KeyDialog, ShareLink, StreamList } from "./panels.js";
import { forget, forgetAll, refresh, remember } from "./recents.js";
import { Stream } from "./stream.js";
import { Sheet, drawFacts, show } from "./view.js";
import { isOver } from "./texts.js";

const POLL_MS = 2000;
// Browsers allow six connections to one HTTP/1.1 server: a hidden tab must not hold one for long.
const HIDDEN_GRACE_MS = 30000;
const COPIED_MS = 2000;
const TITLE_MARKS = { finished: "✓", failed: "✕", aborted: "■" };

const byId = (id) => document.getElementById(id);
const sheet = new Sheet();
const list = new StreamList();
const keyDialog = new KeyDialog(enter);
const share = new ShareLink();
const operate = new Operate((problem) => keyDialog.handles(problem));

/** The open generation or feed, or null: {id, stream, state, isFeed, isStopping}. `state` is the API's newest response. */
let open = null;
/** The server's list; null before its first response, so that the page does not claim an empty list. */
let streams = null;
let isDrawPlanned = false;
/** The pending request: repeating it must not start a second generation. */
let pending = null;

/** The id, and the token of a shared link. */
const PLACE = /^#([A-Za-z0-9][A-Za-z0-9_.:-]{0,127})(?:&token=([A-Za-z0-9_.-]+))?$/;

function placeInHash() {
  const [, id = null, token = null] = PLACE.exec(location.hash) ?? [];
  return { id, token };
}

// ---------------------------------------------------------------- drawing

function planDraw() {
  if (isDrawPlanned) return;
  isDrawPlanned = true;
  requestAnimationFrame(() => {
    isDrawPlanned = false;
    draw();
  });
}

/** The facts of the open generation, from its events first and else from the API. */
function factsOf({ stream, state, isFeed, isStopping }) {
  const { folded } = stream;
  let status = state?.status;
  if (isOver(folded.status) || (folded.status !== "queued" && !isOver(status))) status = folded.status;
  return {
    status,
    connection: stream.state,
    model: state?.model,
    attempt: Math.max(folded.attempt, state?.attempt ?? 1),
    events: stream.seq,
    viewers: state?.viewers ?? null,
    isFeed,
    stopRequested: isStopping || (state?.stop_requested ?? false),
  };
}

function draw() {
  const isWelcome = open === null && !operate.isOpen;
  byId("main").classList.toggle("is-welcome", isWelcome);
  show(byId("welcome"), isWelcome);
  show(byId("sheet"), open !== null);
  const isLost = open?.stream.state.name === "gone";
  show(byId("facts"), open !== null && !isLost);
  show(byId("actions"), open !== null);
  show(byId("revoke"), open !== null && share.canRevoke(open.id));
  const title = operate.isOpen ? "Operate" : open === null ? "New answer" : (open.state?.title ?? open.id);
  byId("title").textContent = title;
  if (streams !== null) list.draw(streams, open?.id);
  if (open === null) {
    document.title = operate.isOpen ? "Operate · Broadcaster" : "Broadcaster";
    return;
  }
  const facts = factsOf(open);
  drawFacts(facts);
  show(byId("viewers-fact"), !isOver(facts.status));
  show(byId("stop"), !isOver(facts.status) && facts.status !== undefined && !isLost && !facts.isFeed);
  byId("stop").disabled = facts.stopRequested;
  byId("stop-label").textContent = facts.stopRequested ? "Stopping…" : "Stop";
  sheet.draw(open.stream, { ...facts, isLost });
  document.title = isLost ? "Broadcaster" : `${TITLE_MARKS[facts.status] ?? "●"} ${title}`;
}

// ---------------------------------------------------------------- the open generation

function select() {
  operate.select();
  planDraw();
  closeSide();
  const { id, token } = placeInHash();
  if (id === (open?.id ?? null) && token === (open?.token ?? null)) return;
  const wasGuest = isGuest();
  enterAsGuest(token);
  document.body.classList.toggle("is-guest", isGuest());
  if (wasGuest && !isGuest()) poll();
  open?.stream.close();
  open = null;
  report(null);
  sheet.begin();
  if (id !== null) begin(id, token);
  closeSide();
  planDraw();
}

function begin(id, token) {
  const opened = { id, token, stream: null, state: null, isFeed: false, isStopping: false };
  opened.stream = new Stream(id, {
    onChange: planDraw,
    onState: (state) => {
      if (open !== opened) return;
      if (state.name === "live" || state.name === "ended") refreshState(opened);
      if (state.name === "gone") forget(id);
      planDraw();
    },
  });
  open = opened;
  opened.stream.open();
  refreshState(opened, { whole: true });
}

/** Fetch the state from the API; the whole answer only once, for its prompt. */
async function refreshState(opened, { whole = false } = {}) {
  try {
    const state = await fetchState(opened, whole);
    opened.state = state;
    if (!isGuest()) streams = remember(state);
    if (open !== opened) return;
    if (whole && !opened.isFeed) sheet.setPrompt(state.prompt);
    planDraw();
  } catch (problem) {
    if (open !== opened) return;
    if (problem.status === 404) opened.stream.end({ name: "gone" });
    else if (whole && !isGuest() && !keyDialog.handles(problem)) report(problem);
  }
}

/** An id without a generation may be a feed: it has a stream, and no stop. */
async function fetchState(opened, whole) {
  if (opened.isFeed) return getStream(opened.id);
  try {
    return await (whole ? getGeneration(opened.id) : getGenerationState(opened.id));
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    const state = await getStream(opened.id);
    opened.isFeed = true;
    return state;
  }
}

/** A key for one request. Not randomUUID: over plain HTTP beyond loopback browsers do not have it. */
function createKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function start() {
  const prompt = byId("prompt").value.trim();
  if (prompt === "" || byId("start").disabled) return;
  const body = { prompt };
  const model = byId("model-choice").value.trim();
  const tokens = byId("max-tokens").valueAsNumber;
  if (model !== "") body.model = model;
  if (Number.isFinite(tokens)) body.max_tokens = tokens;
  const request = JSON.stringify(body);
  if (pending?.request !== request) pending = { request, key: createKey() };
  byId("start").disabled = true;
  try {
    const state = await startGeneration(body, pending.key);
    pending = null;
    report(null);
    streams = remember(state);
    byId("prompt").value = "";
    location.hash = state.id;
  } catch (problem) {
    if (!keyDialog.handles(problem)) report(problem);
  } finally {
    byId("start").disabled = false;
    if (!keyDialog.isOpen) byId("prompt").focus();
  }
}

async function stop(click) {
  const stopped = open;
  // The button disappears: for keyboard users (no click count) the focus moves to the prompt.
  if (click.detail === 0) byId("prompt").focus();
  stopped.isStopping = true;
  planDraw();
  try {
    await stopGeneration(stopped.id);
  } catch (problem) {
    stopped.isStopping = false;
    if (!keyDialog.handles(problem)) report(problem);
  }
  planDraw();
}

async function copyLink() {
  const label = byId("copy-label");
  try {
    const { link, sentence } = await share.create(open.id);
    byId("copy").dataset.link = link;
    label.textContent = sentence;
    await navigator.clipboard.writeText(link).catch(() => {
      label.textContent = isGuest() || !hasKey() ? "Copy the link from the address bar" : "The browser refused to copy";
    });
  } catch (problem) {
    if (!keyDialog.handles(problem)) report(problem);
  }
  planDraw();
  setTimeout(() => (label.textContent = "Copy link"), COPIED_MS);
}

async function revokeLinks() {
  try {
    await share.revoke(open.id);
  } catch (problem) {
    if (!keyDialog.handles(problem)) report(problem);
  }
  planDraw();
}

/** Show a failed call as a sentence with its code; null removes it. */
function report(problem) {
  const fault = byId("fault");
  show(fault, problem !== null);
  if (problem === null) return;
  if (!(problem instanceof BroadcasterError)) throw problem;
  const code = document.createElement("code");
  code.textContent = problem.code;
  fault.replaceChildren(`${problem.message} `, code);
}

/** The server has accepted a key: load everything with it. */
function enter() {
  forgetAll();
  streams = null;
  report(null);
  open?.stream.unlock();
  if (open !== null) refreshState(open, { whole: true });
  poll();
  operate.learnRights();
  byId("prompt").focus();
}

// ---------------------------------------------------------------- polling

let pollTimer = null;

async function poll() {
  clearTimeout(pollTimer);
  if (document.hidden) return;
  try {
    const isRunning = open !== null && open.stream.isOpen;
    // A token of a shared link lists nothing.
    const [listed] = await Promise.all([isGuest() ? [] : refresh(), isRunning ? refreshState(open) : null]);
    streams = listed;
    document.body.classList.remove("offline");
  } catch (problem) {
    if (keyDialog.handles(problem)) return; // entering a key restarts the polling
    if (problem.status === 403) return; // a key that may not list
    // The connection's own state shows the failure where it matters; the list stays as it was.
    document.body.classList.add("offline");
  }
  planDraw();
  clearTimeout(pollTimer);
  pollTimer = setTimeout(poll, POLL_MS);
}

let hiddenTimer = null;

function noteVisibility() {
  clearTimeout(hiddenTimer);
  if (document.hidden) {
    hiddenTimer = setTimeout(() => open?.stream.pause(), HIDDEN_GRACE_MS);
  } else {
    open?.stream.resume();
    poll();
  }
}

// ---------------------------------------------------------------- the rest of the page

function openSide() {
  document.body.classList.add("side-open");
  byId("menu").setAttribute("aria-expanded", "true");
}

function closeSide() {
  document.body.classList.remove("side-open");
  byId("menu").setAttribute("aria-expanded", "false");
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
byId("prompt").addEventListener("keydown", (event) => {
  // While an input method composes a character, Enter belongs to it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  start();
});
byId("stop").addEventListener("click", stop);
byId("copy").addEventListener("click", copyLink);
byId("revoke").addEventListener("click", revokeLinks);
byId("new").addEventListener("click", (event) => {
  event.preventDefault();
  history.pushState(null, "", location.pathname);
  select();
  closeSide();
  byId("prompt").focus();
});
byId("menu").addEventListener("click", () => {
  if (document.body.classList.contains("side-open")) closeSide();
  else openSide();
});
byId("veil").addEventListener("click", closeSide);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeSide();
});
document.addEventListener("visibilitychange", noteVisibility);
addEventListener("hashchange", select);
addEventListener("popstate", select);
// Seconds pass in "reconnecting…" without any event.
setInterval(() => {
  if (open?.stream.state.name === "reconnecting") planDraw();
}, 500);

select();
draw();
poll();
operate.learnRights();
