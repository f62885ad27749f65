/**
 * The page: which generation is open lives in `location.hash`, so a reload or a second tab shows the same one.
 * Everything shown of it is either folded from its events (transcript.js) or asked of the API every two seconds.
 */

import { Problem, getGeneration, getGenerationState, getStream, startGeneration, stopGeneration } from "./api.js";
import { Door } from "./door.js";
import { GenerationList } from "./list.js";
import { forget, forgetAll, refresh, remember } from "./recents.js";
import { Stream } from "./stream.js";
import { Sheet, drawFacts, show } from "./view.js";
import { isOver } from "./words.js";

const POLL_MS = 2000;
// Browsers allow six connections to one HTTP/1.1 server: a tab that nobody looks at must not hold one for long.
const HIDDEN_GRACE_MS = 30000;
const COPIED_MS = 2000;
const TITLE_MARKS = { finished: "✓", failed: "✕", aborted: "■" };

const byId = (id) => document.getElementById(id);
const sheet = new Sheet();
const list = new GenerationList();
const door = new Door(enter);

/** The open generation or feed, or null: {id, stream, state, isFeed, isStopping}. `state` is the API's last word. */
let open = null;
/** What the server has listed; null before its first answer: "nothing" must not be said of what is not known. */
let generations = null;
let isDrawPlanned = false;
/** What was asked and not answered yet: asking the same again must not begin a second generation. */
let unsettled = null;

