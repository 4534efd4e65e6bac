/**
 * A tokenizer's vocabulary as the mask maker needs it: a sorted byte trie in flat arrays, and slices of tokens that
 * often live or die together. Built once per tokenizer, shared by all grammars.
 *
 * Special tokens and tokens of no bytes are not in the trie: no text of a grammar can produce them.
 */

import { kindsBelow } from "./trie-contents.js";

/** What we ask of a tokenizer; `Tokenizer` fits. */
export interface TokenSource {
  readonly vocabSize: number;
  readonly eosTokenIds: readonly number[];
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
}

/**
 * Trie nodes in depth-first order. A node's children follow it directly; `skip[i]` is the first node after its subtree.
 * Depth counts from 1 for the first byte. `label[i]` is `depth << 8 | byte`.
 */
export interface TokenTrie {
  readonly size: number;
  readonly label: Int32Array;
  readonly skip: Int32Array;
  /** Token that ends at the node, or -1. Of several ids with the same bytes the smallest; see `duplicates`. */
  readonly token: Int32Array;
  readonly maxDepth: number;
  /** Depth of the deepest token at or below the node. */
  readonly deepest: Uint16Array;
  /** Kinds of the bytes below the node; see `trie-contents.ts`. */
  readonly below: Int32Array;
  /** All tokens in the order of their nodes, and by node (and after the last) the place of the first at or below it. */
  readonly order: Int32Array;
  readonly firstToken: Int32Array;
  /** By first byte: the node, or -1. */
  readonly first: Int32Array;
  /** By first byte << 8 | second byte: the node, or -1. */
  readonly second: Int32Array;
}

/** The child of `node` (-1 for the root) with that byte, or -1. */
export function childOf(trie: TokenTrie, node: number, byte: number): number {
  if (node < 0) return trie.first[byte] as number;
  const { label, skip } = trie;
  const depth = (label[node] as number) >> 8;
  if (depth === 1) return trie.second[(((label[node] as number) & 255) << 8) | byte] as number;
  const end = skip[node] as number;
  const wanted = ((depth + 1) << 8) | byte;
  for (let child = node + 1; child < end; child = skip[child] as number) {
    const found = label[child] as number;
    if (found >= wanted) return found === wanted ? child : -1;
  }
  return -1;
}

/** All of a vocabulary as plain data and typed arrays, to be kept from one start to the next. */
export interface VocabularyData {
  readonly vocabSize: number;
  readonly eosTokenIds: readonly number[];
  readonly ordinary: Uint8Array;
  readonly bytes: Uint8Array;
  readonly starts: Int32Array;
  readonly longestToken: number;
  readonly duplicates: Int32Array;
  readonly safeMasks: readonly Int32Array[];
  readonly trie: TokenTrie;
  readonly unsafeTrie: TokenTrie;
}

export class Vocabulary {
  readonly vocabSize: number;
  /** 32-bit words in a mask: bit `id & 31` of word `id >> 5`. */
  readonly maskWords: number;
  readonly eosTokenIds: readonly number[];
  /** Every ordinary token. */
  readonly trie: TokenTrie;
  /** Ordinary tokens that are not whole runs of JSON-safe characters: the ones a string interior must look at. */
  readonly unsafeTrie: TokenTrie;
  /** Longest token in bytes. */
  readonly longestToken: number;
  /** Flat pairs (first id, other id) of ids that stand for the same bytes. */
  readonly duplicates: Int32Array;
  /** Marks ids that stand for text (not special, not padding). */
  readonly ordinary: Uint8Array;
  /** Bytes of all ordinary tokens in a row; those of id are [#starts[id], #starts[id + 1]). One object, whatever the size. */
  readonly #bytes: Uint8Array;
  readonly #starts: Int32Array;
  /** By length in characters. */
  readonly #safeMasks: readonly Int32Array[];
  #blanks: Int32Array | undefined;

