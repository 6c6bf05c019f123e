// Elements without markup: text is only ever text, so nothing that a document says can become part of the page.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element.
 *
 * `properties` are attributes; a function is a listener of the event after its `on`; true is an empty attribute;
 * false, null and undefined leave it out. `children` are nodes, texts, or lists of both.
 */
export function h(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** Make an element of a drawing. */
export function svg(name, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Put other children into an element. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
}

/** Set an element's text, unless that is what it says: what is unchanged stays selected. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * A function that calls `render` at once, and then at most every `pause` milliseconds, with what it was given last:
 * nobody reads faster than that, however fast others write. Its `cancel` forgets what waits.
 */
export function calm(render, pause = 120) {
  let latest = [];
  let timer = null;
  let last = -Infinity;
  const run = () => {
    timer = null;
    last = performance.now();
    render(...latest);
  };
  const calmed = (...given) => {
    latest = given;
    if (timer !== null) return;
    const wait = last + pause - performance.now();
    if (wait <= 0) run();
    else timer = setTimeout(run, wait);
  };
  calmed.cancel = () => {
    clearTimeout(timer);
    timer = null;
  };
  return calmed;
}

/** Let an element light up softly, to say that it has changed. */
export function flash(element) {
  element.classList.remove("flash");
  void element.offsetWidth; // begin anew where it still runs
  element.classList.add("flash");
}

/**
 * Let arrow keys, Home and End move between the items of a list; Tab goes past it to where one was last.
 *
 * `selector` finds the items. A list that is filled again calls what is returned.
 */
export function rove(list, selector) {
  const items = () => [...list.querySelectorAll(selector)].filter((item) => !item.hidden);
  const settle = () => {
    const all = items();
    const last = all.find((item) => item.tabIndex === 0 && item.dataset.roved) ?? all.find(isCurrent) ?? all[0];
    for (const item of all) item.tabIndex = item === last ? 0 : -1;
  };
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    const all = items();
    const place = all.indexOf(event.target.closest(selector));
    if (step === undefined || place < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    all[Math.max(0, Math.min(all.length - 1, place + step))].focus();
  });
  list.addEventListener("focusin", (event) => {
    const item = event.target.closest(selector);
    if (item === null) return;
    for (const other of items()) {
      other.tabIndex = other === item ? 0 : -1;
      if (other === item) other.dataset.roved = "yes";
      else delete other.dataset.roved;
    }
  });
  settle();
  return settle;
}

/** Let Enter in a filter open the first item that it leaves, and ArrowDown go there. */
export function lead(filter, list, selector) {
  filter.addEventListener("keydown", (event) => {
    const first = list.querySelector(`${selector}:not([hidden])`);
    if (first === null || (event.key !== "Enter" && event.key !== "ArrowDown")) return;
    event.preventDefault();
    if (event.key === "Enter") first.click();
    else first.focus();
  });
}

function isCurrent(item) {
  return item.getAttribute("aria-current") !== null || item.getAttribute("aria-selected") === "true";
}

/** A drawn sign of 16 × 16, from the data of its paths. */
export function sign(...paths) {
  return svg(
    "svg",
    { viewBox: "0 0 16 16", width: 16, height: 16, class: "sign", "aria-hidden": "true" },
    paths.map((d) => svg("path", { d })),
  );
}
