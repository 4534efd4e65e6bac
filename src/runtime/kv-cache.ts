/**
 * Pages as requests see them: the pool, the prefix cache over it, and each request's page table.
 *
 * Invariant, checked by {@link KvCache.check}: free + evictable + protected + owned by requests = all pages.
 */
import type { EvictionPolicyName } from "./eviction-policy.js";
import { KvPool } from "./kv-pool.js";
import { type KvTier, SELECTIVE_HITS } from "./kv-tier.js";
import { type Prefix, RadixCache, type RadixNode, type RadixRoot } from "./radix-cache.js";
import type { Req } from "./request.js";

/** Waiting requests that are looked up in the tree: their order, and what is kept for them. SGLang's limit. */
export const MAX_MATCHED_QUEUE = 128;

export interface KvCacheOptions {
  pages: number;
  pageSize: number;
  disableRadixCache: boolean;
  evictionPolicy: EvictionPolicyName;
  /** Where pages go that leave the pool. @default nowhere */
  tier?: KvTier | null;
}

/** Requests without a priority rank as 0. */
function cachePriority({ priority }: Req): number {
  return Number.isFinite(priority) ? priority : 0;
}

/** What of a request's tokens may come from the cache. */
function cacheablePrefix(req: Req): Prefix {
  return { ids: req.ids.subarray(0, req.matchLimit), namespace: req.namespace };
}

export class KvCache {
  readonly pool: KvPool;
  /** null: every prompt is computed from its first token. */
  readonly radix: RadixCache | null;
  readonly tier: KvTier | null;
  /** Tokens evicted since the start. */
  evictedTokens = 0;
  /**
   * Requests that wait, soonest first: what is cached of the first of them is evicted last. Set by who owns the queue. Without
   * it a conversation that has ended would outlive those that wait for their next turn, because it was used last.
   */
  expected: () => readonly Req[] = () => [];
  /** The cache knows what is wanted in this step. */
  #isMarked = false;
  /** Called when pages that a request waits for have been read from storage. */
  onFetched: (() => void) | null = null;

  constructor({ pages, pageSize, disableRadixCache, evictionPolicy, tier = null }: KvCacheOptions) {
    this.pool = new KvPool(pages, pageSize);
    const free = (page: number) => this.pool.free(page);
    this.tier = disableRadixCache ? null : tier;
    const onEvict =
      this.tier?.policy === "write_back" ? (leaf: RadixNode, from: number) => this.#save(leaf, from) : undefined;
    this.radix = disableRadixCache ? null : new RadixCache({ pageSize, free, policy: evictionPolicy, pages, onEvict });
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

  /** The next step is being put together: who waits, and what is cached, may have changed. */
  beginStep(): void {
    this.#isMarked = false;
  }

  #evict(pages: number): void {
    if (pages <= 0 || !this.radix) return;
    if (!this.#isMarked) {
      this.radix.want(this.expected().map(cacheablePrefix));
      this.#isMarked = true;
    }
    this.evictedTokens += this.radix.evict(pages) * this.pageSize;
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
    if (!this.tier) return;
    if (this.tier.policy === "write_through_selective")
      for (let n: RadixNode | null = node; n?.parent; n = n.parent) if (n.hits === SELECTIVE_HITS) this.#save(n, 0);
    this.#loadBack(req, this.tier);
  }

