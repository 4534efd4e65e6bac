/**
 * Interns short records of 32-bit integers: equal records get equal ids, ids count up from 0.
 * The hash-consing under lexemes, frames and configurations; open addressing over typed arrays, no per-record objects.
 */
export class RecordTable {
  /** All records, one after the other. Read through {@link start} and {@link end}. */
  pool: Int32Array = new Int32Array(1024);
  #starts: Int32Array = new Int32Array(256);
  #slots: Int32Array = new Int32Array(512).fill(-1);
  #hashes: Int32Array = new Int32Array(256);
  #count = 0;

  /** Number of distinct records. */
  get size(): number {
    return this.#count;
  }

  start(id: number): number {
    return this.#starts[id] as number;
  }

  end(id: number): number {
    return this.#starts[id + 1] as number;
  }

  /** Id of the record in `values[0..length)`, made if new: compare {@link size} before and after to know. */
  intern(values: ArrayLike<number>, length: number = values.length): number {
    let hash = length | 0;
    for (let i = 0; i < length; i++) {
      hash = Math.imul(hash ^ (values[i] as number), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    const mask = this.#slots.length - 1;
    let slot = (hash ^ (hash >>> 7)) & mask;
    for (;;) {
      const id = this.#slots[slot] as number;
      if (id < 0) break;
      if (this.#hashes[id] === hash && this.#equals(id, values, length)) return id;
      slot = (slot + 1) & mask;
    }
    return this.#insert(slot, hash, values, length);
  }

  #equals(id: number, values: ArrayLike<number>, length: number): boolean {
    const start = this.#starts[id] as number;
    if ((this.#starts[id + 1] as number) - start !== length) return false;
    for (let i = 0; i < length; i++) if (this.pool[start + i] !== values[i]) return false;
    return true;
  }

  #insert(slot: number, hash: number, values: ArrayLike<number>, length: number): number {
    const id = this.#count++;
    if (id + 2 > this.#starts.length) {
      this.#starts = grown(this.#starts);
      this.#hashes = grown(this.#hashes);
    }
    const start = this.#starts[id] as number;
    while (start + length > this.pool.length) this.pool = grown(this.pool);
    for (let i = 0; i < length; i++) this.pool[start + i] = values[i] as number;
    this.#starts[id + 1] = start + length;
    this.#hashes[id] = hash;
    this.#slots[slot] = id;
    if (this.#count * 2 > this.#slots.length) this.#rehash();
    return id;
  }

  #rehash(): void {
    const slots = new Int32Array(this.#slots.length * 2).fill(-1);
    const mask = slots.length - 1;
    for (let id = 0; id < this.#count; id++) {
      const hash = this.#hashes[id] as number;
      let slot = (hash ^ (hash >>> 7)) & mask;
      while ((slots[slot] as number) >= 0) slot = (slot + 1) & mask;
      slots[slot] = id;
    }
    this.#slots = slots;
  }
}

function grown(array: Int32Array): Int32Array {
  const out = new Int32Array(array.length * 2);
  out.set(array);
  return out;
}
