/**
 * Pages as requests see them: the pool, the prefix cache over it, and each request's page table.
 *
 * Invariant, checked by {@link KvCache.check}: free + evictable + protected + owned by requests = all pages.
 */
import type { EvictionPolicyName } from "./eviction-policy.js";
import { KvPool } from "./kv-pool.js";
import { RadixCache } from "./radix-cache.js";
import type { Req } from "./request.js";

export interface KvCacheOptions {
  pages: number;
  pageSize: number;
  disableRadixCache: boolean;
  evictionPolicy: EvictionPolicyName;
}

/** Requests without a priority rank as 0. */
function cachePriority({ priority }: Req): number {
  return Number.isFinite(priority) ? priority : 0;
}

export class KvCache {
  readonly pool: KvPool;
  /** null: every prompt is computed from its first token. */
  readonly radix: RadixCache | null;
  /** Tokens evicted since the start. */
  evictedTokens = 0;

  constructor({ pages, pageSize, disableRadixCache, evictionPolicy }: KvCacheOptions) {
    this.pool = new KvPool(pages, pageSize);
    const free = (page: number) => this.pool.free(page);
    this.radix = disableRadixCache ? null : new RadixCache({ pageSize, free, policy: evictionPolicy, pages });
  }

  get pageSize(): number {
    return this.pool.pageSize;
  }

  get evictablePages(): number {
    return this.radix?.evictablePages ?? 0;
  }

  get protectedPages(): number {
    return this.radix?.protectedPages ?? 0;
  }

  /** Pages that can be had: free ones and those the prefix cache would give up. */
  get availablePages(): number {
    return this.pool.freePages + this.evictablePages;
  }

  /** Gives a request that holds no pages the cached prefix of its tokens, and locks it. */
  match(req: Req): void {
    if (!this.radix) return;
    const { pages, node } = this.radix.matchPrefix(req.ids.subarray(0, req.matchLimit), req.namespace);
    this.radix.incLock(node);
    req.pages = pages;
    req.sharedPages = pages.length;
    req.node = node;
    req.computed = pages.length * this.pageSize;
  }

  /** Extends the request's pages to hold `tokens` tokens, evicting cached ones if need be; false (and no change to the request) when too few can be had. */
  grow(req: Req, tokens: number): boolean {
    const count = this.pool.pagesFor(tokens) - req.pages.length;
    if (count <= 0) return true;
    if (count > this.availablePages) return false;
    const missing = count - this.pool.freePages;
    if (missing > 0 && this.radix) this.evictedTokens += this.radix.evict(missing) * this.pageSize;
    return this.pool.allocate(count, req.pages);
  }

  /**
   * Shares what the request has computed: its whole pages go to the prefix cache and stay locked for it. Where the cache
   * already had them (another request computed the same meanwhile) the request reads the cache's pages from now on.
   */
  share(req: Req): void {
    if (!this.radix) return;
    const whole = Math.floor(req.computed / this.pageSize);
    if (whole <= req.sharedPages) return;
    const ids = req.ids.subarray(0, whole * this.pageSize);
    const { present, pages, node } = this.radix.insert(ids, req.pages, req.namespace, cachePriority(req));
    for (let i = req.sharedPages; i < present; i++) this.pool.free(req.pages[i]);
    for (let i = req.sharedPages; i < whole; i++) req.pages[i] = pages[i];
    this.radix.incLock(node);
    if (req.node) this.radix.decLock(req.node);
    req.node = node;
    req.sharedPages = whole;
  }

  /**
   * Takes all pages from a request. `keep`: what it computed stays cached. Without, only what was shared before does. A
   * queued step may still write to the pages; whoever gets them writes in a later step, and steps run in order.
   */
  release(req: Req, keep: boolean): void {
    if (keep) this.share(req);
    for (let i = req.sharedPages; i < req.pages.length; i++) this.pool.free(req.pages[i]);
    if (req.node) this.radix?.decLock(req.node);
    req.pages = [];
    req.sharedPages = 0;
    req.node = null;
    req.computed = 0;
    req.inFlight = null;
  }

  /** Empties the prefix cache. No request may hold pages. */
  reset(): void {
    this.radix?.reset();
  }

  /** @throws Error when pages were lost or are held twice. `holders`: every request that may hold pages. */
  check(holders: Iterable<Req>): void {
    let owned = 0;
    for (const req of holders) owned += req.ownPages;
    const { freePages, pages } = this.pool;
    const sum = freePages + this.evictablePages + this.protectedPages + owned;
    if (sum === pages) return;
    throw new Error(
      `KV pages leaked: ${freePages} free + ${this.evictablePages} evictable + ${this.protectedPages} protected + ` +
        `${owned} in use = ${sum}, but the pool has ${pages}.`,
    );
  }
}