  /** @param source a tokenizer, or what {@link data} gave for it */
  constructor(source: TokenSource | VocabularyData) {
    this.vocabSize = source.vocabSize;
    this.maskWords = (source.vocabSize + 31) >> 5;
    if ("trie" in source) {
      this.eosTokenIds = source.eosTokenIds;
      this.ordinary = source.ordinary;
      this.#bytes = source.bytes;
      this.#starts = source.starts;
      this.longestToken = source.longestToken;
      this.duplicates = source.duplicates;
      this.#safeMasks = source.safeMasks;
      this.trie = source.trie;
      this.unsafeTrie = source.unsafeTrie;
      return;
    }
    this.eosTokenIds = [...new Set(source.eosTokenIds)].filter((id) => id >= 0 && id < source.vocabSize);
    this.ordinary = new Uint8Array(source.vocabSize);
    this.#starts = new Int32Array(source.vocabSize + 1);
    const ends = new Set(this.eosTokenIds);
    const ids: number[] = [];
    let all = new Uint8Array(8 * source.vocabSize);
    let size = 0;
    let longest = 0;
    for (let id = 0; id < source.vocabSize; id++) {
      this.#starts[id] = size;
      if (source.isSpecial(id) || ends.has(id)) continue;
      const bytes = source.tokenBytes(id);
      if (bytes.length === 0) continue;
      if (size + bytes.length > all.length) {
        const grown = new Uint8Array(2 * (size + bytes.length));
        grown.set(all);
        all = grown;
      }
      all.set(bytes, size);
      size += bytes.length;
      this.ordinary[id] = 1;
      if (bytes.length > longest) longest = bytes.length;
      ids.push(id);
    }
    this.#starts[source.vocabSize] = size;
    this.#bytes = all.slice(0, size);
    this.longestToken = longest;
    const sorted = this.#sort(ids);
    const duplicates: number[] = [];
    const unique: number[] = [];
    for (const id of sorted) {
      const last = unique[unique.length - 1];
      if (last !== undefined && sameBytes(this.bytesOf(last), this.bytesOf(id))) duplicates.push(last, id);
      else unique.push(id);
    }
    this.duplicates = Int32Array.from(duplicates);
    const lengths = new Int32Array(source.vocabSize).fill(-1);
    for (const id of unique) lengths[id] = safeLength(this.bytesOf(id));
    this.#safeMasks = this.#makeSafeMasks(unique, lengths);
    this.trie = this.#build(unique);
    this.unsafeTrie = this.#build(unique.filter((id) => (lengths[id] as number) < 0));
  }

  get data(): VocabularyData {
    const { vocabSize, eosTokenIds, ordinary, longestToken, duplicates, trie, unsafeTrie } = this;
    const [bytes, starts, safeMasks] = [this.#bytes, this.#starts, this.#safeMasks];
    return { vocabSize, eosTokenIds, ordinary, bytes, starts, longestToken, duplicates, safeMasks, trie, unsafeTrie };
  }

  /** UTF-8 bytes of an ordinary token; empty for special and padding ids. */
  bytesOf(id: number): Uint8Array {
    return this.#bytes.subarray(this.#starts[id], this.#starts[id + 1]);
  }

  /** Tokens of nothing but white space. */
  get blanks(): Int32Array {
    this.#blanks ??= this.#makeBlanks();
    return this.#blanks;
  }

  isBlank(id: number): boolean {
    return (((this.blanks[id >> 5] as number) >>> (id & 31)) & 1) !== 0;
  }

  #makeBlanks(): Int32Array {
    const mask = new Int32Array(this.maskWords);
    for (let id = 0; id < this.vocabSize; id++) {
      if (
        this.ordinary[id] === 1 &&
        this.bytesOf(id).every((b) => b === 0x20 || b === 0x09 || b === 0x0a || b === 0x0d)
      )
        mask[id >> 5] = (mask[id >> 5] as number) | (1 << (id & 31));
    }
    return mask;
  }

  /** Tokens that are whole runs of at most `length` JSON-safe characters; shared, not to be written to. */
  safeMask(length: number): Int32Array {
    return this.#safeMasks[Math.min(length, this.#safeMasks.length - 1)] as Int32Array;
  }

