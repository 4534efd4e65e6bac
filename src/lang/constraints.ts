/** From the constraint in `gen`'s options to what the backend enforces, and from the text of the answer to its value. */
import { invalidField, SglangError } from "../core/errors.js";
import type { BackendConstraint, BackendFinish } from "./backends/backend.js";
import type { GenOptions, ValueType } from "./gen-options.js";
import { constraintPattern, matchesWhole } from "./regex.js";
import { toJsonSchema, validateValue } from "./schema.js";

/**
 * Patterns of the simple types, and the texts that end them. As in SGLang, white space may follow a number, so that a
 * model that would rather write on can show where the number ends.
 */
const TYPES: Record<ValueType, { pattern: string; stop?: string[]; parse: (text: string) => unknown }> = {
  int: { pattern: "[-+]?[0-9]+[ \\n]*", stop: [" ", "\n"], parse: (text) => Number(text) },
  float: { pattern: "[-+]?[0-9]*\\.?[0-9]+[ \\n]*", stop: [" ", "\n"], parse: (text) => Number(text) },
  bool: { pattern: "(true|false|True|False)", parse: (text) => text.toLowerCase() === "true" },
  string: { pattern: '"[^"\\\\\\n]*"', parse: (text) => text.trim().slice(1, -1) },
};

export interface ResolvedConstraint {
  constraint: BackendConstraint | undefined;
  /** Texts that the constraint adds to `stop`. */
  stop: readonly string[];
  /** Value of an answer. @throws SglangError when the answer does not fit, saying whether it was cut off */
  parse: (text: string, finish: BackendFinish) => unknown;
}

const FREE_TEXT: ResolvedConstraint = { constraint: undefined, stop: [], parse: (text) => text };

function misfit(variable: string, expected: string, text: string, finish: BackendFinish): SglangError {
  const why = finish === "length" ? "it was cut off; raise maxTokens" : "the backend did not enforce it";
  return new SglangError(
    "ENGINE_FAILED",
    `The answer of "${variable}" is not ${expected}: ${why}. It is ${JSON.stringify(text)}.`,
    {
      field: variable,
      expected,
      found: text,
    },
  );
}

/** @throws SglangError INVALID_REQUEST for a constraint that nobody could enforce */
export function resolveConstraint(options: GenOptions, variable: string): ResolvedConstraint {
  const { schema, regex, type, grammar } = options;
  if (schema !== undefined) {
    const parse = (text: string, finish: BackendFinish) => {
      let value: unknown;
      try {
        value = JSON.parse(text);
      } catch {
        throw misfit(variable, "JSON", text, finish);
      }
      return validateValue(schema, value, variable);
    };
    const name = variable.replace(/[^A-Za-z0-9_-]/g, "_");
    return { constraint: { type: "jsonSchema", schema: toJsonSchema(schema), name }, stop: [], parse };
  }
  if (regex !== undefined) {
    const pattern = constraintPattern(regex);
    const parse = (text: string, finish: BackendFinish) => {
      if (!matchesWhole(pattern, text)) throw misfit(variable, `a text that matches ${pattern}`, text, finish);
      return text;
    };
    return { constraint: { type: "regex", pattern }, stop: [], parse };
  }
  if (type !== undefined) {
    if (!Object.hasOwn(TYPES, type)) throw invalidField("gen option type", "int, float, bool or string", type);
    const { pattern, stop = [], parse } = TYPES[type];
    const checked = (text: string, finish: BackendFinish) => {
      if (!matchesWhole(pattern, text)) throw misfit(variable, `${type === "int" ? "an" : "a"} ${type}`, text, finish);
      return parse(text);
    };
    return { constraint: { type: "regex", pattern }, stop, parse: checked };
  }
  if (grammar !== undefined) {
    if (typeof grammar !== "string" || grammar.trim() === "")
      throw invalidField("gen option grammar", "EBNF text", grammar);
    return { constraint: { type: "ebnf", grammar }, stop: [], parse: (text) => text };
  }
  return FREE_TEXT;
}
