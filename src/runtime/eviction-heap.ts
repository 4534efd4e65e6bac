/**
 * Unlocked leaves of the radix tree by last use, oldest first: a binary heap with lazy deletion. A node is pushed when
 * it becomes an evictable leaf or is used again; entries that a later use, lock, child or removal made stale are dropped
 * when they surface, and all at once when they outnumber the live ones.
 */
import type { RadixNode } from "./radix-cache.js";

interface Entry {
  node: RadixNode;
  lastAccess: number;
}

/** Stale entries that are worth a rebuild. */
const MIN_REBUILD = 256;

function isLive(entry: Entry): boolean {
  return entry.node.queuedAccess === entry.lastAccess && entry.node.evictable;
}

export class EvictionHeap {
  #entries: Entry[] = [];
  #rebuildAt = MIN_REBUILD;

  push(node: RadixNode): void {
    if (node.queuedAccess === node.lastAccess) return;
    node.queuedAccess = node.lastAccess;
    this.#entries.push({ node, lastAccess: node.lastAccess });
    this.#up(this.#entries.length - 1);
    if (this.#entries.length > this.#rebuildAt) this.#rebuild();
  }

  /** Removes and returns the least recently used evictable leaf. */
  pop(): RadixNode | undefined {
    while (this.#entries.length > 0) {
      const top = this.#entries[0];
      const last = this.#entries.pop() as Entry;
      if (this.#entries.length > 0) {
        this.#entries[0] = last;
        this.#down(0);
      }
      const live = isLive(top);
      if (top.node.queuedAccess === top.lastAccess) top.node.queuedAccess = -1;
      if (live) return top.node;
    }
    return undefined;
  }

  clear(): void {
    this.#entries = [];
  }

  #rebuild(): void {
    const live = this.#entries.filter(isLive);
    for (const { node } of this.#entries) if (!node.evictable) node.queuedAccess = -1;
    this.#entries = live.sort((a, b) => a.lastAccess - b.lastAccess);
    this.#rebuildAt = Math.max(MIN_REBUILD, live.length * 2);
  }

  #up(index: number): void {
    const entries = this.#entries;
    const entry = entries[index];
    let i = index;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (entries[parent].lastAccess <= entry.lastAccess) break;
      entries[i] = entries[parent];
      i = parent;
    }
    entries[i] = entry;
  }

  #down(index: number): void {
    const entries = this.#entries;
    const entry = entries[index];
    let i = index;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= entries.length) break;
      if (child + 1 < entries.length && entries[child + 1].lastAccess < entries[child].lastAccess) child++;
      if (entries[child].lastAccess >= entry.lastAccess) break;
      entries[i] = entries[child];
      i = child;
    }
    entries[i] = entry;
  }
}
