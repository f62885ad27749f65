/** Where code has which colour: highlight.js reads it, in a worker (ranges_worker.js). Pure. */

import hljs from "../../vendor/highlight/highlight.min.js";

// The scopes that have a colour in answer.css; the part behind the dot may add another.
const SCOPES = {
  keyword: "keyword",
  built_in: "type",
  type: "type",
  literal: "literal",
  number: "literal",
  string: "string",
  regexp: "string",
  symbol: "literal",
  comment: "comment",
  doctag: "comment",
  quote: "comment",
  meta: "meta",
  title: "title",
  section: "title",
  name: "title",
  attr: "attribute",
  attribute: "attribute",
  variable: "attribute",
  property: "attribute",
  params: null,
  tag: null,
  selector: "title",
  addition: "addition",
  deletion: "deletion",
};

/** Notes the scopes instead of building HTML, as ranges that do not overlap: [start, end, scope]. */
class RangeEmitter {
  constructor() {
    this.ranges = [];
    this.length = 0;
    this.open = [];
  }

  addText(text) {
    const scope = this.open.at(-1);
    if (scope !== undefined) this.ranges.push([this.length, this.length + text.length, scope]);
    this.length += text.length;
  }

  openNode(scope) {
    this.open.push(scope);
  }

  closeNode() {
    this.open.pop();
  }

  startScope(scope) {
    this.openNode(scope);
  }

  endScope() {
    this.closeNode();
  }

  __addSublanguage(emitter) {
    for (const [from, to, scope] of emitter.ranges) this.ranges.push([from + this.length, to + this.length, scope]);
    this.length += emitter.length;
  }

  finalize() {
    return true;
  }

  toHTML() {
    return "";
  }
}

hljs.configure({ __emitter: RangeEmitter });

/** The ranges of a text: [start, end, colour]. */
export function rangesOf(text, name) {
  const { _emitter } = hljs.highlight(text, { language: name, ignoreIllegals: true });
  const coloured = _emitter.ranges.map(([from, to, scope]) => [from, to, SCOPES[scope.split(/[.-]/)[0]]]);
  return coloured.filter(([from, to, colour]) => colour && from < to);
}
