/**
 * The page: what is open lives in `location.hash`, so a reload or a second tab shows the same. It is the id of a generation
 * or feed; where it is a turn of a conversation of this browser, that conversation is open.
 */

import { isSuperseded } from "./api.js";
import { BroadcasterError } from "./client/errors.js";
import { Chat } from "./chat/chat.js";
import { isComposing } from "./chat/composition.js";
import { ConversationList } from "./chat/conversation_list.js";
import { matches } from "./chat/conversations.js";
import { indicatorOf } from "./chat/indicator.js";
import { Scroller } from "./chat/scroller.js";
import { copyText } from "./clipboard.js";
import { byId, setText, show } from "./dom.js";
import { enterAsGuest, hasKey, isGuest } from "./key.js";
import { Operate } from "./operate/operate.js";
import { KeyDialog, ShareLink, StreamList } from "./panels.js";
import { forget, forgetAll, known, refresh, remember } from "./recents.js";
import { isOver, statusText } from "./texts.js";

const POLL_MS = 2000;
// Browsers allow six connections to one HTTP/1.1 server: a hidden tab must not hold one for long.
const HIDDEN_GRACE_MS = 30000;
const CLOCK_MS = 500;
const COPIED_MS = 2000;
const TITLE_MARKS = { finished: "✓", failed: "✕", aborted: "■" };

const chat = new Chat({ onChange: planDraw, onState: noteState, onStarted: noteStarted, onDeleted: leave, report });
const scroller = new Scroller();
const conversations = new ConversationList({
  onRename: (conversation, title) => {
    chat.rename(conversation, title);
    drawSide();
  },
  onDelete: deleteConversation,
});
const streamList = new StreamList();
const keyDialog = new KeyDialog(enter);
const share = new ShareLink();
const operate = new Operate((problem) => keyDialog.handles(problem));

/** {id, token} of what is open; each may be null. */
let opened = { id: null, token: null };
let isDrawPlanned = false;
/** What the live region has said: of which generation, how it stood, and how far it was when nothing was wrong. */
let announced = { id: null, status: null, progress: null };

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

function draw() {
  const { last } = chat;
  const isWelcome = last === null && !operate.isOpen;
  byId("main").classList.toggle("is-welcome", isWelcome);
  show(byId("welcome"), isWelcome);
  show(byId("thread"), last !== null);
  chat.thread.draw();
  chat.keepAnswers();
  drawHead(last);
  chat.composer.draw({ isRunning: chat.canStop, isStopping: last?.stopRequested ?? false, placeholder: placeholder() });
  scroller.update();
}

function placeholder() {
  if (chat.last === null) return "Ask anything…";
  return chat.conversation === null ? "Start a new conversation…" : "Ask a follow-up…";
}

function drawHead(last) {
  const isLost = last?.stream.state.name === "gone" && chat.conversation === null;
  show(byId("indicator"), last !== null);
  show(byId("actions"), last !== null && !isLost);
  const title = titleOf(last);
  setText(byId("title"), title);
  if (last === null) {
    document.title = operate.isOpen ? "Operate · Broadcaster" : "Broadcaster";
    return;
  }
  show(byId("revoke"), share.canRevoke(last.id));
  const shown = drawIndicator(last);
  announce(last, shown);
  document.title = isLost ? "Broadcaster" : `${(last.isLoading ? null : TITLE_MARKS[last.status]) ?? "●"} ${title}`;
}

function titleOf(last) {
  if (operate.isOpen) return "Operate";
  if (last === null) return "New conversation";
  return chat.conversation?.title || last.state?.title || last.id;
}

function drawIndicator(turn) {
  const now = performance.now();
  const { status, isLoading, isFeed, stopRequested, stream } = turn;
  const quietMs = stream.newsAt === 0 ? 0 : now - stream.newsAt;
  const end = isLoading ? undefined : status;
  const shown = indicatorOf({ connection: stream.state, status: end, isLoading, isFeed, stopRequested, quietMs, now });
  const node = byId("status");
  node.dataset.status = end ?? "";
  node.dataset.state = stream.state.name;
  node.dataset.tone = shown.tone;
  setText(byId("status-text"), shown.text);
  const viewers = turn.isRunning && stream.isOpen ? (turn.state?.viewers ?? 0) : 0;
  setText(byId("viewers"), viewers > 0 ? `${viewers} watching` : "");
  return shown;
}

