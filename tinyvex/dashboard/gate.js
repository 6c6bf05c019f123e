// The page of a tab without access: the reason, and the next step.

import { h } from "./dom.js";

const WORDS = {
  connecting: ["Connecting…", "Waiting for the server to accept this tab."],
  absent: [
    "Open this page with a link",
    "This page shows everything in the database, so the address alone gives no access. Create a link in the project’s folder:",
  ],
  used: ["This link is no longer valid", "A link is valid once, for one minute. Create another in the project’s folder:"],
  ended: [
    "The server was restarted",
    "The access of a tab ends with the server’s process. Create another link in the project’s folder:",
  ],
  refused: ["The server closed this connection", "Reload the page to connect again."],
};

/** Build the full page for one of WORDS. */
export function gate(kind, error = null) {
  const [title, text] = WORDS[kind];
  const command = h("code", { class: "command" }, h("span", { class: "faint" }, "$ "), "tinyvex dashboard");
  const content = h(
    "div",
    { class: "gate-words", role: kind === "connecting" ? "status" : "alert" },
    h("img", { src: "/_dashboard/icon.svg", alt: "", width: 40, height: 40 }),
    h("h1", {}, title),
    h("p", {}, text),
    kind === "connecting" || kind === "refused" ? null : command,
    error !== null ? h("p", { class: "faint reason" }, `The server reported: ${error.message} (${error.name})`) : null,
    kind === "refused" ? h("button", { class: "button", onclick: () => location.reload() }, "Reload") : null,
  );
  return h("main", { class: "gate" }, content);
}
