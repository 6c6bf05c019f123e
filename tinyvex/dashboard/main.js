// The frame around the views: access, navigation and the state of the connection.

import { Access, takeCode } from "./access.js";
import { ActivityView } from "./activity.js";
import { Client } from "./client.js";
import { DataView } from "./data.js";
import { h, roveFocus, setText, show, icon } from "./dom.js";
import { Figures } from "./figures.js";
import { FunctionsView } from "./functions.js";
import { gate } from "./gate.js";
import { LogView } from "./log.js";
import { Palette } from "./palette.js";
import { age } from "./values.js";

const DRUM = ["M2.5 4c0-1 2.5-1.8 5.5-1.8s5.5.8 5.5 1.8-2.5 1.8-5.5 1.8S2.5 5 2.5 4Z", "M2.5 4v8c0 1 2.5 1.8 5.5 1.8s5.5-.8 5.5-1.8V4"];
const VIEWS = [
  ["data", "Data", DataView, icon(...DRUM, "M2.5 8c0 1 2.5 1.8 5.5 1.8s5.5-.8 5.5-1.8")],
  ["functions", "Functions", FunctionsView, icon("M4.5 2.5 11 8l-6.5 5.5", "M11.5 13.5h2")],
  ["activity", "Activity", ActivityView, icon("M1.5 8.5h3l2-5.5 3 10 2-4.5h3")],
  ["log", "Log", LogView, icon("M2.5 4h11", "M2.5 8h11", "M2.5 12h7")],
];

const root = document.getElementById("root");
const access = new Access(takeCode());

