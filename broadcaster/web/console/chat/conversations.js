/**
 * A conversation as this browser keeps it, and what is made of it. Pure: every function returns a new conversation.
 *
 *   {version, id, title, isNamed, createdAt, updatedAt, settings, turns, dropped}
 *
 * `settings` is {model, system, temperature, maxTokens}, each null for the server's default. A turn is {user, id, at,
 * answer, status, isCut, finishReason}: the user's text, the generation that answers it, when it began, and the copy of its
 * answer, null until it is over; `isCut`: the copy is the beginning of a longer answer. `dropped` holds the ids of generations that a new version has replaced. Times are Unix milliseconds.
 */

export const VERSION = 1;
export const NO_SETTINGS = { model: null, system: null, temperature: null, maxTokens: null };

const TITLE_CHARS = 60;
export const MAX_COPY_CHARS = 200_000;
const MAX_DROPPED = 200;

export function begun(id, now, settings = NO_SETTINGS) {
  return { version: VERSION, id, title: "", isNamed: false, createdAt: now, updatedAt: now, settings, turns: [], dropped: [] };
}

/** With one more turn; the first one gives the title, unless the user did. */
export function withTurn(conversation, { user, id }, now) {
  const { turns, isNamed, title } = conversation;
  const named = turns.length === 0 && !isNamed ? titleOf(user) : title;
  // Behind the last one, also where the clock was set back.
  const at = Math.max(now, (turns.at(-1)?.at ?? 0) + 1);
  const turn = { user, id, at, answer: null, status: null };
  return { ...conversation, title: named, updatedAt: now, turns: [...turns, turn] };
}

/** Without the turns from `index` on. */
export function cutAt(conversation, index) {
  const dropped = [...conversation.dropped, ...conversation.turns.slice(index).map(({ id }) => id)].slice(-MAX_DROPPED);
  return { ...conversation, turns: conversation.turns.slice(0, index), dropped };
}

/**
 * What two tabs have made of one conversation at the same time: the newer one, and no turn of either is lost. The turns of
 * both stand in the order of their times, without those that either has dropped, whichever is the newer. The same
 * conversation when the older one adds nothing.
 */
export function merged(newer, older) {
  const dropped = [...new Set([...newer.dropped, ...older.dropped])].slice(-MAX_DROPPED);
  const turns = new Map(older.turns.map((turn) => [turn.id, turn]));
  for (const turn of newer.turns) {
    const { answer = null, status, isCut, finishReason } = turns.get(turn.id) ?? {};
    turns.set(turn.id, turn.answer === null && answer !== null ? { ...turn, answer, status, isCut, finishReason } : turn);
  }
  for (const id of dropped) turns.delete(id);
  const whole = { ...newer, updatedAt: Math.max(newer.updatedAt, older.updatedAt), dropped };
  whole.turns = [...turns.values()].sort((a, b) => (a.at ?? 0) - (b.at ?? 0) || compared(a, b));
  return isEqual(whole, newer) ? newer : whole;
}

/** Turns of an earlier version have no time, and keep their order; those of one millisecond have the order of their ids. */
const compared = (a, b) => (a.at === undefined || b.at === undefined ? 0 : a.id < b.id ? -1 : 1);

const isEqual = (a, b) =>
  a.updatedAt === b.updatedAt &&
  a.dropped.length === b.dropped.length &&
  a.turns.length === b.turns.length &&
  a.turns.every((turn, index) => turn === b.turns[index]);

/** Whether a conversation lacks turns of the whole, or the news that some were dropped. */
export function lacks(conversation, whole) {
  const ids = ({ turns, dropped }) => [...turns.map(({ id }) => id), ...dropped];
  const known = new Set(ids(conversation));
  return conversation.turns.length !== whole.turns.length || ids(whole).some((id) => !known.has(id));
}

