/**
 * Bytes partitioned by behaviour: what tells bytes apart in one state of an automaton. Few partitions come up again and
 * again, so each is made once, and the common refinement of two is looked up.
 */

/** A partition: the members of each class, one of each, and the class of each byte. Classes are numbered by their first byte. */
export interface ByteClasses {
  readonly id: number;
  readonly bytes: Uint8Array;
  readonly members: readonly Uint8Array[];
  readonly of: Uint8Array;
}

/** Above every id. */
const PAIR = 2 ** 26;

export class ByteClassTable {
  readonly #byHash = new Map<number, ByteClasses[]>();
  readonly #meets = new Map<number, ByteClasses>();
  readonly #singles: ByteClasses[] = [];
  #count = 0;
  /** Scratch: a label for each byte, below 65,536; bytes with the same label are alike. */
  readonly #labels = new Int32Array(256);
  /** Scratch: the number of each label, and the labels numbered. */
  readonly #numbers = new Int16Array(65_536).fill(-1);
  readonly #numbered = new Int32Array(256);
  /** All bytes are alike. */
  readonly whole: ByteClasses;

  constructor() {
    this.whole = this.#intern();
  }

  /** Bytes in a set (256 bits from `start` on) and the others. */
  ofSet(words: Int32Array, start: number): ByteClasses {
    const labels = this.#labels;
    for (let byte = 0; byte < 256; byte++) labels[byte] = ((words[start + (byte >> 5)] as number) >>> (byte & 31)) & 1;
    return this.#intern();
  }

  /** One byte, and all others. */
  ofSingle(byte: number): ByteClasses {
    this.#singles[byte] ??= this.ofSingles([byte]);
    return this.#singles[byte];
  }

  /** Each of these bytes by itself, and all others. */
  ofSingles(bytes: Iterable<number>): ByteClasses {
    const labels = this.#labels.fill(0);
    for (const byte of bytes) labels[byte] = byte + 1;
    return this.#intern();
  }

  /** The coarsest partition that is finer than both. */
  meet(a: ByteClasses, b: ByteClasses): ByteClasses {
    if (a === b || b === this.whole) return a;
    if (a === this.whole) return b;
    const key = Math.min(a.id, b.id) * PAIR + Math.max(a.id, b.id);
    let known = this.#meets.get(key);
    if (known === undefined) {
      const labels = this.#labels;
      for (let byte = 0; byte < 256; byte++) labels[byte] = ((a.of[byte] as number) << 8) | (b.of[byte] as number);
      known = this.#intern();
      this.#meets.set(key, known);
    }
    return known;
  }

  /** The partition by labels. */
  #intern(): ByteClasses {
    const labels = this.#labels;
    const numbers = this.#numbers;
    const numbered = this.#numbered;
    let count = 0;
    let hash = 0;
    for (let byte = 0; byte < 256; byte++) {
      const label = labels[byte] as number;
      let number = numbers[label] as number;
      if (number < 0) {
        number = count++;
        numbers[label] = number;
        numbered[number] = label;
      }
      labels[byte] = number;
      hash = Math.imul(hash ^ number, 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    for (let i = 0; i < count; i++) numbers[numbered[i] as number] = -1;
    const bucket = this.#byHash.get(hash);
    for (const known of bucket ?? []) if (sameNumbers(known.of, labels)) return known;
    const of = Uint8Array.from(labels);
    const members: number[][] = Array.from({ length: count }, () => []);
    for (let byte = 0; byte < 256; byte++) (members[of[byte] as number] as number[]).push(byte);
    const lists = members.map((list) => Uint8Array.from(list));
    const bytes = Uint8Array.from(lists, (list) => list[0] as number);
    const made = { id: this.#count++, bytes, members: lists, of };
    if (bucket === undefined) this.#byHash.set(hash, [made]);
    else bucket.push(made);
    return made;
  }
}

function sameNumbers(a: Uint8Array, b: Int32Array): boolean {
  for (let i = 0; i < 256; i++) if (a[i] !== b[i]) return false;
  return true;
}
