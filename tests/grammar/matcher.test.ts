import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GrammarCompiler, type GrammarSpec } from "../../src/grammar/compiler.js";
import { has } from "../../src/grammar/masks.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { expectExactMasks } from "./exact-masks.js";
import { SCHEMAS } from "./schemas.js";
import { byteVocabulary, longTokenVocabulary, mixedVocabulary } from "./vocabularies.js";

const compilers = [byteVocabulary(), mixedVocabulary(), longTokenVocabulary()].map(
  (source) => new GrammarCompiler(new Vocabulary(source)),
);
const [bytes, mixed] = compilers as [GrammarCompiler, GrammarCompiler];

const SPECS: readonly GrammarSpec[] = [
  ...SCHEMAS.map(({ schema }): GrammarSpec => ({ kind: "json_schema", schema })),
  { kind: "json_schema", schema: { type: "string", maxLength: 20, pattern: "^[a-z]+( [a-z]+)*$" } },
  { kind: "json_schema", schema: { type: "string", minLength: 3, maxLength: 25 } },
  { kind: "json_schema", schema: { type: "string", pattern: "^[^b]{9,30}a$", maxLength: 22 } },
  { kind: "json_schema", schema: { properties: { a: true, aa: true, aaab: true }, additionalProperties: false } },
  { kind: "json_schema", schema: { properties: { a: false, aa: true }, required: ["aa"] }, propertyOrder: "any" },
  { kind: "json" },
  { kind: "regex", pattern: "(a|a)*b" },
  { kind: "regex", pattern: "\\p{L}{1,500}🙂?" },
  { kind: "choices", choices: ["yes", "no", "yesterday"] },
  { kind: "ebnf", source: 'root ::= "(" root ")" | "x" root | ""' },
];

describe("masks", () => {
  test("allow a token exactly when its bytes can be read, on every vocabulary", () => {
    for (const compiler of compilers)
      for (const [index, spec] of SPECS.entries()) expectExactMasks(compiler, spec, 12, index);
  });

  test("of equal content are one object", () => {
    const grammar = bytes.compile({ kind: "regex", pattern: "ab|cb" });
    const left = grammar.matcher();
    left.acceptText("a");
    const right = grammar.matcher();
    right.acceptText("c");
    expect(left.mask()).toBe(right.mask());
  });

  test("hold every id of a text, no padding, and no special token", () => {
    const mask = mixed
      .compile({ kind: "choices", choices: ["name"] })
      .matcher()
      .mask();
    const { vocabulary } = mixed;
    const ids = Array.from({ length: vocabulary.vocabSize }, (_, id) => id).filter((id) => has(mask, id));
    expect(ids.map((id) => new TextDecoder().decode(vocabulary.bytesOf(id)))).toEqual(["n", "name", "name"]);
  });
});

describe("a matcher", () => {
  test("reads a text the same way however it is cut into tokens", () => {
    const grammar = mixed.compile({ kind: "json_schema", schema: SCHEMAS[3]?.schema });
    const text = '{"name": "hello the 日本 and 🙂", "age": 100}';
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 60 }), (cuts) => {
        const all = new TextEncoder().encode(text);
        const whole = grammar.matcher();
        expect(whole.acceptBytes(all)).toBe(true);
        const parts = grammar.matcher();
        for (let at = 0, i = 0; at < all.length; i++) {
          const size = cuts[i % cuts.length] as number;
          expect(parts.acceptBytes(all.subarray(at, at + size))).toBe(true);
          at += size;
        }
        expect(parts.configuration).toBe(whole.configuration);
      }),
      { numRuns: 30 },
    );
  });

  test("forks and rolls back to what it was", () => {
    const matcher = bytes.compile({ kind: "json" }).matcher();
    matcher.acceptText('{"a":[1');
    const before = matcher.configuration;
    const mask = matcher.mask().slice();
    const fork = matcher.fork();
    expect(fork.acceptText(",2]")).toBe(true);
    expect(fork.acceptText("}")).toBe(true);
    expect(fork.canTerminate()).toBe(true);
    expect(matcher.configuration).toBe(before);
    fork.rollback(2);
    expect(fork.configuration).toBe(before);
    expect(fork.mask()).toEqual(mask);
    expect(() => fork.rollback(5)).toThrow(/count must be an integer from 0 to 1/);
  });

  test("changes nothing when a token is refused", () => {
    const matcher = bytes.compile({ kind: "choices", choices: ["ab"] }).matcher();
    expect(matcher.acceptToken("b".charCodeAt(0))).toBe(false);
    expect(matcher.length).toBe(0);
    expect(matcher.acceptToken("a".charCodeAt(0))).toBe(true);
  });

  test("ends only where the text may end, and then allows end tokens only", () => {
    const matcher = mixed.compile({ kind: "choices", choices: ["yes"] }).matcher();
    const [end, otherEnd] = mixed.vocabulary.eosTokenIds as [number, number];
    expect(matcher.acceptToken(end)).toBe(false);
    matcher.acceptText("yes");
    expect(matcher.mustTerminate()).toBe(true);
    expect(matcher.acceptToken(otherEnd)).toBe(true);
    expect(matcher.isTerminated()).toBe(true);
    expect(matcher.acceptText("y")).toBe(false);
    const words = new Uint32Array(mixed.vocabulary.maskWords + 1);
    matcher.fillBitmask(words, 1);
    expect(has(words.subarray(1), end) && has(words.subarray(1), otherEnd)).toBe(true);
    expect(has(words.subarray(1), 0x79)).toBe(false);
    expect(() => matcher.fillBitmask(words, 2)).toThrow(/bitmask must be/);
  });

  test("knows the bytes that must come", () => {
    const schema = {
      type: "object",
      properties: { answer: { type: "boolean" } },
      required: ["answer"],
      additionalProperties: false,
    };
    const matcher = bytes.compile({ kind: "json_schema", schema, whitespace: "compact" }).matcher();
    expect(new TextDecoder().decode(matcher.forcedBytes())).toBe('{"answer":');
    matcher.acceptText('{"answer":t');
    expect(new TextDecoder().decode(matcher.forcedBytes())).toBe("rue}");
  });
});

