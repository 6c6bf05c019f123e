// A document's revisions, newest first, with the changes of each.

import { throttle, h, roveFocus, show } from "./dom.js";
import { json } from "./json.js";
import { count, fieldOf, timeOf } from "./values.js";

const REVISIONS_MAX = 2_000;

/** The retained revisions of a document, updated live. */
export class HistoryView {
  constructor(client, id, shape) {
    this.#shape = shape;
    this.#client = client;
    this.#id = id;
    this.#list = h("ol", { class: "revisions", "aria-label": "Revisions" });
    this.#settle = roveFocus(this.#list, ".revision");
    this.#note = h("p", { class: "empty" }, "Reading…");
    this.element = h("div", {}, this.#list, this.#note);
    this.#watch(0);
  }

  #shape;
  #client;
  #id;
  #list;
  #settle;
  #note;
  #unwatch = () => {};
  #earlier = []; // revisions of the pages before the watched one; they no longer change
  #shown = new Map(); // ts -> item

  #render = throttle(({ value, error }) => (error ? show(this.#note, `${error.message} (${error.name})`) : this.#take(value)));

  close() {
    this.#unwatch();
    this.#render.cancel();
  }

  /** Watch the page after a `ts`: only the last page can grow. */
  #watch(after) {
    this.#unwatch();
    this.#unwatch = this.#client.watch("_system:history", { document: this.#id, after }, (update) =>
      update.value?.isDone === false ? this.#take(update.value) : this.#render(update),
    );
  }

  #take({ revisions, isDone }) {
    const all = [...this.#earlier, ...revisions].slice(-REVISIONS_MAX);
    if (!isDone) {
      this.#earlier = all;
      return this.#watch(revisions.at(-1).ts);
    }
    const before = this.#shown;
    this.#shown = new Map(all.map((revision, index) => [revision.ts, before.get(revision.ts) ?? itemOf(revision, all[index - 1], this.#shape)]));
    show(this.#list, [...this.#shown.values()].reverse());
    this.#settle();
    const isCut = all[0] !== undefined && all[0].prevTs !== null;
    const number = `${count(all.length)} ${all.length === 1 ? "revision" : "revisions"}`;
    show(this.#note, number, !isCut ? ", the complete history." : all.length < REVISIONS_MAX ? "; older ones have expired." : ", the newest.");
  }
}

function itemOf(revision, before, shape) {
  const { ts, document } = revision;
  const full = h("div", { hidden: true });
  const toggle = (event) => {
    if (document === null || event.target.closest(".json") !== null) return;
    if (full.childElementCount === 0) show(full, json(document, shape));
    full.hidden = !full.hidden;
    item.setAttribute("aria-expanded", String(!full.hidden));
  };
  const onkey = (event) => {
    if (event.target !== item || (event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    toggle(event);
  };
  const [verb, changes] = describe(revision, before?.document);
  const item = h(
    "li",
    { class: "revision", tabindex: "-1", "aria-expanded": document === null ? null : "false", onclick: toggle, onkeydown: onkey },
    h("div", { class: "revision-head" }, h("strong", {}, verb), h("span", { class: "grow" }), h("time", { class: "faint number" }, timeOf(ts / 1000))),
    changes.map((change) => changeOf(change, shape)),
    full,
  );
  return item;
}

function changeOf([name, before, after], shape) {
  const [old, other] = [before, after].map((value) => (value === undefined ? "missing" : shape.at(name).label(value, 40)));
  return h("div", { class: "change clip" }, h("span", { class: "faint" }, `${name} `), h("del", {}, old), " → ", h("ins", {}, other));
}

/** Return a revision's verb and changed fields; the first retained revision may follow expired ones. */
function describe({ document, prevTs }, before) {
  if (document === null) return ["Deleted", []];
  if (before === undefined) return [prevTs === null ? "Inserted" : "Earliest", []];
  if (before === null) return ["Inserted again", []];
  const names = [...new Set([...Object.keys(before), ...Object.keys(document)])];
  const pairs = names.map((name) => [name, fieldOf(before, name), fieldOf(document, name)]);
  return ["Changed", pairs.filter(([, old, other]) => JSON.stringify(old) !== JSON.stringify(other))];
}
