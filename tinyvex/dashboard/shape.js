// The names of enumeration members: a document has their values only, the JSON schema of its class has the names.

import { brief } from "./values.js";

/** The JSON schema of a value; null if it is not known. */
export class Shape {
  constructor(schema, known = schema?.$defs ?? {}) {
    this.#known = known;
    this.#schemas = this.#alternatives(schema);
  }

  #known;
  #schemas;

  /** Return the name of a value; null if its schemas have none, or different ones. */
  nameOf(value) {
    const names = this.#schemas.flatMap(({ enum: values = [], "x-enum-varnames": names }) => names?.[values.indexOf(value)] ?? []);
    return new Set(names).size === 1 ? names[0] : null;
  }

  /** Format a value as `brief` does, after its name. */
  label(value, length) {
    const name = this.nameOf(value);
    return name === null ? brief(value, length) : `${name} (${brief(value, length)})`;
  }

  /** Return the shape of a field, or of an item of a list. */
  at(key) {
    const inner = this.#schemas.map(({ properties, additionalProperties, prefixItems, items }) =>
      typeof key === "number" ? (prefixItems?.[key] ?? items) : properties !== undefined && Object.hasOwn(properties, key) ? properties[key] : additionalProperties,
    );
    return new Shape({ anyOf: inner }, this.#known);
  }

  #alternatives(schema) {
    if (schema === null || typeof schema !== "object") return [];
    if (schema.$ref !== undefined) return this.#alternatives(this.#known[schema.$ref.split("/").at(-1)]);
    return schema.anyOf?.flatMap((each) => this.#alternatives(each)) ?? [schema];
  }
}