  /**
   * Is the request to wait because pages of it are being read from storage? The first call begins to read them;
   * {@link onFetched} tells when they are there.
   */
  isFetching(req: Req): boolean {
    if (!this.tier || !this.radix || req.fetch !== "none") return req.fetch === "reading";
    const here = this.radix.peek(req.ids.subarray(0, req.matchLimit), req.namespace).tokens / this.pageSize;
    const reading = this.tier.fetch(this.#keys(req, this.tier, req.matchLimit).slice(here));
    req.fetch = reading ? "reading" : "done";
    void reading?.then(() => {
      req.fetch = "done";
      this.onFetched?.();
    });
    return reading !== null;
  }

  /** Extends the request's pages to hold `tokens` tokens, evicting cached ones if need be; false (and no change to the request) when too few can be had. */
  grow(req: Req, tokens: number): boolean {
    const count = this.pool.pagesFor(tokens) - req.pages.length;
    if (count <= 0) return true;
    if (count > this.availablePages) return false;
    this.#evict(count - this.pool.freePages);
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
    if (this.tier?.policy === "write_through" && present < whole) this.#save(node, 0);
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

  /** Empties the prefix cache and the host memory behind it; storage keeps what it has. No request may hold pages. */
  reset(): void {
    this.radix?.reset();
    this.tier?.clearHost();
  }

  /** Keeps in storage what a restart would lose. Before the runner is closed. */
  async close(): Promise<void> {
    if (this.tier?.hasStorage && this.tier.policy === "write_back") this.radix?.evict(this.evictablePages);
    await this.tier?.close();
  }

  /** Names of the whole pages of the request's first `tokens` tokens. */
  #keys(req: Req, tier: KvTier, tokens: number): readonly string[] {
    const { pageKeys, ids } = req;
    const count = Math.floor(tokens / this.pageSize);
    while (pageKeys.length < count) {
      const at = pageKeys.length * this.pageSize;
      const before = pageKeys.at(-1) ?? tier.rootKey(req.namespace);
      pageKeys.push(tier.nextKey(before, ids.subarray(at, at + this.pageSize)));
    }
    return pageKeys.length === count ? pageKeys : pageKeys.slice(0, count);
  }

  /** Puts pages that host memory has behind the request's matched prefix, if the whole prompt would fit. */
  #loadBack(req: Req, tier: KvTier): void {
    const radix = this.radix as RadixCache;
    if (this.pool.pagesFor(req.length) - req.pages.length > this.availablePages) return;
    const matched = req.pages.length;
    const wanted = this.#keys(req, tier, req.matchLimit).slice(matched);
    this.#evict(tier.available(wanted) - this.pool.freePages);
    // What was evicted may have pushed some of them out.
    const keys = wanted.slice(0, Math.min(tier.available(wanted), this.pool.freePages));
    if (keys.length === 0) return;
    const pages = [...req.pages];
    this.pool.allocate(keys.length, pages);
    const fromStorage = tier.load(keys, pages.slice(matched));
    const ids = req.ids.subarray(0, pages.length * this.pageSize);
    const { node } = radix.insert(ids, pages, req.namespace, cachePriority(req));
    radix.incLock(node);
    if (req.node) radix.decLock(req.node);
    req.node = node;
    req.pages = pages;
    req.sharedPages = pages.length;
    req.computed = ids.length;
    if (req.cachedTokens !== null) return;
    req.storageTokens += fromStorage * this.pageSize;
    req.hostTokens += (keys.length - fromStorage) * this.pageSize;
  }

  /** Copies a node's pages from `from` on to the second tier. */
  #save(node: RadixNode, from: number): void {
    const { tier, radix } = this;
    if (!tier || !radix) return;
    const keys = this.#nodeKeys(node, tier, radix);
    tier.save([...radix.pagesOf(node)].slice(from), keys.slice(from));
  }

  #nodeKeys(node: RadixNode, tier: KvTier, radix: RadixCache): string[] {
    // Down from the nearest node whose name is known.
    const path: RadixNode[] = [];
    let above = node.parent as RadixNode;
    for (; above.chainKey === null && above.parent; above = above.parent) path.push(above);
    let key = above.chainKey ?? tier.rootKey((above as RadixRoot).namespace);
    for (const n of path.reverse()) {
      for (const page of radix.pagesOf(n)) key = tier.nextKey(key, radix.chains.ids(page));
      n.chainKey = key;
    }
    const keys: string[] = [];
    for (const page of radix.pagesOf(node)) {
      key = tier.nextKey(key, radix.chains.ids(page));
      keys.push(key);
    }
    node.chainKey = key;
    return keys;
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
