/** The lookups that stand in for the library's maps answer as those would. */
import { expect, it } from "vitest";
import { type BytePairModel, fillBytePairs } from "../../src/tokenizer/byte-pairs.js";
import type { AddedToken } from "../../src/tokenizer/tokenizer-spec.js";

function fill(tokens: (string | undefined)[], merges: string[], added: AddedToken[] = []) {
  const model: BytePairModel = { tokens_to_ids: new Map(), vocab: [], bpe_ranks: new Map() };
  fillBytePairs(model, tokens, merges, added);
  return model;
}

it("finds every merge by the key the library makes, whatever characters it has", () => {
  const pairs = [
    [",", "arg"],
    [",", ","],
    ["a", ","],
    [",,", "b"],
    ['"', ","],
    [",", '"'],
    ['","', '","'],
    ["\\", "n"],
    [" ", "x"],
    ["\u0001", "é"],
    ["[", "]"],
  ];
  const model = fill(
    [],
    pairs.map(([left, right]) => `${left} ${right}`),
  );
  expect(pairs.map((pair) => model.bpe_ranks.get(JSON.stringify(pair)))).toEqual(pairs.map((_, rank) => rank));
  for (const pair of [
    [",", "ar"],
    ["", ",arg"],
    ["x", " "],
    [",,arg", ""],
  ])
    expect(model.bpe_ranks.has(JSON.stringify(pair))).toBe(false);
});

it("gives equal tokens the first id and added tokens their own", () => {
  const model = fill(["a", "b", "a", undefined, ","], [], [{ id: 5, content: "b", special: false }]);
  expect(["a", "b", ",", "c"].map((token) => model.tokens_to_ids.get(token))).toEqual([0, 5, 4, undefined]);
  expect(model.vocab[5]).toBe("b");
});
