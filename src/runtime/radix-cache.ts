/**
 * RadixAttention's prefix cache: a radix tree over token ids whose nodes own KV pages.
 *
 * - Everything is a multiple of a page: keys, matches, splits. A partly filled last page never enters the tree.
 * - Namespaces (`extraKey`) have separate roots and never share a node.
 * - `lockRef` counts the running requests that read a node's pages; a lock covers the path to the root.
 *   Unlocked pages are evictable, locked ones protected; every page of the tree is exactly one of the two.
 * - Eviction takes pages from the tail of the unlocked leaf that the policy ranks lowest, as many as asked for and no more.
 *   Prefixes that are wanted soon go after all others ({@link RadixCache.want}).
 *   All pages of a node were last used by the same calls (matching and inserting split where they stop), so this is exactly
 *   page-wise. A naive page-wise cache in the tests behaves the same, call by call, under every policy.
 * - A node's ids and page list live in {@link PageChains}, by page: a node is a small object and splitting copies nothing.
 */
import { EvictionHeap } from "./eviction-heap.js";
import { EVICTION_POLICIES, type EvictionPolicyName } from "./eviction-policy.js";
import { PageChains } from "./page-chains.js";

export interface PrefixMatch<Node> {
  /** Pages of the matched prefix, in order; they hold pages.length * pageSize tokens. */
  pages: number[];
  /** Where the match ended; lock it to keep the pages. */
  node: Node;
}

export interface Insertion<Node> extends PrefixMatch<Node> {
  /** How many leading pages were there before: the caller's own stay the caller's, the rest belong to the cache now. */
  present: number;
}

/** Token ids and whose they are. */
export interface Prefix {
  ids: Int32Array;
  namespace: string;
}

/** What the scheduler needs of a prefix cache. */
export interface PrefixCache<Node> {
  readonly evictablePages: number;
  readonly protectedPages: number;
  /** Longest cached prefix of `ids`, in whole pages. Counts as a use. */
  matchPrefix(ids: Int32Array, namespace?: string): PrefixMatch<Node>;
  /**
   * Stores the whole pages of `ids`; `pages[i]` holds tokens [i * pageSize, (i + 1) * pageSize). The result's pages are
   * those the cache holds for them now. Counts as a recent use, not as a hit.
   * @param priority of the request, for the policy of that name; a prefix has the highest of its requests. @default 0
   */
  insert(ids: Int32Array, pages: readonly number[], namespace?: string, priority?: number): Insertion<Node>;
  /**
   * From now on what is cached of these prefixes is evicted after everything else, the first prefix last of all; what was
   * wanted before is not any more.
   */
  want(prefixes: Iterable<Prefix>): void;
  /** Frees up to `count` unlocked pages, wanted ones last and else in the policy's order; returns how many. */
  evict(count: number): number;
  incLock(node: Node): void;
  decLock(node: Node): void;
  /** Forgets everything. Nothing may be locked. */
  reset(): void;
}

export class RadixNode {
  parent: RadixNode | null;
  /** By the key of their first page; null = none. Children whose keys clash are linked by `sibling`. */
  children: Map<number, RadixNode> | null = null;
  sibling: RadixNode | null = null;
  /** The pages, linked in PageChains; a root has none. */
  first: number;
  last: number;
  pageCount: number;
  lockRef = 0;
  /** Number of the call that used this node last, and of the one that made it. */
  lastAccess: number;
  createdAt: number;
  /** Requests that found it in the cache. */
  hits = 0;
  priority = 0;
  /** Tenths of a second after the cache was made: last use. */
  usedAt = 0;
  /** Name of the last page in the second tier (kv-tier.ts), once somebody asked; null = not known. */
  chainKey: string | null = null;
  /** How soon it will be read by one who waits, larger = sooner; 0 = nobody waits for it. */
  wanted = 0;
  /** Place in the eviction heap; -1 = not evictable. */
  heapIndex = -1;

  constructor(parent: RadixNode | null, first: number, last: number, pageCount: number, now: number) {
    this.parent = parent;
    this.first = first;
    this.last = last;
    this.pageCount = pageCount;
    this.lastAccess = now;
    this.createdAt = now;
  }

  get evictable(): boolean {
    return this.parent !== null && this.lockRef === 0 && this.children === null;
  }

  *childNodes(): Generator<RadixNode> {
    for (const head of this.children?.values() ?? [])
      for (let node: RadixNode | null = head; node; node = node.sibling) yield node;
  }
}

