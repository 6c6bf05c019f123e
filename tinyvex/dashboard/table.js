// A table's documents, a page at a time, changing as others write.

import { DocumentView } from "./document.js";
import { calm, flash, h, rove, say, show } from "./dom.js";
import { brief, count, isId, kindOf, moment, shortId } from "./values.js";

const PAGE_ROWS = 50;
const COLUMNS_MAX = 24;
const TITLES = { _creationTime: "created" };

/** One table, opened at its newest documents. */
export class TableView {
  constructor(client, name) {
    this.name = name;
    this.#client = client;
    this.#total = h("span", { class: "faint number" });
    this.#filter = h("input", {
      class: "filter", type: "search", placeholder: "Filter", "aria-label": "Filter this page", "data-filter": true,
      "aria-keyshortcuts": "/", oninput: () => this.#narrow(),
    });
    this.#order = h(
      "select",
      { class: "select", "aria-label": "Order", onchange: () => this.#reopen() },
      h("option", { value: "desc" }, "Newest first"),
      h("option", { value: "asc" }, "Oldest first"),
    );
    this.#head = h("tr");
    this.#rows = h("tbody");
    this.#grid = h("table", { class: "grid", role: "grid", "aria-label": `Documents of ${name}` }, h("thead", {}, this.#head), this.#rows);
    this.#settle = rove(this.#rows, "tr");
    this.#note = h("div", { class: "hollow", hidden: true });
    this.#before = h("button", { class: "button small", onclick: () => this.#turn(-1) }, "Previous");
    this.#after = h("button", { class: "button small", onclick: () => this.#turn(1) }, "Next");
    this.#page = h("span", { class: "faint number" });
    this.#documentPane = h("div", { class: "drawer", hidden: true });
    const title = h("header", { class: "bar" }, h("h2", { class: "clip" }, name), this.#total, h("span", { class: "grow" }), this.#filter, h("kbd", { "aria-hidden": "true" }, "/"), this.#order);
    const pager = h("footer", { class: "pager" }, this.#page, h("span", { class: "grow" }), this.#before, this.#after);
    const scroller = h("div", { class: "scroll grow" }, this.#grid, this.#note);
    this.element = h("div", { class: "table" }, h("div", { class: "column" }, title, scroller, pager), this.#documentPane);
    this.#scroller = scroller;
    this.#render = calm(({ value, error }) => (error ? this.#fail(error) : this.#fill(value)));
    this.#watch();
  }

  #client;
  #total;
  #filter;
  #order;
  #head;
  #rows;
  #grid;
  #settle;
  #note;
  #before;
  #after;
  #page;
  #scroller;
  #documentPane;
  #document = null;
  #cursors = [null]; // of the pages so far; the last is the one shown
  #next = null;
  #unwatch = null;
  #shown = new Map(); // _id -> {row, cells, texts, document}
  #columns = [];
  #numeric = new Set(); // columns that have a number somewhere on the page
  #isFirst = true;
  #render;

  close() {
    this.#unwatch?.();
    this.#render.cancel();
    this.#document?.close();
  }

  escape() {
    this.#closeDocument();
  }

  counted(table, total) {
    if (table === this.name) say(this.#total, `${count(total)} ${total === 1 ? "document" : "documents"}`);
  }

  #reopen() {
    this.#cursors = [null];
    this.#watch();
  }

  #turn(step) {
    if (step > 0) this.#cursors.push(this.#next);
    else this.#cursors.pop();
    this.#scroller.scrollTop = 0;
    this.#watch();
  }

  #watch() {
    this.#unwatch?.();
    this.#render.cancel();
    this.#isFirst = true;
    this.#before.disabled = this.#after.disabled = true;
    const args = { table: this.name, order: this.#order.value, cursor: this.#cursors.at(-1), size: PAGE_ROWS };
    this.#unwatch = this.#client.watch("_system:rows", args, this.#render);
  }

  #fail(error) {
    this.#grid.hidden = true;
    this.#note.hidden = false;
    show(this.#note, h("h2", {}, "This page cannot be read"), h("p", { class: "fault" }, `${error.message} (${error.name})`));
  }

  #fill({ items, cursor, isDone }) {
    this.#next = cursor;
    this.#before.disabled = this.#cursors.length === 1;
    this.#after.disabled = isDone;
    say(this.#page, `Page ${this.#cursors.length}${items.length > 0 ? `, ${items.length} on it` : ""}`);
    this.#grid.hidden = items.length === 0;
    this.#note.hidden = items.length > 0;
    if (items.length === 0) show(this.#note, h("h2", {}, "No documents"), h("p", {}, "What a mutation inserts appears here at once."));
    this.#fillHead(items);
    const before = this.#shown;
    this.#shown = new Map();
    for (const document of items) this.#shown.set(document._id, this.#fillRow(before.get(document._id), document));
    this.#place([...this.#shown.values()].map(({ row }) => row));
    this.#isFirst = false;
    this.#narrow();
  }

  /** Put rows in order and leave alone what is in its place: the focus stays where it is. */
  #place(rows) {
    const wanted = new Set(rows);
    for (const row of [...this.#rows.children]) if (!wanted.has(row)) row.remove();
    rows.forEach((row, place) => {
      const there = this.#rows.children[place];
      if (there !== row) this.#rows.insertBefore(row, there ?? null);
    });
  }

  #fillHead(items) {
    const names = new Set(items.flatMap((item) => Object.keys(item)));
    names.delete("_id");
    names.delete("_creationTime");
    const columns = ["_id", ...[...names].slice(0, COLUMNS_MAX), "_creationTime"];
    const numeric = new Set([...names].filter((name) => items.some((item) => kindOf(item[name]) === "number")));
    if (JSON.stringify([columns, ...numeric]) === JSON.stringify([this.#columns, ...this.#numeric])) return;
    this.#columns = columns;
    this.#numeric = numeric;
    show(this.#head, columns.map((name) => h("th", { scope: "col", class: numeric.has(name) ? "right" : null }, TITLES[name] ?? name)));
    for (const entry of this.#shown.values()) entry.texts = null; // their cells are made again
  }

  #fillRow(entry, document) {
    const isNew = entry === undefined;
    if (isNew) {
      const open = () => this.#open(document._id);
      const row = h("tr", { role: "row", tabindex: "-1", onclick: open, onkeydown: (event) => event.key === "Enter" && open() });
      entry = { row, cells: [], texts: null };
    }
    entry.document = document;
    const texts = this.#columns.map((name) => JSON.stringify(document[name]));
    if (entry.texts === null) {
      entry.cells = this.#columns.map((name) => this.#fillCell(h("td", { role: "gridcell" }), name, document[name]));
      show(entry.row, entry.cells);
      if (isNew && !this.#isFirst) flash(entry.row);
    } else {
      texts.forEach((text, place) => {
        if (text === entry.texts[place]) return;
        this.#fillCell(entry.cells[place], this.#columns[place], document[this.#columns[place]]);
        flash(entry.cells[place]);
      });
    }
    entry.texts = texts;
    return entry;
  }

  #fillCell(cell, name, value) {
    const kind = kindOf(value);
    cell.className = `clip kind-${kind}${this.#numeric.has(name) ? " right" : ""}${isId(value) ? " id" : ""}`;
    if (name === "_creationTime") {
      cell.classList.add("faint", "number");
      say(cell, moment(value));
      return cell;
    }
    const text = kind === "null" ? "null" : brief(value);
    say(cell, isId(value) ? shortId(value) : text);
    cell.title = text.length > 24 ? text : "";
    return cell;
  }

  #narrow() {
    const wanted = this.#filter.value.trim().toLowerCase();
    for (const { row, document } of this.#shown.values()) {
      row.hidden = wanted !== "" && !JSON.stringify(document).toLowerCase().includes(wanted);
    }
    this.#settle();
  }

  #open(id) {
    this.#document?.close();
    for (const [known, { row }] of this.#shown) row.setAttribute("aria-selected", String(known === id));
    this.#document = new DocumentView(this.#client, this.name, this.#shown.get(id).document, () => this.#closeDocument());
    show(this.#documentPane, this.#document.element);
    this.#documentPane.hidden = false;
  }

  #closeDocument() {
    if (this.#document === null) return;
    const row = this.#shown.get(this.#document.id)?.row;
    this.#document.close();
    this.#document = null;
    this.#documentPane.hidden = true;
    for (const entry of this.#shown.values()) entry.row.removeAttribute("aria-selected");
    row?.focus();
  }
}
