/** A grammar that begins after thinking: what is thinking, what is answer, and what a budget must leave room for. */
import { describe, expect, it } from "vitest";
import { GrammarCompiler, type GrammarSpec } from "../../src/grammar/compiler.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { byteVocabulary } from "./vocabularies.js";

const compiler = new GrammarCompiler(new Vocabulary(byteVocabulary()));
const INNER = { kind: "json_schema", schema: { type: "integer" } } as const;
const spec = (inside: boolean): GrammarSpec => ({
  kind: "after_thinking",
  start: "<think>",
  end: "</think>",
  inside,
  answer: INNER,
});
const fits = (inside: boolean, text: string) => {
  const matcher = compiler.compile(spec(inside)).matcher();
  return matcher.acceptText(text) && matcher.canTerminate();
};

describe("a grammar after thinking", () => {
  it.each([
    [true, "because</think>12"],
    [true, "</think>\n\n12"],
    [true, "a < b, </thin, <think>?</think>\n-1"],
    [false, "12"],
    [false, "<think>why \u00fc</think>12"],
    [false, "\n<think>\n\n</think>\n\n12"],
  ])("inside: %s, takes %j", (inside, text) => {
    expect(fits(inside, text)).toBe(true);
  });

  it.each([
    [true, "12"],
    [true, "because</think>"],
    [true, "because</think>twelve"],
    [true, "one</think>12</think>"],
    [true, "one</think>\n\n\n\n\n\nx"],
    [false, "why</think>12"],
    [false, "<think>why"],
    [false, "<think>why</think>x"],
  ])("inside: %s, refuses %j", (inside, text) => {
    expect(fits(inside, text)).toBe(false);
  });

  it("a budget leaves room for the mark and the answer", () => {
    const matcher = compiler.compile(spec(true)).matcher();
    matcher.acceptText("hm");
    expect(matcher.tokensToEnd()).toBe("</think>1".length);
    const mask = matcher.mask("</think>1".length);
    expect(
      [...mask].flatMap((word, i) => [...Array(32).keys()].filter((bit) => (word >>> bit) & 1).map((b) => 32 * i + b)),
    ).toEqual(["<".charCodeAt(0)]);
  });

  it("warns of what schemas inside of it do not enforce", () => {
    const answer = { kind: "json_schema", schema: { type: "string", format: "unheard-of" } } as const;
    const grammar = compiler.compile({ ...spec(true), answer } as GrammarSpec);
    expect(grammar.warnings).toHaveLength(1);
  });
});
