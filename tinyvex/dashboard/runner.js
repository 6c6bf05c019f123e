// One function: its form, and what became of running it.

import { calm, flash, h, say, show } from "./dom.js";
import { Client } from "./client.js";
import { faultOf } from "./fault.js";
import { Field, Form, Mistake, resolved, typeName } from "./form.js";
import { json, renew } from "./json.js";
import { duration, moment } from "./values.js";

/** A function that can be run, or watched where it is a query. */
export class Runner {
  constructor(client, described, text) {
    this.#client = client;
    this.#described = described;
    const isQuery = described.kind === "query";
    this.#form = new Form(described.arguments, () => this.#run());
    this.#auth = new Field("ctx.auth", { type: "object" }, false, { type: "claims of whom to act as", absent: "Nobody" });
    this.#runs = h("button", { class: "button primary", "aria-keyshortcuts": "Control+Enter", onclick: () => this.#run() }, "Run");
    this.#watches = h("button", { class: "button", "aria-pressed": "false", onclick: () => this.#toggle() }, "Watch live");
    this.#result = h("section", { class: "result grow column", "aria-label": "Result", "aria-live": "polite" });
    const title = h(
      "header",
      { class: "bar" },
      h("h2", { class: "clip" }, described.path),
      h("span", { class: `badge wide ${described.kind}` }, described.internal ? `internal ${described.kind}` : described.kind),
      h("span", { class: "grow" }),
      described.result ? h("span", { class: "faint clip" }, `returns ${typeName(resolved(described.result))}`) : null,
    );
    const keys = h("span", { class: "faint hint" }, h("kbd", {}, "Ctrl"), " ", h("kbd", {}, "Enter"));
    const actions = h("div", { class: "actions" }, this.#runs, isQuery ? this.#watches : null, keys);
    const about = h("p", { class: "about", hidden: true });
    text.then((known) => {
      about.hidden = !known;
      say(about, known ?? "");
    });
    const form = h("div", { class: "arguments scroll" }, about, this.#form.element, h("div", { class: "speaker" }, this.#auth.element), actions);
    this.element = h("div", { class: "runner column" }, title, h("div", { class: "runner-body grow" }, form, this.#result));
    const hint = isQuery ? "Run it once, or watch its result as it changes." : "What it returns, logs or complains of appears here.";
    show(this.#result, h("div", { class: "hollow" }, h("h2", {}, "Nothing run yet"), h("p", {}, hint)));
  }

  #client;
  #described;
  #form;
  #auth;
  #speaker = null; // {text, client}: who acts as somebody, and as whom
  #runs;
  #watches;
  #result;
  #unwatch = null;
  #updates = 0;
  #lastRun = 0;

  close() {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#lastRun = -1;
    this.#speaker?.client.close();
  }

  /** The arguments and the claims; null where one has a mistake. */
  #read() {
    const args = this.#form.read();
    const claims = this.#auth.check(args !== null);
    return args === null || claims instanceof Mistake ? null : { args, claims };
  }

  /** Who asks: the page's own client, or one for these claims alone. */
  async #clientFor(claims) {
    if (claims === undefined) return this.#client;
    const text = JSON.stringify(claims);
    if (this.#speaker?.text === text && this.#speaker.client.refusal === null) return this.#speaker.client;
    this.#speaker?.client.close();
    this.#speaker = null;
    const client = await Client.actingAs(this.#client, claims);
    if (this.#lastRun < 0) client.close();
    else this.#speaker = { text, client };
    return client;
  }

  async #run() {
    const given = this.#read();
    if (given === null) return;
    this.#stopWatching();
    const run = ++this.#lastRun;
    const began = performance.now();
    const slow = setTimeout(() => this.#head("Running…", "waiting"), 150);
    this.#runs.setAttribute("aria-busy", "true");
    const { kind, path } = this.#described;
    const called = this.#clientFor(given.claims).then((client) => client.call(kind, path, given.args));
    const outcome = await called.catch((error) => ({ error }));
    clearTimeout(slow);
    this.#runs.removeAttribute("aria-busy");
    if (run !== this.#lastRun) return;
    this.#tell(outcome, duration((performance.now() - began) / 1000));
    this.#result.scrollIntoView({ block: "nearest" }); // it is below the form where there is no room beside it
  }

  async #toggle() {
    if (this.#unwatch !== null) return this.#stopWatching();
    const given = this.#read();
    if (given === null) return;
    const run = ++this.#lastRun;
    this.#updates = 0;
    this.#watches.setAttribute("aria-pressed", "true");
    say(this.#watches, "Stop watching");
    const tell = calm((outcome) => {
      const which = this.#updates === 1 ? "first result" : `update ${this.#updates - 1}`;
      if (run === this.#lastRun && this.#unwatch !== null) this.#tell(outcome, `${which} at ${moment(Date.now())}`, true);
    });
    this.#unwatch = () => this.#lastRun++; // until somebody watches
    try {
      const client = await this.#clientFor(given.claims);
      if (run !== this.#lastRun) return;
      this.#unwatch = client.watch(this.#described.path, given.args, (outcome) => {
        this.#updates++;
        tell(outcome);
      });
    } catch (error) {
      this.#stopWatching();
      this.#tell({ error }, "");
    }
  }

  #stopWatching() {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#watches.setAttribute("aria-pressed", "false");
    say(this.#watches, "Watch live");
  }

  #head(text, kind, note = "") {
    show(this.#result, headOf(text, kind, note));
  }

  #tell({ value, error, logLines = [] }, note, isLive = false) {
    const logged = logLines.length > 0 ? h("div", { class: "logged" }, h("h3", {}, "Logged"), h("pre", { tabindex: "0" }, logLines.join("\n"))) : null;
    if (error !== undefined) {
      const { path } = error.data;
      if (path !== undefined) this.#form.complain(path, sentenceOf(error.message, path));
      show(this.#result, headOf(error.name, "bad", note), h("div", { class: "scroll grow" }, faultOf(error), logged));
      return;
    }
    const head = headOf(isLive ? "Live" : "Done", "good", note);
    const before = this.#result.querySelector(":scope > .scroll > .json:only-child");
    if (!isLive || this.#updates === 1 || before === null || logged !== null) {
      return show(this.#result, head, h("div", { class: "scroll grow" }, logged, json(value)));
    }
    this.#result.firstChild.replaceWith(head); // the rest stays where one has scrolled to
    renew(before, value);
    flash(head);
  }
}

function headOf(text, kind, note) {
  return h("header", { class: "bar low" }, h("span", { class: `dot ${kind}` }), h("strong", {}, text), h("span", { class: "faint number" }, note));
}

/** What is wrong at a path, told at the field of its first name: only what lies deeper is named again. */
function sentenceOf(message, path) {
  const place = path.replace(/^\$\.?/, "");
  const sentence = message.split(`${path}: `).at(-1);
  return /[.[]/.test(place) ? `${place}: ${sentence}` : sentence;
}
