/**
 * The tables of a byte-pair vocabulary, put into the library's model in place of its own. Its constructor takes tokens and
 * merges as objects, copies them entry by entry and makes a key of each merge with JSON.stringify: a second, and 60 MB of
 * keys and maps for 150,000 of each. Ours look things up in the lists that are there already.
 */
import { hashOf, StringTable } from "./string-table.js";
import type { AddedToken } from "./tokenizer-spec.js";

/** What the library's BPE model looks things up in. */
export interface BytePairModel {
  tokens_to_ids: Lookup;
  vocab: (string | undefined)[];
  /** Rank by `JSON.stringify([left, right])`. */
  bpe_ranks: Lookup;
}

/** The part of a Map that the library uses. */
export interface Lookup {
  get(key: string): number | undefined;
  has(key: string): boolean;
  set(key: string, value: number): unknown;
}

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
  const ids = new TokenIds(tokens);
  model.vocab = [...tokens];
  for (const { id, content } of added) {
    ids.set(content, id);
    model.vocab[id] = content;
  }
  model.tokens_to_ids = ids;
  model.bpe_ranks = new MergeRanks(merges);
}

class TokenIds implements Lookup {
  readonly #tokens: readonly (string | undefined)[];
  readonly #table: StringTable;
  /** Entries that were set; they win. */
  readonly #set = new Map<string, number>();

  constructor(tokens: readonly (string | undefined)[]) {
    this.#tokens = tokens;
    this.#table = new StringTable(tokens.length, (id) => hashOf(tokens[id] as string));
    for (const [id, token] of tokens.entries()) if (token !== undefined) this.#table.add(id);
  }

  get(token: string): number | undefined {
    const set = this.#set.get(token);
    if (set !== undefined) return set;
    const id = this.#table.find(hashOf(token), (at) => this.#tokens[at] === token);
    return id < 0 ? undefined : id;
  }

  has(token: string): boolean {
    return this.get(token) !== undefined;
  }

  set(token: string, id: number): void {
    this.#set.set(token, id);
  }
}

class MergeRanks implements Lookup {
  readonly #merges: readonly string[];
  readonly #table: StringTable;

  constructor(merges: readonly string[]) {
    this.#merges = merges;
    this.#table = new StringTable(merges.length, (rank) => hashOf(merges[rank] as string));
    // Of equal merges the last counts.
    for (let rank = merges.length - 1; rank >= 0; rank--) this.#table.add(rank);
  }

  /** @param key `["left","right"]` */
  get(key: string): number | undefined {
    // Without an escape the text between the brackets is the texts themselves: no object is made for a lookup.
    const [left, right] = key.includes("\\") ? (JSON.parse(key) as [string, string]) : split(key);
    const merge = `${left} ${right}`;
    const space = left.length;
    // "a b c" may be ("a", "b c") or ("a b", "c"): the file's own rule decides which it is.
    const isIt = (rank: number) => this.#merges[rank] === merge && merge.indexOf(" ", 1) === space;
    const rank = this.#table.find(hashOf(merge), isIt);
    return rank < 0 ? undefined : rank;
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  set(): never {
    throw new Error("ranks of merges are their places in the list");
  }
}

/** Quotes of the texts would be escaped, so the first `","` behind the opening quote divides, also when the left text is a comma. */
function split(key: string): [string, string] {
  const middle = key.indexOf('","', 2);
  return [key.slice(2, middle), key.slice(middle + 3, -2)];
}
