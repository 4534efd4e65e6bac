/**
 * Whatever is sent as a grammar gives a grammar or an error that names what is wrong: never another exception, a dead end,
 * or work without bound. Bounds are counts, so that a slow machine changes nothing. SGLANG_FUZZ_RUNS runs more.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { GrammarCompiler, type GrammarSpec } from "../../src/grammar/compiler.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { byteVocabulary, mixedVocabulary } from "./vocabularies.js";

const RUNS = Number(process.env.SGLANG_FUZZ_RUNS ?? 150);
const STEPS = 24;
const vocabulary = new Vocabulary(mixedVocabulary());

/** Compiles and writes a text with it. @returns the error that refused it, or null */
function run(spec: GrammarSpec, seed: number): SglangError | null {
  let random = seed | 1;
  try {
    const limits = { maxLexemes: 50_000, maxConfigurations: 50_000, maxFormulas: 20_000, maxSteps: 20_000 };
    const matcher = new GrammarCompiler(vocabulary, limits).compile(spec).matcher();
    matcher.forcedBytes(64);
    for (let step = 0; step < STEPS && !matcher.isTerminated(); step++) {
      const allowed = idsOf(matcher.mask());
      // Every text that was begun can be ended.
      expect(allowed.length, `no token after ${step}`).toBeGreaterThan(0);
      random = (Math.imul(random, 1_103_515_245) + 12_345) & 0x7fffffff;
      expect(matcher.acceptToken(allowed[random % allowed.length])).toBe(true);
    }
    if (!matcher.isTerminated()) expect(Number.isFinite(matcher.tokensToEnd())).toBe(true);
    return null;
  } catch (error) {
    if (!SglangError.isInstance(error)) throw error;
    expect(["INVALID_REQUEST", "UNSUPPORTED"]).toContain(error.code);
    expect(error.message.length).toBeLessThan(4_000);
    expect(error.details.field, error.message).toBeTruthy();
    return error;
  }
}

function idsOf(mask: Int32Array): number[] {
  const ids: number[] = [];
  for (let id = 0; id < vocabulary.vocabSize; id++) if (((mask[id >> 5] as number) >>> (id & 31)) & 1) ids.push(id);
  return ids;
}

/** Valid texts with pieces cut out, doubled, swapped, or replaced by characters that mean something. */
function mutated(sources: readonly string[], signs: string): fc.Arbitrary<string> {
  const edit = fc.record({
    at: fc.nat(400),
    cut: fc.nat(6),
    sign: fc.string({ unit: fc.constantFrom(...signs), maxLength: 3 }),
  });
  return fc
    .record({
      source: fc.constantFrom(...sources),
      other: fc.constantFrom(...sources),
      edits: fc.array(edit, { maxLength: 5 }),
      splice: fc.nat(400),
    })
    .map(({ source, other, edits, splice }) => {
      let text =
        splice % 3 === 0
          ? source.slice(0, splice % (source.length + 1)) + other.slice(splice % (other.length + 1))
          : source;
      for (const { at, cut, sign } of edits) {
        const from = at % (text.length + 1);
        text = text.slice(0, from) + sign + text.slice(from + cut);
      }
      return text;
    });
}

const seed = fc.integer({ min: 0, max: 2 ** 30 });
const anyText = fc.oneof(fc.string({ maxLength: 40 }), fc.string({ unit: "binary", maxLength: 40 }));

function fuzz(inputs: fc.Arbitrary<GrammarSpec>): void {
  fc.assert(
    fc.property(inputs, seed, (spec, start) => void run(spec, start)),
    { numRuns: RUNS },
  );
}

