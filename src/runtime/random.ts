/** Seeded uniform numbers for scheduling and for the seeds of requests that bring none. Never for sampling tokens. */
import { randomInt } from "node:crypto";
import type { Random } from "./policy.js";

/** splitmix32. @param seed null = a fresh one */
export function createRandom(seed: number | null): Random {
  let state = (seed ?? randomInt(2 ** 32)) | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state ^ (state >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a2d97);
    z ^= z >>> 15;
    return (z >>> 0) / 2 ** 32;
  };
}
