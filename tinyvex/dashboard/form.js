// A form for a function's arguments, built from their JSON schema.

import { h, show } from "./dom.js";
import { Shape } from "./shape.js";
import { wrapInteger } from "./values.js";

/** Invalid input in a field. */
export class Mistake extends Error {}

/** The fields of a function's arguments. */
export class Form {
  constructor(schema, onSubmit) {
    const required = schema.required ?? [];
    this.#fields = Object.entries(schema.properties ?? {}).map(([name, of]) => new Field(name, resolved(of, schema.$defs), required.includes(name)));
    this.element = h(
      "form",
      {
        class: "form",
        novalidate: true,
        onsubmit: (event) => (event.preventDefault(), onSubmit()),
        onkeydown: (event) => {
          if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
          event.preventDefault();
          onSubmit();
        },
      },
      this.#fields.length > 0 ? this.#fields.map(({ element }) => element) : h("p", { class: "faint" }, "This function takes no arguments."),
    );
  }

  #fields;

  /** Return the arguments; null if a field is invalid, which is then shown and focused. */
  read() {
    const args = {};
    let isGood = true;
    for (const field of this.#fields) {
      const value = field.check(isGood);
      if (value instanceof Mistake) isGood = false;
      else if (value !== undefined) args[field.name] = value;
    }
    return isGood ? args : null;
  }

  /** Show a server error at the field named by its path; return false if it names none. */
  complain(path, message) {
    const named = /^\$?\.?([^.[\]]+)/.exec(path ?? "")?.[1];
    const field = this.#fields.find(({ name }) => name === named);
    field?.complain(message, true);
    return field !== undefined;
  }
}

/** One argument: its name and type, whether it is passed at all, and a control for its value; `read` throws Mistake. */
export class Field {
  constructor(name, schema, isRequired, { type = null, absent = "Omitted" } = {}) {
    this.name = name;
    const { inner, isNullable } = withoutNull(schema);
    this.#control = controlOf(inner, schema.default ?? undefined);
    const id = `argument-${name}`;
    this.#control.element.id = id;
    this.#control.element.setAttribute("aria-describedby", `${id}-problem`);
    const modes = [["value", "Value"]];
    if (isNullable) modes.unshift(["null", "null"]);
    if (!isRequired) modes.unshift(["absent", "default" in schema ? `Default: ${new Shape(schema).label(schema.default, 24)}` : absent]);
    if (modes.length > 1) {
      const options = modes.map(([value, text]) => h("option", { value }, text));
      this.#mode = h("select", { class: "select small", "aria-label": `${name}: mode`, onchange: () => this.#chosen() }, options);
      this.#control.element.addEventListener("input", () => this.#choose("value"));
    }
    this.#problem = h("p", { class: "problem", id: `${id}-problem`, role: "alert", hidden: true });
    const label = h("label", { for: id, class: isRequired ? "needed" : null }, name);
    if (isRequired) this.#control.element.setAttribute("aria-required", "true");
    this.element = h(
      "div",
      { class: "field" },
      h("div", { class: "field-head" }, label, h("span", { class: "faint type" }, type ?? typeName(inner)), h("span", { class: "grow" }), this.#mode),
      this.#control.element,
      this.#problem,
    );
    this.#choose(this.#mode?.value ?? "value");
  }

  #control;
  #mode = null;
  #problem;

  #chosen() {
    this.#choose(this.#mode.value);
    if (this.#mode.value === "value") this.#control.element.focus();
  }

  #choose(mode) {
    if (this.#mode !== null) this.#mode.value = mode;
    this.element.dataset.mode = mode;
  }

  read() {
    const mode = this.#mode?.value ?? "value";
    if (mode === "absent") return undefined;
    return mode === "null" ? null : this.#control.read();
  }

  /** Return the result of `read`, or the mistake, which is shown and, if it is the first one, focused. */
  check(isFirst = true) {
    this.complain(null);
    try {
      return this.read();
    } catch (mistake) {
      if (!(mistake instanceof Mistake)) throw mistake;
      this.complain(mistake.message, isFirst);
      return mistake;
    }
  }

  complain(message, isFirst = false) {
    this.#problem.hidden = message === null;
    show(this.#problem, message ?? "");
    this.#control.element.setAttribute("aria-invalid", String(message !== null));
    if (message !== null && isFirst) this.#control.element.focus();
  }
}

/** Inline a schema's references; a recursive reference accepts any value. */
export function resolved(schema, known = schema.$defs ?? {}, within = []) {
  if (Array.isArray(schema)) return schema.map((each) => resolved(each, known, within));
  if (schema === null || typeof schema !== "object") return schema;
  if (schema.$ref !== undefined) {
    const { $ref, ...beside } = schema; // such as the default of an argument
    const name = $ref.split("/").at(-1);
    return within.includes(name) ? beside : { ...resolved(known[name] ?? {}, known, [...within, name]), ...beside };
  }
  return Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, key === "default" ? value : resolved(value, known, within)]));
}

