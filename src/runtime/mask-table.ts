/**
 * Vocabulary masks by number. A mask is uploaded the first time it is asked for and goes by its index from then on: grammars
 * hand out the same object for the same situation, so nothing of vocabulary size is copied in most steps.
 *
 * The least recently used entry is overwritten when the table is full. Steps that were queued before keep their mask: the
 * native table shares it with them.
 */

/** One bit per id, id & 31 of word id >> 5; 1 = allowed. Must not change once it was handed out. */
export type TokenMask = Int32Array | Uint32Array;

/** 1,024 masks of a vocabulary of 150,000 are 20 MB. */
const CAPACITY = 1024;

export class MaskTable {
  readonly #upload: (index: number, mask: Uint32Array) => void;
  readonly #capacity: number;
  /** Least recently used first. */
  readonly #indices = new Map<TokenMask, number>();

  constructor(upload: (index: number, mask: Uint32Array) => void, capacity = CAPACITY) {
    this.#upload = upload;
    this.#capacity = capacity;
  }

  /** The mask's entry in the native table. */
  index(mask: TokenMask): number {
    const known = this.#indices.get(mask);
    if (known !== undefined) {
      this.#indices.delete(mask);
      this.#indices.set(mask, known);
      return known;
    }
    let index = this.#indices.size;
    if (index === this.#capacity) {
      const [oldest, freed] = this.#indices.entries().next().value as [TokenMask, number];
      this.#indices.delete(oldest);
      index = freed;
    }
    this.#upload(index, new Uint32Array(mask.buffer, mask.byteOffset, mask.length));
    this.#indices.set(mask, index);
    return index;
  }
}
