import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { regexToExpression } from "../../src/grammar/regex.js";
import { matches, matchesBytes } from "./expression-matcher.js";

/** JavaScript's own answer. */
function oracle(source: string, flags: string, anchored: boolean): (text: string) => boolean {
  // `(?![^])` is the end of the text whatever the flags; `$` is not with flag m.
  const regex = new RegExp(anchored ? `^(?:${source})(?![^])` : source, flags);
  // With flag m `^` matches after line breaks; a whole match has to begin at 0.
  if (!anchored) return (text) => regex.test(text);
  const sticky = new RegExp(`(?:${source})(?![^])`, `${flags}y`);
  return (text) => {
    sticky.lastIndex = 0;
    return sticky.test(text);
  };
}

function agree(source: string, flags: string, texts: readonly string[]): void {
  for (const anchored of [true, false]) {
    const expression = regexToExpression(source, flags, { anchored });
    const test = oracle(source, flags, anchored);
    for (const text of texts) {
      const expected = test(text);
      expect(
        matches(expression, text),
        `/${source}/${flags} ${anchored ? "whole" : "search"} ${JSON.stringify(text)}`,
      ).toBe(expected);
    }
  }
}

/** All texts over `alphabet` up to `length` characters. */
function allTexts(alphabet: readonly string[], length: number): string[] {
  let level = [""];
  const all = [""];
  for (let i = 0; i < length; i++) {
    level = level.flatMap((text) => alphabet.map((char) => text + char));
    all.push(...level);
  }
  return all;
}

const AB = allTexts(["a", "b", " "], 6);
const LINES = allTexts(["a", "\n", "\u2028", "b"], 4);

describe("Expressions without assertions match what JavaScript matches", () => {
  it.each([
    ["", "u"],
    ["a|b|", "u"],
    ["a*?b+?", "u"],
    ["(?:a|b){2,3}", "u"],
    ["(?<x>a)(b){0}a", "u"],
    ["[^a]", "u"],
    ["[]", "u"],
    ["[^]b", "u"],
    [".b", "u"],
    ["\\s\\S\\w\\W", "u"],
    ["a{2,}", "u"],
    ["a{0,0}|b", "u"],
  ])("/%s/%s over all short texts", (source, flags) => {
    agree(source, flags, AB);
  });

  it.each([
    [".", "u"],
    [".", "su"],
    ["a.b", "u"],
    ["[^]", "u"],
  ])("/%s/%s and line terminators", (source, flags) => {
    agree(source, flags, LINES);
  });
});

describe("Assertions are enforced exactly", () => {
  it.each([
    "^a",
    "a$",
    "^a*$",
    "^a|b$",
    "(^a|b)b",
    "a(b$|a)",
    "(?:^a)?b",
    "^^a$$",
    "a^b",
    "a$b",
    "(?=a)",
    "(?=a)b",
    "(?=ab)a",
    "(?!a).",
    "^(?!a)",
    "^(?!ab).*$",
    "^(?=.*a)(?=.*b).{3,}$",
    "a(?!b)",
    "a(?=b)",
    "(?:a(?=b)|b)*$",
    "^(?:a(?!a)|b)*$",
    "(?<=a)b",
    "(?<!a)b",
    "^.*(?<!ab)$",
    "(?<=^a)b",
    "(?<!^)a",
    "(?<=a|bb)a",
    "(?<=a.*)b",
    "\\bab\\b",
    "\\Ba",
    "a\\b b",
    "^(?:\\ba+\\b ?)*$",
    "(?!^a)b",
    "(?!a$)a",
    "(?:(?=a)|b)+a",
    "(?:^|b)a",
    "(?=(?=a).b)..",
    "(?!(?!a)).",
    "(?!(?=a)b)a",
    "(?<=(?<!a)b)a",
    "(?<=\\b)a",
    "(?<=a)(?=b)b",
    "(?=b)(?<=a)b",
    "(?=a)a(?<=a)b",
    "((?!ab).)*",
    "^((?!ab)[^])*$",
    "(?:(?=a)){2}a",
    "(?:(?<=a)|b)*b$",
    "^(?!.*(a|b)b$)",
    "(?<!b(?<=ab))a",
    "^(?=a+$|b+$)",
    "(?=a|$)",
    "^(?=(?:ab)*$)(?!$)",
    "(?:a(?=(?:bb)*a)|b)+a$",
    "^(a|b(?!$))*$",
    "(?<=^|b)a$",
  ])("/%s/ over all short texts", (source) => {
    agree(source, "u", AB);
  });

  it.each(["^a$", "^$", "a$\\n^b", "(?<=^)b", "\\n^", "$[^]", "^(?!a)", "(?:^a$\\n?)+"])(
    "/%s/m over texts with line breaks",
    (source) => {
      agree(source, "mu", LINES);
      agree(source, "u", LINES);
    },
  );
});
