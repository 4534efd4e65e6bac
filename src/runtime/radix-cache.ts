/**
 * RadixAttention's prefix cache: a radix tree over token ids whose nodes own KV pages.
 *
 * - Everything is a multiple of a page: keys, matches, splits. A partly filled last page never enters the tree.
 * - Namespaces (`extraKey`) have separate roots and never share a node.
 * - `lockRef` counts the running requests that read a node's pages; a lock covers the path to the root.
 *   Unlocked pages are evictable, locked ones protected; every page of the tree is exactly one of the two.
 * - Eviction takes pages from the tail of the least recently used unlocked leaf, as many as asked for and no more. All
 *   pages of a node were last used by the same call (matching and inserting split where they stop), so this is exactly
 *   page-wise least-recently-used. A naive page-wise cache in the tests behaves the same, call by call.
 */
import { EvictionHeap } from "./eviction-heap.js";

export interface PrefixMatch<Node> {
  /** Pages of the matched prefix, in order; they hold pages.length * pageSize tokens. */
  pages: number[];
  /** Where the match ended; lock it to keep the pages. */
  node: Node;
}

/** What the scheduler needs of a prefix cache. */
export interface PrefixCache<Node> {
  readonly evictablePages: number;
  readonly protectedPages: number;
  /** Longest cached prefix of `ids`, in whole pages. Counts as a use. */
  matchPrefix(ids: Int32Array, namespace?: string): PrefixMatch<Node>;
  /**
   * Stores the whole pages of `ids`; `pages[i]` holds tokens [i * pageSize, (i + 1) * pageSize).
   * Returns how many leading pages were there before: those stay the caller's, the rest belong to the cache now.
   */
  insert(ids: Int32Array, pages: readonly number[], namespace?: string): number;
  /** Frees up to `count` unlocked pages, least recently used first; returns how many. */
  evict(count: number): number;
  incLock(node: Node): void;
  decLock(node: Node): void;
  /** Forgets everything. Nothing may be locked. */
  reset(): void;
}

export class RadixNode {
  parent: RadixNode | null;
  readonly children = new Map<number | string, RadixNode>();
  /** Token ids on the edge from the parent, [pages.length * pageSize]; empty for a root. */
  key: Int32Array;
  pages: number[];
  lockRef = 0;
  /** Number of the call that used this node last. */
  lastAccess: number;
  /** lastAccess of this node's entry in the eviction heap; -1 = no entry. */
  queuedAccess = -1;

  constructor(parent: RadixNode | null, key: Int32Array, pages: number[], lastAccess: number) {
    this.parent = parent;
    this.key = key;
    this.pages = pages;
    this.lastAccess = lastAccess;
  }

  get evictable(): boolean {
    return this.parent !== null && this.lockRef === 0 && this.children.size === 0;
  }
}

const NO_KEY = new Int32Array(0);
/** Where a match ends in a namespace that holds nothing. Locking a root does nothing, so all may share it. */
const NOWHERE = new RadixNode(null, NO_KEY, [], 0);

export class RadixCache implements PrefixCache<RadixNode> {
  readonly #pageSize: number;
  readonly #free: (page: number) => void;
  readonly #roots = new Map<string, RadixNode>();
  readonly #leaves = new EvictionHeap();
  #evictable = 0;
  #protected = 0;
  #clock = 0;

  /** @param free receives every page the cache gives up */
  constructor(pageSize: number, free: (page: number) => void) {
    this.#pageSize = pageSize;
    this.#free = free;
  }

  get evictablePages(): number {
    return this.#evictable;
  }

  get protectedPages(): number {
    return this.#protected;
  }

  matchPrefix(ids: Int32Array, namespace = ""): PrefixMatch<RadixNode> {
    const pages: number[] = [];
    let node = this.#roots.get(namespace) ?? NOWHERE;
    const now = ++this.#clock;
    for (let at = 0; ; ) {
      const child = this.#child(node, ids, at);
      if (!child) return { pages, node };
      const shared = this.#sharedTokens(child, ids, at);
      node = shared < child.key.length ? this.#split(child, shared) : child;
      this.#touch(node, now);
      for (const page of node.pages) pages.push(page);
      at += shared;
      if (node !== child) return { pages, node };
    }
  }

  /** Like {@link matchPrefix}, but changes nothing and does not count as a use. `node` is the deepest node reached. */
  peek(ids: Int32Array, namespace = ""): { tokens: number; node: RadixNode | null } {
    let node = this.#roots.get(namespace) ?? null;
    let tokens = 0;
    while (node) {
      const child = this.#child(node, ids, tokens);
      if (!child) break;
      const shared = this.#sharedTokens(child, ids, tokens);
      tokens += shared;
      node = child;
      if (shared < child.key.length) break;
    }
    return { tokens, node };
  }

