/**
 * Which pages of the KV pool are free. A page holds the keys and values of `pageSize` consecutive positions of one
 * token sequence, for all layers; the bytes themselves live natively.
 *
 * Low page ids are handed out first and reused first, so an idle engine touches as little memory as possible.
 * Freeing a page that is free is a bug of the caller and throws at once: silently shared pages would corrupt answers.
 */
export class KvPool {
  readonly pages: number;
  readonly pageSize: number;
  /** Stack of free page ids; the top is the next to go. */
  readonly #free: Int32Array;
  #freeCount: number;
  readonly #isFree: Uint8Array;

  constructor(pages: number, pageSize: number) {
    this.pages = pages;
    this.pageSize = pageSize;
    this.#free = new Int32Array(pages);
    for (let i = 0; i < pages; i++) this.#free[i] = pages - 1 - i;
    this.#freeCount = pages;
    this.#isFree = new Uint8Array(pages).fill(1);
  }

  get freePages(): number {
    return this.#freeCount;
  }

  /** Tokens that fit when nothing else is in the pool. */
  get capacity(): number {
    return this.pages * this.pageSize;
  }

  /** Pages that `tokens` tokens take. */
  pagesFor(tokens: number): number {
    return Math.ceil(tokens / this.pageSize);
  }

  /** Takes `count` pages and appends them to `table`; false (and nothing taken) when fewer are free. */
  allocate(count: number, table: number[]): boolean {
    if (count > this.#freeCount) return false;
    for (let i = 0; i < count; i++) {
      const page = this.#free[--this.#freeCount];
      this.#isFree[page] = 0;
      table.push(page);
    }
    return true;
  }

  free(page: number): void {
    if (this.#isFree[page] !== 0) throw new Error(`KV page ${page} was freed twice or does not exist.`);
    this.#isFree[page] = 1;
    this.#free[this.#freeCount++] = page;
  }
}
