// Values as they travel, and as people read them.

const WRAPPERS = ["$integer", "$float", "$bytes"];
const CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz";

/** The text inside a wrapper such as `{"$integer": "…"}`, as [name, text]; null for any other value. */
export function wrapped(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return null;
  const [name, ...others] = Object.keys(value);
  return others.length === 0 && WRAPPERS.includes(name) ? [name, value[name]] : null;
}

/** A 64-bit integer's wrapper. */
export function wrapInteger(integer) {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigInt64(0, integer, true);
  return { $integer: btoa(String.fromCharCode(...bytes)) };
}

function unwrap([name, text]) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  if (name === "$bytes") return `${bytes.length} ${bytes.length === 1 ? "byte" : "bytes"}`;
  const view = new DataView(bytes.buffer);
  if (name === "$integer") return view.getBigInt64(0, true).toString();
  const number = view.getFloat64(0, true);
  return Object.is(number, -0) ? "-0" : String(number);
}

/** A document's field; what every object inherits, such as `constructor`, is none. */
export function fieldOf(document, name) {
  return Object.hasOwn(document, name) ? document[name] : undefined;
}

/** What kind of value it is, for its colour and its side of a column. */
export function kindOf(value) {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  const inside = wrapped(value);
  if (inside !== null) return inside[0] === "$bytes" ? "bytes" : "number";
  return Array.isArray(value) ? "array" : typeof value;
}

/** A value in one line, at most `length` letters of it. */
export function brief(value, length = 120) {
  const inside = wrapped(value);
  let text;
  if (value === undefined) text = "";
  else if (inside !== null) text = unwrap(inside);
  else if (typeof value === "string") text = value.slice(0, length + 1).replace(/\s+/g, " ");
  else text = JSON.stringify(value);
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

/** A value over several lines, as JSON but for what wrappers hold, in pieces of [kind, text] to be coloured. */
export function pretty(value, indent = "") {
  const inside = wrapped(value);
  const kind = kindOf(value);
  if (inside !== null) return told(inside);
  if (kind !== "object" && kind !== "array") return [[kind, value === undefined ? "nothing" : JSON.stringify(value)]];
  const entries = Array.isArray(value) ? value.map((item) => [null, item]) : Object.entries(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (entries.length === 0) return [["mark", open + close]];
  const deeper = `${indent}  `;
  const pieces = [["mark", `${open}\n`]];
  entries.forEach(([key, item], place) => {
    pieces.push(["mark", deeper]);
    if (key !== null) pieces.push(["key", JSON.stringify(key)], ["mark", ": "]);
    const inner = pretty(item, deeper);
    const time = key === "_creationTime" && typeof item === "number" ? ["note", `  ${moment(item)}`] : null;
    const note = inner.at(-1)[0] === "note" ? inner.pop() : time;
    pieces.push(...inner, ["mark", place < entries.length - 1 ? "," : ""]);
    if (note !== null) pieces.push(note);
    pieces.push(["mark", "\n"]);
  });
  pieces.push(["mark", indent + close]);
  return pieces;
}

/** What is in a wrapper, with a note of what it is: JSON has no word for it. */
function told(inside) {
  const [name, text] = inside;
  if (name === "$bytes") return [["bytes", JSON.stringify(text)], ["note", `  ${unwrap(inside)}, base64`]];
  return [["number", unwrap(inside)], ["note", name === "$integer" ? "  64-bit" : "  float"]];
}

/** A document's id with its middle left out: the end tells it from others. */
export function shortId(id) {
  return `${id.slice(0, 4)}…${id.slice(-7)}`;
}

/** Whether a value is a document's id: by its check, because other texts, such as hashes, have the same letters. */
export function isId(value) {
  if (typeof value !== "string" || !/^[0-9a-hjkmnp-tv-z]{31,37}$/.test(value)) return false;
  const bytes = [];
  let [bits, number] = [0, 0];
  for (const letter of value) {
    number = (number << 5) | CROCKFORD.indexOf(letter);
    bits += 5;
    if (bits >= 8) {
      bytes.push((number >> (bits - 8)) & 0xff);
      bits -= 8;
      number &= (1 << bits) - 1;
    }
  }
  const check = bytes.splice(-2);
  let [sum, sums] = [0, 0];
  for (const byte of bytes) {
    sum = (sum + byte) & 0xff;
    sums = (sums + sum) & 0xff;
  }
  return check[0] === sum && check[1] === sums;
}

/** 1234567 as 1,234,567. */
export function count(number) {
  return number.toLocaleString("en-US");
}

/** A number of bytes with a unit. */
export function bytes(number) {
  if (number === null || number === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let place = 0;
  while (number >= 1000 && place < units.length - 1) [number, place] = [number / 1000, place + 1];
  return `${place === 0 ? number : number.toFixed(number < 10 ? 1 : 0)} ${units[place]}`;
}

/** Seconds as a time that something took. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 2 : seconds < 0.1 ? 1 : 0)} ms`;
  return seconds < 10 ? `${seconds.toFixed(2)} s` : age(seconds);
}

/** Seconds as an age. */
export function age(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** Milliseconds since the epoch as a time of this day, or with its day. */
export function moment(milliseconds) {
  const time = new Date(milliseconds);
  const clock = time.toLocaleTimeString("en-GB");
  if (time.toDateString() === new Date().toDateString()) return clock;
  return `${time.toLocaleDateString("en-CA")} ${clock}`;
}