const REGEX = [
  "^(?:[a-z]+|\\d{2,5})(?=x)?[^\\]\\-]*$",
  "(a|b)*?c{3,}\\u{1F600}|\\p{L}+[\\w\\s.-]{0,20}",
  "(?<year>\\d{4})-(?<month>0[1-9]|1[0-2])(?!9)",
  "[\\u4e00-\\u9fff]{1,3}\\x41\\cA\\0",
];
const EBNF = [
  'root ::= item ("," ws item)* # end\nitem ::= [a-z]{1,4} | "\\"" [^"\\\\]* "\\""\nws ::= [ \\t\\n]*',
  'root ::= expr\nexpr ::= term (("+" | "-") term)*\nterm ::= "(" expr ")" | [0-9]+ "." [0-9]?',
];
const GBNF = [
  'root ::= (pair "\\n"){2,3}\npair ::= key "=" value\nkey ::= [a-zA-Z_]+\nvalue ::= "\\x41" | [^\\n]{0,9} | (. .)?',
];
const LARK = [
  'start: item ("," item)* -> list\n?item: NUMBER | "(" start ")" | WORD~1..3\nNUMBER: /[0-9]+(\\.[0-9]+)?/i\nWORD: "a".."f"+\n%ignore " "',
  '%import common.INT\n%import common.WS\nstart: _sum{INT}\n_sum{x}: x | x "+" _sum{x}\n',
];

describe("regular expressions", () => {
  const spec = (pattern: string): GrammarSpec => ({ kind: "regex", pattern });
  it("of any text", () => fuzz(anyText.map(spec)));
  it("of signs", () =>
    fuzz(fc.string({ unit: fc.constantFrom(..."ab01^$.*+?{},()[]|\\-:=!<>pPLwdsSDbBuk/"), maxLength: 30 }).map(spec)));
  it("with mistakes", () => fuzz(mutated(REGEX, "ab{}[]()|\\*+?^$.-,9").map(spec)));
});

describe.each<["ebnf" | "gbnf" | "lark", readonly string[], string]>([
  ["ebnf", EBNF, 'a:=|()[]{}"\\*+?,#\n 9'],
  ["gbnf", GBNF, 'a:=|()[]{}"\\*+?,#\n. 9'],
  ["lark", LARK, 'aA:|()[]{}"/\\*+?~.%->_\n 9'],
])("%s", (kind, sources, signs) => {
  const spec = (source: string): GrammarSpec => ({ kind, source });
  it("of any text", () => fuzz(anyText.map(spec)));
  it("of signs", () =>
    fuzz(
      fc
        .string({ unit: fc.constantFrom(..."rotsaA", ...signs), maxLength: 40 })
        .map((text) => spec(`${kind === "lark" ? "start: " : "root ::= "}${text}`)),
    ));
  it("with mistakes", () => fuzz(mutated(sources, signs).map(spec)));
});

