// A document's revisions, the newest first, with what each changed.

import { calm, h, rove, show } from "./dom.js";
import { json } from "./json.js";
import { brief, count, fieldOf, moment } from "./values.js";

const REVISIONS_MAX = 2_000;

/** What is kept of a document's past; it grows as the document changes. */
export class HistoryView {
  constructor(client, id) {
    this.#client = client;
    this.#id = id;
    this.#list = h("ol", { class: "revisions", "aria-label": "Revisions" });
    this.#settle = rove(this.#list, ".revision");
    this.#note = h("p", { class: "empty" }, "Reading…");
    this.element = h("div", {}, this.#list, this.#note);
    this.#watch(0);
  }

  #client;
  #id;
  #list;
  #settle;
  #note;
  #unwatch = () => {};
  #earlier = []; // revisions of the pages before the one that is watched: they change no more
  #shown = new Map(); // ts -> item

  #told = calm(({ value, error }) => (error ? show(this.#note, `${error.message} (${error.name})`) : this.#take(value)));

  close() {
    this.#unwatch();
    this.#told.cancel();
  }

  /** Watch the page behind a `ts`: only the last one can grow. */
  #watch(after) {
    this.#unwatch();
    this.#unwatch = this.#client.watch("_system:history", { document: this.#id, after }, (told) =>
      told.value?.isDone === false ? this.#take(told.value) : this.#told(told),
    );
  }

  #take({ revisions, isDone }) {
    const all = [...this.#earlier, ...revisions].slice(-REVISIONS_MAX);
    if (!isDone) {
      this.#earlier = all;
      return this.#watch(revisions.at(-1).ts);
    }
    const before = this.#shown;
    this.#shown = new Map(all.map((revision, place) => [revision.ts, before.get(revision.ts) ?? itemOf(revision, all[place - 1])]));
    show(this.#list, [...this.#shown.values()].reverse());
    this.#settle();
    const isCut = all[0] !== undefined && all[0].prevTs !== null;
    const number = `${count(all.length)} ${all.length === 1 ? "revision" : "revisions"}`;
    show(this.#note, number, !isCut ? ", all that there were." : all.length < REVISIONS_MAX ? "; older ones are not kept." : ", the newest.");
  }
}

function itemOf(revision, before) {
  const { ts, document } = revision;
  const whole = h("div", { hidden: true });
  const toggle = (event) => {
    if (document === null || event.target.closest(".json") !== null) return;
    if (whole.childElementCount === 0) show(whole, json(document));
    whole.hidden = !whole.hidden;
    item.setAttribute("aria-expanded", String(!whole.hidden));
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
    h("div", { class: "revision-head" }, h("strong", {}, verb), h("span", { class: "grow" }), h("time", { class: "faint number" }, moment(ts / 1000))),
    changes.map(changeOf),
    whole,
  );
  return item;
}

function changeOf([name, before, after]) {
  const [old, other] = [before, after].map((value) => (value === undefined ? "nothing" : brief(value, 40)));
  return h("div", { class: "change clip" }, h("span", { class: "faint" }, `${name} `), h("del", {}, old), " → ", h("ins", {}, other));
}

/** What happened, and which fields have which other values; the first revision that is kept may follow others. */
function describe({ document, prevTs }, before) {
  if (document === null) return ["Deleted", []];
  if (before === undefined) return [prevTs === null ? "Inserted" : "Earliest", []];
  if (before === null) return ["Inserted again", []];
  const names = [...new Set([...Object.keys(before), ...Object.keys(document)])];
  const pairs = names.map((name) => [name, fieldOf(before, name), fieldOf(document, name)]);
  return ["Changed", pairs.filter(([, old, other]) => JSON.stringify(old) !== JSON.stringify(other))];
}
