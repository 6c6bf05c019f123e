// One document, whole and live, or its history.

import { flash, h, say, show } from "./dom.js";
import { HistoryView } from "./history.js";
import { json } from "./json.js";
import { bytes, moment, shortId } from "./values.js";

/** A document beside its table; it is followed as long as it is open. */
export class DocumentView {
  constructor(client, table, document, onClose) {
    this.id = document._id;
    this.#client = client;
    this.#text = h("div");
    this.#body = h("div", { class: "scroll grow" }, this.#text);
    this.#past = h("button", { class: "button small", "aria-pressed": "false", onclick: () => this.#toggle() }, "History");
    this.#size = h("span", { class: "faint number" });
    this.#copied = h("button", { class: "button small", onclick: () => this.#copy() }, "Copy");
    const shut = h("button", { class: "button small", "aria-label": "Close the document", "aria-keyshortcuts": "Escape", onclick: onClose }, "Close");
    this.element = h(
      "article",
      { class: "document column", "aria-label": `Document ${this.id}` },
      h("header", { class: "bar" }, h("code", { class: "clip grow", title: this.id }, shortId(this.id)), this.#past, this.#copied, shut),
      this.#body,
      h("footer", { class: "pager" }, this.#size, h("span", { class: "grow" }), h("span", { class: "faint" }, `created ${moment(document._creationTime)}`)),
    );
    this.#fill(document);
    // By its place in the index: so it is followed on whatever page it would be.
    const args = { table, eq: { _creationTime: document._creationTime }, size: 8 };
    this.#unwatch = client.watch("_system:rows", args, ({ value }) => value !== undefined && this.#take(value.items));
  }

  #client;
  #unwatch;
  #body;
  #text;
  #past;
  #history = null;
  #size;
  #copied;
  #known = null;

  close() {
    this.#unwatch();
    this.#history?.close();
  }

  #toggle() {
    this.#history?.close();
    this.#history = this.#history === null ? new HistoryView(this.#client, this.id) : null;
    this.#past.setAttribute("aria-pressed", String(this.#history !== null));
    show(this.#body, this.#history?.element ?? this.#text);
  }

  #take(items) {
    const found = items.find(({ _id }) => _id === this.id);
    if (found !== undefined) return this.#fill(found);
    this.#known = null;
    show(this.#text, h("div", { class: "hollow" }, h("h2", {}, "Deleted"), h("p", {}, "This document is gone; its history tells what it was.")));
  }

  #fill(document) {
    const text = JSON.stringify(document, null, 2);
    if (text === this.#known) return;
    const isFirst = this.#known === null;
    this.#known = text;
    const shown = json(document);
    show(this.#text, shown);
    say(this.#size, bytes(new TextEncoder().encode(JSON.stringify(document)).length));
    if (!isFirst) flash(shown);
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText(this.#known);
      say(this.#copied, "Copied");
    } catch {
      say(this.#copied, "Not allowed here");
    }
    setTimeout(() => say(this.#copied, "Copy"), 1_500);
  }
}