/** Schemas whose keywords have values that fit, nearly fit, or are anything. */
const schema = fc.letrec<{ schema: unknown }>((tie) => {
  const inner = tie("schema");
  const small = fc.oneof(fc.integer({ min: -3, max: 12 }), fc.double({ noNaN: true }), fc.constant(0.1));
  const name = fc.constantFrom("a", "b", "", "$ref", "__proto__", "\ud800", "ä");
  const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.constantFrom("a", 1, null, true));
  const pattern = fc.oneof(
    fc.constantFrom("^a", "b$", "[a-c]{2}", "(", "^(a|a)*$", ".*", "\\d+"),
    fc.string({ maxLength: 5 }),
  );
  const type = fc.constantFrom("string", "number", "integer", "boolean", "null", "array", "object", "thing");
  const keywords = {
    type: fc.oneof(type, fc.array(type, { maxLength: 3 })),
    enum: fc.array(value, { maxLength: 4 }),
    const: value,
    minimum: small,
    maximum: small,
    exclusiveMinimum: small,
    exclusiveMaximum: small,
    multipleOf: small,
    minLength: small,
    maxLength: small,
    pattern,
    format: fc.constantFrom("date", "email", "uri", "ipv6", "regex", "nothing"),
    items: fc.oneof(inner, fc.array(inner, { maxLength: 2 })),
    prefixItems: fc.array(inner, { maxLength: 3 }),
    minItems: small,
    maxItems: small,
    uniqueItems: fc.boolean(),
    contains: inner,
    minContains: small,
    maxContains: small,
    unevaluatedItems: inner,
    unevaluatedProperties: inner,
    properties: fc.dictionary(name, inner, { maxKeys: 3 }),
    patternProperties: fc.dictionary(pattern, inner, { maxKeys: 2 }),
    additionalProperties: inner,
    propertyNames: inner,
    required: fc.array(name, { maxLength: 3 }),
    minProperties: small,
    maxProperties: small,
    dependentRequired: fc.dictionary(name, fc.array(name, { maxLength: 2 }), { maxKeys: 2 }),
    dependentSchemas: fc.dictionary(name, inner, { maxKeys: 2 }),
    allOf: fc.array(inner, { maxLength: 3 }),
    anyOf: fc.array(inner, { maxLength: 3 }),
    oneOf: fc.array(inner, { maxLength: 3 }),
    not: inner,
    if: inner,
    // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
    then: inner,
    else: inner,
    $ref: fc.constantFrom("#", "#/$defs/a", "#/$defs/b", "#/nothing", "other.json", "#a", "#/%zz"),
    $defs: fc.dictionary(name, inner, { maxKeys: 3 }),
    $id: fc.constantFrom("http://x.test/a", "a", "#", "::"),
    $anchor: fc.constantFrom("a", "b"),
    $dynamicRef: fc.constantFrom("#a", "#"),
    $schema: fc.constantFrom(
      "http://json-schema.org/draft-07/schema#",
      "https://json-schema.org/draft/2020-12/schema",
      "x",
    ),
    title: fc.string({ maxLength: 3 }),
    default: value,
  };
  const names = Object.keys(keywords) as (keyof typeof keywords)[];
  const fitting = fc
    .uniqueArray(fc.constantFrom(...names), { maxLength: 4 })
    .chain((chosen) =>
      fc.record(Object.fromEntries(chosen.map((key) => [key, keywords[key] as fc.Arbitrary<unknown>]))),
    );
  const wrong = fc
    .uniqueArray(fc.constantFrom(...names), { maxLength: 2 })
    .chain((chosen) => fc.record(Object.fromEntries(chosen.map((key) => [key, value]))));
  return {
    schema: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc.boolean(),
      { weight: 8, arbitrary: fitting },
      wrong,
    ),
  };
}).schema;

describe("JSON Schema", () => {
  const layout = fc.record({
    whitespace: fc.constantFrom("flexible" as const, "compact" as const, "pretty" as const),
    propertyOrder: fc.constantFrom("declared" as const, "any" as const),
  });
  it("of any JSON", () => fuzz(fc.jsonValue().map((value) => ({ kind: "json_schema", schema: value }))));
  it("of keywords", () =>
    fuzz(fc.tuple(schema, layout).map(([value, how]) => ({ kind: "json_schema", schema: value, ...how }))));
  it("as text, whole or broken", () => {
    const texts = schema.map((value) => JSON.stringify(value));
    const cut = fc.tuple(texts, fc.nat(200), fc.string({ unit: fc.constantFrom(...'{}[]",:\\u0e-.'), maxLength: 3 }));
    fuzz(
      cut.map(([text, at, sign]) => ({
        kind: "json_schema",
        schema: at % 2 ? text : text.slice(0, at) + sign + text.slice(at),
      })),
    );
  });
});

