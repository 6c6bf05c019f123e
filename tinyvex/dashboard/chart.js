// A line chart of the last minutes, drawn as SVG.

import { h, setText, show, svg } from "./dom.js";

const HEIGHT = 150;
const LEFT = 58;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 20;
const SECONDS = 300;
const MARK_WIDTH = 58;

/**
 * A chart of samples: each has `time`, in milliseconds, and a number or null under each line's `name`.
 *
 * `lines` are `{name, title, style}`; `format` turns a number into a label.
 */
export class Chart {
  constructor(title, lines, format) {
    this.#lines = lines;
    this.#format = format;
    this.#drawing = svg("svg", { class: "chart", height: HEIGHT, role: "img", "aria-label": title });
    this.#values = lines.map(({ style }) => h("span", { class: `number value ${style}` }));
    const legend = lines.map(({ title: name, style }, index) => h("span", { class: `key ${style}` }, name, " ", this.#values[index]));
    this.#at = h("span", { class: "faint number" });
    this.element = h("figure", { class: "card figure" }, h("figcaption", {}, h("span", { class: "grow" }, title), this.#at, legend), this.#drawing);
    this.#drawing.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.#drawing.addEventListener("pointerleave", () => this.#point(null));
    this.#resizes = new ResizeObserver(() => this.#draw());
    this.#resizes.observe(this.#drawing);
  }

  #lines;
  #format;
  #drawing;
  #values;
  #at;
  #resizes;
  #samples = [];
  #pointed = null;

  close() {
    this.#resizes.disconnect();
  }

  /** Show these samples, the newest at the right. */
  update(samples) {
    this.#samples = samples.slice(-SECONDS);
    this.#draw();
  }

  #point(x) {
    this.#pointed = x;
    this.#draw();
  }

  #draw() {
    const width = this.#drawing.clientWidth;
    if (width === 0) return;
    const samples = this.#samples;
    const newest = samples.at(-1)?.time ?? Date.now();
    const x = (time) => width - RIGHT - ((newest - time) / 1000 / SECONDS) * (width - LEFT - RIGHT);
    const top = ceiling(Math.max(0, ...samples.flatMap((sample) => this.#lines.map(({ name }) => sample[name] ?? 0))));
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
    this.#drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const shown = this.#nearest(x);
    show(
      this.#drawing,
      this.#axes(width, top, y),
      this.#lines.map(({ name, style }) => lineOf(samples, name, style, x, y)),
      this.#pointed !== null && shown ? svg("line", { class: "pointer", x1: x(shown.time), x2: x(shown.time), y1: TOP, y2: HEIGHT - BOTTOM }) : null,
    );
    this.#drawing.dataset.points = samples.length;
    this.#lines.forEach(({ name }, index) => {
      const value = shown?.[name];
      setText(this.#values[index], value === null || value === undefined ? "–" : this.#format(value));
    });
    setText(this.#at, this.#pointed !== null && shown ? new Date(shown.time).toLocaleTimeString("en-GB") : "");
  }

  /** Return the sample that the legend shows: the one under the pointer, or the newest. */
  #nearest(x) {
    if (this.#pointed === null) return this.#samples.at(-1);
    return this.#samples.reduce((best, sample) => (best && Math.abs(x(best.time) - this.#pointed) <= Math.abs(x(sample.time) - this.#pointed) ? best : sample), null);
  }

  #axes(width, top, y) {
    const levels = [0, top / 2, top].map((value) => [
      svg("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: LEFT - 8, y: y(value) + 3.5, "text-anchor": "end" }, this.#format(value)),
    ]);
    const marks = width - LEFT < 6 * MARK_WIDTH ? [4, 2, 0] : [5, 4, 3, 2, 1, 0];
    const minutes = marks.map((minute) => {
      const left = width - RIGHT - (minute / 5) * (width - LEFT - RIGHT);
      const anchor = minute === 0 ? "end" : "middle";
      return svg("text", { class: "tick", x: left, y: HEIGHT - 5, "text-anchor": anchor }, minute === 0 ? "now" : `−${minute} min`);
    });
    return [levels, minutes];
  }
}

/** Draw a line with its area below; null values interrupt it. */
function lineOf(samples, name, style, x, y) {
  const runs = [];
  let run = [];
  for (const sample of samples) {
    if (sample[name] === null || sample[name] === undefined) {
      if (run.length > 0) runs.push(run);
      run = [];
    } else run.push([x(sample.time), y(sample[name])]);
  }
  if (run.length > 0) runs.push(run);
  return runs.map((points) => {
    if (points.length === 1) return svg("circle", { class: `spot ${style}`, cx: points[0][0], cy: points[0][1], r: 1.5 });
    const path = points.map(([px, py], index) => `${index === 0 ? "M" : "L"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
    const area = `${path}L${points.at(-1)[0].toFixed(1)} ${y(0)}L${points[0][0].toFixed(1)} ${y(0)}Z`;
    return [svg("path", { class: `area ${style}`, d: area }), svg("path", { class: `stroke ${style}`, d: path })];
  });
}

/** Round a number up to 1, 2 or 5 times a power of ten, for the end of an axis. */
function ceiling(number) {
  if (number <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(number));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= number * 0.999);
}
