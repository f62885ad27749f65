// The page of test_answer_page.py: one AnswerView, and the tokens of a model that writes.
import { AnswerView } from "/console/render/answer.js";

const view = new AnswerView(document.getElementById("root"));
const STATE = { attempt: 1, text: "", reasoning: "", usage: null, error: null, metadata: {} };

window.show = ({ parts, status = "running", attempt = 1 }, about = {}) =>
  view.update({ ...STATE, status, attempt, parts }, { isLive: true, ...about });

window.showText = (text, { isOver = false } = {}) =>
  show({ status: isOver ? "finished" : "running", parts: [{ type: "text", text, state: isOver ? "done" : "streaming" }] });

window.since = (began) => performance.now() - began;

const blocks = () => [...document.querySelectorAll(".text-section > *")];

/**
 * Write the tokens of a text, so many in each frame or in a second; what was taken out of finished blocks, and the times
 * of the frames.
 */
window.write = async ({ text, tokenChars, perFrame, perSecond }) => {
  const finished = new Set();
  let removed = 0;
  const isFinished = (node) => [...finished].some((block) => block.contains(node));
  const countRemoved = (records) => {
    for (const { target, removedNodes } of records) {
      const touched = removedNodes.length > 0 && (isFinished(target) || [...removedNodes].some(isFinished));
      if (touched) removed += removedNodes.length;
    }
  };
  const observer = new MutationObserver(countRemoved);
  observer.observe(document.getElementById("root"), { childList: true, subtree: true });
  const count = Math.ceil(text.length / tokenChars);
  const work = [];
  const frames = [];
  const began = performance.now();
  let last = began;
  for (let written = 0; written < count; ) {
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - last);
    last = now;
    const due = perFrame === undefined ? Math.floor(((performance.now() - began) / 1000) * perSecond) : written + perFrame;
    written = Math.min(count, due);
    const before = performance.now();
    showText(text.slice(0, written * tokenChars), { isOver: written === count });
    document.body.getBoundingClientRect();
    work.push(performance.now() - before);
    countRemoved(observer.takeRecords()); // a late frame may finish the very blocks that it changes
    // The last one is being written; the one before it may be a paragraph that the next line continues.
    for (const block of blocks().slice(0, -2)) finished.add(block);
  }
  await new Promise((resolve) => setTimeout(resolve, 1000)); // colours and formulas follow
  countRemoved(observer.takeRecords());
  observer.disconnect();
  return { removed, finished: finished.size, work, frames: frames.slice(1) };
};

/** The elements that a function makes, and the characters that it writes into the page. */
window.made = async (draw) => {
  const create = Document.prototype.createElement;
  const counted = { elements: 0, changes: 0, characters: 0 };
  Document.prototype.createElement = function (...given) {
    counted.elements += 1;
    return create.apply(this, given);
  };
  const observer = new MutationObserver(note);
  observer.observe(document.getElementById("root"), { childList: true, characterData: true, attributes: true, subtree: true });
  function note(records) {
    for (const { type, addedNodes, target } of records) {
      counted.changes += 1;
      for (const node of type === "characterData" ? [target] : addedNodes) counted.characters += node.textContent.length;
    }
  }
  try {
    draw();
    await new Promise(requestAnimationFrame); // lines of logs follow
    note(observer.takeRecords());
  } finally {
    observer.disconnect();
    Document.prototype.createElement = create;
  }
  return counted;
};

/** The elements below the answer, and the attributes that run or load something. */
window.inventory = () => {
  const elements = [...document.querySelectorAll("#root *")];
  const attributes = elements.flatMap((each) => [...each.attributes].map(({ name, value }) => [name, value]));
  return {
    tags: [...new Set(elements.map(({ localName }) => localName))],
    bad: attributes.filter(([name, value]) => /^(on|src|srcdoc|action|formaction|style)/.test(name) || /^\s*(java|vb)script:/i.test(value)),
    links: [...document.querySelectorAll("#root [href]")].map((link) => [link.localName, link.protocol, link.rel, link.target]),
    ids: elements.filter(({ id }) => id !== "").length,
  };
};

/** The letters that a node shows, without blanks, from left to right. */
window.lettersOf = (selector) => {
  const node = document.querySelector(selector).firstChild;
  const range = document.createRange();
  const letters = [...node.data].map((letter, at) => {
    range.setStart(node, at);
    range.setEnd(node, at + 1);
    return [range.getBoundingClientRect().left, letter];
  });
  return letters.sort(([left], [right]) => left - right).map(([, letter]) => letter).join("").replaceAll(" ", "");
};

document.documentElement.dataset.ready = "yes";
