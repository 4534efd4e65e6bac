/** Placeholder answers of a symbolic run: of the right type, and marked with the variable's name where it is text. */
import type { BackendConstraint } from "./backends/backend.js";
import type { GenOptions } from "./gen-options.js";

type Node = Record<string, unknown>;

/** A small value that a JSON Schema describes; bounds and patterns of texts are not searched. */
export function sampleJson(schema: Node, name: string): unknown {
  if ("const" in schema) return schema.const;
  if (Array.isArray(schema.enum)) return schema.enum[0];
  for (const key of ["anyOf", "oneOf", "allOf"]) {
    const options = schema[key];
    if (Array.isArray(options) && options.length > 0) return sampleJson(options[0] as Node, name);
  }
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  switch (type) {
    case "string":
      return `⟨${name}⟩`;
    case "integer":
    case "number":
      return typeof schema.minimum === "number" && schema.minimum > 0 ? schema.minimum : 0;
    case "boolean":
      return true;
    case "null":
      return null;
    case "array": {
      const count = typeof schema.minItems === "number" ? schema.minItems : 1;
      return Array.from({ length: count }, () => sampleJson((schema.items ?? {}) as Node, name));
    }
    case "object": {
      const properties = (schema.properties ?? {}) as Record<string, Node>;
      return Object.fromEntries(Object.entries(properties).map(([key, value]) => [key, sampleJson(value, key)]));
    }
    default:
      return `⟨${name}⟩`;
  }
}

const BY_TYPE = { int: "0", float: "0.5", bool: "true", string: '"text"' } as const;

export function sampleAnswer(options: GenOptions, constraint: BackendConstraint | undefined, name: string): string {
  if (options.type !== undefined) return BY_TYPE[options.type];
  if (constraint?.type === "jsonSchema") return JSON.stringify(sampleJson(constraint.schema, name));
  return `⟨${name}⟩`;
}
