/**
 * Growable lists over typed arrays, emptied and refilled every step: after the first steps nothing is allocated but the
 * small views that `view()` hands to native code.
 */
type Elements = Int32Array | Uint32Array | Float32Array;

export class TypedList<A extends Elements> {
  #array: A;
  #length = 0;
  readonly #make: (length: number) => A;

  constructor(make: (length: number) => A, capacity = 64) {
    this.#make = make;
    this.#array = make(capacity);
  }

  get length(): number {
    return this.#length;
  }

  clear(): void {
    this.#length = 0;
  }

  push(value: number): void {
    if (this.#length === this.#array.length) this.#reserve(this.#length + 1);
    this.#array[this.#length++] = value;
  }

  /** Adds `values[from, to)`. Typed arrays are copied as blocks: with penalties on long prompts this is most of a step's filling. */
  append(values: readonly number[] | Elements, from = 0, to = values.length): void {
    this.#reserve(this.#length + to - from);
    if (Array.isArray(values)) {
      for (let i = from; i < to; i++) this.#array[this.#length++] = values[i];
      return;
    }
    this.#array.set((values as Elements).subarray(from, to), this.#length);
    this.#length += to - from;
  }

  /** The elements so far. Valid until the list grows or is refilled. */
  view(): A {
    return this.#array.subarray(0, this.#length) as A;
  }

  #reserve(length: number): void {
    if (length <= this.#array.length) return;
    const grown = this.#make(Math.max(length, this.#array.length * 2));
    grown.set(this.#array);
    this.#array = grown;
  }
}

export const int32List = (capacity?: number) => new TypedList((n) => new Int32Array(n), capacity);
export const uint32List = (capacity?: number) => new TypedList((n) => new Uint32Array(n), capacity);
export const float32List = (capacity?: number) => new TypedList((n) => new Float32Array(n), capacity);