/** The root of a namespace. */
export class RadixRoot extends RadixNode {
  readonly namespace: string;

  constructor(namespace: string) {
    super(null, -1, -1, 0, 0);
    this.namespace = namespace;
  }
}

export interface RadixCacheOptions {
  pageSize: number;
  /** Receives every page the cache gives up. */
  free: (page: number) => void;
  /** @default "lru" */
  policy?: EvictionPolicyName;
  /** Page ids below this need no growing later. @default 0 */
  pages?: number;
  /** Sees a leaf that is about to lose its pages from `from` on; they are freed when it returns. */
  onEvict?: (leaf: RadixNode, from: number) => void;
}

/** Where a match ends in a namespace that holds nothing. Locking a root does nothing, so all may share it. */
const NOWHERE = new RadixNode(null, -1, -1, 0, 0);
/** A longer leaf that must give up only its tail is cut first, so that the next pages come off a short one. */
const TAIL_PAGES = 64;

/** Prefixes beyond this many are wanted alike. */
const MAX_WANTED = 2 ** 20;

export class RadixCache implements PrefixCache<RadixNode> {
  readonly chains: PageChains;
  readonly #pageSize: number;
  readonly #free: (page: number) => void;
  readonly #onEvict: RadixCacheOptions["onEvict"];
  readonly #roots = new Map<string, RadixRoot>();
  readonly #leaves: EvictionHeap;
  readonly #startedAt = performance.now();
  /** Pages of the last walk, in order; how many is in `#walked`. A list that grows page by page would cost more than the walk. */
  #path = new Int32Array(1024);
  #walked = 0;
  #wanted: RadixNode[] = [];
  #evictable = 0;
  #protected = 0;
  #clock = 0;

  constructor({ pageSize, free, policy = "lru", pages = 0, onEvict }: RadixCacheOptions) {
    this.#pageSize = pageSize;
    this.#free = free;
    this.#onEvict = onEvict;
    this.chains = new PageChains(pageSize, pages);
    this.#leaves = new EvictionHeap(EVICTION_POLICIES[policy].rank);
  }

  get evictablePages(): number {
    return this.#evictable;
  }

  get protectedPages(): number {
    return this.#protected;
  }

  /** Roots of the namespaces that hold something. */
  get roots(): Iterable<RadixRoot> {
    return this.#roots.values();
  }