/** Return an initial value: an object with its required fields, fallback an empty value. */
function blank(schema) {
  if (schema.enum) return schema.enum[0];
  if (schema.properties?.$integer) return wrapInteger(0n);
  if (schema.properties?.$bytes) return { $bytes: "" };
  if (schema.anyOf) return schema.anyOf.some(({ type }) => type === "null") ? null : blank(schema.anyOf[0]);
  if (schema.type === "object") return Object.fromEntries((schema.required ?? []).map((name) => [name, blank(schema.properties[name])]));
  return { array: [], string: "", integer: 0, number: 0, boolean: false }[schema.type] ?? null;
}

function withoutNull(schema) {
  const options = schema.anyOf ?? [];
  const others = options.filter(({ type }) => type !== "null");
  if (others.length === options.length) return { inner: schema, isNullable: false };
  return { inner: others.length === 1 ? others[0] : { anyOf: others }, isNullable: true };
}

/** Name a schema's type in a word or two. */
export function typeName(schema) {
  if (schema.enum) return "choice";
  if (schema.format === "tinyvex-id") return `id of ${(schema.tables ?? ["a table"]).join(" or ")}`;
  if (schema.properties?.$integer) return "64-bit integer";
  if (schema.properties?.$bytes) return "bytes, base64";
  if (schema.type === "array") return schema.items ? `list of ${typeName(schema.items)}` : "list";
  if (schema.anyOf) return schema.anyOf.map(typeName).join(" or ");
  if (schema.title !== undefined) return schema.title;
  return schema.type ?? "any value";
}

/** Create a control for values of a schema, with the default as its placeholder. */
function controlOf(schema, fallback) {
  if (schema.enum) return choice(schema.enum, fallback, new Shape(schema));
  if (schema.properties?.$integer) return line(readInteger64, "numeric");
  if (schema.properties?.$bytes) return line(($bytes) => ({ $bytes }), "text");
  if (schema.type === "integer") return line(readInteger, "numeric", fallback);
  if (schema.type === "number") return line(readNumber, "decimal", fallback);
  if (schema.type === "boolean") return choice([false, true], fallback, new Shape(schema));
  if (schema.type === "string") return area((text) => text, "", false, fallback);
  const start = schema.type === "array" || schema.type === "object" ? JSON.stringify(blank(schema), null, 2) : "";
  return area(readJson, start, true, 'JSON, such as 7 or "text"');
}

/** Create a choice among values; a member of an enumeration has name and value. */
function choice(values, fallback, shape) {
  const options = values.map((value, index) => h("option", { value: index, selected: value === fallback }, shape.label(value)));
  const element = h("select", { class: "input" }, options);
  return { element, read: () => values[Number(element.value)] };
}

function line(read, inputmode, fallback) {
  const element = h("input", { class: "input mono", inputmode, placeholder: fallback, autocomplete: "off", spellcheck: "false" });
  return { element, read: () => read(element.value.trim()) };
}

function area(read, text, isJson, fallback) {
  const style = isJson ? "input mono" : "input";
  const element = h("textarea", { class: style, rows: text.split("\n").length, placeholder: fallback, autocomplete: "off", spellcheck: "false" }, text);
  return { element, read: () => read(element.value) };
}

function readInteger(text) {
  if (!/^[+-]?\d+$/.test(text)) throw new Mistake("enter a whole number");
  if (!Number.isSafeInteger(Number(text))) throw new Mistake("this number is too large for the argument");
  return Number(text);
}

function readInteger64(text) {
  if (!/^[+-]?\d+$/.test(text)) throw new Mistake("enter a whole number");
  const integer = BigInt(text.replace("+", ""));
  if (BigInt.asIntN(64, integer) !== integer) throw new Mistake("this number does not fit into 64 bits");
  return wrapInteger(integer);
}

function readNumber(text) {
  if (text === "" || !Number.isFinite(Number(text))) throw new Mistake("enter a number");
  return Number(text);
}

function readJson(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Mistake(text.trim() === "" ? "enter a JSON value" : `this is not JSON (a string needs "quotes"): ${error.message}`);
  }
}