describe("structural tags", () => {
  const text = fc.constantFrom("", "<", "<a>", "</a>", "<a", "x", "\ud800");
  const format = fc.letrec<{ format: unknown }>((tie) => {
    const inner = tie("format");
    const tag = fc.record(
      { type: fc.constant("tag"), begin: text, content: inner, end: fc.oneof(text, fc.array(text, { maxLength: 2 })) },
      { requiredKeys: ["begin"] },
    );
    return {
      format: fc.oneof(
        { depthSize: "small" },
        fc.record({ type: fc.constant("const_string"), value: text }),
        fc.record(
          { type: fc.constant("any_text"), excludes: fc.array(text, { maxLength: 2 }) },
          { requiredKeys: ["type"] },
        ),
        fc.record({ type: fc.constant("json_schema"), json_schema: schema }),
        fc.record({ type: fc.constant("regex"), pattern: mutated(REGEX, "ab()*") }),
        fc.record({ type: fc.constant("grammar"), grammar: mutated(EBNF, 'a"()') }),
        fc.record({ type: fc.constantFrom("sequence", "or"), elements: fc.array(inner, { maxLength: 3 }) }),
        tag,
        fc.record({
          type: fc.constant("triggered_tags"),
          triggers: fc.array(text, { maxLength: 2 }),
          tags: fc.array(tag, { maxLength: 2 }),
          at_least_one: fc.boolean(),
          stop_after_first: fc.boolean(),
        }),
        fc.record({
          type: fc.constant("tags_with_separator"),
          tags: fc.array(tag, { maxLength: 2 }),
          separator: text,
          at_least_one: fc.boolean(),
          stop_after_first: fc.boolean(),
        }),
        fc.jsonValue({ maxDepth: 1 }),
      ),
    };
  }).format;
  const legacy = fc.record({
    structures: fc.array(fc.record({ begin: text, schema, end: text }), { maxLength: 3 }),
    triggers: fc.array(text, { maxLength: 3 }),
  });
  const tag = fc.oneof(
    format.map((inner) => ({ type: "structural_tag", format: inner })),
    legacy,
    fc.jsonValue(),
  );
  it("of any kind", () => fuzz(tag.map((value) => ({ kind: "structural_tag", tag: value }))));
  it("after thinking", () =>
    fuzz(
      fc.record({
        kind: fc.constant("after_thinking" as const),
        start: fc.constant("<t>"),
        end: fc.constant("</t>"),
        inside: fc.boolean(),
        answer: tag.map((value) => ({ kind: "structural_tag" as const, tag: value })),
      }),
    ));
});

