/** Nodes that follow what they show, and are touched only where that has changed. */

/** Give a text node this text; one that only grew is extended, so that a selection in it survives. */
export function growText(node, text) {
  const drawn = node.data;
  if (drawn === text) return;
  if (text.startsWith(drawn)) node.appendData(text.slice(drawn.length));
  else node.data = text;
}

/**
 * The children of a node, kept equal to a list: what is unchanged is not touched, what has the same kind is updated, and
 * anything else is replaced. `viewOf(each)` gives a view: {node, update?}.
 */
export class Children {
  /** Where new nodes are put. */
  parent;
  #viewOf;
  #drawn = []; // {view, kind, each}

  constructor(parent, viewOf) {
    this.parent = parent;
    this.#viewOf = viewOf;
  }

  update(list) {
    for (const [index, each] of list.entries()) this.#place(index, each);
    while (this.#drawn.length > list.length) this.#drawn.pop().view.node.remove();
  }

  /** Leave the first nodes as they are: later updates are of what stands behind them. */
  release(count) {
    this.#drawn.splice(0, count);
  }

  #place(index, each) {
    const drawn = this.#drawn[index];
    const kind = kindOf(each);
    if (drawn?.kind === kind) {
      if (isSame(drawn.each, each)) return;
      drawn.view.update?.(each);
      drawn.each = each;
      return;
    }
    const view = this.#viewOf(each);
    view.update?.(each);
    if (drawn === undefined) this.parent.append(view.node);
    else drawn.view.node.replaceWith(view.node);
    this.#drawn[index] = { view, kind, each };
  }
}

const kindOf = ({ type, depth, level, ordered, href }) => [type, depth, level, ordered, href].join(" ");

const isSame = (a, b) => a.raw === b.raw && a.text === b.text && a.loose === b.loose && a.isOpen === b.isOpen;