class Shell {
  constructor() {
    this.#status = h("p", { class: "status", role: "status", "aria-live": "polite" }, h("span", { class: "dot" }), h("span"));
    this.#app = h("p", { class: "app-name" });
    this.#uptime = h("p", { class: "faint" });
    this.#links = VIEWS.map(([name, title, , drawn]) =>
      h("a", { href: `#/${name}`, class: "nav-item", title }, drawn, h("span", {}, title)),
    );
    this.#nav = h("nav", { "aria-label": "Views" }, this.#links);
    this.#main = h("main", { id: "view", tabindex: "-1" });
    this.#banner = h("div", { class: "banner", role: "alert", hidden: true });
    this.#client = new Client(address(), () => access.token, (state) => this.#connection(state));
    this.#figures = new Figures(() => access.token, () => this.#refuse(), () => this.#client.suspect());
    this.#palette = new Palette(this.#client, VIEWS);
    this.#figures.listen(({ latest }) => this.#describe(latest));
  }

  #status;
  #app;
  #uptime;
  #links;
  #nav;
  #main;
  #banner;
  #client;
  #figures;
  #palette;
  #settleNav = () => {};
  #view = null;
  #isShown = false;
  #retryTimer = null;

  start() {
    this.#client.connect();
    addEventListener("hashchange", () => this.#route());
    addEventListener("keydown", (event) => this.#key(event));
  }

  #draw() {
    const logo = h("img", { src: "/_dashboard/icon.svg", alt: "", width: 24, height: 24 });
    const server = h("div", { class: "server" }, this.#app, this.#uptime, this.#status);
    const jump = h(
      "button",
      { class: "jump", "aria-keyshortcuts": "Control+K", title: "Go to… (Ctrl K)", onclick: () => this.#palette.open() },
      icon("M7 12a5 5 0 1 0 0-10 5 5 0 0 0 0 10Z", "m10.8 10.8 3 3"), h("span", { class: "grow" }, "Go to…"), h("kbd", { "aria-hidden": "true" }, "Ctrl K"),
    );
    const side = h("aside", { class: "side" }, h("div", { class: "brand" }, logo, h("span", {}, "Tinyvex")), jump, this.#nav, server);
    const skip = (event) => {
      event.preventDefault();
      this.#main.focus();
    };
    show(
      root,
      h("a", { class: "skip", href: "#view", onclick: skip }, "Skip to content"),
      h("div", { class: "shell" }, side, this.#main),
      this.#banner,
      this.#palette.element,
    );
    this.#settleNav = roveFocus(this.#nav, ".nav-item");
    this.#isShown = true;
    this.#route();
  }

  #route() {
    if (!this.#isShown) return;
    const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
    const view = VIEWS.find(([known]) => known === name);
    if (view === undefined) return location.replace("#/data");
    const [, title, View] = view;
    VIEWS.forEach(([known], index) => {
      if (known === name) {
        this.#links[index].setAttribute("aria-current", "page");
        this.#links[index].hash = location.hash; // the link returns to the last position in the view
      }
      else this.#links[index].removeAttribute("aria-current");
    });
    this.#settleNav();
    document.title = [rest[0], title, "Tinyvex"].filter(Boolean).join(" · ");
    if (this.#view instanceof View) return this.#view.route(rest);
    this.#view?.close();
    this.#view = new View(this.#client, this.#figures);
    show(this.#main, this.#view.element);
    this.#main.setAttribute("aria-label", title);
    this.#view.route(rest);
  }

  #connection(state) {
    clearInterval(this.#retryTimer);
    root.dataset.connection = state.kind;
    if (state.kind === "open") {
      access.welcome(state.welcome);
      this.#setStatus("Live", "good");
      this.#banner.hidden = true;
      if (!this.#isShown) this.#draw();
      this.#figures.start();
    } else if (state.kind === "refused") this.#refused(state.error);
    else {
      this.#figures.stop();
      this.#setStatus(state.kind === "lost" ? "Reconnecting" : "Connecting", "waiting");
      if (!this.#isShown) return show(root, gate("connecting"));
      if (state.kind === "lost") this.#lost(state.retryAt);
    }
  }

  #lost(retryAt) {
    const text = h("span");
    const update = () => {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      setText(text, seconds > 0 ? `Trying again in ${seconds} s.` : "Trying again…");
    };
    update();
    this.#retryTimer = setInterval(update, 250);
    const now = h("button", { class: "button small", onclick: () => this.#client.connect() }, "Try now");
    const lost = h("div", {}, h("strong", {}, "Connection lost. "), "The page shows the last known state. ", text);
    show(this.#banner, h("span", { class: "dot waiting" }), lost, now);
    this.#banner.hidden = false;
  }

  /** Stop polling: the token is no longer valid. The socket receives its own error. */
  #refuse() {
    this.#figures.stop();
  }

  #refused(error) {
    const wasByLink = access.isByLink;
    this.#figures.stop();
    if (error.name === "Unauthenticated" && access.refused()) return location.reload(); // with the previous token
    this.#view?.close();
    this.#banner.hidden = true;
    this.#isShown = false;
    document.title = "Tinyvex";
    show(root, gate(error.name !== "Unauthenticated" ? "refused" : wasByLink ? "used" : "ended", error));
  }

  #setStatus(text, kind) {
    const [dot, words] = this.#status.children;
    dot.className = `dot ${kind}`;
    setText(words, text);
  }

  #describe({ server }) {
    setText(this.#app, server.app);
    this.#app.title = server.data;
    setText(this.#uptime, `${server.version}${server.dev ? " · dev" : ""} · up ${age((server.now - server.startedAt) / 1000)}`);
  }

  #key(event) {
    const isTyping = event.target.closest?.("input, textarea, select") !== null;
    const opensPalette = (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey)) || (event.key === "?" && !isTyping);
    if (opensPalette && this.#isShown) {
      event.preventDefault();
      return this.#palette.open();
    }
    if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
      const filter = [...this.#main.querySelectorAll("[data-filter]")].find((each) => each.checkVisibility());
      if (filter === undefined) return;
      event.preventDefault();
      filter.focus();
      filter.select();
    } else if (event.key === "Escape" && !event.defaultPrevented) {
      if (event.target.matches?.(".filter")) {
        event.target.value = "";
        event.target.dispatchEvent(new Event("input"));
        event.target.blur();
      } else this.#view?.escape?.();
    }
  }
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function address() {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/sync`;
}

// Another link opened in this tab changes only the fragment, so the browser does not reload by itself.
addEventListener("hashchange", () => location.hash.startsWith("#code=") && location.reload());

if (access.token === null) show(root, gate("absent"));
else new Shell().start();
