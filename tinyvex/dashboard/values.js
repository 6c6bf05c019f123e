// Values in their wire form and as displayed.

const WRAPPERS = ["$integer", "$float", "$bytes"];
const CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz";

/** Return the text inside a wrapper such as `{"$integer": "…"}`, as [name, text]; null for any other value. */
export function wrapped(value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return null;
  const [name, ...others] = Object.keys(value);
  return others.length === 0 && WRAPPERS.includes(name) ? [name, value[name]] : null;
}

/** Wrap a 64-bit integer. */
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

/** Return a document's own field; inherited properties such as `constructor` do not count. */
export function fieldOf(document, name) {
  return Object.hasOwn(document, name) ? document[name] : undefined;
}

/** Return a value's kind, which decides its colour and alignment. */
export function kindOf(value) {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  const inside = wrapped(value);
  if (inside !== null) return inside[0] === "$bytes" ? "bytes" : "number";
  return Array.isArray(value) ? "array" : typeof value;
}

/** Format a value on one line of at most `length` characters. */
export function brief(value, length = 120) {
  const inside = wrapped(value);
  let text;
  if (value === undefined) text = "";
  else if (inside !== null) text = unwrap(inside);
  else if (typeof value === "string") text = value.slice(0, length + 1).replace(/\s+/g, " ");
  else text = JSON.stringify(value);
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

/** Format a value on several lines, as JSON with wrappers decoded, in coloured pieces of [kind, text]; `shape` names members of enumerations. */
export function pretty(value, shape = null, indent = "") {
  const inside = wrapped(value);
  const kind = kindOf(value);
  if (inside !== null) return unwrappedPieces(inside);
  if (kind !== "object" && kind !== "array") {
    const name = shape?.nameOf(value) ?? null;
    return [[kind, value === undefined ? "missing" : JSON.stringify(value)], ...(name === null ? [] : [["note", `  ${name}`]])];
  }
  const entries = Array.isArray(value) ? value.map((item) => [null, item]) : Object.entries(value);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  if (entries.length === 0) return [["mark", open + close]];
  const deeper = `${indent}  `;
  const pieces = [["mark", `${open}\n`]];
  entries.forEach(([key, item], index) => {
    pieces.push(["mark", deeper]);
    if (key !== null) pieces.push(["key", JSON.stringify(key)], ["mark", ": "]);
    const inner = pretty(item, shape?.at(key ?? index) ?? null, deeper);
    const time = key === "_creationTime" && typeof item === "number" ? ["note", `  ${timeOf(item)}`] : null;
    const note = inner.at(-1)[0] === "note" ? inner.pop() : time;
    pieces.push(...inner, ["mark", index < entries.length - 1 ? "," : ""]);
    if (note !== null) pieces.push(note);
    pieces.push(["mark", "\n"]);
  });
  pieces.push(["mark", indent + close]);
  return pieces;
}

/** Format a wrapper's content, with a note of its type, which JSON cannot represent. */
function unwrappedPieces(inside) {
  const [name, text] = inside;
  if (name === "$bytes") return [["bytes", JSON.stringify(text)], ["note", `  ${unwrap(inside)}, base64`]];
  return [["number", unwrap(inside)], ["note", name === "$integer" ? "  64-bit" : "  float"]];
}

/** Abbreviate a document's id in the middle; its end distinguishes it from others. */
export function shortId(id) {
  return `${id.slice(0, 4)}…${id.slice(-7)}`;
}

/** Return whether a value is a document's id, by its checksum: other strings, such as hashes, use the same letters. */
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

/** Format 1234567 as 1,234,567. */
export function count(number) {
  return number.toLocaleString("en-US");
}

/** Format a number of bytes with a unit. */
export function bytes(number) {
  if (number === null || number === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (number >= 1000 && unit < units.length - 1) [number, unit] = [number / 1000, unit + 1];
  return `${unit === 0 ? number : number.toFixed(number < 10 ? 1 : 0)} ${units[unit]}`;
}

/** Format seconds as a duration. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${(seconds * 1000).toFixed(seconds < 0.01 ? 2 : seconds < 0.1 ? 1 : 0)} ms`;
  return seconds < 10 ? `${seconds.toFixed(2)} s` : age(seconds);
}

/** Format seconds as an age. */
export function age(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** Format milliseconds since the epoch as a time of day, with the date unless it is today. */
export function timeOf(milliseconds) {
  const time = new Date(milliseconds);
  const clock = time.toLocaleTimeString("en-GB");
  if (time.toDateString() === new Date().toDateString()) return clock;
  return `${time.toLocaleDateString("en-CA")} ${clock}`;
}