  insert(ids: Int32Array, pages: readonly number[], namespace = ""): number {
    const length = this.#wholePages(ids.length);
    if (length === 0) return 0;
    let node = this.#root(namespace);
    let at = 0;
    const now = ++this.#clock;
    while (at < length) {
      const child = this.#child(node, ids, at);
      if (!child) break;
      const shared = this.#sharedTokens(child, ids, at);
      node = shared < child.key.length ? this.#split(child, shared) : child;
      this.#touch(node, now);
      at += shared;
      if (node !== child) break;
    }
    const present = at / this.#pageSize;
    if (at < length) {
      const leaf = new RadixNode(node, ids.slice(at, length), pages.slice(present, length / this.#pageSize), now);
      node.children.set(this.#edge(ids, at), leaf);
      this.#evictable += leaf.pages.length;
      this.#enqueue(leaf);
    }
    return present;
  }

  evict(count: number): number {
    let evicted = 0;
    while (evicted < count) {
      const leaf = this.#leaves.pop();
      if (!leaf) break;
      const kept = Math.max(0, leaf.pages.length - (count - evicted));
      for (let i = leaf.pages.length - 1; i >= kept; i--) this.#free(leaf.pages[i]);
      evicted += leaf.pages.length - kept;
      this.#evictable -= leaf.pages.length - kept;
      if (kept > 0) {
        leaf.pages.length = kept;
        leaf.key = leaf.key.slice(0, kept * this.#pageSize);
        this.#enqueue(leaf);
      } else {
        this.#remove(leaf);
      }
    }
    return evicted;
  }

  incLock(node: RadixNode): void {
    for (let n = node; n.parent; n = n.parent) {
      if (n.lockRef++ > 0) continue;
      this.#evictable -= n.pages.length;
      this.#protected += n.pages.length;
    }
  }

  decLock(node: RadixNode): void {
    for (let n = node; n.parent; n = n.parent) {
      if (n.lockRef === 0) throw new Error("A prefix-cache node was unlocked more often than locked.");
      if (--n.lockRef > 0) continue;
      this.#evictable += n.pages.length;
      this.#protected -= n.pages.length;
      this.#enqueue(n);
    }
  }

  reset(): void {
    if (this.#protected > 0) throw new Error("The prefix cache cannot be emptied while requests use it.");
    // Not recursive: a conversation of many turns is a deep path.
    const left = [...this.#roots.values()];
    for (let node = left.pop(); node; node = left.pop()) {
      for (const page of node.pages) this.#free(page);
      for (const child of node.children.values()) left.push(child);
    }
    this.#roots.clear();
    this.#leaves.clear();
    this.#evictable = 0;
  }

  #wholePages(tokens: number): number {
    return tokens - (tokens % this.#pageSize);
  }

  #root(namespace: string): RadixNode {
    let root = this.#roots.get(namespace);
    if (!root) {
      root = new RadixNode(null, NO_KEY, [], 0);
      this.#roots.set(namespace, root);
    }
    return root;
  }

  /** Children differ in their first page, which therefore names them. */
  #edge(ids: Int32Array, at: number): number | string {
    return this.#pageSize === 1 ? ids[at] : ids.subarray(at, at + this.#pageSize).join();
  }

  #child(node: RadixNode, ids: Int32Array, at: number): RadixNode | undefined {
    if (at + this.#pageSize > ids.length || node.children.size === 0) return undefined;
    return node.children.get(this.#edge(ids, at));
  }

  /** Tokens of `child.key` that `ids` continues with at `at`, in whole pages; at least one page. */
  #sharedTokens(child: RadixNode, ids: Int32Array, at: number): number {
    const { key } = child;
    const end = Math.min(key.length, ids.length - at);
    let n = this.#pageSize;
    while (n < end && key[n] === ids[at + n]) n++;
    return this.#wholePages(n);
  }

  /** Cuts the first `tokens` of a node off into a new parent. The node object stays the lower part: locks held on it stay right. */
  #split(node: RadixNode, tokens: number): RadixNode {
    const pages = tokens / this.#pageSize;
    const upper = new RadixNode(node.parent, node.key.slice(0, tokens), node.pages.slice(0, pages), node.lastAccess);
    upper.lockRef = node.lockRef;
    upper.parent?.children.set(this.#edge(upper.key, 0), upper);
    node.key = node.key.slice(tokens);
    node.pages = node.pages.slice(pages);
    node.parent = upper;
    upper.children.set(this.#edge(node.key, 0), node);
    return upper;
  }

  #touch(node: RadixNode, now: number): void {
    node.lastAccess = now;
    this.#enqueue(node);
  }

  #enqueue(node: RadixNode): void {
    if (node.evictable) this.#leaves.push(node);
  }

  #remove(leaf: RadixNode): void {
    const parent = leaf.parent as RadixNode;
    parent.children.delete(this.#edge(leaf.key, 0));
    leaf.parent = null;
    if (parent.parent) this.#enqueue(parent);
    else if (parent.children.size === 0) {
      for (const [name, root] of this.#roots) if (root === parent) this.#roots.delete(name);
    }
  }
}
