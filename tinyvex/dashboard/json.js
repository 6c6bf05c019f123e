// A value as coloured JSON, which can change a line at a time.

import { flash, h } from "./dom.js";
import { count, isId, pretty } from "./values.js";

const COLOURED_MAX = 200_000;
const SHOWN_MAX = 2_000_000;

/** A block that can be read, selected and scrolled; a very long one has no colours, and not its end. */
export function json(value) {
  const block = h("pre", { class: "json", tabindex: "0" });
  renew(block, value);
  return block;
}

/** Let a block show another value: lines that say the same at its beginning and end stay what they are, others light up. */
export function renew(block, value) {
  const text = JSON.stringify(value, null, 2) ?? "nothing";
  if (text.length > COLOURED_MAX) {
    const rest = text.length > SHOWN_MAX ? `\n… and ${count(text.length - SHOWN_MAX)} characters more` : "";
    return block.replaceChildren(text.slice(0, SHOWN_MAX) + rest);
  }
  const before = [...block.querySelectorAll(".json-line")];
  const after = linesOf(value).map(lineOf);
  if (before.length === 0) return block.replaceChildren(...after);
  const isSame = (old, line) => old !== undefined && old.textContent === line?.textContent;
  let start = 0;
  while (isSame(before[start], after[start])) start++;
  let end = 0;
  while (end < Math.min(before.length, after.length) - start && isSame(before.at(-1 - end), after.at(-1 - end))) end++;
  const [old, fresh] = [before, after].map((lines) => lines.slice(start, lines.length - end));
  fresh.forEach((line, place) => {
    if (old.length === fresh.length && isSame(old[place], line)) return;
    block.insertBefore(line, old[place] ?? before[before.length - end] ?? null);
    flash(line);
    if (old.length === fresh.length) old[place].remove();
  });
  if (old.length !== fresh.length) for (const line of old) line.remove();
}

function linesOf(value) {
  const lines = [[]];
  for (const [kind, text] of pretty(value)) {
    const [first, ...others] = kind === "mark" ? text.split("\n") : [text];
    lines.at(-1).push([kind, first]);
    for (const other of others) lines.push([[kind, other]]);
  }
  return lines;
}

/** A line that goes on below itself where it is too long, however deep it lies. */
function lineOf(pieces) {
  const line = h("span", { class: "json-line" }, pieces.map(pieceOf));
  line.style.setProperty("--depth", /^ */.exec(line.textContent)[0].length); // no attribute: the policy forbids those
  return line;
}

function pieceOf([kind, text]) {
  if (kind === "mark") return text;
  if (kind === "string" && isId(text.slice(1, -1))) {
    return h("a", { class: "kind-string link", href: `#/data//${text.slice(1, -1)}`, title: "Open this document" }, text);
  }
  return h("span", { class: `kind-${kind}` }, text);
}
