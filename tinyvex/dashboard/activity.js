// The server's activity: figures, charts, live queries and connections.

import { Chart } from "./chart.js";
import { flash, h, roveFocus, setText, show } from "./dom.js";
import { age, bytes, count, duration } from "./values.js";

const LATENCY_SECONDS = 60;

/** The view at `#/activity`. */
export class ActivityView {
  constructor(client, figures) {
    this.#session = client.sessionId.slice(0, 8);
    this.#tiles = new Tiles();
    this.#commits = new Chart("Commits per second", [{ name: "commits", title: "", style: "one" }], (value) => count(Math.round(value * 10) / 10));
    this.#latency = new Chart(
      "Time of one commit",
      [{ name: "p50", title: "p50", style: "two" }, { name: "p99", title: "p99", style: "one" }],
      (value) => (value === 0 ? "0" : duration(value)),
    );
    this.#queries = new Listing("Live queries", "No live queries.", QUERY_COLUMNS, (row) => `${row.path} ${row.arguments}`);
    this.#connections = new Listing("Connections", "No connections.", CONNECTION_COLUMNS, (row) => `${row.session} ${row.name} ${row.subject}`);
    this.element = h(
      "div",
      { class: "page scroll" },
      h("h1", {}, "Activity"),
      this.#tiles.element,
      h("div", { class: "charts" }, this.#commits.element, this.#latency.element),
      this.#queries.element,
      this.#connections.element,
    );
    this.#unlisten = figures.listen((all) => this.#take(all));
  }

  #session;
  #tiles;
  #commits;
  #latency;
  #queries;
  #connections;
  #unlisten;

  route() {}

  close() {
    this.#unlisten();
    this.#commits.close();
    this.#latency.close();
  }

  #take({ latest, samples }) {
    this.#tiles.fill(latest, samples);
    this.#commits.update(samples);
    this.#latency.update(samples);
    const { liveQueries, liveQueriesTotal, connections, connectionsTotal } = latest;
    this.#queries.fill(liveQueries.map((query) => ({ key: `${query.path} ${query.arguments} ${query.identity}`, ...query })), liveQueriesTotal);
    const named = connections.map((each) => ({ key: each.number, ...each, isOwn: each.session === this.#session }));
    this.#connections.fill(named.reverse(), connectionsTotal);
  }
}

/** The figures above the charts. */
class Tiles {
  constructor() {
    this.element = h("dl", { class: "tiles" });
    const titles = ["Commits", "Commit p99", "Connections", "Live queries", "Recomputations", "Unchanged", "Database"];
    this.#cells = titles.map((title) => {
      const [value, note] = [h("span", { class: "number figure-value" }, "–"), h("span", { class: "faint note" }, "")];
      this.element.append(h("div", { class: "tile" }, h("dt", {}, title), h("dd", {}, value, note)));
      return [value, note];
    });
  }

  #cells;

