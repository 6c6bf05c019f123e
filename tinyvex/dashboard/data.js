// The list of tables with their counts, and one open table.

import { throttle, flash, h, connectFilter, roveFocus, setText, show } from "./dom.js";
import { TableView } from "./table.js";
import { count, fieldOf } from "./values.js";

const LIVE_COUNT_MAX = 5_000; // a count visits every key, so a larger table is counted at intervals, not at each commit
const COUNT_INTERVAL_MS = 5_000;

/** The view at `#/data`, `#/data/TABLE`, `#/data/TABLE/ID` and `#/data//ID`, for an id of any table. */
export class DataView {
  constructor(client, figures) {
    this.#client = client;
    this.#figures = figures;
    this.#filter = h("input", {
      class: "filter", type: "search", placeholder: "Filter tables", "aria-label": "Filter tables", oninput: () => this.#narrow(),
    });
    this.#list = h("nav", { class: "list", "aria-label": "Tables" });
    this.#settle = roveFocus(this.#list, ".item");
    connectFilter(this.#filter, this.#list, ".item");
    this.#none = h("p", { class: "empty", hidden: true }, "No table name matches.");
    this.#body = h("section", { class: "body" });
    this.element = h("div", { class: "split" }, h("div", { class: "pane" }, h("h1", {}, "Data"), this.#filter, this.#none, this.#list), this.#body);
    show(this.#list, Array.from({ length: 4 }, () => h("div", { class: "item ghost" })));
    this.#unwatch = client.watch("_system:tables", {}, ({ value, error }) => this.#tables(value, error));
  }

  #client;
  #figures;
  #filter;
  #list;
  #settle;
  #none;
  #body;
  #unwatch;
  #entries = new Map(); // table -> {item, counter}
  #wanted = null;
  #wantedId;
  #table = null;

  route([table = null, id]) {
    if (table === "" && id !== undefined) return this.#find(id);
    this.#wanted = table;
    this.#wantedId = id;
    this.#open();
  }

  /** Ask the server for the table of an id, which the id encodes. */
  async #find(document) {
    const answer = await this.#client.call("query", "_system:history", { document, after: Number.MAX_SAFE_INTEGER }).catch((error) => ({ error }));
    if (answer.error === undefined) return location.replace(`#/data/${encodeURIComponent(answer.value.table)}/${document}`);
    this.#table?.close();
    this.#table = null;
    show(this.#body, h("div", { class: "hollow", role: "alert" }, h("h2", {}, "No such document"), h("p", {}, answer.error.message)));
  }

  close() {
    this.#unwatch();
    this.#table?.close();
    for (const { counter } of this.#entries.values()) counter.close();
  }

  escape() {
    this.#table?.escape();
  }

  #tables(names, error) {
    if (error) return show(this.#list, h("p", { class: "fault", role: "alert" }, error.message));
    for (const [name, { counter }] of this.#entries) {
      if (names.includes(name)) continue;
      counter.close();
      this.#entries.delete(name);
    }
    for (const name of names) if (!this.#entries.has(name)) this.#entries.set(name, this.#entry(name));
    show(this.#list, names.map((name) => this.#entries.get(name).item));
    if (names.length === 0) {
      show(this.#list, h("p", { class: "empty" }, "No tables yet. Declare one with ", h("code", {}, "@tv.table"), "."));
    }
    this.#narrow();
    this.#open();
  }

  #entry(name) {
    const number = h("span", { class: "number faint" });
    const item = h("a", { class: "item", href: `#/data/${encodeURIComponent(name)}`, title: name }, h("span", { class: "grow clip" }, name), number);
    const counter = new Counter(this.#client, name, (total, isFirst) => {
      setText(number, count(total));
      if (!isFirst) flash(number);
      this.#table?.counted(name, total);
    });
    return { item, counter };
  }

  #narrow() {
    const wanted = this.#filter.value.trim().toLowerCase();
    for (const [name, { item }] of this.#entries) item.hidden = !name.toLowerCase().includes(wanted);
    this.#none.hidden = this.#entries.size === 0 || [...this.#entries.values()].some(({ item }) => !item.hidden);
    this.#settle();
  }

  #open() {
    const name = this.#wanted ?? [...this.#entries.keys()][0];
    for (const [known, { item }] of this.#entries) {
      if (known === name) item.setAttribute("aria-current", "page");
      else item.removeAttribute("aria-current");
    }
    this.#settle();
    if (name === undefined) return show(this.#body, h("div", { class: "hollow" }, h("h2", {}, "Nothing here yet"), h("p", {}, "Documents appear as soon as a mutation writes one.")));
    if (this.#table?.name === name) return this.#table.route(this.#wantedId);
    this.#table?.close();
    this.#table = new TableView(this.#client, name, this.#figures.app().then(({ tables }) => fieldOf(tables, name)));
    this.#table.route(this.#wantedId);
    show(this.#body, this.#table.element);
    const total = this.#entries.get(name)?.counter.total;
    if (total !== undefined && total !== null) this.#table.counted(name, total);
  }
}

/** A table's count: live while the table is small, then polled. */
class Counter {
  constructor(client, table, listener) {
    this.#client = client;
    this.#args = { table };
    this.#listener = listener;
    this.#unwatch = client.watch("_system:count", this.#args, throttle(({ value }) => this.#take(value)));
  }

  #client;
  #args;
  #listener;
  #unwatch;
  #timer = null;
  total = null;

  close() {
    this.#unwatch?.();
    this.#unwatch = null;
    clearInterval(this.#timer);
  }

  #take(total) {
    if (total === undefined || total === this.total) return;
    this.#listener(total, this.total === null);
    this.total = total;
    if (total <= LIVE_COUNT_MAX || this.#timer !== null) return;
    this.close();
    this.#timer = setInterval(() => {
      if (document.hidden) return;
      this.#client.call("query", "_system:count", this.#args).then(({ value }) => this.#take(value), () => null);
    }, COUNT_INTERVAL_MS);
  }
}
