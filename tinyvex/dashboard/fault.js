// A server error with all its details.

import { h } from "./dom.js";
import { json } from "./json.js";

/** Build the view of an error: message, party at fault, retry hint, path, and the app's data. */
export function faultOf(error) {
  const { fault, retry, requestId, path, appData, details } = error.data;
  const { traceback, ...others } = details ?? {};
  const isLogged = error.name === "FunctionFailed"; // the messages of other errors are complete
  const facts = [
    ["Fault", fault],
    ["Retry", retry],
    ["Argument", path],
    isLogged ? ["In the log as", requestId && h("a", { class: "link", href: `#/log/${encodeURIComponent(requestId)}` }, requestId)] : ["Request", requestId],
  ].filter(([, text]) => text);
  return h(
    "div",
    { class: "fault", role: "alert" },
    h("p", { class: "sentence" }, error.message),
    h("dl", {}, facts.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)])),
    typeof traceback === "string" ? [h("h3", {}, "Traceback"), h("pre", { class: "traceback", tabindex: "0" }, traceback)] : null,
    appData === undefined ? null : [h("h3", {}, "Data from the app"), json(appData)],
    Object.keys(others).length === 0 ? null : [h("h3", {}, "Details"), json(others)],
  );
}