  fill({ counters, store, connectionsTotal, liveQueriesTotal }, samples) {
    const newest = samples.at(-1) ?? {};
    const minute = samples.slice(-LATENCY_SECONDS).map(({ p99 }) => p99).filter((value) => value !== null);
    const share = counters.recomputations === 0 ? "–" : `${Math.round((100 * counters.recomputations_unchanged) / counters.recomputations)} %`;
    const figures = [
      [`${count(newest.commits ?? 0)}/s`, `${count(store.commits)} so far`],
      [minute.length > 0 ? duration(Math.max(...minute)) : "–", "highest in 1 min"],
      [count(connectionsTotal), `${bytes(newest.bytesSent ?? 0)}/s sent`],
      [count(liveQueriesTotal), `${bytes(counters.cached_bytes)} cached`],
      [`${count(newest.recomputations ?? 0)}/s`, `${count(counters.recomputations)} so far`],
      [share, "of reruns had no effect"],
      [bytes(store.fileBytes), `and ${bytes(store.walBytes)} of WAL`],
    ];
    figures.forEach(([value, note], index) => {
      setText(this.#cells[index][0], value);
      setText(this.#cells[index][1], note);
    });
  }
}

const QUERY_COLUMNS = [
  ["Query", (row) => row.path, "name"],
  ["Arguments", (row) => (row.arguments === "{}" ? "" : row.arguments), "mono faint wide"],
  ["Subscribers", (row) => count(row.subscribers), "right"],
  ["Ran", (row) => count(row.recomputations), "right lit"],
  ["Unchanged", (row) => count(row.unchanged), "right"],
  ["Last", (row) => (row.seconds === 0 ? "–" : duration(row.seconds)), "right"],
  ["Result", (row) => row.error ?? bytes(row.bytes), "right", (row) => row.error !== null],
];

const CONNECTION_COLUMNS = [
  ["Connection", (row) => `${row.number}${row.isOwn ? " · this tab" : ""}`, "name number"],
  ["Client", (row) => [row.name, row.subject].filter(Boolean).join(" · ") || (row.admin ? "administrator" : "anonymous"), "wide"],
  ["Connected", (row) => age(row.seconds), "right"],
  ["Queries", (row) => count(row.queries), "right"],
  ["Open calls", (row) => count(row.requests), "right"],
  ["Received", (row) => bytes(row.bytesReceived), "right"],
  ["Sent", (row) => bytes(row.bytesSent), "right"],
  ["Unread", (row) => bytes(row.bytesWaiting), "right"],
];

/** A table of rows that have a `key`; cells change in place. */
class Listing {
  constructor(title, empty, columns, textOf) {
    this.#columns = columns;
    this.#textOf = textOf;
    this.#total = h("span", { class: "faint number" });
    this.#filter = h("input", {
      class: "filter", type: "search", placeholder: "Filter", "aria-label": `Filter ${title}`, "data-filter": true, oninput: () => this.#narrow(),
    });
    this.#rows = h("tbody");
    this.#settle = roveFocus(this.#rows, "tr");
    this.#empty = h("p", { class: "empty" }, empty);
    const head = h("thead", {}, h("tr", {}, columns.map(([name, , style]) => h("th", { scope: "col", class: style.includes("right") ? "right" : null }, name))));
    const table = h("table", { class: "grid plain", "aria-label": title }, head, this.#rows);
    const bar = h("header", { class: "bar low" }, h("h2", {}, title), this.#total, h("span", { class: "grow" }), this.#filter);
    this.element = h("section", { class: "card" }, bar, h("div", { class: "scroll-x" }, table), this.#empty);
  }

  #columns;
  #textOf;
  #total;
  #filter;
  #rows;
  #settle;
  #empty;
  #shown = new Map(); // key -> {element, cells, row}

  fill(rows, total) {
    setText(this.#total, total > rows.length ? `${rows.length} of ${count(total)}` : count(total));
    this.#empty.hidden = rows.length > 0;
    const before = this.#shown;
    this.#shown = new Map(rows.map((row) => [row.key, before.get(row.key) ?? this.#make()]));
    for (const [key, { element }] of before) if (!this.#shown.has(key)) element.remove();
    rows.forEach((row, index) => {
      const entry = this.#shown.get(row.key);
      if (this.#rows.children[index] !== entry.element) this.#rows.insertBefore(entry.element, this.#rows.children[index] ?? null);
      this.#columns.forEach(([, text, style, isBad], column) => this.#fillCell(entry.cells[column], text(row), style, isBad?.(row)));
      entry.row = row;
    });
    this.#narrow();
  }

  #make() {
    const cells = this.#columns.map(([, , style]) => h("td", { class: `clip ${style}` }));
    return { element: h("tr", { tabindex: "-1" }, cells), cells, row: null };
  }

  #fillCell(cell, text, style, isBad = false) {
    if (cell.textContent === text) return;
    const wasEmpty = cell.textContent === "";
    setText(cell, text);
    cell.title = text.length > 24 ? text : "";
    cell.classList.toggle("bad", isBad);
    if (!wasEmpty && style.includes("lit")) flash(cell);
  }

  #narrow() {
    const wanted = this.#filter.value.trim().toLowerCase();
    for (const { element, row } of this.#shown.values()) element.hidden = !this.#textOf(row).toLowerCase().includes(wanted);
    this.#settle();
  }
}
