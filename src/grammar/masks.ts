/**
 * Token masks: which tokens may come next in a configuration. Exact by construction: bit `t` is set exactly when reading
 * the bytes of token `t` leads to a live configuration, and live configurations can be completed.
 *
 * A mask is found by walking the token trie along the automaton. Inside JSON strings most tokens are runs of harmless
 * characters; where the automaton knows that all of them survive, their precomputed mask is copied and only the rest of
 * the vocabulary is walked. Masks are remembered per configuration and interned by content: a runtime can keep each
 * distinct mask once and refer to it by number.
 */
import { type Automaton, DEAD } from "./automaton.js";
import type { TokenTrie, Vocabulary } from "./vocabulary.js";

/** Distinct masks kept before all are forgotten. */
const MAX_MASKS = 4_096;

export class MaskPool {
  readonly #byHash = new Map<number, Int32Array[]>();
  #count = 0;

  /** Distinct masks held. */
  get size(): number {
    return this.#count;
  }

  /** The pooled mask with this content; `mask` itself becomes it when new. */
  intern(mask: Int32Array): Int32Array {
    let hash = 0;
    for (let i = 0; i < mask.length; i++) hash = (Math.imul(hash, 31) + (mask[i] as number)) | 0;
    const bucket = this.#byHash.get(hash);
    if (bucket === undefined) this.#byHash.set(hash, [mask]);
    else {
      for (const candidate of bucket) if (equalWords(candidate, mask)) return candidate;
      bucket.push(mask);
    }
    if (++this.#count > MAX_MASKS) this.clear();
    return mask;
  }

  clear(): void {
    this.#byHash.clear();
    this.#count = 0;
  }
}

export class Masks {
  readonly vocabulary: Vocabulary;
  readonly automaton: Automaton;
  readonly #pool: MaskPool;
  readonly #masks = new Map<number, Int32Array>();
  readonly #path: Int32Array;
  readonly #endMask: Int32Array;

  constructor(vocabulary: Vocabulary, automaton: Automaton, pool: MaskPool = new MaskPool()) {
    this.vocabulary = vocabulary;
    this.automaton = automaton;
    this.#pool = pool;
    this.#path = new Int32Array(vocabulary.longestToken + 1);
    this.#endMask = new Int32Array(vocabulary.maskWords);
    for (const id of vocabulary.eosTokenIds) set(this.#endMask, id);
  }

  /** The mask that allows end tokens only. Shared, not to be written to. */
  get end(): Int32Array {
    return this.#endMask;
  }

  /** Tokens allowed next, end tokens included where the text may end. Shared, not to be written to. */
  of(configuration: number): Int32Array {
    const known = this.#masks.get(configuration);
    if (known !== undefined) return known;
    const mask = this.#pool.intern(this.compute(configuration));
    if (this.#masks.size >= MAX_MASKS) this.#masks.clear();
    this.#masks.set(configuration, mask);
    return mask;
  }

  /** The same without any memo of masks. */
  compute(configuration: number): Int32Array {
    const { vocabulary, automaton } = this;
    const slice = vocabulary.slice(automaton.safeReach(configuration));
    const mask = slice > 0 ? vocabulary.safeMask(slice).slice() : new Int32Array(vocabulary.maskWords);
    if (automaton.continues(configuration)) {
      this.#walk(configuration, slice > 0 ? vocabulary.restTrie(slice) : vocabulary.trie, mask);
    }
    const { duplicates } = vocabulary;
    for (let i = 0; i < duplicates.length; i += 2) {
      if (has(mask, duplicates[i] as number)) set(mask, duplicates[i + 1] as number);
    }
    if (automaton.accepts(configuration)) for (const id of vocabulary.eosTokenIds) set(mask, id);
    return mask;
  }

  #walk(configuration: number, trie: TokenTrie, mask: Int32Array): void {
    const { automaton } = this;
    const { rows } = automaton;
    const { label, skip, token, size } = trie;
    const path = this.#path;
    path[0] = configuration;
    for (let i = 0; i < size; ) {
      const tag = label[i] as number;
      const depth = tag >> 8;
      const from = path[depth - 1] as number;
      const row = rows[from];
      let to = row === undefined ? -1 : (row[tag & 255] as number);
      if (to < 0) to = automaton.next(from, tag & 255);
      if (to === DEAD) {
        i = skip[i] as number;
        continue;
      }
      path[depth] = to;
      const id = token[i] as number;
      if (id >= 0) mask[id >> 5] = (mask[id >> 5] as number) | (1 << (id & 31));
      i++;
    }
  }
}

/** Whether token `id` is allowed. */
export function has(mask: Int32Array | Uint32Array, id: number): boolean {
  return (((mask[id >> 5] as number) >>> (id & 31)) & 1) !== 0;
}

function set(mask: Int32Array, id: number): void {
  mask[id >> 5] = (mask[id >> 5] as number) | (1 << (id & 31));
}

function equalWords(a: Int32Array, b: Int32Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}