/** With the copy of an answer that is over; the same conversation when it has this copy already. */
export function withAnswer(conversation, id, { answer, status, finishReason = null }) {
  const copy = { answer: beginning(answer), status, isCut: answer.length > MAX_COPY_CHARS, finishReason };
  const isNews = (turn) => turn.id === id && Object.entries(copy).some(([name, value]) => turn[name] !== value);
  if (!conversation.turns.some(isNews)) return conversation;
  const turns = conversation.turns.map((turn) => (turn.id === id ? { ...turn, ...copy } : turn));
  return { ...conversation, turns };
}

/** As much of an answer as is kept; no character is cut in two. */
function beginning(answer) {
  if (answer.length <= MAX_COPY_CHARS) return answer;
  return answer.slice(0, MAX_COPY_CHARS).replace(/[\uD800-\uDBFF]$/, "");
}

/** Whether the copy lacks the end of the answer. Earlier versions cut without a mark. */
export const isCopyCut = ({ answer, isCut }) => isCut ?? answer?.length === MAX_COPY_CHARS;

/** With a title of the user's; an empty one brings the first text's back. */
export function renamed(conversation, title) {
  const given = line(title);
  const isNamed = given !== "";
  return { ...conversation, isNamed, title: isNamed ? given : titleOf(conversation.turns[0]?.user ?? "") };
}

/** The beginning of a text in one line. */
export function titleOf(text) {
  const given = line(text.slice(0, 4 * TITLE_CHARS));
  return given.length <= TITLE_CHARS ? given : `${given.slice(0, TITLE_CHARS - 1).trimEnd()}…`;
}

const line = (text) => text.split(/\s+/).filter(Boolean).join(" ");

/** Whether every term of the query is in the title or the texts. */
export function matches(conversation, query) {
  const terms = line(query).toLowerCase().split(" ");
  const texts = conversation.turns.flatMap(({ user, answer }) => [user, answer ?? ""]);
  const text = [conversation.title, ...texts].join("\n").toLowerCase();
  return terms.every((term) => text.includes(term));
}

/**
 * The body of `POST /v1/generations` for the next user text. `answerOf` gives the answer of a turn, or "" where none is
 * known: that turn is left out whole, because many models refuse two user messages in a row.
 */
export function requestOf({ turns, settings }, user, answerOf) {
  const earlier = turns.flatMap((turn) => {
    const answer = answerOf(turn);
    if (answer === "") return [];
    return [
      { role: "user", content: turn.user },
      { role: "assistant", content: answer },
    ];
  });
  const body = { messages: [...earlier, { role: "user", content: user }] };
  const { model, system, temperature, maxTokens } = settings;
  if (model !== null) body.model = model;
  if (system !== null) body.system = system;
  if (temperature !== null) body.temperature = temperature;
  if (maxTokens !== null) body.max_tokens = maxTokens;
  return body;
}

/** What was stored, or null when it is not a conversation of this version. */
export function checked(value) {
  const isText = (field) => typeof field === "string";
  const isTime = (field) => Number.isFinite(field);
  const isTurn = (turn) =>
    isText(turn?.user) && isText(turn.id) && (turn.answer === null || isText(turn.answer)) && isTime(turn.at ?? 0);
  if (value?.version !== VERSION || !isText(value.id) || !isText(value.title)) return null;
  if (!isTime(value.createdAt) || !isTime(value.updatedAt)) return null;
  if (!Array.isArray(value.turns) || value.turns.length === 0 || !value.turns.every(isTurn)) return null;
  if (!Array.isArray(value.dropped) || !value.dropped.every(isText)) return null;
  return { ...value, isNamed: value.isNamed === true, settings: settingsIn(value.settings) };
}

/** The settings of which each is of its type; the others are the server's default. */
function settingsIn(given) {
  const typed = (value, type) => (typeof value === type ? value : null);
  const { model, system, temperature, maxTokens } = given ?? {};
  return {
    model: typed(model, "string"),
    system: typed(system, "string"),
    temperature: typed(temperature, "number"),
    maxTokens: typed(maxTokens, "number"),
  };
}
