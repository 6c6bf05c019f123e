// A value as coloured JSON.

import { h } from "./dom.js";
import { count, pretty } from "./values.js";

const COLOURED_MAX = 200_000;
const SHOWN_MAX = 2_000_000;

/** A block that can be read, selected and scrolled; a very long one has no colours, and not its end. */
export function json(value) {
  const text = JSON.stringify(value, null, 2) ?? "nothing";
  if (text.length > COLOURED_MAX) {
    const rest = text.length > SHOWN_MAX ? `\n… and ${count(text.length - SHOWN_MAX)} characters more` : "";
    return h("pre", { class: "json", tabindex: "0" }, text.slice(0, SHOWN_MAX) + rest);
  }
  const pieces = pretty(value).map(([kind, text]) => (kind === "mark" ? text : h("span", { class: `kind-${kind}` }, text)));
  return h("pre", { class: "json", tabindex: "0" }, pieces);
}
