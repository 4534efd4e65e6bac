import { describe, expect, test } from "vitest";
import { GrammarCompiler } from "../../src/grammar/compiler.js";
import { certainTokens, forcedTokens, onlyToken } from "../../src/grammar/jump-forward.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { byteVocabulary, mixedVocabulary } from "./vocabularies.js";

const bytes = new GrammarCompiler(new Vocabulary(byteVocabulary()));
const mixed = new GrammarCompiler(new Vocabulary(mixedVocabulary()));
const schema = {
  type: "object",
  properties: { name: { type: "boolean" } },
  required: ["name"],
  additionalProperties: false,
};
const spec = { kind: "json_schema", schema, whitespace: "compact" } as const;

/** Longest match, as good a tokenizer as any. */
const longestMatch = {
  encode(text: string): number[] {
    const { vocabulary } = mixed;
    const all = new TextEncoder().encode(text);
    const ids: number[] = [];
    for (let at = 0; at < all.length; ) {
      let best = -1;
      for (let id = 0; id < vocabulary.vocabSize; id++) {
        const own = vocabulary.bytesOf(id);
        if (own.length === 0 || own.some((byte, i) => all[at + i] !== byte)) continue;
        if (best < 0 || own.length > vocabulary.bytesOf(best).length) best = id;
      }
      ids.push(best);
      at += vocabulary.bytesOf(best).length;
    }
    return ids;
  },
};
const textOf = (ids: readonly number[]): string =>
  new TextDecoder().decode(Uint8Array.from(ids.flatMap((id) => [...mixed.vocabulary.bytesOf(id)])));

describe("certain tokens", () => {
  test("are those for which every mask has one bit", () => {
    const matcher = bytes.compile(spec).matcher();
    expect(String.fromCharCode(...certainTokens(matcher))).toBe('{"name":');
    expect(matcher.length).toBe(0);
    expect(certainTokens(matcher, 3)).toHaveLength(3);
    matcher.acceptText('{"name":t');
    expect(String.fromCharCode(...certainTokens(matcher))).toBe("rue}");
  });

  test("are none where the vocabulary has more than one way to write the forced bytes", () => {
    expect(certainTokens(mixed.compile(spec).matcher())).toEqual([]);
  });

  test("do not go past the end of the text", () => {
    const matcher = bytes.compile({ kind: "choices", choices: ["ab"] }).matcher();
    expect(certainTokens(matcher)).toEqual([0x61, 0x62]);
    matcher.acceptText("ab");
    expect(certainTokens(matcher)).toEqual([]);
  });
});

describe("forced tokens", () => {
  test("are the tokenizer's own, without those that something longer could replace", () => {
    const matcher = mixed.compile(spec).matcher();
    // After `":` comes `t` or `f`; no token spans that seam, so the colon stays.
    expect(textOf(forcedTokens(matcher, longestMatch))).toBe('{"name":');
    const kinds = mixed.compile({ kind: "choices", choices: ["the 100x", "the 10y"] }).matcher();
    // `10` is forced but `100` may be what the model means.
    expect(kinds.forcedBytes().length).toBe(6);
    expect(textOf(forcedTokens(kinds, longestMatch))).toBe("the ");
  });

  test("go on where the tokens so far end", () => {
    const matcher = mixed.compile({ kind: "choices", choices: ["true!"] }).matcher();
    matcher.acceptText("t");
    expect(textOf(forcedTokens(matcher, longestMatch, ["t".charCodeAt(0)]))).toBe("rue!");
    const fresh = mixed.compile({ kind: "choices", choices: ["true!"] }).matcher();
    expect(textOf(forcedTokens(fresh, longestMatch, [0x20]))).toBe("true!");
  });
});

test("a mask's only token is found in any word", () => {
  const mask = new Int32Array(4);
  expect(onlyToken(mask)).toBe(-1);
  mask[2] = 1 << 31;
  expect(onlyToken(mask)).toBe(95);
  mask[0] = 1;
  expect(onlyToken(mask)).toBe(-1);
});
