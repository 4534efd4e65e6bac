import { describe, expect, test } from "vitest";
import { GrammarCompiler, type GrammarSpec } from "../../src/grammar/compiler.js";
import { Vocabulary } from "../../src/grammar/vocabulary.js";
import { expectExactMasks } from "./exact-masks.js";
import { tokenSource } from "./vocabularies.js";

const PARTS = [..."aabcdefgzAFZ019_-./ :\"\\{}[]'\n", "é", "日", "本", "🙂", "\u00ff"].map((part) =>
  new TextEncoder().encode(part),
);

/** Bytes alone, and thousands of tokens that share beginnings; some begin or end inside a character, some hold none. */
function crowdedVocabulary(): Vocabulary {
  let state = 7;
  const below = (limit: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % limit;
  };
  const tokens = Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte));
  const known = new Set<string>();
  for (let i = 0; i < 6_000; i++) {
    const bytes = Array.from({ length: 2 + below(4) }, () => [...(PARTS[below(PARTS.length)] as Uint8Array)]).flat();
    if (below(6) === 0) bytes.pop();
    if (below(9) === 0) bytes.shift();
    if (below(40) === 0) bytes.splice(below(bytes.length), 0, 0xff);
    if (bytes.length < 2 || known.has(String(bytes))) continue;
    known.add(String(bytes));
    tokens.push(Uint8Array.from(bytes));
  }
  tokens.push(new Uint8Array(0));
  return new Vocabulary(tokenSource(tokens, [tokens.length - 1]));
}

const SPECS: readonly GrammarSpec[] = [
  { kind: "regex", pattern: "[a-z]+x" },
  { kind: "regex", pattern: "[^x]*x" },
  { kind: "regex", pattern: "[^日x]*x" },
  { kind: "regex", pattern: "[a-zA-Z0-9_-]*(é|\\.)" },
  { kind: "regex", pattern: "(a|b[^c]*)*c" },
  { kind: "json_schema", schema: { type: "string", pattern: "^[^a]" } },
  { kind: "json_schema", schema: { type: "string", pattern: "z$", minLength: 3 } },
  { kind: "json_schema", schema: { type: "string", pattern: "^[ -~]*$", not: { pattern: "ab" } } },
  { kind: "json_schema", schema: { type: "object", patternProperties: { "^[a-f]+$": { pattern: "^\\w*$" } } } },
];

describe("parts of the trie that are taken at once", () => {
  const compiler = new GrammarCompiler(crowdedVocabulary());
  test("make the same masks as reading every token", () => {
    for (const [index, spec] of SPECS.entries())
      for (let seed = 0; seed < 6; seed++) expectExactMasks(compiler, spec, 8, 13 * seed + index);
  });

  test("are found in the trie by the kinds of what is below", () => {
    const { trie } = compiler.vocabulary;
    expect(trie.order.length).toBe(trie.firstToken[trie.size]);
    for (let i = 0; i < trie.size; i++) {
      const tokens = trie.token.subarray(i, trie.skip[i]).filter((id) => id >= 0);
      expect(trie.order.subarray(trie.firstToken[i], trie.firstToken[trie.skip[i] as number])).toEqual(tokens);
    }
  });
});
