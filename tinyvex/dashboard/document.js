// One complete document, updated live, or its history.

import { throttle, h, setText, show } from "./dom.js";
import { HistoryView } from "./history.js";
import { json, renew } from "./json.js";
import { Shape } from "./shape.js";
import { bytes, timeOf, shortId } from "./values.js";

/** An open document next to its table, updated live. */
export class DocumentView {
  /** If `document` is null, it is fetched by its id; `declared` is a promise of the table's declaration, undefined if it has none. */
  constructor(client, table, id, document, declared, onClose) {
    this.id = id;
    this.#client = client;
    this.#table = table;
    this.#text = h("div");
    this.#body = h("div", { class: "scroll grow" }, this.#text);
    this.#past = h("button", { class: "button small", "aria-pressed": "false", onclick: () => this.#toggle() }, "History");
    this.#size = h("span", { class: "faint number" });
    this.#created = h("span", { class: "faint number" });
    this.#copied = h("button", { class: "button small", onclick: () => this.#copy() }, "Copy");
    const shut = h("button", { class: "button small", "aria-label": "Close the document", "aria-keyshortcuts": "Escape", onclick: onClose }, "Close");
    this.element = h(
      "article",
      { class: "document column", "aria-label": `Document ${this.id}` },
      h("header", { class: "bar" }, h("code", { class: "clip grow", title: this.id }, shortId(this.id)), this.#past, this.#copied, shut),
      this.#body,
      h("footer", { class: "pager" }, this.#size, h("span", { class: "grow" }), this.#created),
    );
    declared.then((known) => {
      if (this.#isClosed) return;
      this.#shape = new Shape(known?.schema);
      if (document === null) this.#find();
      else this.#follow(document);
    });
  }

  #client;
  #table;
  #shape = new Shape(null);
  #unwatch = null;
  #body;
  #text;
  #block = null;
  #past;
  #history = null;
  #size;
  #created;
  #copied;
  #known = null;
  #isClosed = false;
  #take = throttle(({ value }) => value !== undefined && this.#fill(value.items.find(({ _id }) => _id === this.id)));

  close() {
    this.#isClosed = true;
    this.#unwatch?.();
    this.#take.cancel();
    this.#history?.close();
  }

  /** By its history: an id says neither when it was made nor whether it is still there. */
  async #find() {
    try {
      const { value } = await this.#client.call("query", "_system:history", { document: this.id });
      const known = value.revisions.findLast(({ document }) => document !== null)?.document;
      if (this.#isClosed) return;
      if (known === undefined) this.#fill(undefined);
      else this.#follow(known);
    } catch (error) {
      show(this.#text, h("p", { class: "empty fault", role: "alert" }, error.message));
    }
  }

  /** Subscribe to the document by its index position, independently of the page that contains it. */
  #follow(document) {
    this.#fill(document);
    setText(this.#created, `created ${timeOf(document._creationTime)}`);
    const args = { table: this.#table, eq: { _creationTime: document._creationTime }, size: 8 };
    this.#unwatch = this.#client.watch("_system:rows", args, this.#take);
  }

  #toggle() {
    this.#history?.close();
    this.#history = this.#history === null ? new HistoryView(this.#client, this.id, this.#shape) : null;
    this.#past.setAttribute("aria-pressed", String(this.#history !== null));
    show(this.#body, this.#history?.element ?? this.#text);
  }

  #fill(document) {
    if (document === undefined) {
      this.#known = this.#block = null;
      setText(this.#size, "");
      return show(this.#text, h("div", { class: "hollow" }, h("h2", {}, "Deleted"), h("p", {}, "This document was deleted; its history shows earlier revisions.")));
    }
    const text = JSON.stringify(document, null, 2);
    if (text === this.#known) return;
    this.#known = text;
    setText(this.#size, bytes(new TextEncoder().encode(JSON.stringify(document)).length));
    if (this.#block === null) show(this.#text, (this.#block = json(document, this.#shape)));
    else renew(this.#block, document, this.#shape);
  }

  async #copy() {
    if (this.#known === null) return;
    try {
      await navigator.clipboard.writeText(this.#known);
      setText(this.#copied, "Copied");
    } catch {
      setText(this.#copied, "Not permitted");
    }
    setTimeout(() => setText(this.#copied, "Copy"), 1_500);
  }
}
