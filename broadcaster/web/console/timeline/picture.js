/** The course of a generation as a bar, and as lines of text that say the same. */

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1000;
const HEIGHT = 20;
const LEAST_WIDTH = 3;

function node(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

function shape(tag, attributes, title) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  const text = document.createElementNS(SVG, "title");
  text.textContent = title;
  made.append(text);
  return made;
}

export class Picture {
  /** `hasLines`: false where a table beside the picture says the same. */
  constructor({ hasLines = true } = {}) {
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("aria-hidden", "true");
    this.lines = node("ol", "course-lines");
    this.root = node("div", "course", this.svg, ...(hasLines ? [this.lines] : []));
    this.drawn = "";
  }

  /** `course` as course.js makes it. */
  draw(course) {
    const key = JSON.stringify(course);
    if (key === this.drawn) return;
    this.drawn = key;
    const { total, spans, marks, lines } = course;
    const x = (at) => (total > 0 ? (at / total) * WIDTH : 0);
    const bars = spans.map(({ kind, from, to, text }) => {
      const width = Math.max(x(to) - x(from), LEAST_WIDTH);
      return shape("rect", { class: `course-${kind}`, x: x(from), y: 4, width, height: 12 }, text);
    });
    const ticks = marks.map(({ kind, at, text }) => {
      const left = Math.min(x(at), WIDTH - LEAST_WIDTH);
      return shape("rect", { class: `course-mark course-${kind}`, x: left, y: 0, width: LEAST_WIDTH, height: HEIGHT }, text);
    });
    this.svg.replaceChildren(...bars, ...ticks);
    this.lines.replaceChildren(...lines.map((text) => node("li", "", text)));
    this.root.hidden = total <= 0;
  }
}
