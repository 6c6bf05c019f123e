// A table's documents, page by page, updated live.

import { DocumentView } from "./document.js";
import { throttle, flash, h, roveFocus, setText, show } from "./dom.js";
import { Shape } from "./shape.js";
import { count, fieldOf, isId, kindOf, timeOf, shortId } from "./values.js";

const PAGE_ROWS = 50;
const COLUMNS_MAX = 24;
const TITLES = { _creationTime: "created" };
const NEWEST_FIRST = { order: "desc", index: "by_creation_time" };
const ORDERS = [["Newest first", NEWEST_FIRST], ["Oldest first", { ...NEWEST_FIRST, order: "asc" }]];

/** One table, starting at its newest documents; `declared` is a promise of its fields and indexes in the app's code. */
export class TableView {
  constructor(client, name, declared) {
    this.name = name;
    this.#client = client;
    this.#total = h("span", { class: "faint number" });
    this.#filter = h("input", {
      class: "filter", type: "search", placeholder: "Filter page", "aria-label": "Filter this page", "data-filter": true,
      "aria-keyshortcuts": "/", oninput: () => this.#narrow(),
    });
    this.#order = h("select", { class: "select", "aria-label": "Order", onchange: () => this.#reorder() }, ORDERS.map(optionOf));
    this.#where = h("input", { class: "filter mono", type: "search", hidden: true, spellcheck: "false", autocomplete: "off", oninput: () => this.#reopen() });
    this.#head = h("tr");
    this.#rows = h("tbody");
    this.#grid = h("table", { class: "grid", role: "grid", "aria-label": `Documents of ${name}` }, h("thead", {}, this.#head), this.#rows);
    this.#settle = roveFocus(this.#rows, "tr");
    this.#note = h("div", { class: "hollow late" }, "Reading…");
    this.#before = h("button", { class: "button small", onclick: () => this.#turn(-1) }, "Previous");
    this.#after = h("button", { class: "button small", onclick: () => this.#turn(1) }, "Next");
    this.#page = h("span", { class: "faint number" });
    this.#documentPane = h("div", { class: "drawer", hidden: true });
    const title = h("header", { class: "bar" }, h("h2", { class: "clip" }, name), this.#total, h("span", { class: "grow" }), this.#filter, h("kbd", { "aria-hidden": "true" }, "/"), this.#where, this.#order);
    const pager = h("footer", { class: "pager" }, this.#page, h("span", { class: "grow" }), this.#before, this.#after);
    const scroller = h("div", { class: "scroll grow" }, this.#grid, this.#note);
    this.element = h("div", { class: "table" }, h("div", { class: "column" }, title, scroller, pager), this.#documentPane);
    this.#scroller = scroller;
    this.#render = throttle(({ value, error }) => (error ? this.#fail(error) : this.#fill(value)));
    this.#declared = declared;
    declared.then((table) => this.#declare(table));
  }

  #client;
  #total;
  #filter;
  #order;
  #where; // the required value of the index's first field
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
  #cursors = [null]; // of the pages so far; the last one is shown
  #next = null;
  #unwatch = null;
  #shown = new Map(); // _id -> {row, cells, texts, document}
  #declared;
  #shape = new Shape(null);
  #fields = []; // in the order of the app's code
  #columns = [];
  #hiddenFields = 0;
  #numeric = new Set(); // columns that have a number somewhere on the page
  #isFirst = true;
  #isClosed = false;
  #render;

  close() {
    this.#isClosed = true;
    this.#unwatch?.();
    this.#render.cancel();
    this.#document?.close();
  }

  escape() {
    if (this.#document !== null) this.#leave();
  }

  /** Open a document next to the rows; without an id, close the open one. */
  route(id) {
    if (this.#document?.id === id) return;
    if (id === undefined) this.#closeDocument();
    else this.#open(id);
  }

  counted(table, total) {
    if (table === this.name) setText(this.#total, `${count(total)} ${total === 1 ? "document" : "documents"}`);
  }

  /** Start reading, with columns in the order of the code, and offer the table's indexes as orders. */
  #declare({ fields, indexes, schema } = { fields: [], indexes: {}, schema: null }) {
    if (this.#isClosed) return;
    this.#fields = fields;
    this.#shape = new Shape(schema);
    const orders = Object.entries(indexes).flatMap(([index, [field]]) => [
      [`${index} ↑`, { order: "asc", index, field }],
      [`${index} ↓`, { order: "desc", index, field }],
    ]);
    if (orders.length > 0) this.#order.append(h("optgroup", { label: "By index" }, orders.map(optionOf)));
    this.#watch();
  }

  #reorder() {
    const { field } = JSON.parse(this.#order.value);
    this.#where.value = "";
    this.#where.hidden = field === undefined;
    this.#where.placeholder = `${field} =`;
    this.#where.setAttribute("aria-label", `Only documents with this ${field}`);
    this.#reopen();
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
    const { field, ...order } = JSON.parse(this.#order.value);
    const wanted = this.#where.value.trim();
    const eq = wanted === "" ? null : { [field]: valueOf(wanted) };
    const args = { table: this.name, ...order, eq, cursor: this.#cursors.at(-1), size: PAGE_ROWS };
    this.#unwatch = this.#client.watch("_system:rows", args, this.#render);
  }

  #fail(error) {
    this.#grid.hidden = true;
    this.#note.hidden = false;
    setText(this.#page, "");
    show(this.#note, h("h2", {}, "This page cannot be read"), h("p", { class: "fault" }, `${error.message} (${error.name})`));
  }

  #fill({ items, cursor, isDone }) {
    this.#next = cursor;
    this.#before.disabled = this.#cursors.length === 1;
    this.#after.disabled = isDone;
    this.#fillHead(items);
    const before = this.#shown;
    this.#shown = new Map();
    for (const document of items) this.#shown.set(document._id, this.#fillRow(before.get(document._id), document));
    this.#arrange([...this.#shown.values()].map(({ row }) => row));
    this.#isFirst = false;
    this.#narrow();
  }

  /** Put rows in order without moving those already in place, so that the focus stays. */
  #arrange(rows) {
    const wanted = new Set(rows);
    for (const row of [...this.#rows.children]) if (!wanted.has(row)) row.remove();
    rows.forEach((row, index) => {
      const there = this.#rows.children[index];
      if (there !== row) this.#rows.insertBefore(row, there ?? null);
    });
  }

  #fillHead(items) {
    const there = new Set(items.flatMap((item) => Object.keys(item)));
    const names = new Set([...this.#fields.filter((name) => there.has(name)), ...there]);
    names.delete("_id");
    names.delete("_creationTime");
    this.#hiddenFields = Math.max(0, names.size - COLUMNS_MAX);
    const columns = ["_id", ...[...names].slice(0, COLUMNS_MAX), "_creationTime"];
    const numeric = new Set([...names].filter((name) => items.some((item) => kindOf(fieldOf(item, name)) === "number")));
    if (JSON.stringify([columns, ...numeric]) === JSON.stringify([this.#columns, ...this.#numeric])) return;
    this.#columns = columns;
    this.#numeric = numeric;
    show(this.#head, columns.map((name) => h("th", { scope: "col", class: numeric.has(name) ? "right" : null }, TITLES[name] ?? name)));
    for (const entry of this.#shown.values()) entry.texts = null; // rebuilds the cells
  }

  #fillRow(entry, document) {
    const isNew = entry === undefined;
    if (isNew) {
      const open = () => (location.hash = this.#address(document._id));
      const row = h("tr", { role: "row", tabindex: "-1", onclick: open, onkeydown: (event) => event.key === "Enter" && open() });
      entry = { row, cells: [], texts: null };
    }
    entry.document = document;
    if (document._id === this.#document?.id) entry.row.setAttribute("aria-selected", "true");
    const values = this.#columns.map((name) => fieldOf(document, name));
    const texts = values.map((value) => JSON.stringify(value));
    if (entry.texts === null) {
      entry.cells = this.#columns.map((name, index) => this.#fillCell(h("td", { role: "gridcell" }), name, values[index]));
      show(entry.row, entry.cells);
      if (isNew && !this.#isFirst) flash(entry.row);
    } else {
      texts.forEach((text, index) => {
        if (text === entry.texts[index]) return;
        this.#fillCell(entry.cells[index], this.#columns[index], values[index]);
        flash(entry.cells[index]);
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
      setText(cell, timeOf(value));
      cell.title = new Date(value).toISOString();
      return cell;
    }
    const text = kind === "null" ? "null" : this.#shape.at(name).label(value);
    setText(cell, isId(value) ? shortId(value) : text);
    cell.title = text.length > 24 ? text : "";
    return cell;
  }

  #narrow() {
    const wanted = this.#filter.value.trim().toLowerCase();
    let visible = 0;
    for (const { row, document } of this.#shown.values()) {
      row.hidden = wanted !== "" && !JSON.stringify(document).toLowerCase().includes(wanted);
      visible += row.hidden ? 0 : 1;
    }
    this.#settle();
    const total = this.#shown.size;
    const hidden = this.#hiddenFields > 0 ? `, ${this.#hiddenFields} more fields not shown` : "";
    setText(this.#page, `Page ${this.#cursors.length}${total === 0 ? "" : `, ${visible < total ? `${visible} of ` : ""}${total} documents${hidden}`}`);
    this.#note.hidden = visible > 0;
    if (total === 0 && this.#where.value !== "") show(this.#note, h("h2", {}, "No such documents"), h("p", {}, "A string that looks like a number needs quotes, as in JSON."));
    else if (total === 0) show(this.#note, h("h2", {}, "No documents"), h("p", {}, "Documents appear here when a mutation inserts them."));
    else if (visible === 0) show(this.#note, h("h2", {}, "No document on this page matches"), h("p", {}, "The filter applies only to the documents of this page."));
    this.#grid.hidden = visible === 0;
  }

  #address(id = null) {
    return `#/data/${encodeURIComponent(this.name)}${id === null ? "" : `/${id}`}`;
  }

  #leave() {
    location.hash = this.#address();
  }

  #open(id) {
    this.#document?.close();
    for (const [known, { row }] of this.#shown) row.setAttribute("aria-selected", String(known === id));
    this.#document = new DocumentView(this.#client, this.name, id, this.#shown.get(id)?.document ?? null, this.#declared, () => this.#leave());
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

function optionOf([text, order]) {
  return h("option", { value: JSON.stringify(order) }, text);
}

/** Parse input as JSON, or return it as a string. */
function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
