/**
 * Transitions of states that are visited: a memo. One growing array instead of one small array per state, which would
 * cost more to allocate than to fill. When it is full everything is forgotten.
 */
export class RowTable {
  /** All rows; replaced when it grows. */
  table: Int32Array;
  #offsets: Int32Array = new Int32Array(64).fill(-1);
  #used = 0;
  readonly #maxSize: number;
  /** How often everything was forgotten. Until it changes, offsets stay what they are. */
  resets = 0;

  /** @param maxSize entries of all rows together. */
  constructor(maxSize: number, firstSize = 4_096) {
    this.#maxSize = maxSize;
    this.table = new Int32Array(firstSize);
  }

  /** Where the row of `state` begins, or -1 when it has none. */
  offset(state: number): number {
    return state < this.#offsets.length ? (this.#offsets[state] as number) : -1;
  }

  /** A row for `state`, all `value`. `table` read before is no longer to be used, nor offsets when {@link resets} has changed. @returns its offset. */
  add(state: number, width: number, value: number): number {
    if (this.#used + width > this.#maxSize) {
      this.#offsets.fill(-1);
      this.#used = 0;
      this.resets++;
    }
    if (state >= this.#offsets.length) {
      const offsets = new Int32Array(Math.max(2 * this.#offsets.length, state + 1)).fill(-1);
      offsets.set(this.#offsets);
      this.#offsets = offsets;
    }
    const offset = this.#used;
    this.#used += width;
    if (this.#used > this.table.length) {
      const table = new Int32Array(Math.max(2 * this.table.length, this.#used));
      table.set(this.table);
      this.table = table;
    }
    this.table.fill(value, offset, this.#used);
    this.#offsets[state] = offset;
    return offset;
  }
}
