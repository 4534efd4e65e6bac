import { describe, expect, test } from "vitest";
import { GrammarCompiler, type GrammarSpec } from "../../src/grammar/compiler.js";
import { has } from "../../src/grammar/masks.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { SCHEMAS } from "./schemas.js";
import { byteVocabulary, mixedVocabulary } from "./vocabularies.js";
import { randomOf } from "./walks.js";

const compilers = [byteVocabulary(), mixedVocabulary()].map((source) => new GrammarCompiler(new Vocabulary(source)));
const [bytes, mixed] = compilers as [GrammarCompiler, GrammarCompiler];

const SPECS: readonly GrammarSpec[] = [
  ...SCHEMAS.flatMap(({ schema }): GrammarSpec[] => [
    { kind: "json_schema", schema },
    { kind: "json_schema", schema, propertyOrder: "any", whitespace: "compact" },
    { kind: "json_schema", schema, whitespace: "pretty" },
  ]),
  { kind: "json" },
  { kind: "regex", pattern: "(a|bc)*d{3,5}[x-z]{2}" },
  { kind: "ebnf", source: 'root ::= "(" root ")" | "x" root | "done"' },
  { kind: "choices", choices: ["yes", "no", "yesterday"] },
];

describe("budget-aware closing", () => {
  test("completes the text within any budget that the shortest end fits", () => {
    const random = randomOf(7);
    for (const compiler of compilers) {
      for (const spec of SPECS) {
        const grammar = compiler.compile(spec);
        const least = grammar.matcher().tokensToEnd();
        for (const budget of [least, least + 3, 24]) {
          if (budget < least) continue;
          const matcher = grammar.matcher();
          let left = budget;
          for (; left > 0 && !matcher.isTerminated(); left--) {
            const mask = matcher.mask(left);
            const allowed: number[] = [];
            for (let id = 0; id < compiler.vocabulary.vocabSize; id++) if (has(mask, id)) allowed.push(id);
            const id = allowed[Math.floor(random() * allowed.length)] as number;
            expect(matcher.acceptToken(id)).toBe(true);
            expect(matcher.tokensToEnd()).toBeLessThanOrEqual(left - 1);
          }
          expect(matcher.canTerminate(), JSON.stringify(spec)).toBe(true);
        }
      }
    }
  });

  test("leaves the mask as it is while there is room", () => {
    const matcher = mixed
      .compile({ kind: "json_schema", schema: { type: "array", items: { type: "boolean" } } })
      .matcher();
    expect(matcher.mask(1_000)).toBe(matcher.mask());
    expect(matcher.tokensToEnd()).toBe(1);
  });

  test("writes the shortest end when it is too late", () => {
    const schema = {
      type: "object",
      properties: { name: { type: "string" } },
      required: ["name"],
      additionalProperties: false,
    };
    const matcher = bytes.compile({ kind: "json_schema", schema, whitespace: "compact" }).matcher();
    expect(matcher.tokensToEnd()).toBe('{"name":""}'.length);
    matcher.acceptText('{"name":"x');
    for (const expected of ['"', "}"]) {
      const mask = matcher.mask(1);
      const allowed = Array.from({ length: 256 }, (_, id) => id).filter((id) => has(mask, id));
      expect(String.fromCharCode(...allowed)).toBe(expected);
      matcher.acceptText(expected);
    }
    expect(matcher.canTerminate()).toBe(true);
  });

  test("an object in any order is looked at in one order: the number of steps stays small", () => {
    const properties = Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`key${i}`, { type: "integer" }]));
    const schema = { type: "object", properties, required: Object.keys(properties), additionalProperties: false };
    const grammar = bytes.compile({ kind: "json_schema", schema, propertyOrder: "any", whitespace: "compact" });
    const shortest = JSON.stringify(Object.fromEntries(Object.keys(properties).map((key) => [key, 0])));
    expect(grammar.matcher().tokensToEnd()).toBe(shortest.length);
    expect(grammar.automaton.program.ruleCount).toBeLessThan(4_000);
  });
});

test("blanks are masked after too many in a row, unless nothing else may come", () => {
  const grammar = mixed.compile({ kind: "regex", pattern: "[ \\n]*x" });
  const matcher = grammar.matcher({ maxBlankTokens: 2 });
  const blank = " ".charCodeAt(0);
  for (let i = 0; i < 2; i++) expect(has(matcher.mask(), blank) && matcher.acceptToken(blank)).toBe(true);
  expect(has(matcher.mask(), blank)).toBe(false);
  expect(has(matcher.mask(), "x".charCodeAt(0))).toBe(true);
  const fork = matcher.fork();
  fork.rollback(1);
  expect(has(fork.mask(), blank)).toBe(true);
  const only = mixed.compile({ kind: "regex", pattern: " {5}x" }).matcher({ maxBlankTokens: 1 });
  only.acceptToken(blank);
  expect(has(only.mask(), blank)).toBe(true);
});
