// The list of the app's functions, and a form for one of them.

import { h, connectFilter, roveFocus, show } from "./dom.js";
import { Runner } from "./runner.js";

const KINDS = { query: "Q", mutation: "M", action: "A" };

/** The view at `#/functions` and `#/functions/PATH`. */
export class FunctionsView {
  constructor(client, figures) {
    this.#client = client;
    this.#figures = figures;
    this.#filter = h("input", {
      class: "filter", type: "search", placeholder: "Filter functions", "aria-label": "Filter functions", "data-filter": true,
      "aria-keyshortcuts": "/", oninput: () => this.#narrow(),
    });
    this.#list = h("nav", { class: "list", "aria-label": "Functions" });
    this.#settle = roveFocus(this.#list, ".item");
    connectFilter(this.#filter, this.#list, ".item");
    this.#none = h("p", { class: "empty", hidden: true }, "No function path matches.");
    this.#body = h("section", { class: "body" });
    const filter = h("div", { class: "filter-box" }, this.#filter, h("kbd", { "aria-hidden": "true" }, "/"));
    this.element = h("div", { class: "split" }, h("div", { class: "pane wide" }, h("h1", {}, "Functions"), filter, this.#none, this.#list), this.#body);
    show(this.#list, Array.from({ length: 5 }, () => h("div", { class: "item ghost" })));
    this.#unwatch = client.watch("_system:functions", {}, ({ value, error }) => {
      if (error) return show(this.#list, h("p", { class: "fault", role: "alert" }, error.message));
      this.#functions(JSON.parse(value));
    });
  }

  #client;
  #figures;
  #filter;
  #list;
  #settle;
  #none;
  #body;
  #unwatch;
  #items = new Map(); // path -> {item, described, text}
  #wanted = null;
  #runner = null;

  route([path = null]) {
    this.#wanted = path;
    this.#open();
  }

  close() {
    this.#unwatch();
    this.#runner?.close();
  }

  #functions(functions) {
    const known = this.#items;
    this.#items = new Map();
    for (const described of functions.sort((one, other) => (one.path < other.path ? -1 : 1))) {
      const text = JSON.stringify(described);
      const before = known.get(described.path);
      this.#items.set(described.path, before?.text === text ? before : { item: itemOf(described), described, text });
    }
    show(this.#list, functions.length > 0 ? this.#grouped() : h("p", { class: "empty" }, "The app has no functions yet."));
    this.#narrow();
    this.#open();
  }

  #grouped() {
    const groups = Map.groupBy(this.#items.values(), ({ described }) => described.path.split(":")[0]);
    return [...groups].map(([module, items]) => h("div", { class: "group", role: "group", "aria-label": module }, h("h2", { class: "group-name" }, module), items.map(({ item }) => item)));
  }

  #narrow() {
    const wanted = this.#filter.value.trim().toLowerCase();
    for (const [path, { item }] of this.#items) item.hidden = !path.toLowerCase().includes(wanted);
    this.#none.hidden = this.#items.size === 0 || [...this.#items.values()].some(({ item }) => !item.hidden);
    for (const group of this.#list.querySelectorAll(".group")) group.hidden = !group.querySelector(".item:not([hidden])");
    this.#settle();
  }

  #open() {
    const path = this.#wanted ?? [...this.#items.keys()][0];
    for (const [known, { item }] of this.#items) {
      if (known === path) item.setAttribute("aria-current", "page");
      else item.removeAttribute("aria-current");
    }
    this.#settle();
    const selected = this.#items.get(path);
    if (selected === undefined) {
      if (this.#items.size > 0) show(this.#body, h("div", { class: "hollow" }, h("h2", {}, "No such function"), h("p", {}, `The app has no function ${path}.`)));
      return;
    }
    if (this.#runner?.text === selected.text) return;
    this.#runner?.close();
    this.#runner = new Runner(this.#client, selected.described, this.#figures.app().then(({ functions }) => functions[path]));
    this.#runner.text = selected.text;
    show(this.#body, this.#runner.element);
  }
}

function itemOf({ path, kind, internal }) {
  const badge = h("span", { class: `badge ${kind}`, title: kind, "aria-label": kind }, KINDS[kind] ?? "?");
  const name = h("span", { class: "grow clip" }, path.split(":").slice(1).join(":"));
  return h("a", { class: "item", href: `#/functions/${encodeURIComponent(path)}`, title: path }, badge, name, internal ? h("span", { class: "faint tag" }, "internal") : null);
}
