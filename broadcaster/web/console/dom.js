/** Elements without markup: every text becomes a text node. */

export const byId = (id) => document.getElementById(id);

/** An element with these attributes and children; `text` is its text. */
export function element(tag, { text, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  node.append(...children);
  return node;
}

export function show(node, isVisible) {
  if (node.hidden === isVisible) node.hidden = !isVisible;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Put the nodes in this order and move only what has to move: the focused one keeps its focus. */
export function place(parent, nodes) {
  const kept = new Set(nodes);
  for (const child of [...parent.children]) if (!kept.has(child)) child.remove();
  for (const [index, node] of nodes.entries()) {
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  }
}

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  copy: "M9 9h10v10H9zM5 15V5h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
  repeat: "M20 12a8 8 0 1 1-2.3-5.6M20 4v4.5h-4.5",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  more: "M5 12h.01M12 12h.01M19 12h.01",
};

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button of an icon, whose name is read and shown on hover. */
export function iconButton(name, label, attributes, onClick) {
  const button = element("button", { type: "button", class: "tiny", "aria-label": label, title: label, ...attributes }, icon(name));
  button.addEventListener("click", onClick);
  return button;
}
