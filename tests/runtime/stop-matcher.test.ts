import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { regexFacts } from "../../src/runtime/regex-length.js";
import { StopMatcher } from "../../src/runtime/stop-matcher.js";

interface Run {
  shown: string[];
  matched: string | null;
}

function run(pieces: readonly string[], options: { strings?: string[]; regexes?: string[]; trim?: boolean }): Run {
  const matcher = new StopMatcher({ strings: [], regexes: [], trim: true, ...options });
  const shown: string[] = [];
  for (const piece of pieces) {
    const { text, matched } = matcher.push(piece);
    shown.push(text);
    if (matched !== null) return { shown, matched };
  }
  shown.push(matcher.flush());
  return { shown, matched: null };
}

describe("stop strings", () => {
  it.each([
    { name: "inside one piece", pieces: ["Hello END there"], strings: ["END"], shown: ["Hello "], matched: "END" },
    {
      name: "over several pieces",
      pieces: ["Hello E", "N", "D x"],
      strings: ["END"],
      shown: ["Hello ", "", ""],
      matched: "END",
    },
    {
      name: "a beginning that comes to nothing is shown",
      pieces: ["a E", "NX"],
      strings: ["END"],
      shown: ["a ", "ENX", ""],
      matched: null,
    },
    {
      name: "a beginning at the end of the answer is shown",
      pieces: ["a EN"],
      strings: ["END"],
      shown: ["a ", "EN"],
      matched: null,
    },
    {
      name: "the earliest wins, not the first of the list",
      pieces: ["one two"],
      strings: ["two", "one"],
      shown: [""],
      matched: "one",
    },
    {
      name: "at the same place the first of the list wins",
      pieces: ["abc"],
      strings: ["ab", "abc"],
      shown: [""],
      matched: "ab",
    },
    { name: "self-overlapping", pieces: ["aab", "aaac"], strings: ["aaa"], shown: ["aab", ""], matched: "aaa" },
    { name: "one character", pieces: ["a", "\n", "b"], strings: ["\n"], shown: ["a", ""], matched: "\n" },
    { name: "not ASCII", pieces: ["één ", "✋ stop"], strings: ["✋"], shown: ["één ", ""], matched: "✋" },
  ])("$name", ({ pieces, strings, shown, matched }) => {
    expect(run(pieces, { strings })).toEqual({ shown, matched });
  });

  it("stay in the text without trimming, up to their end", () => {
    expect(run(["Hello E", "ND x"], { strings: ["END"], trim: false })).toEqual({
      shown: ["Hello E", "ND"],
      matched: "END",
    });
  });

  it("count as text where the answer may not stop yet, but may reach beyond it", () => {
    const matcher = new StopMatcher({ strings: ["END"], regexes: [], trim: true });
    expect(matcher.push("END E", false)).toEqual({ text: "END ", matched: null });
    expect(matcher.push("N", true)).toEqual({ text: "", matched: null });
    expect(matcher.push("D", true)).toEqual({ text: "", matched: "END" });
  });

  it("show all text before the earliest stop and nothing after it, however the text is cut", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 30 });
    const stops = fc.array(fc.string({ unit: fc.constantFrom("a", "b"), minLength: 1, maxLength: 4 }), {
      minLength: 1,
      maxLength: 3,
    });
    fc.assert(
      fc.property(letters, stops, (text, strings) => {
        const pieces = [...text];
        const { shown, matched } = run(pieces, { strings });
        // Letter by letter the stop that ends first is found first; among those that end together the longest.
        let end = text.length + 1;
        let start = text.length;
        for (const stop of strings) {
          const at = text.indexOf(stop);
          if (at < 0) continue;
          if (at + stop.length < end || (at + stop.length === end && at < start)) {
            end = at + stop.length;
            start = at;
          }
        }
        expect(shown.join("")).toBe(text.slice(0, start));
        expect(matched === null).toBe(end === text.length + 1);
      }),
    );
  });
});

describe("stop patterns", () => {
  it.each([
    { name: "a class", pieces: ["year ", "19", "84"], regexes: ["\\d"], shown: "year ", matched: "\\d" },
    { name: "over pieces", pieces: ["one\n", "\ntwo"], regexes: ["\\n\\n"], shown: "one", matched: "\\n\\n" },
    { name: "^ is the answer's beginning only", pieces: ["ba", "a"], regexes: ["^a"], shown: "baa", matched: null },
    {
      name: "look-behind sees shown text",
      pieces: ["x".repeat(9), "y1"],
      regexes: ["(?<=y)\\d"],
      shown: "xxxxxxxxxy",
      matched: "(?<=y)\\d",
    },
    { name: "unbounded", pieces: ["abc <tag at", "tr> rest"], regexes: ["<[^>]*>"], shown: "abc ", matched: "<[^>]*>" },
    { name: "no match", pieces: ["abc", "def"], regexes: ["x+"], shown: "abcdef", matched: null },
  ])("$name", ({ pieces, regexes, shown, matched }) => {
    const result = run(pieces, { regexes });
    expect(result.shown.join("")).toBe(shown);
    expect(result.matched).toBe(matched);
  });

  it("hold back no more than a match can be long", () => {
    expect(run(["abcdef"], { regexes: ["\\d\\d\\d"] }).shown).toEqual(["abcd", "ef"]);
  });

  it("lose to a string at the same place", () => {
    expect(run(["ab1"], { strings: ["1"], regexes: ["\\d"] }).matched).toBe("1");
  });

  it("never cut a character in two", () => {
    const { shown } = run(["a😀", "b😀😀", "c"], { regexes: ["xyz"] });
    expect(shown.join("")).toBe("a😀b😀😀c");
    for (const text of shown) expect(text).not.toMatch(/\p{Surrogate}/u);
  });

  it("that explode are refused instead of blocking the process", () => {
    const matcher = new StopMatcher({ strings: [], regexes: ["(a+)+$"], trim: true });
    expect(() => matcher.push(`${"a".repeat(40)}b`)).toThrow(/stop_regex .* took more than/);
  });
});

describe("regexFacts", () => {
  it.each([
    ["abc", 3, false],
    ["a|bcd|ef", 3, false],
    ["a{2,5}b?", 6, false],
    ["(?:ab){3}", 6, false],
    ["(?<year>\\d{4})-\\d\\d", 7, false],
    ["[a-z]", 1, false],
    ["[^a]", 2, false],
    [".", 2, false],
    ["\\p{Lu}x", 3, false],
    ["\\u{1F600}", 2, false],
    ["\\x41\\cA\\0", 3, false],
    ["^\\bword\\b$", 4, false],
    ["a(?=bc)", 3, false],
    ["(?<=abc)d", 1, false],
    ["[\\]()*]x", 2, false],
    ["a{0}", 0, false],
    ["a+", Number.POSITIVE_INFINITY, false],
    ["a*?b", Number.POSITIVE_INFINITY, false],
    ["(a)\\1", Number.POSITIVE_INFINITY, false],
    ["(?:a|b)*", Number.POSITIVE_INFINITY, true],
    ["a*a*", Number.POSITIVE_INFINITY, true],
    ["a{500}", 500, false],
  ] as const)("%s: at most %s characters, risky %s", (pattern, maxLength, risky) => {
    expect(() => new RegExp(pattern, "u")).not.toThrow();
    expect(regexFacts(pattern)).toEqual({ maxLength, risky });
  });
});
