/**
 * The tables of a byte-pair vocabulary, written into the library's model directly. Its constructor takes tokens and merges
 * as objects, copies them entry by entry and makes a key of each merge with JSON.stringify: of the two seconds from start to
 * first token that was one.
 */
import type { AddedToken } from "./tokenizer-spec.js";

/** What the library's BPE model looks things up in. */
export interface BytePairModel {
  tokens_to_ids: Map<string, number>;
  vocab: (string | undefined)[];
  /** Rank by `JSON.stringify([left, right])`. */
  bpe_ranks: Map<string, number>;
}

/** Characters that JSON.stringify escapes; byte-level tokens have hardly any. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: those are among them.
const ESCAPED = /["\\\u0000-\u001f\ud800-\udfff]/;

/**
 * Fills an empty model. Of equal tokens the first gets the text, as when the model was trained; added tokens win over all.
 * @param merges "left right" each, best first
 */
export function fillBytePairs(
  model: BytePairModel,
  tokens: readonly (string | undefined)[],
  merges: readonly string[],
  added: readonly AddedToken[],
): void {
  const { tokens_to_ids: ids, bpe_ranks: ranks } = model;
  for (let id = tokens.length - 1; id >= 0; id--) if (tokens[id] !== undefined) ids.set(tokens[id]!, id);
  model.vocab = [...tokens];
  for (const { id, content } of added) {
    ids.set(content, id);
    model.vocab[id] = content;
  }
  for (let rank = 0; rank < merges.length; rank++) ranks.set(mergeKey(merges[rank]!), rank);
}

/** The left token may begin with a space, so the second character is the first that may divide. */
function mergeKey(merge: string): string {
  const space = merge.indexOf(" ", 1);
  const left = merge.slice(0, space);
  const right = merge.slice(space + 1);
  return ESCAPED.test(merge) ? JSON.stringify([left, right]) : `["${left}","${right}"]`;
}