  /** @param lengths of safe tokens in characters, -1 for others. One mask for each length up to the longest. */
  #makeSafeMasks(ids: ArrayLike<number>, lengths: Int32Array): Int32Array[] {
    const buckets: number[][] = [[]];
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i] as number;
      const length = lengths[id] as number;
      if (length < 0) continue;
      while (buckets.length <= length) buckets.push([]);
      (buckets[length] as number[]).push(id);
    }
    const masks: Int32Array[] = [];
    let mask = new Int32Array(this.maskWords);
    for (const bucket of buckets) {
      mask = mask.slice();
      for (const id of bucket) mask[id >> 5] = (mask[id >> 5] as number) | (1 << (id & 31));
      masks.push(mask);
    }
    return masks;
  }

  /** Ids by bytes, then by id. Sorts on the first six bytes packed into a number and falls back to comparing. */
  #sort(ids: readonly number[]): Int32Array {
    const keys = new Float64Array(this.vocabSize);
    for (const id of ids) {
      const bytes = this.bytesOf(id);
      let key = 0;
      for (let i = 0; i < 6; i++) key = key * 257 + (i < bytes.length ? (bytes[i] as number) + 1 : 0);
      keys[id] = key;
    }
    return Int32Array.from(ids).sort((a, b) => {
      const byKey = (keys[a] as number) - (keys[b] as number);
      if (byKey !== 0) return byKey;
      const left = this.bytesOf(a);
      const right = this.bytesOf(b);
      for (let i = 6; i < Math.min(left.length, right.length); i++) {
        const d = (left[i] as number) - (right[i] as number);
        if (d !== 0) return d;
      }
      return left.length - right.length || a - b;
    });
  }

  /** @param ids sorted by bytes, no two alike. */
  #build(ids: ArrayLike<number>): TokenTrie {
    let size = 0;
    let previous: Uint8Array = NO_BYTES;
    for (let k = 0; k < ids.length; k++) {
      const bytes = this.bytesOf(ids[k] as number);
      size += bytes.length - commonPrefix(previous, bytes);
      previous = bytes;
    }
    const label = new Int32Array(size);
    const skip = new Int32Array(size);
    const token = new Int32Array(size).fill(-1);
    const path = new Int32Array(this.longestToken + 1);
    let depth = 0;
    let node = 0;
    previous = NO_BYTES;
    for (let k = 0; k < ids.length; k++) {
      const id = ids[k] as number;
      const bytes = this.bytesOf(id);
      const shared = commonPrefix(previous, bytes);
      for (; depth > shared; depth--) skip[path[depth] as number] = node;
      while (depth < bytes.length) {
        const byte = bytes[depth++] as number;
        label[node] = (depth << 8) | byte;
        path[depth] = node++;
      }
      token[node - 1] = id;
      previous = bytes;
    }
    for (; depth > 0; depth--) skip[path[depth] as number] = node;
    const deepest = new Uint16Array(size);
    for (let i = size - 1; i >= 0; i--) {
      let most = (label[i] as number) >> 8;
      for (let k = i + 1; k < (skip[i] as number); k = skip[k] as number) most = Math.max(most, deepest[k] as number);
      deepest[i] = most;
    }
    const first = new Int32Array(256).fill(-1);
    const second = new Int32Array(65_536).fill(-1);
    for (let i = 0; i < size; i = skip[i] as number) {
      const byte = (label[i] as number) & 255;
      first[byte] = i;
      for (let k = i + 1; k < (skip[i] as number); k = skip[k] as number) {
        second[(byte << 8) | ((label[k] as number) & 255)] = k;
      }
    }
    const firstToken = new Int32Array(size + 1);
    for (let i = 0; i < size; i++) firstToken[i + 1] = (firstToken[i] as number) + ((token[i] as number) >= 0 ? 1 : 0);
    const order = Int32Array.from(ids);
    const below = kindsBelow(label, skip, size, this.longestToken);
    return { size, label, skip, token, maxDepth: this.longestToken, deepest, below, order, firstToken, first, second };
  }
}

const NO_BYTES: Uint8Array = new Uint8Array(0);

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && commonPrefix(a, b) === a.length;
}

function commonPrefix(a: Uint8Array, b: Uint8Array): number {
  const n = Math.min(a.length, b.length);
  let i = 0;
  while (i < n && a[i] === b[i]) i++;
  return i;
}

/** Code points of a run of JSON-safe characters (no quote, backslash or control), or -1 when it is not one. */
function safeLength(bytes: Uint8Array): number {
  let count = 0;
  for (let i = 0; i < bytes.length; ) {
    const size = characterSize(bytes, i);
    if (size === 0) return -1;
    i += size;
    count++;
  }
  return count;
}

/** Bytes of the JSON-safe character at `i`, or 0 when there is none: well-formed UTF-8 only. */
function characterSize(bytes: Uint8Array, i: number): number {
  const lead = bytes[i] as number;
  if (lead < 0x80) return lead < 0x20 || lead === 0x22 || lead === 0x5c ? 0 : 1;
  const size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || i + size > bytes.length) return 0;
  for (let k = 1; k < size; k++) if (((bytes[i + k] as number) & 0xc0) !== 0x80) return 0;
  const second = bytes[i + 1] as number;
  if (lead === 0xe0 && second < 0xa0) return 0;
  if (lead === 0xed && second > 0x9f) return 0;
  if (lead === 0xf0 && second < 0x90) return 0;
  if (lead === 0xf4 && second > 0x8f) return 0;
  return size;
}
