// A searchable list of all views, tables, functions and documents, with a list of the keys.

import { h, show } from "./dom.js";
import { isId, shortId } from "./values.js";

const SHOWN_MAX = 40;
const KEYS = [
  ["Ctrl K", "go to"],
  ["/", "filter"],
  ["↑ ↓", "along a list"],
  ["Enter", "open"],
  ["Esc", "close"],
  ["Ctrl Enter", "run"],
];

/** A dialog over the page; it subscribes to the lists only while it is open. */
export class Palette {
  /** `views` are `[name, title]`. */
  constructor(client, views) {
    this.#client = client;
    this.#places = { views: views.map(([name, title]) => ({ text: title, kind: "view", href: `#/${name}` })), tables: [], functions: [] };
    this.#input = h("input", {
      class: "palette-input", type: "text", placeholder: "Go to a table, a function, or a document by its id", role: "combobox",
      "aria-label": "Go to", "aria-controls": "places", "aria-expanded": "true", "aria-autocomplete": "list", autocomplete: "off", spellcheck: "false",
      oninput: () => this.#fill(),
    });
    this.#list = h("div", { class: "places scroll", id: "places", role: "listbox", "aria-label": "Places" });
    const keys = h("footer", { class: "keys", "aria-label": "Keys" }, KEYS.map(([key, does]) => h("span", {}, h("kbd", {}, key), " ", does)));
    this.element = h(
      "dialog",
      { class: "palette", "aria-label": "Go to", onkeydown: (event) => this.#key(event), onclose: () => this.#unwatch(), onclick: (event) => event.target === this.element && this.element.close() },
      h("div", { class: "palette-body" }, this.#input, this.#list, keys),
    );
  }

  #client;
  #places;
  #input;
  #list;
  #chosen = 0;
  #unwatch = () => {};

  open() {
    if (this.element.open) return;
    this.#input.value = "";
    this.element.showModal();
    const ends = [
      this.#client.watch("_system:tables", {}, ({ value }) => this.#take("tables", (value ?? []).map((text) => ({ text, kind: "table", href: `#/data/${encodeURIComponent(text)}` })))),
      this.#client.watch("_system:functions", {}, ({ value }) =>
        this.#take("functions", JSON.parse(value ?? "[]").map(({ path, kind }) => ({ text: path, kind, href: `#/functions/${encodeURIComponent(path)}` }))),
      ),
    ];
    this.#unwatch = () => ends.forEach((end) => end());
    this.#fill();
  }

  #take(name, places) {
    this.#places[name] = places;
    this.#fill(this.#chosen);
  }

  /** Show the entries that match every typed word by text or kind; those that start with the first word come first. */
  #fill(chosen = 0) {
    const typed = this.#input.value.trim();
    const words = typed.toLowerCase().split(/\s+/);
    const all = Object.values(this.#places).flat();
    const matches = all.filter(({ text, kind }) => words.every((word) => text.toLowerCase().includes(word) || kind === word));
    const rank = ({ text }) => (text.toLowerCase().split(":").some((part) => part.startsWith(words[0])) ? 0 : 1);
    matches.sort((one, other) => rank(one) - rank(other));
    if (isId(typed)) matches.unshift({ text: shortId(typed), kind: "document", href: `#/data//${typed}` });
    const left = matches.length - SHOWN_MAX;
    show(
      this.#list,
      matches.slice(0, SHOWN_MAX).map((entry, number) => this.#optionOf(entry, number)),
      matches.length === 0 ? h("p", { class: "empty" }, "No match.") : null,
      left > 0 ? h("p", { class: "empty" }, `and ${left} more`) : null,
    );
    this.#choose(chosen);
  }

  #optionOf({ text, kind, href }, number) {
    const go = () => this.#go(href);
    return h(
      "div",
      { class: "place-item", role: "option", id: `place-${number}`, "data-href": href, onclick: go, onpointermove: () => this.#choose(number) },
      h("span", { class: "grow clip" }, text),
      h("span", { class: "faint" }, kind),
    );
  }

  #choose(number) {
    const options = this.#list.querySelectorAll(".place-item");
    this.#chosen = Math.max(0, Math.min(options.length - 1, number));
    options.forEach((option, index) => option.setAttribute("aria-selected", String(index === this.#chosen)));
    if (options.length === 0) return this.#input.removeAttribute("aria-activedescendant");
    this.#input.setAttribute("aria-activedescendant", options[this.#chosen].id);
    options[this.#chosen].scrollIntoView({ block: "nearest" });
  }

  #key(event) {
    event.stopPropagation(); // the page below has its own keys
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step !== undefined) this.#choose(this.#chosen + step);
    else if (event.key === "Enter") this.#go(this.#list.querySelector('[aria-selected="true"]')?.dataset.href);
    else return;
    event.preventDefault();
  }

  #go(href) {
    if (href === undefined) return;
    this.element.close();
    location.hash = href;
  }
}
