import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { GrammarCompiler } from "../../src/grammar/compiler.js";
import { Encoder } from "../../src/grammar/encode.js";
import { Lexemes } from "../../src/grammar/lexeme.js";
import { type Comparison, type NumberTerm, numberExpression } from "../../src/grammar/number-term.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { byteVocabulary } from "./vocabularies.js";

const compiler = new GrammarCompiler(new Vocabulary(byteVocabulary()));

function accepts(schema: unknown, text: string): boolean {
  const matcher = compiler.compile({ kind: "json_schema", schema, whitespace: "compact" }).matcher();
  return matcher.acceptText(text) && matcher.canTerminate();
}

const zeros = (count: number): string => "0".repeat(count);
const nines = (count: number): string => "9".repeat(count);

describe("a number schema decides by the value that a reader will parse", () => {
  test.each<[string, unknown, string, boolean]>([
    ["an exponent is taken within bounds", { type: "number", minimum: 0 }, "1e-7", true],
    ["a large exponent is taken within bounds", { type: "number", minimum: 0 }, "1e+21", true],
    ["bounds hold for exponents", { type: "number", minimum: 0 }, "-1e-7", false],
    ["an integer may be printed with an exponent", { type: "integer" }, "1e+21", true],
    ["a number that overflows is refused", { type: "number" }, "1e999", false],
    ["an overflow without exponent is refused", { type: "number" }, nines(400), false],
    ["an overflow by digits and exponent is refused", { type: "number" }, `${nines(60)}e300`, false],
    ["a large finite number is taken", { type: "number" }, "1.7e+307", true],
    ["an overflow is refused where anything may stand", {}, "[1e999]", false],
    ["every other spelling is taken where anything may stand", {}, "[-0,0e0,12.50E+02,1e-999]", true],
    ["an integer that overflows is refused", { type: "integer", minimum: 0 }, nines(400), false],
    ["what parses to zero is not above zero", { type: "number", exclusiveMinimum: 0 }, `0.${zeros(400)}1`, false],
    ["what parses to one is not below one", { type: "number", exclusiveMaximum: 1 }, `0.${nines(23)}`, false],
    ["a multiple has finitely many digits", { type: "integer", multipleOf: 3600 }, `36${zeros(400)}`, false],
    ["a multiple within bounds", { type: "integer", multipleOf: 3600, minimum: 1, maximum: 7200 }, "7200", true],
    ["a multiple out of bounds", { type: "integer", multipleOf: 3600, minimum: 1, maximum: 7200 }, "10800", false],
    ["two divisors both count", { allOf: [{ multipleOf: 4 }, { multipleOf: 6 }], type: "integer" }, "12", true],
    ["two divisors both count", { allOf: [{ multipleOf: 4 }, { multipleOf: 6 }], type: "integer" }, "18", false],
    ["a constant is taken as it is printed", { type: "number", const: 1e-7 }, "1e-7", true],
    ["a constant is taken in full", { type: "number", const: 1e-7 }, "0.0000001", true],
    ["a constant beyond all plain digits is taken", { type: "number", const: 1e300 }, "1e+300", true],
    ["bounds apply to constants", { enum: [1, 5, 9], minimum: 2, exclusiveMaximum: 9 }, "5", true],
    ["bounds apply to constants", { enum: [1, 5, 9], minimum: 2, exclusiveMaximum: 9 }, "9", false],
  ])("%s: %j", (_, schema, text, expected) => {
    expect(accepts(schema, text)).toBe(expected);
  });
});

describe("a complement refuses whatever parses to a number it excludes", () => {
  const number = (not: unknown): unknown => ({ type: "number", not });
  test.each<[string, unknown, string, boolean]>([
    ["bound", number({ minimum: 1 }), "0.5", true],
    ["bound", number({ minimum: 1 }), "1", false],
    ["bound, rounding", number({ minimum: 1 }), `0.${nines(23)}`, false],
    ["range", number({ minimum: 1, maximum: 2 }), "2.5", true],
    ["range", number({ minimum: 1, maximum: 2 }), "1.5", false],
    ["integer", number({ type: "integer" }), "1.5", true],
    ["integer", number({ type: "integer" }), "2.5e-7", true],
    ["integer", number({ type: "integer" }), "1.0", false],
    ["integer", number({ type: "integer" }), "1e2", false],
    ["integer, rounding", number({ type: "integer" }), `1.${zeros(20)}1`, false],
    ["constants", number({ enum: [1, 3] }), "2", true],
    ["constants", number({ enum: [1, 3] }), "1.00", false],
    ["constants", number({ enum: [1, 3] }), "3e0", false],
    ["constants, rounding", number({ enum: [1, 3] }), `0.${nines(23)}`, false],
    ["zero", number({ const: 0 }), "0.0", false],
    ["zero, rounding", number({ const: 0 }), `0.${zeros(400)}1`, false],
    ["multiple", number({ multipleOf: 3 }), "4", true],
    ["multiple", number({ multipleOf: 3 }), "4.5", true],
    ["multiple", number({ multipleOf: 3 }), "6", false],
    ["multiple", number({ multipleOf: 3 }), "6.0", false],
    ["multiple, rounding", number({ multipleOf: 3 }), `6.${zeros(20)}1`, false],
    ["fractional multiple", number({ multipleOf: 0.25 }), "0.3", true],
    ["fractional multiple", number({ multipleOf: 0.25 }), "0.750", false],
    ["complement of a complement", number({ not: { minimum: 1 } }), "1", true],
    ["complement of a complement", number({ not: { minimum: 1 } }), "0", false],
    ["complement of alternatives", number({ anyOf: [{ minimum: 5 }, { maximum: 1 }] }), "3", true],
    ["complement of alternatives", number({ anyOf: [{ minimum: 5 }, { maximum: 1 }] }), "5", false],
  ])("%s: %j, %s", (_, schema, text, expected) => {
    expect(accepts(schema, text)).toBe(expected);
  });
});

