/**
 * The evictable leaves of the radix tree, the next to go on top, wanted ones below all others, soonest last: a binary heap of nodes that
 * know their place in it, so that a node can move when it is used and leave when it is locked or gets a child.
 */
import type { RadixNode } from "./radix-cache.js";

export class EvictionHeap {
  readonly #nodes: RadixNode[] = [];
  readonly #rank: (node: RadixNode) => number;

  constructor(rank: (node: RadixNode) => number) {
    this.#rank = rank;
  }

  get size(): number {
    return this.#nodes.length;
  }

  /** Puts a node in, or where it belongs now that its rank has changed. */
  update(node: RadixNode): void {
    if (node.heapIndex < 0) {
      node.heapIndex = this.#nodes.length;
      this.#nodes.push(node);
    }
    if (!this.#up(node)) this.#down(node);
  }

  /** Takes a node out; nothing when it is not in. */
  remove(node: RadixNode): void {
    const index = node.heapIndex;
    if (index < 0) return;
    node.heapIndex = -1;
    const last = this.#nodes.pop() as RadixNode;
    if (last === node) return;
    this.#nodes[index] = last;
    last.heapIndex = index;
    if (!this.#up(last)) this.#down(last);
  }

  /** Takes the node out that goes first. */
  pop(): RadixNode | undefined {
    const top = this.#nodes[0];
    if (top) this.remove(top);
    return top;
  }

  clear(): void {
    for (const node of this.#nodes) node.heapIndex = -1;
    this.#nodes.length = 0;
  }

  /** Moves a node towards the top; false when it stayed. */
  #up(node: RadixNode): boolean {
    const nodes = this.#nodes;
    const rank = this.#rank(node);
    const start = node.heapIndex;
    let i = start;
    while (i > 0) {
      const above = (i - 1) >> 1;
      if (!this.#isBefore(node, rank, nodes[above])) break;
      this.#place(nodes[above], i);
      i = above;
    }
    this.#place(node, i);
    return i < start;
  }

  #down(node: RadixNode): void {
    const nodes = this.#nodes;
    const rank = this.#rank(node);
    let i = node.heapIndex;
    for (;;) {
      let below = 2 * i + 1;
      if (below >= nodes.length) break;
      if (below + 1 < nodes.length && !this.#isBefore(nodes[below], this.#rank(nodes[below]), nodes[below + 1]))
        below++;
      if (this.#isBefore(node, rank, nodes[below])) break;
      this.#place(nodes[below], i);
      i = below;
    }
    this.#place(node, i);
  }

  /** Does `node`, of rank `rank`, go before `other`? */
  #isBefore(node: RadixNode, rank: number, other: RadixNode): boolean {
    return node.wanted === other.wanted ? rank < this.#rank(other) : node.wanted < other.wanted;
  }

  #place(node: RadixNode, index: number): void {
    this.#nodes[index] = node;
    node.heapIndex = index;
  }
}
