/**
 * Order of the waiting queue. Each policy returns the requests in the order in which they may be admitted.
 *
 * - fcfs: arrival.                          - lpm: longest cached prefix first.
 * - lof: largest maxNewTokens first.        - dfs-weight: depth-first over the prefix tree, heavier subtrees first.
 * - random: shuffled.
 *
 * lpm and dfs-weight look every waiting request up in the tree, so they fall back to fcfs in long queues (SGLang's
 * limit) and without a prefix cache.
 */
import { MAX_MATCHED_QUEUE } from "./kv-cache.js";
import type { RadixCache, RadixNode } from "./radix-cache.js";
import type { Req } from "./request.js";

export const SCHEDULE_POLICIES = ["fcfs", "lpm", "dfs-weight", "lof", "random"] as const;
export type SchedulePolicy = (typeof SCHEDULE_POLICIES)[number];

/** Uniform numbers in [0, 1). */
export type Random = () => number;

function longestPrefixFirst(waiting: readonly Req[], radix: RadixCache): Req[] {
  const matched = new Map(waiting.map((req) => [req, radix.peek(matchable(req), req.namespace).tokens]));
  return [...waiting].sort((a, b) => (matched.get(b) as number) - (matched.get(a) as number));
}

function depthFirst(waiting: readonly Req[], radix: RadixCache): Req[] {
  const ends = new Map<RadixNode, Req[]>();
  const weights = new Map<RadixNode, number>();
  const roots = new Set<RadixNode>();
  const uncached: Req[] = [];
  for (const req of waiting) {
    const { node } = radix.peek(matchable(req), req.namespace);
    if (!node) {
      uncached.push(req);
      continue;
    }
    ends.set(node, [...(ends.get(node) ?? []), req]);
    for (let n: RadixNode | null = node; n; n = n.parent) {
      weights.set(n, (weights.get(n) ?? 0) + 1);
      if (!n.parent) roots.add(n);
    }
  }
  // Post-order with heavy subtrees first, as in SGLang, is the reverse of pre-order with light ones first.
  const heaviestFirst = (a: RadixNode, b: RadixNode) => (weights.get(b) as number) - (weights.get(a) as number);
  const preOrder: RadixNode[] = [];
  const stack = [...roots].sort(heaviestFirst);
  for (let node = stack.pop(); node; node = stack.pop()) {
    preOrder.push(node);
    stack.push(...[...node.childNodes()].filter((child) => weights.has(child)).sort(heaviestFirst));
  }
  const order = preOrder.reverse().flatMap((node) => ends.get(node) ?? []);
  return [...order, ...uncached];
}

function matchable(req: Req): Int32Array {
  return req.ids.subarray(0, req.matchLimit);
}

function shuffle(waiting: readonly Req[], random: Random): Req[] {
  const order = [...waiting];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** @param waiting in order of arrival, retracted requests in front */
export function orderWaiting(
  policy: SchedulePolicy,
  waiting: readonly Req[],
  radix: RadixCache | null,
  random: Random,
): readonly Req[] {
  switch (policy) {
    case "lpm":
      return radix && waiting.length <= MAX_MATCHED_QUEUE ? longestPrefixFirst(waiting, radix) : waiting;
    case "dfs-weight":
      return radix && waiting.length <= MAX_MATCHED_QUEUE ? depthFirst(waiting, radix) : waiting;
    case "lof":
      return [...waiting].sort((a, b) => b.maxNewTokens - a.maxNewTokens);
    case "random":
      return shuffle(waiting, random);
    case "fcfs":
      return waiting;
  }
}
