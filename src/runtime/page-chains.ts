/**
 * What the radix tree keeps per page, in flat arrays indexed by page id: the page's token ids, and the page that follows it
 * in its node. A node is then three numbers (first page, last page, how many), splitting one copies nothing, and a cached
 * token costs its id and 1 / pageSize of a page id, each in 2 to 4 bytes (packed-ints.ts), plus its share of its node.
 */
import { PackedInts } from "./packed-ints.js";

export class PageChains {
  readonly pageSize: number;
  readonly #ids: PackedInts;
  readonly #next: PackedInts;

  /** @param pages page ids below this need no growing later */
  constructor(pageSize: number, pages: number) {
    this.pageSize = pageSize;
    this.#ids = new PackedInts(pages * pageSize);
    this.#next = new PackedInts(pages);
  }

  /** Bytes of the arrays. */
  get bytes(): number {
    return this.#ids.bytes + this.#next.bytes;
  }

  /** Page that follows `page` in its node; meaningless for a node's last page. */
  next(page: number): number {
    return this.#next.get(page);
  }

  /** Makes one chain of pages[from, to), which hold the ids from `from * pageSize` on. */
  write(pages: readonly number[], from: number, to: number, ids: Int32Array): void {
    const { pageSize } = this;
    let last = -1;
    for (let i = from; i < to; i++) if (pages[i] > last) last = pages[i];
    if (last >= this.#next.length) this.#grow(last + 1);
    // Once, so that the loops below need not ask.
    this.#next.widen(last);
    let widest = 0;
    for (let i = from * pageSize; i < to * pageSize; i++) widest |= ids[i];
    this.#ids.widen(widest);
    const { low: nextLow, high: nextHigh } = this.#next;
    const { low, high } = this.#ids;
    for (let i = from; i < to; i++) {
      const own = pages[i] * pageSize;
      const at = i * pageSize;
      for (let k = 0; k < pageSize; k++) low[own + k] = ids[at + k];
      if (high !== null) for (let k = 0; k < pageSize; k++) high[own + k] = ids[at + k] >>> 16;
      if (i === from) continue;
      nextLow[pages[i - 1]] = pages[i];
      if (nextHigh !== null) nextHigh[pages[i - 1]] = pages[i] >>> 16;
    }
  }

  /** Does the page hold exactly ids[at, at + pageSize)? */
  holds(page: number, ids: Int32Array, at: number): boolean {
    const { pageSize } = this;
    if (at + pageSize > ids.length) return false;
    const own = page * pageSize;
    for (let i = 0; i < pageSize; i++) if (this.#ids.get(own + i) !== ids[at + i]) return false;
    return true;
  }

  /**
   * Follows the chain from `page`, whose ids are ids[at - pageSize, at), as long as `ids` goes on like it, for `limit` pages
   * at most; writes the pages to `out` from `place` on.
   * @returns pages that match, `page` included
   */
  follow(page: number, limit: number, ids: Int32Array, at: number, out: Int32Array | null, place = 0): number {
    const { pageSize } = this;
    const most = Math.min(limit, 1 + Math.floor((ids.length - at) / pageSize));
    const { low: nextLow, high: nextHigh } = this.#next;
    const { low, high } = this.#ids;
    if (out !== null) out[place] = page;
    let count = 1;
    for (let current = page, from = at; count < most; count++) {
      current = nextHigh === null ? nextLow[current] : nextLow[current] | (nextHigh[current] << 16);
      const own = current * pageSize;
      let i = 0;
      if (high === null) {
        while (i < pageSize && low[own + i] === ids[from + i]) i++;
      } else {
        while (i < pageSize && (low[own + i] | (high[own + i] << 16)) === ids[from + i]) i++;
      }
      if (i < pageSize) break;
      from += pageSize;
      if (out !== null) out[place + count] = current;
    }
    return count;
  }

  /** A page's ids. */
  ids(page: number): Int32Array {
    const start = page * this.pageSize;
    return Int32Array.from({ length: this.pageSize }, (_, i) => this.#ids.get(start + i));
  }

  /** 32 bits that name a page's ids among few others; equal ids have equal keys. */
  key(ids: Int32Array, at: number): number {
    const { pageSize } = this;
    if (pageSize === 1) return ids[at];
    let hash = 0x811c9dc5;
    for (let i = 0; i < pageSize; i++) {
      hash = Math.imul(hash ^ ids[at + i], 0x01000193);
      hash ^= hash >>> 15;
    }
    return hash | 0;
  }

  keyOf(page: number): number {
    return this.key(this.ids(page), 0);
  }

  #grow(pages: number): void {
    const capacity = Math.max(pages, 2 * this.#next.length);
    this.#ids.grow(capacity * this.pageSize);
    this.#next.grow(capacity);
  }
}
