// One function: its form, and the outcome of its last run.

import { throttle, flash, h, setText, show } from "./dom.js";
import { Client } from "./client.js";
import { faultOf } from "./fault.js";
import { Field, Form, Mistake, resolved, typeName } from "./form.js";
import { json, renew } from "./json.js";
import { Shape } from "./shape.js";
import { duration, timeOf } from "./values.js";

/** A function that can be run or, if it is a query, watched. */
export class Runner {
  constructor(client, described, text) {
    this.#client = client;
    this.#described = described;
    this.#shape = new Shape(described.result);
    const isQuery = described.kind === "query";
    this.#form = new Form(described.arguments, () => this.#run());
    this.#auth = new Field("ctx.auth", { type: "object" }, false, { type: "claims to act as", absent: "Anonymous" });
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
      setText(about, known ?? "");
    });
    const form = h("div", { class: "arguments scroll" }, about, this.#form.element, h("div", { class: "actor" }, this.#auth.element), actions);
    this.element = h("div", { class: "runner column" }, title, h("div", { class: "runner-body grow" }, form, this.#result));
    const hint = isQuery ? "Run it once, or watch its result as it changes." : "The result, the log lines and any error appear here.";
    show(this.#result, h("div", { class: "hollow" }, h("h2", {}, "Nothing run yet"), h("p", {}, hint)));
  }

  #client;
  #described;
  #shape; // of the result
  #form;
  #auth;
  #actor = null; // {text, client}: the client that acts as other claims, and these claims
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
    this.#actor?.client.close();
  }

  /** Return the arguments and the claims; null if any input is invalid. */
  #read() {
    const args = this.#form.read();
    const claims = this.#auth.check(args !== null);
    return args === null || claims instanceof Mistake ? null : { args, claims };
  }

  /** Return the page's own client, or a client for these claims. */
  async #clientFor(claims) {
    if (claims === undefined) return this.#client;
    const text = JSON.stringify(claims);
    if (this.#actor?.text === text && this.#actor.client.refusal === null) return this.#actor.client;
    this.#actor?.client.close();
    this.#actor = null;
    const client = await Client.actingAs(this.#client, claims);
    if (this.#lastRun < 0) client.close();
    else this.#actor = { text, client };
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
    this.#showOutcome(outcome, duration((performance.now() - began) / 1000));
    this.#result.scrollIntoView({ block: "nearest" }); // in a narrow window it is below the form
  }

  async #toggle() {
    if (this.#unwatch !== null) return this.#stopWatching();
    const given = this.#read();
    if (given === null) return;
    const run = ++this.#lastRun;
    this.#updates = 0;
    this.#watches.setAttribute("aria-pressed", "true");
    setText(this.#watches, "Stop watching");
    const update = throttle((outcome) => {
      const which = this.#updates === 1 ? "first result" : `update ${this.#updates - 1}`;
      if (run === this.#lastRun && this.#unwatch !== null) this.#showOutcome(outcome, `${which} at ${timeOf(Date.now())}`, true);
    });
    this.#unwatch = () => this.#lastRun++; // replaced once the subscription exists
    try {
      const client = await this.#clientFor(given.claims);
      if (run !== this.#lastRun) return;
      this.#unwatch = client.watch(this.#described.path, given.args, (outcome) => {
        this.#updates++;
        update(outcome);
      });
    } catch (error) {
      this.#stopWatching();
      this.#showOutcome({ error }, "");
    }
  }

  #stopWatching() {
    this.#unwatch?.();
    this.#unwatch = null;
    this.#watches.setAttribute("aria-pressed", "false");
    setText(this.#watches, "Watch live");
  }

  #head(text, kind, note = "") {
    show(this.#result, headOf(text, kind, note));
  }

  #showOutcome({ value, error, logLines = [] }, note, isLive = false) {
    const lines = error?.data.logLines ?? logLines; // those of a failed call are part of its error
    const logged = lines.length > 0 ? h("div", { class: "logged" }, h("h3", {}, "Logged"), h("pre", { tabindex: "0" }, lines.join("\n"))) : null;
    if (error !== undefined) {
      const { path } = error.data;
      if (path !== undefined) this.#form.complain(path, sentenceOf(error.message, path));
      show(this.#result, headOf(error.name, "bad", note), h("div", { class: "scroll grow" }, faultOf(error), logged));
      return;
    }
    const head = headOf(isLive ? "Live" : "Done", "good", note);
    const before = this.#result.querySelector(":scope > .scroll > .json:only-child");
    if (!isLive || this.#updates === 1 || before === null || logged !== null) {
      return show(this.#result, head, h("div", { class: "scroll grow" }, logged, json(value, this.#shape)));
    }
    this.#result.firstChild.replaceWith(head); // the rest keeps its scroll position
    renew(before, value, this.#shape);
    flash(head);
  }
}

function headOf(text, kind, note) {
  return h("header", { class: "bar low" }, h("span", { class: `dot ${kind}` }), h("strong", {}, text), h("span", { class: "faint number" }, note));
}

/** Return the message for the field that a path starts with; repeat the path only if it leads deeper. */
function sentenceOf(message, path) {
  const inner = path.replace(/^\$\.?/, "");
  const sentence = message.split(`${path}: `).at(-1);
  return /[.[]/.test(inner) ? `${inner}: ${sentence}` : sentence;
}
