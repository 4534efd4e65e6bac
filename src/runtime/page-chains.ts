/**
 * What the radix tree keeps per page, in flat arrays indexed by page id: the page's token ids, and the page that follows it
 * in its node. A node is then three numbers (first page, last page, how many), splitting one copies nothing, and a cached
 * token costs 4 + 4 / pageSize bytes plus its share of its node.
 */
export class PageChains {
  readonly pageSize: number;
  #ids: Int32Array;
  #next: Int32Array;

  /** @param pages page ids below this need no growing later */
  constructor(pageSize: number, pages: number) {
    this.pageSize = pageSize;
    this.#ids = new Int32Array(pages * pageSize);
    this.#next = new Int32Array(pages);
  }

  /** Bytes of the arrays. */
  get bytes(): number {
    return this.#ids.byteLength + this.#next.byteLength;
  }

  /** Page that follows `page` in its node; meaningless for a node's last page. */
  next(page: number): number {
    return this.#next[page];
  }

  link(page: number, next: number): void {
    this.#next[page] = next;
  }

  /** Writes a page's ids: those of `ids` from `at` on. */
  write(page: number, ids: Int32Array, at: number): void {
    if (page >= this.#next.length) this.#grow(page + 1);
    const { pageSize } = this;
    const to = page * pageSize;
    for (let i = 0; i < pageSize; i++) this.#ids[to + i] = ids[at + i];
  }

  /** Does the page hold exactly ids[at, at + pageSize)? */
  holds(page: number, ids: Int32Array, at: number): boolean {
    const { pageSize } = this;
    const from = page * pageSize;
    if (at + pageSize > ids.length) return false;
    for (let i = 0; i < pageSize; i++) if (this.#ids[from + i] !== ids[at + i]) return false;
    return true;
  }

  /**
   * Follows the chain from `page`, whose ids are ids[at - pageSize, at), as long as `ids` goes on like it; appends the pages
   * that follow, fewer than `limit` with `page` itself, to `pages`.
   * @returns pages that match, `page` included
   */
  follow(page: number, limit: number, ids: Int32Array, at: number, pages: number[] | null): number {
    const { pageSize } = this;
    const own = this.#ids;
    const next = this.#next;
    const most = Math.min(limit, 1 + Math.floor((ids.length - at) / pageSize));
    let count = 1;
    for (let current = page, from = at; count < most; count++) {
      current = next[current];
      const start = current * pageSize;
      let i = 0;
      while (i < pageSize && own[start + i] === ids[from + i]) i++;
      if (i < pageSize) break;
      from += pageSize;
      pages?.push(current);
    }
    return count;
  }

  /** A view of a page's ids: valid while the page stays in the tree and the arrays do not grow. */
  ids(page: number): Int32Array {
    return this.#ids.subarray(page * this.pageSize, (page + 1) * this.pageSize);
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
    return this.key(this.#ids, page * this.pageSize);
  }

  #grow(pages: number): void {
    const capacity = Math.max(pages, 2 * this.#next.length);
    const ids = new Int32Array(capacity * this.pageSize);
    const next = new Int32Array(capacity);
    ids.set(this.#ids);
    next.set(this.#next);
    this.#ids = ids;
    this.#next = next;
  }
}