test("an infinite bound is refused by name", () => {
  expect(() => compiler.compile({ kind: "json_schema", schema: '{"minimum":1e999}' })).toThrow(
    expect.objectContaining({ isSglangError: true, details: expect.objectContaining({ field: "#/minimum" }) }),
  );
});

describe("any combination of bounds, constants and integers", () => {
  const edge = fc.constantFrom(-3, -1, -0.5, -1e-7, 0, 1e-7, 0.1, 1, 1.5, 2, 10, 1e21, 1.5e22);
  const comparison = fc.constantFrom<Comparison>("<", "<=", ">=", ">");
  const term = fc.letrec<{ term: NumberTerm }>((tie) => ({
    term: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      fc.record({ kind: fc.constant("compare" as const), comparison, bound: edge }),
      fc.record({ kind: fc.constant("values" as const), values: fc.uniqueArray(edge, { minLength: 1, maxLength: 3 }) }),
      fc.constant<NumberTerm>({ kind: "integer" }),
      fc.record({ kind: fc.constant("not" as const), item: tie("term") }),
      fc.record({
        kind: fc.constantFrom("and" as const, "or" as const),
        items: fc.array(tie("term"), { minLength: 1, maxLength: 3 }),
      }),
    ),
  })).term;
  const near = edge.chain((value) => fc.constantFrom(value, value + 1e-9, value - 1e-9, value * 2, value + 1));
  const digits = (max: number): fc.Arbitrary<string> =>
    fc.array(fc.constantFrom(..."001599"), { minLength: 1, maxLength: max }).map((list) => list.join(""));
  const spelled = fc
    .tuple(fc.constantFrom("", "-"), digits(4), fc.option(digits(25)), fc.option(fc.integer({ min: -30, max: 30 })))
    .map(([sign, whole, fraction, exponent]) => {
      const before = whole.replace(/^0+(?=.)/, "");
      return `${sign}${before}${fraction === null ? "" : `.${fraction}`}${exponent === null ? "" : `e${exponent}`}`;
    });

  function holds(of: NumberTerm, value: number): boolean {
    switch (of.kind) {
      case "integer":
        return Number.isInteger(value);
      case "values":
        return of.values.includes(value);
      case "compare":
        if (of.comparison.startsWith("<")) return value < of.bound || (of.comparison === "<=" && value === of.bound);
        return value > of.bound || (of.comparison === ">=" && value === of.bound);
      case "not":
        return !holds(of.item, value);
      case "and":
        return of.items.every((item) => holds(item, value));
      case "or":
        return of.items.some((item) => holds(item, value));
      default:
        return of.kind === "any";
    }
  }

  const lexemes = new Lexemes();
  const encoder = new Encoder(lexemes);
  const takes = (of: NumberTerm, text: string): boolean =>
    lexemes.matches(encoder.lexeme(numberExpression(of), "utf8"), new TextEncoder().encode(text));

  test("takes no text that parses to a number outside", () => {
    fc.assert(
      fc.property(term, fc.array(spelled, { minLength: 20, maxLength: 20 }), (of, texts) => {
        for (const text of texts) if (takes(of, text)) expect(holds(of, JSON.parse(text) as number), text).toBe(true);
      }),
      { numRuns: 300 },
    );
  });

  test("takes every number inside as JavaScript prints it", () => {
    fc.assert(
      fc.property(term, fc.array(near, { minLength: 10, maxLength: 10 }), (of, values) => {
        for (const value of values)
          if (!/\d{16}/.test(String(value).replace(".", "")))
            expect(takes(of, JSON.stringify(value)), String(value)).toBe(holds(of, value));
      }),
      { numRuns: 300 },
    );
  });
});