test("what may come next can be said in words", () => {
  const matcher = bytes.compile({ kind: "choices", choices: ["yes", "no", "never"] }).matcher();
  expect(matcher.allowedNext()).toEqual(["n", "yes"]);
  matcher.acceptText("n");
  expect(matcher.allowedNext()).toEqual(["ever", "o"]);
});

describe("limits", () => {
  test.each<[string, GrammarSpec, string]>([
    ["(a|a)*b", { kind: "regex", pattern: "(a|a)*b" }, `${"a".repeat(2000)}b`],
    [".{0,65535}", { kind: "regex", pattern: ".{0,65535}" }, "x".repeat(70)],
    [
      "a 10,000-value enum",
      { kind: "json_schema", schema: { enum: Array.from({ length: 10_000 }, (_, i) => `value-${i}`) } },
      '"value-9999"',
    ],
    ["maxItems 100,000", { kind: "json_schema", schema: { type: "array", items: {}, maxItems: 100_000 } }, "[1,2,[3]]"],
    ["deeply nested text", { kind: "json" }, `${"[".repeat(500)}${"]".repeat(500)}`],
  ])("%s is read without blow-up", (_, spec, text) => {
    const matcher = bytes.compile(spec).matcher();
    expect(matcher.acceptText(text)).toBe(true);
    expect(matcher.canTerminate()).toBe(true);
    expect(bytes.compile(spec).automaton.size).toBeLessThan(5_000);
  });

  test("a schema nested 100 levels deep works, one nested 10,000 deep is refused", () => {
    const nest = (levels: number): string => `${'{"items":'.repeat(levels)}{}${"}".repeat(levels)}`;
    expect(
      bytes
        .compile({ kind: "json_schema", schema: nest(100) })
        .matcher()
        .acceptText("[[1]]"),
    ).toBe(true);
    expect(() => bytes.compile({ kind: "json_schema", schema: nest(10_000) })).toThrow(/nested deeper/);
  });

  test("a specification that is too long is refused by its length", () => {
    const compiler = new GrammarCompiler(new Vocabulary(byteVocabulary()), { maxSourceLength: 100 });
    expect(() => compiler.compile({ kind: "choices", choices: ["x".repeat(200)] })).toThrow(/at most 100 are taken/);
  });

  test("combinations that multiply out are refused, not tried", () => {
    const oneOf = Array.from({ length: 40 }, (_, i) => ({ required: [`a${i}`, `b${i}`, `c${i}`] }));
    expect(() => bytes.compile({ kind: "json_schema", schema: { type: "object", oneOf } })).toThrow(
      /cannot be enforced exactly/,
    );
  });

  test("a grammar that matches nothing is refused", () => {
    expect(() => bytes.compile({ kind: "ebnf", source: 'root ::= "a" root' })).toThrow(/accepts no text/);
    expect(() => bytes.compile({ kind: "choices", choices: [] })).toThrow(/choices must be/);
  });

  test("the same specification is compiled once", () => {
    const spec: GrammarSpec = { kind: "json_schema", schema: { type: "string" } };
    expect(bytes.compile({ ...spec })).toBe(bytes.compile({ ...spec }));
  });
});