/** Say the start and the end of an answer, and what is wrong with it; not its text, nor what was over before. */
function announce({ id, status, isLoading, folded }, { name, text, tone }) {
  const isFault = tone === "warn" && name !== "quiet";
  const progress = status === "running" && folded.text !== "" ? "begun" : "waiting";
  const now = isOver(status) ? status : isFault ? name : progress;
  const was = announced.id === id ? announced : null;
  // The end of one that is loading has yet to be read.
  if (was !== null && (isLoading || was.status === now)) return;
  announced = { id, status: now, progress: isFault && was !== null ? was.progress : progress };
  const begun = was?.progress === "begun" ? "The answer continues." : "The answer has begun.";
  const sentences = { begun, finished: "The answer is complete.", failed: "The answer failed.", aborted: "The answer was stopped." };
  setText(byId("announcer"), was === null ? "" : (sentences[now] ?? (isFault ? text : "")));
}

/** The lists at the side. */
function drawSide() {
  const query = byId("search").value.trim();
  const statuses = new Map((known() ?? []).map(({ id, status }) => [id, status]));
  for (const turn of chat.thread.turns) if (turn.status !== undefined) statuses.set(turn.id, turn.status);
  const found = chat.store.list().filter((conversation) => query === "" || matches(conversation, query));
  const selectedId = chat.conversation?.id;
  const statusOf = ({ turns }) => statuses.get(turns.at(-1).id) ?? turns.at(-1).status ?? undefined;
  conversations.draw(found, { selectedId, statusOf, isSearch: query !== "" });
  const own = chat.store.generations();
  const isFound = ({ id, title }) => `${title ?? ""} ${id}`.toLowerCase().includes(query.toLowerCase());
  streamList.draw((known() ?? []).filter((stream) => !own.has(stream.id) && isFound(stream)), chat.last?.id);
}

// ---------------------------------------------------------------- what is open

function select() {
  operate.select();
  closeSide();
  planDraw();
  const { id, token } = placeInHash();
  const isSame = id === opened.id && token === opened.token;
  opened = { id, token };
  if (isSame && chat.last !== null) return;
  const wasGuest = isGuest();
  enterAsGuest(token);
  document.body.classList.toggle("is-guest", isGuest());
  if (wasGuest && !isGuest()) {
    load();
    chat.resumeDeletions();
  }
  report(null);
  const holder = id === null || isGuest() ? null : chat.store.holder(id);
  if (id === null) chat.openNew();
  else if (holder !== null) chat.openConversation(holder);
  else chat.openLink(id);
  if (id !== null) refreshState(chat.last, { whole: holder === null });
  if (operate.isOpen) scroller.toTop();
  else scroller.follow();
  drawSide();
}

/** A turn was started in the open conversation: its link is the page's. */
function noteStarted(id) {
  opened = { id, token: null };
  // It may run, or be over, before the page is drawn for the first time, and may end as the one before.
  announced = { id, status: "waiting", progress: "waiting" };
  setText(byId("announcer"), "");
  // The button that started it may have left the page with the turn that it replaces.
  if (document.activeElement === document.body) byId("scroll").focus();
  if (location.hash === "") history.pushState(null, "", `#${id}`);
  else history.replaceState(null, "", `#${id}`);
  scroller.follow();
  drawSide();
}

function noteState(turn, { name }) {
  if (name === "connecting" && document.hidden) pauseLater();
  if (name === "gone") forget(turn.id);
  if (turn === chat.last && (name === "live" || name === "ended")) refreshState(turn);
  planDraw();
}

/** Fetch the state from the API; the whole answer only once, for its prompt. */
async function refreshState(turn, { whole = false } = {}) {
  try {
    const state = await turn.refresh({ whole });
    if (!isGuest()) remember(state);
  } catch (problem) {
    if (turn !== chat.last) return;
    if (problem.status === 404) turn.stream.noteMissing();
    else if (whole && !isGuest() && !keyDialog.handles(problem)) report(problem);
  }
  chat.thread.redraw(turn);
  drawSide();
  planDraw();
}

/** To the empty page. */
function leave() {
  if (location.hash !== "") history.pushState(null, "", location.pathname);
  select();
}

function startNew() {
  leave();
  chat.composer.focus();
}

async function deleteConversation(conversation) {
  if (chat.conversation?.id === conversation.id) leave();
  const deletion = chat.delete(conversation);
  drawSide();
  // The dialog returned the focus to the row that is gone.
  if (document.activeElement === document.body) byId("new").focus();
  await deletion;
  drawSide();
}

async function copyLink() {
  const label = byId("copy-label");
  try {
    const { link, sentence } = await share.create(chat.last.id);
    byId("copy").dataset.link = link;
    const refused = isGuest() || !hasKey() ? "Copy the link from the address bar" : "The browser refused to copy";
    setText(label, (await copyText(link)) ? sentence : refused);
  } catch (problem) {
    report(problem);
  }
  planDraw();
  setTimeout(() => setText(label, "Copy link"), COPIED_MS);
}

