/**
 * One mask being put together, and the pool of masks that were. Most masks are a few tokens beside a mask known for a
 * lexeme, or nothing but a few tokens; both are recognised again by what they were made of, without looking at all words.
 */

/** Distinct masks are kept up to so many bytes; then all are forgotten. */
const MAX_BYTES = 128 * 1024 * 1024;
/** Tokens added one by one that are written down. */
const MAX_ADDED = 512;

/** Tokens as a mask, with its hash: see {@link hashOf}. */
export interface DenseMask {
  readonly words: Int32Array;
  readonly hash: number;
}

interface Pooled {
  readonly mask: Int32Array;
  /** The mask it began as, if it began as one. */
  readonly base: Int32Array | undefined;
  /** Tokens added to that, in the order they were added; undefined when that is not all. */
  readonly added: Int32Array | undefined;
}

/**
 * The sum of all words, each times an odd number of its own, modulo 2^32: bits can be added to a mask and its hash alike.
 */
export function hashOf(words: Int32Array): number {
  let hash = 0;
  for (let i = 0; i < words.length; i++) hash = (hash + Math.imul(words[i] as number, factor(i))) | 0;
  return hash;
}

function factor(word: number): number {
  return Math.imul(word + 1, 0x9e3779b0) | 1;
}

export class MaskPool {
  readonly #byHash = new Map<number, Pooled[]>();
  #builder: MaskBuilder | undefined;
  #count = 0;
  #bytes = 0;

  /** Distinct masks held. */
  get size(): number {
    return this.#count;
  }

  /** An empty mask to put together; the one before is over. */
  begin(words: number): MaskBuilder {
    if (this.#builder?.words.length !== words) this.#builder = new MaskBuilder(words);
    this.#builder.clear();
    return this.#builder;
  }

  /** The pooled mask with this content; `mask` itself becomes it when new. */
  intern(mask: Int32Array): Int32Array {
    return this.find(hashOf(mask), mask, mask, undefined, undefined);
  }

  /**
   * The pooled mask with the content of `words`; `own` or a copy of `words` becomes it when new.
   * @param base what the mask began as, and `added` what was added to it, if that is known.
   */
  find(
    hash: number,
    words: Int32Array,
    own: Int32Array | undefined,
    base: Int32Array | undefined,
    added: Int32Array | undefined,
  ): Int32Array {
    let bucket = this.#byHash.get(hash);
    if (bucket === undefined) {
      bucket = [];
      this.#byHash.set(hash, bucket);
    } else {
      for (const known of bucket) {
        if (added !== undefined && known.added !== undefined && base === known.base && sameWords(added, known.added))
          return known.mask;
      }
      for (const known of bucket) if (sameWords(known.mask, words)) return known.mask;
    }
    const mask = own ?? words.slice();
    bucket.push({ mask, base, added: added?.slice() });
    this.#count++;
    this.#bytes += 4 * mask.length;
    if (this.#bytes > MAX_BYTES) this.clear();
    return mask;
  }

  clear(): void {
    this.#byHash.clear();
    this.#count = 0;
    this.#bytes = 0;
  }
}

export class MaskBuilder {
  /** The mask so far. Not to be written to. */
  readonly words: Int32Array;
  readonly #added = new Int32Array(MAX_ADDED);
  #base: Int32Array | undefined;
  #count = 0;
  #hash = 0;
  #empty = true;

  /** @param words 32-bit words of a mask. */
  constructor(words: number) {
    this.words = new Int32Array(words);
  }

  clear(): void {
    this.words.fill(0);
    this.#base = undefined;
    this.#count = 0;
    this.#hash = 0;
    this.#empty = true;
  }

  add(id: number): void {
    const at = id >> 5;
    const bit = 1 << (id & 31);
    const word = this.words[at] as number;
    if ((word & bit) !== 0) return;
    this.words[at] = word | bit;
    this.#hash = (this.#hash + Math.imul(bit, factor(at))) | 0;
    if (this.#count < MAX_ADDED) this.#added[this.#count] = id;
    this.#count++;
    this.#empty = false;
  }

  addList(ids: Int32Array): void {
    for (let i = 0; i < ids.length; i++) this.add(ids[i] as number);
  }

  addMask(mask: DenseMask): void {
    const from = mask.words;
    if (this.#empty) {
      this.words.set(from);
      this.#base = from;
      this.#hash = mask.hash;
      this.#empty = false;
      return;
    }
    if (this.#base === from) return;
    const { words } = this;
    let hash = this.#hash;
    for (let i = 0; i < words.length; i++) {
      const old = words[i] as number;
      const more = (from[i] as number) & ~old;
      if (more === 0) continue;
      words[i] = old | more;
      hash = (hash + Math.imul(more, factor(i))) | 0;
    }
    this.#hash = hash;
    this.#count = MAX_ADDED + 1;
  }

  /** The mask as `pool` keeps it. */
  finish(pool: MaskPool): Int32Array {
    const added = this.#count <= MAX_ADDED ? this.#added.subarray(0, this.#count) : undefined;
    return pool.find(this.#hash, this.words, undefined, this.#base, added);
  }
}

function sameWords(a: Int32Array, b: Int32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
