// The server's log, newest record last.

import { h, roveFocus, setText, show } from "./dom.js";
import { count } from "./values.js";

const LEVELS = ["debug", "info", "warning", "error", "critical"];
const SHOWN_MAX = 1_000;
const NEAR_END = 40;

/** The view at `#/log` and `#/log/TEXT`. */
export class LogView {
  constructor(_client, figures) {
    this.#filter = h("input", {
      class: "filter", type: "search", placeholder: "Filter the log", "aria-label": "Filter the log", "data-filter": true,
      "aria-keyshortcuts": "/", oninput: () => this.#narrow(),
    });
    this.#level = h(
      "select",
      { class: "select", "aria-label": "Level", onchange: () => this.#narrow() },
      LEVELS.slice(0, 4).map((level) => h("option", { value: level }, level === "debug" ? "All levels" : level === "error" ? "Errors" : `${level[0].toUpperCase()}${level.slice(1)} and above`)),
    );
    this.#total = h("span", { class: "faint number" });
    this.#list = h("ol", { class: "records", "aria-label": "Log records" });
    this.#settle = roveFocus(this.#list, ".record");
    this.#empty = h("div", { class: "hollow" }, h("h2", {}, "No log records"), h("p", {}, "Records of the server and the app appear here, without arguments or results."));
    this.#none = h("div", { class: "hollow", hidden: true }, h("h2", {}, "No record matches"), h("p", {}, `The filter searches the last ${count(SHOWN_MAX)} records; older ones are in the server’s own log.`));
    this.#scroller = h("div", { class: "scroll grow", onscroll: () => this.#scrolled() }, this.#empty, this.#none, this.#list);
    this.#newer = h("button", { class: "button small float", hidden: true, onclick: () => this.#toEnd() }, "Newest records");
    const title = h("header", { class: "bar" }, h("h1", {}, "Log"), this.#total, h("span", { class: "grow" }), this.#filter, h("kbd", { "aria-hidden": "true" }, "/"), this.#level);
    this.element = h("div", { class: "column page-column" }, title, this.#scroller, this.#newer);
    this.#unlisten = figures.listen(({ records }) => this.#take(records));
  }

  #filter;
  #level;
  #total;
  #list;
  #settle;
  #empty;
  #none;
  #scroller;
  #newer;
  #unlisten;
  #asked = null; // the text in the address
  #lastNumber = 0;
  #isAtEnd = true;
  #shown = []; // {record, element}

  /** With a text, such as a request id, show only matching records, with their tracebacks open. */
  route([text]) {
    if (text) {
      this.#asked = this.#filter.value = text;
      this.#level.value = LEVELS[0];
      this.#narrow();
      this.#unfold(this.#shown);
    }
    queueMicrotask(() => this.#toEnd());
  }

  #unfold(entries) {
    if (this.#asked === null || this.#asked !== this.#filter.value) return;
    for (const { element } of entries) if (!element.hidden) element.querySelector('.more[aria-expanded="false"]')?.click();
  }

  close() {
    this.#unlisten();
  }

  #take(records) {
    const added = records.filter(({ number }) => number > this.#lastNumber).map((record) => ({ record, element: elementOf(record) }));
    if (added.length === 0) return;
    this.#lastNumber = added.at(-1).record.number;
    this.#shown.push(...added);
    for (const { element } of this.#shown.splice(0, Math.max(0, this.#shown.length - SHOWN_MAX))) element.remove();
    this.#list.append(...added.map(({ element }) => element));
    this.#narrow();
    this.#unfold(added);
    if (this.#isAtEnd) this.#toEnd();
    else this.#newer.hidden = false;
  }

  #narrow() {
    const wanted = this.#filter.value.trim().toLowerCase();
    const least = LEVELS.indexOf(this.#level.value);
    let visible = 0;
    for (const { record, element } of this.#shown) {
      const text = `${record.logger} ${record.message} ${record.function ?? ""} ${reasonOf(record) ?? ""}`.toLowerCase();
      element.hidden = LEVELS.indexOf(record.level) < least || !text.includes(wanted);
      visible += element.hidden ? 0 : 1;
    }
    this.#empty.hidden = this.#shown.length > 0;
    this.#none.hidden = visible > 0 || this.#shown.length === 0;
    setText(this.#total, visible === this.#shown.length ? count(visible) : `${count(visible)} of ${count(this.#shown.length)}`);
    this.#settle();
  }

  #scrolled() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#isAtEnd = scrollHeight - scrollTop - clientHeight < NEAR_END;
    if (this.#isAtEnd) this.#newer.hidden = true;
  }

  #toEnd() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#isAtEnd = true;
    this.#newer.hidden = true;
  }
}

/** Return the error of a record, with its text if the traceback has it; null if the record has no error. */
export function reasonOf({ error, traceback }) {
  if (error === undefined) return null;
  const isNamed = (line) => line.split(":")[0].split(".").at(-1) === error;
  return traceback?.split("\n").findLast(isNamed) ?? error;
}

function elementOf(record) {
  const reason = reasonOf(record);
  const time = new Date(record.time);
  const clock = `${time.toLocaleTimeString("en-GB")}.${String(time.getMilliseconds()).padStart(3, "0")}`;
  const trace = record.traceback === undefined ? null : h("pre", { class: "trace", hidden: true }, record.traceback);
  const more = trace === null ? null : h("button", { class: "more faint", tabindex: "-1", "aria-expanded": "false" }, "traceback");
  const toggle = () => {
    trace.hidden = !trace.hidden;
    more.setAttribute("aria-expanded", String(!trace.hidden));
  };
  const element = h(
    "li",
    {
      class: `record ${record.level}`, tabindex: "-1",
      onkeydown: trace === null ? () => null : (event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), toggle()),
    },
    h(
      "div",
      { class: trace === null ? "record-line" : "record-line opens", onclick: trace === null ? () => null : toggle },
      h("time", { class: "faint number", datetime: record.time, title: record.time }, clock),
      h("span", { class: `level ${record.level}` }, record.level),
      h("span", { class: "faint clip logger", title: record.logger }, record.logger),
      h("span", { class: "grow message" }, record.message, reason === null ? null : h("span", { class: "reason" }, `\n${reason}`)),
      more,
    ),
    trace,
  );
  return element;
}
