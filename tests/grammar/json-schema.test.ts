import Ajv2020 from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { describe, expect, test } from "vitest";
import { GrammarCompiler } from "../../src/grammar/compiler.js";
import { has } from "../../src/grammar/masks.js";
import type { Matcher } from "../../src/grammar/matcher.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { SCHEMAS } from "./schemas.js";
import { byteVocabulary, mixedVocabulary } from "./vocabularies.js";

const ajv = new Ajv2020.default({ strict: false, validateFormats: true });
addFormats.default(ajv);
const bytes = new GrammarCompiler(new Vocabulary(byteVocabulary()));
const mixed = new GrammarCompiler(new Vocabulary(mixedVocabulary()));

function accepts(matcher: Matcher, value: string): boolean {
  for (const byte of new TextEncoder().encode(value)) if (!matcher.acceptToken(byte)) return false;
  return matcher.canTerminate();
}

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Follows random allowed tokens, then the rarest end: a token that closes as soon as one may. */
function walk(compiler: GrammarCompiler, schema: unknown, seed: number, limit: number): string | undefined {
  const matcher = compiler.compile({ kind: "json_schema", schema }).matcher();
  const { vocabulary } = compiler;
  const next = random(seed);
  const out: number[] = [];
  for (let step = 0; step < limit; step++) {
    if (matcher.canTerminate() && (next() < 0.3 || matcher.mustTerminate()))
      return new TextDecoder().decode(Uint8Array.from(out));
    const mask = matcher.mask();
    const allowed: number[] = [];
    for (let id = 0; id < vocabulary.vocabSize; id++)
      if (vocabulary.ordinary[id] === 1 && has(mask, id)) allowed.push(id);
    expect(allowed.length).toBeGreaterThan(0);
    // Quotes and brackets more often than chance, so that walks end.
    const closing = allowed.filter((id) => /^["}\]]/.test(String.fromCharCode(vocabulary.bytesOf(id)[0] as number)));
    const pool = closing.length > 0 && next() < 0.5 ? closing : allowed;
    const id = pool[Math.floor(next() * pool.length)] as number;
    expect(matcher.acceptToken(id)).toBe(true);
    out.push(...vocabulary.bytesOf(id));
  }
  return undefined;
}

describe.each(SCHEMAS)("the schema of $name", ({ schema, valid, invalid }) => {
  test("accepts what is valid and refuses what is not, and ajv agrees", () => {
    const validate = ajv.compile(schema as object);
    const grammar = bytes.compile({ kind: "json_schema", schema });
    const compact = bytes.compile({ kind: "json_schema", schema, whitespace: "compact" });
    const pretty = bytes.compile({ kind: "json_schema", schema, whitespace: "pretty" });
    for (const value of valid) {
      expect(validate(value), JSON.stringify(value)).toBe(true);
      expect(accepts(grammar.matcher(), JSON.stringify(value)), JSON.stringify(value)).toBe(true);
      expect(accepts(grammar.matcher(), JSON.stringify(value, null, 2)), JSON.stringify(value)).toBe(true);
      expect(accepts(compact.matcher(), JSON.stringify(value)), JSON.stringify(value)).toBe(true);
      expect(accepts(pretty.matcher(), JSON.stringify(value, null, 2)), JSON.stringify(value)).toBe(true);
    }
    for (const value of invalid) {
      expect(validate(value), JSON.stringify(value)).toBe(false);
      expect(accepts(grammar.matcher(), JSON.stringify(value)), JSON.stringify(value)).toBe(false);
    }
  });

  test("lets random walks end only in valid JSON", () => {
    const validate = ajv.compile(schema as object);
    let ended = 0;
    for (let seed = 1; seed <= 25; seed++) {
      for (const compiler of [bytes, mixed]) {
        const text = walk(compiler, schema, seed, 300);
        // Digits beyond a double's precision: ajv would judge another number than the text says.
        if (text === undefined || /\d{16}/.test(text)) continue;
        ended++;
        expect(validate(JSON.parse(text)), text).toBe(true);
      }
    }
    expect(ended).toBeGreaterThan(0);
  });
});

test("properties come in the schema text's order, whatever their names", () => {
  const schema =
    '{"type":"object","properties":{"b":{},"1":{},"__proto__":{}},"required":["b","1","__proto__"],"additionalProperties":false}';
  const grammar = bytes.compile({ kind: "json_schema", schema });
  expect(accepts(grammar.matcher(), '{"b":0,"1":0,"__proto__":0}')).toBe(true);
  expect(accepts(grammar.matcher(), '{"1":0,"b":0,"__proto__":0}')).toBe(false);
  const any = bytes.compile({ kind: "json_schema", schema, propertyOrder: "any" });
  expect(accepts(any.matcher(), '{"1":0,"__proto__":0,"b":0}')).toBe(true);
  expect(accepts(any.matcher(), '{"1":0,"1":0,"__proto__":0,"b":0}')).toBe(false);
  expect(accepts(any.matcher(), '{"1":0,"b":0}')).toBe(false);
});

test("white space is bounded in flexible mode and absent in compact mode", () => {
  const flexible = bytes.compile({ kind: "json" }).matcher();
  expect(flexible.acceptText("[\n    ")).toBe(true);
  expect(flexible.acceptText("\n")).toBe(false);
  const compact = bytes.compile({ kind: "json", whitespace: "compact" }).matcher();
  expect(compact.acceptText("[ ")).toBe(false);
});

test.each([
  ["#/properties/a/not/uniqueItems", { properties: { a: { not: { uniqueItems: true } } } }],
  ["#/uniqueItems", { type: "array", items: { type: "string" }, uniqueItems: true }],
  ["#/properties/a/$ref", { properties: { a: { $ref: "https://example.com/other.json" } } }],
  ["#/$ref", { $ref: "#" }],
  ["#/format", { type: "string", format: "idn-email" }],
  ["#/properties/p/pattern", { properties: { p: { type: "string", pattern: "(a)\\1" } } }],
  ["#/type", { type: "text" }],
  ["#/properties/a", { properties: { a: 5 } }],
  ["#/minLength", { minLength: -1 }],
  ["#/required", { required: "a" }],
  ["#/multipleOf", { type: "number", multipleOf: 0.123457 }],
  [
    "#/unevaluatedProperties",
    {
      unevaluatedProperties: false,
      anyOf: Array.from({ length: 9 }, (_, i) => ({ properties: { [`p${i}`]: {} }, required: [`p${i}`] })),
    },
  ],
  ["#", { type: "string", enum: [1] }],
])("refuses at %s", (pointer, schema) => {
  expect(() => bytes.compile({ kind: "json_schema", schema })).toThrow(
    expect.objectContaining({ isSglangError: true, details: expect.objectContaining({ field: pointer }) }),
  );
});

test("a format nobody defined is reported, not enforced", () => {
  const grammar = bytes.compile({ kind: "json_schema", schema: { type: "string", format: "shoe-size" } });
  expect(grammar.warnings).toEqual(['#/format: "shoe-size" is not a defined format and restricts nothing.']);
});

test("up to draft 7 the neighbours of $ref are ignored, later they count", () => {
  const schema = {
    properties: { a: { $ref: "#/definitions/s", maxLength: 1 } },
    definitions: { s: { type: "string" } },
  };
  const old = { $schema: "http://json-schema.org/draft-07/schema#", ...schema };
  expect(accepts(bytes.compile({ kind: "json_schema", schema: old }).matcher(), '{"a":"xy"}')).toBe(true);
  expect(accepts(bytes.compile({ kind: "json_schema", schema }).matcher(), '{"a":"xy"}')).toBe(false);
});
