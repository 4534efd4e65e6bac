/** How forced text is guessed: the tokenizer's way first, then the way it was written before. */
import { expect, it } from "vitest";
import { GrammarCompiler } from "../../src/grammar/compiler.js";
import type { Matcher } from "../../src/grammar/matcher.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { ForcedText } from "../../src/runtime/forced-text.js";
import { byteVocabulary } from "../grammar/vocabularies.js";

/** Bytes, and `ab` as token 257. */
const bytes = byteVocabulary();
const vocabulary = new Vocabulary({
  ...bytes,
  vocabSize: 258,
  tokenBytes: (id) => (id === 257 ? Uint8Array.of(0x61, 0x62) : bytes.tokenBytes(id)),
});
const [A, B, C, AB] = [0x61, 0x62, 0x63, 257];
const tokenizer = {
  encode: (text: string) =>
    [...text.replaceAll("ab", "\u0101")].map((c) => ((c.codePointAt(0) as number) === 0x101 ? AB : c.charCodeAt(0))),
};

function begin(): { forced: ForcedText; matcher: Matcher; write: (ids: number[]) => void } {
  const grammar = new GrammarCompiler(vocabulary).compile({ kind: "choices", choices: ["abc"] });
  const forced = ForcedText.of(grammar);
  const write = (ids: number[]) => {
    const matcher = grammar.matcher();
    for (const id of ids) {
      forced.observe(matcher.configuration, id);
      expect(matcher.acceptToken(id)).toBe(true);
    }
  };
  return { forced, matcher: grammar.matcher(), write };
}

it("as the tokenizer writes it while nothing else is known", () => {
  const { forced, matcher } = begin();
  expect(forced.guess(matcher, tokenizer, [])).toEqual([AB, C]);
  expect(matcher.length).toBe(0);
});

it("as the model wrote it before, at the same place", () => {
  const { forced, matcher, write } = begin();
  write([A, B, C]);
  expect(forced.guess(matcher, tokenizer, [])).toEqual([A, B, C]);
  expect(forced.byTokenizer(matcher, tokenizer, [])).toEqual([AB, C]);
});

it("up to where the model writes now this, now that", () => {
  const { forced, matcher, write } = begin();
  write([A, B, C]);
  write([AB, C]);
  expect(forced.guess(matcher, tokenizer, [])).toEqual([]);
  matcher.acceptToken(A);
  expect(forced.guess(matcher, tokenizer, [A])).toEqual([B, C]);
  for (let i = 0; i < 3; i++) write([AB, C]);
  matcher.rollback(1);
  expect(forced.guess(matcher, tokenizer, [])).toEqual([AB, C]);
});

it("nothing where the grammar leaves a choice or the text has ended", () => {
  const { forced, matcher } = begin();
  matcher.acceptText("abc");
  expect(forced.guess(matcher, tokenizer, [])).toEqual([]);
});
