/**
 * JSON as schemas need it: objects are Maps, so that member order is the text's own. (`JSON.parse` moves keys such as
 * "1" to the front and treats "__proto__" specially.)
 */
import { SglangError } from "../core/errors.js";

export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;
export type JsonObject = Map<string, JsonValue>;

/** Deepest nesting taken; parsing and everything after it recurses. */
export const MAX_DEPTH = 512;

/** @throws SglangError INVALID_REQUEST with the offset of the first mistake. */
export function parseJsonText(source: string): JsonValue {
  const reader = new Reader(source);
  const value = reader.value(0);
  reader.end();
  return value;
}

/** The same form from plain data (a schema given as an object); what has that form already is returned as it is. @throws SglangError INVALID_REQUEST for other things. */
export function toJsonValue(value: unknown, depth = 0): JsonValue {
  if (depth > MAX_DEPTH) throw tooDeep();
  if (value === null || typeof value === "boolean" || typeof value === "string") return value;
  if (typeof value === "number" && Number.isFinite(value)) return value;
  if (Array.isArray(value)) {
    const items = value.map((item) => toJsonValue(item, depth + 1));
    return items.every((item, i) => item === value[i]) ? (value as JsonValue[]) : items;
  }
  if (value instanceof Map && isJsonMap(value, depth)) return value;
  if (value instanceof Map || (typeof value === "object" && value !== null)) {
    const entries: Iterable<[string, unknown]> = value instanceof Map ? value : Object.entries(value);
    const out: JsonObject = new Map();
    for (const [key, item] of entries) if (item !== undefined) out.set(key, toJsonValue(item, depth + 1));
    return out;
  }
  throw new SglangError("INVALID_REQUEST", `A JSON schema must be JSON data, got a ${typeof value} inside it.`, {
    field: "json_schema",
  });
}

function isJsonMap(map: Map<unknown, unknown>, depth: number): map is JsonObject {
  for (const [key, item] of map) {
    if (typeof key !== "string" || item === undefined || toJsonValue(item, depth + 1) !== item) return false;
  }
  return true;
}

/** Structural equality as JSON Schema means it: member order is irrelevant. */
export function sameJson(a: JsonValue, b: JsonValue): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    return Array.isArray(b) && a.length === b.length && a.every((item, i) => sameJson(item, b[i] as JsonValue));
  }
  if (!(a instanceof Map) || !(b instanceof Map) || a.size !== b.size) return false;
  for (const [key, value] of a) {
    const other = b.get(key);
    if (other === undefined || !sameJson(value, other)) return false;
  }
  return true;
}

export function tooDeep(): SglangError {
  return new SglangError("UNSUPPORTED", `JSON nested deeper than ${MAX_DEPTH} levels is not taken; flatten it.`, {
    field: "json_schema",
    expected: `at most ${MAX_DEPTH} levels`,
  });
}

const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const WORD = /true|false|null/y;
// biome-ignore lint/suspicious/noControlCharactersInRegex: JSON strings exclude exactly these.
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;

class Reader {
  readonly #source: string;
  #at = 0;

  constructor(source: string) {
    this.#source = source;
    this.#skipSpace();
  }

  end(): void {
    if (this.#at !== this.#source.length) throw this.#wrong("the end of the text");
  }

  value(depth: number): JsonValue {
    if (depth > MAX_DEPTH) throw tooDeep();
    const c = this.#source[this.#at];
    if (c === "{") return this.#object(depth);
    if (c === "[") return this.#array(depth);
    if (c === '"') return this.#string();
    const word = this.#take(WORD) ?? this.#take(NUMBER);
    if (word === undefined) throw this.#wrong("a value");
    this.#skipSpace();
    return JSON.parse(word) as JsonValue;
  }

  #object(depth: number): JsonObject {
    const out: JsonObject = new Map();
    this.#expect("{");
    if (this.#source[this.#at] !== "}") {
      do {
        const key = this.#string();
        this.#expect(":");
        out.set(key, this.value(depth + 1));
      } while (this.#maybe(","));
    }
    this.#expect("}");
    return out;
  }

  #array(depth: number): JsonValue[] {
    const out: JsonValue[] = [];
    this.#expect("[");
    if (this.#source[this.#at] !== "]") {
      do out.push(this.value(depth + 1));
      while (this.#maybe(","));
    }
    this.#expect("]");
    return out;
  }

  #string(): string {
    const found = this.#take(STRING);
    if (found === undefined) throw this.#wrong("a string");
    this.#skipSpace();
    return found.includes("\\") ? (JSON.parse(found) as string) : found.slice(1, -1);
  }

  #maybe(character: string): boolean {
    if (this.#source[this.#at] !== character) return false;
    this.#at++;
    this.#skipSpace();
    return true;
  }

  #expect(character: string): void {
    if (!this.#maybe(character)) throw this.#wrong(JSON.stringify(character));
  }

  #skipSpace(): void {
    for (;;) {
      const c = this.#source.charCodeAt(this.#at);
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return;
      this.#at++;
    }
  }

  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    if (!pattern.test(this.#source)) return undefined;
    const from = this.#at;
    this.#at = pattern.lastIndex;
    return this.#source.slice(from, this.#at);
  }

  #wrong(expected: string): SglangError {
    const found = this.#source.slice(this.#at, this.#at + 12);
    const shown = found === "" ? "the end" : JSON.stringify(found);
    return new SglangError(
      "INVALID_REQUEST",
      `The schema is not JSON: expected ${expected} at offset ${this.#at}, got ${shown}.`,
      {
        field: "json_schema",
        expected,
        found: shown,
      },
    );
  }
}
