// What is said to who is not let in (yet), and what to do about it.

import { h } from "./dom.js";

const WORDS = {
  connecting: ["Connecting…", "The server is being asked to let this tab in."],
  absent: [
    "Open this page with a link",
    "It shows everything that the database holds, so the address alone lets nobody in. Ask for a link, in the project’s folder:",
  ],
  used: ["This link is good no more", "A link is good once and for a minute. Ask for another, in the project’s folder:"],
  ended: [
    "The server was started anew",
    "What lets a tab in ends with the server’s run. Ask for another link, in the project’s folder:",
  ],
  refused: ["The server ended this connection", "Reload the page to come back."],
};

/** A page of its own for one of WORDS. */
export function gate(kind, error = null) {
  const [title, text] = WORDS[kind];
  const command = h("code", { class: "command" }, h("span", { class: "faint" }, "$ "), "tinyvex dashboard");
  const said = h(
    "div",
    { class: "gate-words", role: kind === "connecting" ? "status" : "alert" },
    h("img", { src: "/_dashboard/icon.svg", alt: "", width: 40, height: 40 }),
    h("h1", {}, title),
    h("p", {}, text),
    kind === "connecting" || kind === "refused" ? null : command,
    error !== null ? h("p", { class: "faint reason" }, `The server says: ${error.message} (${error.name})`) : null,
    kind === "refused" ? h("button", { class: "button", onclick: () => location.reload() }, "Reload") : null,
  );
  return h("main", { class: "gate" }, said);
}