const idInHash = () => (/^#([A-Za-z0-9][A-Za-z0-9_.:-]{0,127})$/.exec(location.hash)?.[1] ?? null);

// ---------------------------------------------------------------- drawing

function planDraw() {
  if (isDrawPlanned) return;
  isDrawPlanned = true;
  requestAnimationFrame(() => {
    isDrawPlanned = false;
    draw();
  });
}

/** What is known of the open generation, from its events first and from the API where no event has spoken. */
function known({ stream, state, isFeed, isStopping }) {
  const { fold, seq } = stream.transcript;
  let status = state?.status;
  if (!fold.isEmpty && !isOver(status)) status = fold.status;
  if (fold.terminal !== null) status = fold.status;
  return {
    status,
    connection: stream.state,
    model: state?.model,
    attempt: Math.max(fold.attempt, state?.attempt ?? 1),
    events: seq,
    viewers: state?.viewers ?? null,
    isFeed,
    stopRequested: isStopping || (state?.stop_requested ?? false),
  };
}

function draw() {
  byId("main").classList.toggle("is-welcome", open === null);
  show(byId("welcome"), open === null);
  show(byId("sheet"), open !== null);
  const isLost = open?.stream.state.name === "gone";
  show(byId("facts"), open !== null && !isLost);
  show(byId("actions"), open !== null);
  const title = open === null ? "New answer" : (open.state?.title ?? open.id);
  byId("title").textContent = title;
  if (generations !== null) list.draw(generations, open?.id);
  if (open === null) {
    document.title = "Broadcaster";
    return;
  }
  const facts = known(open);
  drawFacts(facts);
  show(byId("viewers-fact"), !isOver(facts.status));
  show(byId("stop"), !isOver(facts.status) && facts.status !== undefined && !isLost && !facts.isFeed);
  byId("stop").disabled = facts.stopRequested;
  byId("stop-label").textContent = facts.stopRequested ? "Stopping…" : "Stop";
  sheet.draw(open.stream.transcript, { ...facts, isLost });
  document.title = isLost ? "Broadcaster" : `${TITLE_MARKS[facts.status] ?? "●"} ${title}`;
}

// ---------------------------------------------------------------- the open generation

function select() {
  const id = idInHash();
  if (id === (open?.id ?? null)) return;
  open?.stream.close();
  open = null;
  tell(null);
  sheet.begin();
  if (id !== null) begin(id);
  closeSide();
  planDraw();
}

function begin(id) {
  const opened = { id, stream: null, state: null, isFeed: false, isStopping: false };
  opened.stream = new Stream(id, {
    onChange: planDraw,
    onState: (state) => {
      if (open !== opened) return;
      if (state.name === "live" || state.name === "ended") ask(opened);
      if (state.name === "gone") forget(id);
      planDraw();
    },
  });
  open = opened;
  opened.stream.open();
  ask(opened, { whole: true });
}

/** Ask the API what it knows; the whole answer only once, for its prompt. */
async function ask(opened, { whole = false } = {}) {
  try {
    const state = await look(opened, whole);
    opened.state = state;
    if (!opened.isFeed) generations = remember(state);
    if (open !== opened) return;
    if (whole && !opened.isFeed) sheet.setPrompt(state.prompt);
    planDraw();
  } catch (problem) {
    if (open !== opened) return;
    if (problem.status === 404) opened.stream.end({ name: "gone" });
    else if (whole && !door.asksFor(problem)) tell(problem);
  }
}

/** What is no generation may be a feed: it has a stream, and nobody to stop it. */
async function look(opened, whole) {
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

/** A name for one wish. Not randomUUID: over plain HTTP beyond loopback browsers do not have it. */
function createKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function start() {
  const prompt = byId("prompt").value.trim();
  if (prompt === "" || byId("start").disabled) return;
  const body = { prompt };
  const model = byId("model-wish").value.trim();
  const tokens = byId("tokens-wish").valueAsNumber;
  if (model !== "") body.model = model;
  if (Number.isFinite(tokens)) body.max_tokens = tokens;
  const wish = JSON.stringify(body);
  if (unsettled?.wish !== wish) unsettled = { wish, key: createKey() };
  byId("start").disabled = true;
  try {
    const state = await startGeneration(body, unsettled.key);
    unsettled = null;
    tell(null);
    generations = remember(state);
    byId("prompt").value = "";
    location.hash = state.id;
  } catch (problem) {
    if (!door.asksFor(problem)) tell(problem);
  } finally {
    byId("start").disabled = false;
    if (!door.isOpen) byId("prompt").focus();
  }
}

async function stop(click) {
  const stopped = open;
  // The button goes away: who works by keyboard (no click count) goes on at the prompt.
  if (click.detail === 0) byId("prompt").focus();
  stopped.isStopping = true;
  planDraw();
  try {
    await stopGeneration(stopped.id);
  } catch (problem) {
    stopped.isStopping = false;
    if (!door.asksFor(problem)) tell(problem);
  }
  planDraw();
}

async function copyLink() {
  const label = byId("copy-label");
  try {
    await navigator.clipboard.writeText(location.href);
    label.textContent = "Copied";
  } catch {
    label.textContent = "Copy it from the address bar";
  }
  setTimeout(() => (label.textContent = "Copy link"), COPIED_MS);
}

/** A failed call as a sentence with its code; null takes it back. */
function tell(problem) {
  const fault = byId("fault");
  show(fault, problem !== null);
  if (problem === null) return;
  if (!(problem instanceof Problem)) throw problem;
  const code = document.createElement("code");
  code.textContent = problem.code;
  fault.replaceChildren(`${problem.message} `, code);
}

/** The server takes the key that was just given: begin again with it. */
function enter() {
  forgetAll();
  generations = null;
  tell(null);
  open?.stream.unlock();
  if (open !== null) ask(open, { whole: true });
  poll();
  byId("prompt").focus();
}

// ---------------------------------------------------------------- asking again

let pollTimer = null;

async function poll() {
  clearTimeout(pollTimer);
  if (document.hidden) return;
  try {
    const isRunning = open !== null && open.stream.source !== null;
    const [known] = await Promise.all([refresh(), isRunning ? ask(open) : null]);
    generations = known;
    document.body.classList.remove("offline");
  } catch (problem) {
    if (door.asksFor(problem)) return; // a key begins it anew
    // The connection's own state tells it where it matters; the list just stays as it was.
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
  if (open !== null && (open.stream.state.name === "reconnecting" || open.stream.state.name === "waiting")) planDraw();
}, 500);

select();
draw();
poll();
