/**
 * Where a string stands in a long list: open addressing over indices. A Map of 150,000 entries holds a key, a value and a
 * hash for each, and the keys must be strings of their own; here the list itself holds them.
 */
export class StringTable {
  readonly #hash: (index: number) => number;
  /** Index + 1 by slot, 0 = free. A power of two slots, at least twice as many as entries. */
  readonly #slots: Int32Array;
  #size = 0;

  /**
   * @param entries most entries there will be
   * @param hash of the entry at an index: {@link hashOf} of its text
   */
  constructor(entries: number, hash: (index: number) => number) {
    this.#hash = hash;
    this.#slots = new Int32Array(1 << Math.max(4, 33 - Math.clz32(entries)));
  }

  get size(): number {
    return this.#size;
  }

  /** The index among those added of which `is` holds; -1 when there is none. @param hash of the text that is looked for */
  find(hash: number, is: (index: number) => boolean): number {
    const slots = this.#slots;
    const last = slots.length - 1;
    for (let at = hash & last; ; at = (at + 1) & last) {
      const index = (slots[at] as number) - 1;
      if (index < 0 || is(index)) return index;
    }
  }

  /** Adds an index. Of equal entries the one added first is found. */
  add(index: number): void {
    const slots = this.#slots;
    const last = slots.length - 1;
    let at = this.#hash(index) & last;
    while (slots[at] !== 0) at = (at + 1) & last;
    slots[at] = index + 1;
    this.#size++;
  }
}

/** FNV-1a over UTF-16 units. */
export function hashOf(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  // The low bits choose the slot: bring the high ones down.
  return (h ^ (h >>> 15)) >>> 0;
}
