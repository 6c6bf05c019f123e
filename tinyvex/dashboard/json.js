// A value as coloured JSON.

import { h } from "./dom.js";
import { pretty } from "./values.js";

/** A block that can be read, selected and scrolled. */
export function json(value) {
  const pieces = pretty(value).map(([kind, text]) => (kind === "mark" ? text : h("span", { class: `kind-${kind}` }, text)));
  return h("pre", { class: "json", tabindex: "0" }, pieces);
}
