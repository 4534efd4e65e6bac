/**
 * Which unlocked leaf of the radix tree goes first: `--radix-eviction-policy`. A policy is one number per node; the lowest goes
 * first. No two leaves ever rank equal: each was used, and made, by a call of its own.
 */
import type { RadixNode } from "./radix-cache.js";

export interface EvictionPolicy {
  /** What it is, for the flag's help. */
  readonly summary: string;
  /** Exact for counts below 2^20 and calls below 2^32. */
  rank(node: RadixNode): number;
}

/** Makes the first of two numbers decide, and the second only between equals. */
const FIRST = 2 ** 32;
/** Counts beyond this rank alike. */
const MAX_COUNT = 2 ** 20;

const clamp = (count: number) => Math.max(-MAX_COUNT, Math.min(MAX_COUNT, count));

const POLICIES = {
  lru: { summary: "least recently used", rank: (node) => node.lastAccess },
  lfu: { summary: "least often used, then lru", rank: (node) => clamp(node.hits) * FIRST + node.lastAccess },
  fifo: { summary: "oldest", rank: (node) => node.createdAt },
  mru: { summary: "most recently used", rank: (node) => -node.lastAccess },
  filo: { summary: "newest", rank: (node) => -node.createdAt },
  priority: {
    summary: "lowest request priority, then lru",
    rank: (node) => clamp(node.priority) * FIRST + node.lastAccess,
  },
} as const satisfies Record<string, EvictionPolicy>;

export type EvictionPolicyName = keyof typeof POLICIES;
export const EVICTION_POLICIES: Readonly<Record<EvictionPolicyName, EvictionPolicy>> = POLICIES;
export const EVICTION_POLICY_NAMES = Object.keys(POLICIES) as EvictionPolicyName[];