describe("hard cases stay small", () => {
  /** Configurations after writing 40 tokens; -1 when it is refused. */
  const size = (spec: GrammarSpec): number => {
    const bytes = new Vocabulary(byteVocabulary());
    let grammar: ReturnType<GrammarCompiler["compile"]>;
    try {
      grammar = new GrammarCompiler(bytes).compile(spec);
    } catch (error) {
      if (SglangError.isInstance(error)) return -1;
      throw error;
    }
    const matcher = grammar.matcher();
    for (let step = 0; step < 40 && !matcher.mustTerminate(); step++) {
      const id =
        bytes.vocabSize -
        2 -
        [...Array(bytes.vocabSize - 1).keys()].findIndex((k) => {
          const at = bytes.vocabSize - 2 - k;
          return ((matcher.mask()[at >> 5] as number) >>> (at & 31)) & 1;
        });
      if (id < 0 || !matcher.acceptToken(id)) break;
    }
    return grammar.automaton.size;
  };
  const nested = (depth: number): unknown =>
    depth === 0 ? { type: "integer" } : { type: "object", properties: { a: nested(depth - 1) }, required: ["a"] };
  const list = (depth: number): unknown => (depth === 0 ? true : { type: "array", items: list(depth - 1) });

  it.each<[what: string, spec: GrammarSpec, most: number]>([
    ["(a|a)*b", { kind: "regex", pattern: "(a|a)*b" }, 100],
    ["((a*)*)*b", { kind: "regex", pattern: "((a*)*)*b" }, 100],
    ["(a?){50}a{50}", { kind: "regex", pattern: "(a?){50}a{50}" }, 1_000],
    [".{0,65535}", { kind: "regex", pattern: ".{0,65535}" }, 1_000],
    ["(.{0,1000}x){3}", { kind: "regex", pattern: "(.{0,1000}x){3}" }, 10_000],
    ["\\p{L}{1,500}", { kind: "regex", pattern: "\\p{L}{1,500}" }, 10_000],
    [
      "10,000 values",
      { kind: "json_schema", schema: { enum: Array.from({ length: 10_000 }, (_, i) => `value ${i * 7919}`) } },
      2_000,
    ],
    [
      "10,000 choices",
      { kind: "choices", choices: Array.from({ length: 10_000 }, (_, i) => `${i * 7919} value`) },
      2_000,
    ],
    ["100 levels of objects", { kind: "json_schema", schema: nested(100) }, 20_000],
    ["100 levels of lists", { kind: "json_schema", schema: list(100) }, 20_000],
    [
      "a schema of itself",
      {
        kind: "json_schema",
        schema: {
          anyOf: [
            { type: "array", items: { $ref: "#" } },
            { type: "object", additionalProperties: { $ref: "#" } },
          ],
        },
      },
      20_000,
    ],
    [
      "two schemas of each other",
      {
        kind: "json_schema",
        schema: {
          $ref: "#/$defs/a",
          $defs: {
            a: { type: "array", items: { $ref: "#/$defs/b" } },
            b: { anyOf: [{ $ref: "#/$defs/a" }, { type: "null" }] },
          },
        },
      },
      20_000,
    ],
    [
      "maxLength 100,000",
      { kind: "json_schema", schema: { type: "string", minLength: 10, maxLength: 100_000 } },
      1_000,
    ],
    [
      "rules of each other",
      { kind: "ebnf", source: 'root ::= a\na ::= "(" b ")" | "x"\nb ::= "[" a "]" | a a' },
      20_000,
    ],
  ])("%s", (_, spec, most) => {
    const configurations = size(spec);
    expect(configurations).toBeGreaterThan(0);
    expect(configurations).toBeLessThan(most);
  });

  it.each<[what: string, spec: GrammarSpec]>([
    ["a reference to itself", { kind: "json_schema", schema: { $ref: "#" } }],
    [
      "references in a circle",
      {
        kind: "json_schema",
        schema: { $ref: "#/$defs/a", $defs: { a: { $ref: "#/$defs/b" }, b: { $ref: "#/$defs/a" } } },
      },
    ],
    ["a rule of nothing but itself", { kind: "ebnf", source: "root ::= root" }],
    ["a rule without an end", { kind: "ebnf", source: 'root ::= "a" root' }],
    [
      "an object that must hold itself",
      { kind: "json_schema", schema: { type: "object", properties: { a: { $ref: "#" } }, required: ["a"] } },
    ],
    ["more than 4 MB", { kind: "regex", pattern: "a".repeat(4 * 1024 * 1024 + 1) }],
    ["100,000 brackets", { kind: "regex", pattern: "(".repeat(100_000) + ")".repeat(100_000) }],
    ["100,000 levels of rules", { kind: "gbnf", source: `root ::= ${"(".repeat(100_000)}"a"${")".repeat(100_000)}` }],
    [
      "100,000 levels of JSON",
      { kind: "json_schema", schema: `${'{"items":'.repeat(100_000)}true${"}".repeat(100_000)}` },
    ],
    [
      "40 oneOf of 40",
      {
        kind: "json_schema",
        schema: {
          allOf: Array.from({ length: 40 }, (_, i) => ({
            oneOf: Array.from({ length: 40 }, (_v, k) => ({
              properties: { [`p${i}_${k}`]: { type: "integer" } },
              required: [`p${i}_${k}`],
            })),
          })),
        },
      },
    ],
  ])("%s is refused by name", (_, spec) => {
    expect(run(spec, 1)).not.toBeNull();
  });

  it("4 MB of schema", () => {
    const properties = Object.fromEntries(
      Array.from({ length: 30_000 }, (_, i) => [
        `property number ${i}`,
        { type: "string", description: "d".repeat(90) },
      ]),
    );
    const text = JSON.stringify({ type: "object", properties, additionalProperties: false });
    expect(text.length).toBeGreaterThan(4_000_000);
    expect(text.length).toBeLessThan(4 * 1024 * 1024 + 1_000_000);
    run({ kind: "json_schema", schema: text }, 1);
  });
});
