/** The prefix cache as a plain tree, for people: what is cached, how often it was found, who holds it. */
import { createHash } from "node:crypto";
import type { CacheTree, CacheTreeNode } from "../core/protocol.js";
import type { RadixCache, RadixNode } from "./radix-cache.js";

export interface CacheTreeOptions {
  /** Nodes beyond this are left out, deepest and least used last. */
  maxNodes: number;
  /** Text of a node's ids; null = no texts. */
  decode: ((ids: readonly number[]) => string) | null;
}

/** Shows that two namespaces differ without telling a tenant's salt. */
function label(namespace: string): string {
  return namespace === "" ? "" : createHash("sha256").update(namespace).digest("hex").slice(0, 12);
}

export function describeCacheTree(radix: RadixCache, { maxNodes, decode }: CacheTreeOptions): CacheTree {
  const { pageSize } = radix.chains;
  const nodes: CacheTreeNode[] = [];
  let total = 0;
  for (const root of radix.roots) {
    const namespace = label(root.namespace);
    // Level by level, most used first: what is left out is what matters least.
    let level: { node: RadixNode; parent: number; depth: number }[] = [{ node: root, parent: -1, depth: 0 }];
    while (level.length > 0) {
      const next: typeof level = [];
      for (const { node, parent, depth } of level) {
        let index = -1;
        if (node !== root) {
          total++;
          if (nodes.length < maxNodes && (parent >= 0 || node.parent === root)) {
            index = nodes.length;
            nodes.push({
              id: index,
              parent: parent < 0 ? null : parent,
              namespace,
              depth,
              tokens: node.pageCount * pageSize,
              pages: node.pageCount,
              hits: node.hits,
              locks: node.lockRef,
              priority: node.priority,
              idleSeconds: radix.idleSeconds(node),
              ...(decode && { text: decode([...radix.pagesOf(node)].flatMap((page) => [...radix.chains.ids(page)])) }),
            });
          }
        }
        const end = depth + node.pageCount * pageSize;
        for (const child of node.childNodes()) next.push({ node: child, parent: index, depth: end });
      }
      level = next.sort((a, b) => b.node.hits - a.node.hits);
    }
  }
  return {
    pageSize,
    evictableTokens: radix.evictablePages * pageSize,
    protectedTokens: radix.protectedPages * pageSize,
    totalNodes: total,
    nodes,
  };
}
