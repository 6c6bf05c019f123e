// Elements without markup: strings only ever become text nodes, so no document can inject markup into the page.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Create an element.
 *
 * `properties` are attributes. A function is an event listener, under `on` and the event's name; true is an empty attribute;
 * false, null and undefined omit the attribute. `children` are nodes, strings, or lists of both.
 */
export function h(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** Create an SVG element. */
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

/** Replace the children of an element. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
}

/** Set an element's text if it differs, so that an unchanged text stays selected. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Return a function that calls `render` immediately, and then at most every `pause` milliseconds with its latest arguments.
 *
 * Users cannot read faster than that, however fast other clients write. Its `cancel` discards a pending call.
 */
export function throttle(render, pause = 120) {
  let latest = [];
  let timer = null;
  let last = -Infinity;
  const run = () => {
    timer = null;
    last = performance.now();
    render(...latest);
  };
  const throttled = (...given) => {
    latest = given;
    if (timer !== null) return;
    const wait = last + pause - performance.now();
    if (wait <= 0) run();
    else timer = setTimeout(run, wait);
  };
  throttled.cancel = () => {
    clearTimeout(timer);
    timer = null;
  };
  return throttled;
}

/** Highlight an element briefly, to show that it has changed. */
export function flash(element) {
  element.classList.remove("flash");
  void element.offsetWidth; // restarts a running animation
  element.classList.add("flash");
}

/**
 * Give a list a roving tab stop: arrow keys, Home and End move between its items; Tab enters at the last focused item.
 *
 * `selector` matches the items. Returns a function to call after the list is filled again.
 */
export function roveFocus(list, selector) {
  const items = () => [...list.querySelectorAll(selector)].filter((item) => !item.hidden);
  const settle = () => {
    const all = items();
    const last = all.find((item) => item.tabIndex === 0 && item.dataset.roved) ?? all.find(isCurrent) ?? all[0];
    for (const item of all) item.tabIndex = item === last ? 0 : -1;
  };
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
    const all = items();
    const index = all.indexOf(event.target.closest(selector));
    if (step === undefined || index < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    all[Math.max(0, Math.min(all.length - 1, index + step))].focus();
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

/** Make Enter in a filter open the first visible item, and ArrowDown focus it. */
export function connectFilter(filter, list, selector) {
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

/** Create an icon of 16 × 16 from SVG path data. */
export function icon(...paths) {
  return svg(
    "svg",
    { viewBox: "0 0 16 16", width: 16, height: 16, class: "icon", "aria-hidden": "true" },
    paths.map((d) => svg("path", { d })),
  );
}
