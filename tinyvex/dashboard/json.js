// A value as coloured JSON, updated line by line.

import { flash, h } from "./dom.js";
import { count, isId, pretty } from "./values.js";

const COLOURED_MAX = 200_000;
const SHOWN_MAX = 2_000_000;

/** Create a scrollable block with selectable text; very long values are not coloured, and are truncated. */
export function json(value, shape = null) {
  const block = h("pre", { class: "json", tabindex: "0" });
  renew(block, value, shape);
  return block;
}

/** Show another value in a block: equal lines at the start and end stay, the others are highlighted. */
export function renew(block, value, shape = null) {
  const text = JSON.stringify(value, null, 2) ?? "missing";
  if (text.length > COLOURED_MAX) {
    const rest = text.length > SHOWN_MAX ? `\n… and ${count(text.length - SHOWN_MAX)} more characters` : "";
    return block.replaceChildren(text.slice(0, SHOWN_MAX) + rest);
  }
  const before = [...block.querySelectorAll(".json-line")];
  const after = linesOf(value, shape).map(lineOf);
  if (before.length === 0) return block.replaceChildren(...after);
  const isSame = (old, line) => old !== undefined && old.textContent === line?.textContent;
  let start = 0;
  while (isSame(before[start], after[start])) start++;
  let end = 0;
  while (end < Math.min(before.length, after.length) - start && isSame(before.at(-1 - end), after.at(-1 - end))) end++;
  const [old, fresh] = [before, after].map((lines) => lines.slice(start, lines.length - end));
  fresh.forEach((line, index) => {
    if (old.length === fresh.length && isSame(old[index], line)) return;
    block.insertBefore(line, old[index] ?? before[before.length - end] ?? null);
    flash(line);
    if (old.length === fresh.length) old[index].remove();
  });
  if (old.length !== fresh.length) for (const line of old) line.remove();
}

function linesOf(value, shape) {
  const lines = [[]];
  for (const [kind, text] of pretty(value, shape)) {
    const [first, ...others] = kind === "mark" ? text.split("\n") : [text];
    lines.at(-1).push([kind, first]);
    for (const other of others) lines.push([[kind, other]]);
  }
  return lines;
}

/** Create a line that wraps at its own indentation. */
function lineOf(pieces) {
  const line = h("span", { class: "json-line" }, pieces.map(pieceOf));
  line.style.setProperty("--depth", /^ */.exec(line.textContent)[0].length); // not an attribute: the content security policy forbids inline styles
  return line;
}

function pieceOf([kind, text]) {
  if (kind === "mark") return text;
  if (kind === "string" && isId(text.slice(1, -1))) {
    return h("a", { class: "kind-string link", href: `#/data//${text.slice(1, -1)}`, title: "Open this document" }, text);
  }
  return h("span", { class: `kind-${kind}` }, text);
}