  matchPrefix(ids: Int32Array, namespace = ""): PrefixMatch<RadixNode> {
    const root = this.#roots.get(namespace);
    if (!root) return { pages: [], node: NOWHERE };
    const node = this.#walk(root, ids, true);
    return { pages: this.#pathThen([], 0), node };
  }

  /** Like {@link matchPrefix}, but changes nothing and does not count as a use. `node` is the deepest node reached. */
  peek(ids: Int32Array, namespace = ""): { tokens: number; node: RadixNode | null } {
    const { tokens, node } = this.#reach(ids, namespace);
    return { tokens, node };
  }

  want(prefixes: Iterable<Prefix>): void {
    for (const node of this.#wanted.splice(0)) this.#setWanted(node, 0);
    let soon = MAX_WANTED;
    for (const { ids, namespace } of prefixes) {
      const { node: reached, shared } = this.#reach(ids, namespace);
      const isPart = reached?.parent && shared < reached.pageCount;
      for (let n = isPart ? this.#split(reached, shared) : reached; n?.parent && !n.wanted; n = n.parent)
        this.#setWanted(n, soon);
      soon = Math.max(1, soon - 1);
    }
  }

  insert(ids: Int32Array, pages: readonly number[], namespace = "", priority = 0): Insertion<RadixNode> {
    const count = Math.floor(ids.length / this.#pageSize);
    if (count === 0) return { present: 0, pages: [], node: this.#roots.get(namespace) ?? NOWHERE };
    let node = this.#walk(this.#root(namespace), ids, false);
    const present = this.#walked;
    if (present < count) {
      this.chains.write(pages, present, count, ids);
      const leaf = new RadixNode(node, pages[present], pages[count - 1], count - present, this.#clock);
      leaf.usedAt = this.#now();
      this.#addChild(node, leaf);
      this.#evictable += leaf.pageCount;
      node = leaf;
    }
    for (let n = node; n.parent && n.priority < priority; n = n.parent) n.priority = priority;
    this.#refresh(node);
    return { present, pages: this.#pathThen(pages, count), node };
  }

  evict(count: number): number {
    let evicted = 0;
    while (evicted < count) {
      const leaf = this.#leaves.pop();
      if (!leaf) break;
      const wanted = count - evicted;
      if (wanted >= leaf.pageCount) {
        this.#onEvict?.(leaf, 0);
        this.#freePages(leaf.first, leaf.pageCount);
        evicted += leaf.pageCount;
        this.#remove(leaf);
      } else if (leaf.pageCount > 2 * TAIL_PAGES && wanted < leaf.pageCount - TAIL_PAGES) {
        this.#split(leaf, leaf.pageCount - Math.max(TAIL_PAGES, wanted));
        this.#refresh(leaf);
      } else {
        const kept = leaf.pageCount - wanted;
        const last = this.#pageAt(leaf, kept - 1);
        this.#onEvict?.(leaf, kept);
        leaf.chainKey = null;
        this.#freePages(this.chains.next(last), wanted);
        leaf.last = last;
        leaf.pageCount = kept;
        evicted += wanted;
        this.#refresh(leaf);
      }
    }
    this.#evictable -= evicted;
    return evicted;
  }

  incLock(node: RadixNode): void {
    for (let n = node; n.parent; n = n.parent) {
      if (n.lockRef++ > 0) continue;
      this.#evictable -= n.pageCount;
      this.#protected += n.pageCount;
      this.#leaves.remove(n);
    }
  }

  decLock(node: RadixNode): void {
    for (let n = node; n.parent; n = n.parent) {
      if (n.lockRef === 0) throw new Error("A prefix-cache node was unlocked more often than locked.");
      if (--n.lockRef > 0) continue;
      this.#evictable += n.pageCount;
      this.#protected -= n.pageCount;
      this.#refresh(n);
    }
  }

  reset(): void {
    if (this.#protected > 0) throw new Error("The prefix cache cannot be emptied while requests use it.");
    // Not recursive: a conversation of many turns is a deep path.
    const left: RadixNode[] = [...this.#roots.values()];
    for (let node = left.pop(); node; node = left.pop()) {
      this.#freePages(node.first, node.pageCount);
      left.push(...node.childNodes());
    }
    this.#roots.clear();
    this.#leaves.clear();
    this.#wanted = [];
    this.#evictable = 0;
  }

  /** Seconds since a node was last used. */
  idleSeconds(node: RadixNode): number {
    return Math.max(0, (this.#now() - node.usedAt) / 10);
  }

  /** Pages of a node, in order. */
  *pagesOf(node: RadixNode): Generator<number> {
    for (let i = 0, page = node.first; i < node.pageCount; i++, page = this.chains.next(page)) yield page;
  }

  /** The deepest node that `ids` reaches, how many of its pages, and how many tokens that is in all. Changes nothing. */
  #reach(ids: Int32Array, namespace: string): { tokens: number; node: RadixNode | null; shared: number } {
    let node: RadixNode | null = this.#roots.get(namespace) ?? null;
    let tokens = 0;
    let shared = 0;
    while (node) {
      const child = this.#child(node, ids, tokens);
      if (!child) break;
      node = child;
      shared = this.chains.follow(child.first, child.pageCount, ids, tokens + this.#pageSize, null);
      tokens += shared * this.#pageSize;
      if (shared < child.pageCount) break;
    }
    return { tokens, node, shared };
  }

  /** The pages of the last walk, then those of `pages` up to number `count`. */
  #pathThen(pages: readonly number[], count: number): number[] {
    const all = new Array<number>(Math.max(count, this.#walked));
    for (let i = 0; i < this.#walked; i++) all[i] = this.#path[i];
    for (let i = this.#walked; i < count; i++) all[i] = pages[i];
    return all;
  }

  /** Follows `ids` as far as they are cached, splitting where they leave a node; the pages are in `#path` then. */
  #walk(root: RadixNode, ids: Int32Array, isHit: boolean): RadixNode {
    const { chains } = this;
    const most = Math.ceil(ids.length / this.#pageSize);
    if (most > this.#path.length) this.#path = new Int32Array(most + (most >> 2));
    this.#walked = 0;
    const now = ++this.#clock;
    const usedAt = this.#now();
    let node = root;
    for (let at = 0; ; ) {
      const child = this.#child(node, ids, at);
      if (!child) return node;
      const shared = chains.follow(child.first, child.pageCount, ids, at + this.#pageSize, this.#path, this.#walked);
      this.#walked += shared;
      at += shared * this.#pageSize;
      const whole = shared === child.pageCount;
      node = whole ? child : this.#split(child, shared, this.#path[this.#walked - 1]);
      node.lastAccess = now;
      node.usedAt = usedAt;
      if (isHit) node.hits++;
      this.#refresh(node);
      if (!whole) return node;
    }
  }

  #now(): number {
    return Math.floor((performance.now() - this.#startedAt) / 100);
  }

  #root(namespace: string): RadixRoot {
    let root = this.#roots.get(namespace);
    if (!root) {
      root = new RadixRoot(namespace);
      this.#roots.set(namespace, root);
    }
    return root;
  }

  /** The child whose first page holds ids[at, at + pageSize): children differ in their first page. */
  #child(node: RadixNode, ids: Int32Array, at: number): RadixNode | null {
    if (!node.children || at + this.#pageSize > ids.length) return null;
    let child = node.children.get(this.chains.key(ids, at)) ?? null;
    while (child && !this.chains.holds(child.first, ids, at)) child = child.sibling;
    return child;
  }

  #addChild(parent: RadixNode, child: RadixNode): void {
    if (!parent.children) {
      parent.children = new Map();
      this.#leaves.remove(parent);
    }
    const key = this.chains.keyOf(child.first);
    child.sibling = parent.children.get(key) ?? null;
    parent.children.set(key, child);
  }

  #removeChild(parent: RadixNode, child: RadixNode): void {
    const children = parent.children as Map<number, RadixNode>;
    const key = this.chains.keyOf(child.first);
    const head = children.get(key) as RadixNode;
    if (head === child) {
      if (child.sibling) children.set(key, child.sibling);
      else children.delete(key);
    } else {
      let before = head;
      while (before.sibling !== child) before = before.sibling as RadixNode;
      before.sibling = child.sibling;
    }
    child.sibling = null;
    if (children.size === 0) parent.children = null;
  }

  /** `by` begins with the page that `child` begins with. */
  #replaceChild(parent: RadixNode, child: RadixNode, by: RadixNode): void {
    const children = parent.children as Map<number, RadixNode>;
    const key = this.chains.keyOf(by.first);
    by.sibling = child.sibling;
    child.sibling = null;
    let before = children.get(key) as RadixNode;
    if (before === child) {
      children.set(key, by);
      return;
    }
    while (before.sibling !== child) before = before.sibling as RadixNode;
    before.sibling = by;
  }

  #pageAt(node: RadixNode, index: number): number {
    let page = node.first;
    for (let i = 0; i < index; i++) page = this.chains.next(page);
    return page;
  }

  /**
   * Cuts the first `count` pages of a node off into a new parent. The node object stays the lower part: locks held on it
   * stay right.
   * @param last the last of these pages, where it is known
   */
  #split(node: RadixNode, count: number, last = this.#pageAt(node, count - 1)): RadixNode {
    const parent = node.parent as RadixNode;
    const upper = new RadixNode(parent, node.first, last, count, node.lastAccess);
    upper.lockRef = node.lockRef;
    upper.createdAt = node.createdAt;
    upper.hits = node.hits;
    upper.priority = node.priority;
    upper.usedAt = node.usedAt;
    if (node.wanted) this.#setWanted(upper, node.wanted);
    this.#replaceChild(parent, node, upper);
    node.first = this.chains.next(last);
    node.pageCount -= count;
    node.parent = upper;
    this.#addChild(upper, node);
    return upper;
  }

  /** One at a time: the heap stays in order but for this node. */
  #setWanted(node: RadixNode, wanted: number): void {
    node.wanted = wanted;
    if (wanted > 0) this.#wanted.push(node);
    this.#refresh(node);
  }

  /** Puts a node where it belongs among those that may be evicted. */
  #refresh(node: RadixNode): void {
    if (node.evictable) this.#leaves.update(node);
    else this.#leaves.remove(node);
  }

  /** Frees `count` linked pages, the last one first: pages are handed out again in the order of the text. */
  #freePages(first: number, count: number): void {
    const pages: number[] = [];
    for (let i = 0, page = first; i < count; i++, page = this.chains.next(page)) pages.push(page);
    for (let i = count - 1; i >= 0; i--) this.#free(pages[i]);
  }

  #remove(leaf: RadixNode): void {
    const parent = leaf.parent as RadixNode;
    this.#removeChild(parent, leaf);
    leaf.parent = null;
    if (parent instanceof RadixRoot) {
      if (!parent.children) this.#roots.delete(parent.namespace);
    } else {
      this.#refresh(parent);
    }
  }
}