async function revokeLinks() {
  await share.revoke(chat.last.id).catch(report);
  planDraw();
}

/** Show a failed call as a sentence with its code; null removes it. */
function report(problem) {
  if (problem !== null && !(problem instanceof BroadcasterError)) throw problem;
  if (problem === null || !keyDialog.handles(problem)) chat.composer.report(problem);
}

/** The server has accepted the key of this caller: load everything with it. */
function enter({ tenant }) {
  forgetAll();
  chat.belongTo(tenant);
  report(null);
  chat.thread.unlock();
  if (chat.last !== null) refreshState(chat.last, { whole: chat.conversation === null });
  load();
  chat.composer.focus();
}

/** Read what the caller may see. */
function load() {
  poll();
  loadModels();
  operate.learnRights();
}

/** Without the list the menu has the default model alone. */
async function loadModels() {
  if (isGuest()) return;
  await chat.settings.load().catch((problem) => {
    if (!(problem instanceof BroadcasterError)) throw problem;
    if (problem.retry) setTimeout(loadModels, POLL_MS);
  });
}

// ---------------------------------------------------------------- polling

let pollTimer = null;

async function poll() {
  clearTimeout(pollTimer);
  if (document.hidden || keyDialog.isSignedOut) return;
  try {
    const { last } = chat;
    const isRunning = last !== null && last.stream.isOpen && last.stream.state.name !== "awaited";
    // A token of a shared link lists nothing.
    await Promise.all([isGuest() ? null : refresh(), isRunning ? refreshState(last) : null]);
    document.body.classList.remove("offline");
  } catch (problem) {
    if (keyDialog.handles(problem) && !isSuperseded(problem)) return; // entering a key restarts the polling
    if (problem.status === 403) return; // a key that may not list
    // The connection's own state shows the failure where it matters; the list stays as it was.
    if (!isSuperseded(problem)) document.body.classList.add("offline");
  }
  drawSide();
  planDraw();
  clearTimeout(pollTimer);
  pollTimer = setTimeout(poll, POLL_MS);
}

let hiddenTimer = null;

function noteVisibility() {
  if (document.hidden) {
    pauseLater();
    return;
  }
  clearTimeout(hiddenTimer);
  hiddenTimer = null;
  chat.thread.resume();
  poll();
}

/** A page may be loaded in the background, and another tab may add a turn to it there. */
function pauseLater() {
  hiddenTimer ??= setTimeout(() => {
    hiddenTimer = null;
    chat.thread.pause();
  }, HIDDEN_GRACE_MS);
}

// ---------------------------------------------------------------- the rest of the page

function openSide() {
  document.body.classList.add("side-open");
  byId("menu").setAttribute("aria-expanded", "true");
  byId("new").focus();
}

function closeSide() {
  const isOpen = document.body.classList.contains("side-open");
  if (isOpen && byId("side").contains(document.activeElement)) byId("menu").focus();
  document.body.classList.remove("side-open");
  byId("menu").setAttribute("aria-expanded", "false");
  return isOpen;
}

/** Escape closes what is open, and then stops the answer; one that cancels a composition does neither. */
function escape(event) {
  if (event.key !== "Escape" || event.defaultPrevented || isComposing(event)) return;
  if (document.querySelector("dialog[open], [popover]:popover-open") || event.target === byId("search")) return;
  if (closeSide()) return;
  if (chat.settings.isOpen) chat.settings.open(false);
  else if (chat.canStop && !isGuest()) chat.stop();
}

byId("copy").addEventListener("click", copyLink);
byId("revoke").addEventListener("click", revokeLinks);
byId("new").addEventListener("click", (event) => {
  event.preventDefault();
  startNew();
});
byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // The hash names a stream.
  chat.composer.focus();
});
byId("key-open").addEventListener("click", () => keyDialog.openDialog());
byId("search").addEventListener("input", drawSide);
for (const example of document.querySelectorAll("[data-example]")) {
  example.addEventListener("click", () => chat.composer.send(example.dataset.example));
}
byId("menu").addEventListener("click", () => {
  if (document.body.classList.contains("side-open")) closeSide();
  else openSide();
});
byId("veil").addEventListener("click", closeSide);
document.addEventListener("keydown", escape);
document.addEventListener("visibilitychange", noteVisibility);
addEventListener("hashchange", select);
addEventListener("popstate", select);
// Seconds pass in "Reconnecting…" and "No news…" without any event.
setInterval(() => {
  if (chat.last !== null && !isOver(chat.last.status)) planDraw();
}, CLOCK_MS);

select();
draw();
load();
chat.resumeDeletions();
