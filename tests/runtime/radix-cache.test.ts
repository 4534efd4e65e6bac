import { describe, expect, it } from "vitest";
import { RadixCache } from "../../src/runtime/radix-cache.js";
import { NaivePrefixCache, runPrefixCacheContract } from "../contracts/prefix-cache.js";

runPrefixCacheContract("RadixCache", (pageSize, free) => new RadixCache(pageSize, free));
runPrefixCacheContract("NaivePrefixCache", (pageSize, free) => new NaivePrefixCache(pageSize, free));

describe("RadixCache", () => {
  const ids = (...tokens: number[]) => Int32Array.from(tokens);

  it("peeks without counting as a use and without splitting", () => {
    const freed: number[] = [];
    const cache = new RadixCache(1, (page) => freed.push(page));
    cache.insert(ids(1, 2, 3), [10, 11, 12]);
    cache.insert(ids(7), [20]);
    expect(cache.peek(ids(1, 2, 9)).tokens).toBe(2);
    cache.evict(1);
    expect(freed).toEqual([12]);
  });

  it("refuses to be emptied while a request uses it", () => {
    const cache = new RadixCache(1, () => {});
    cache.insert(ids(1), [10]);
    cache.incLock(cache.matchPrefix(ids(1)).node);
    expect(() => cache.reset()).toThrow(/while requests use it/);
  });

  it("notices a lock that is given back twice", () => {
    const cache = new RadixCache(1, () => {});
    cache.insert(ids(1), [10]);
    const { node } = cache.matchPrefix(ids(1));
    cache.incLock(node);
    cache.decLock(node);
    expect(() => cache.decLock(node)).toThrow(/unlocked more often/);
  });

  it("still evicts in order of use after very many uses of few prefixes", () => {
    const freed: number[] = [];
    const cache = new RadixCache(1, (page) => freed.push(page));
    for (let token = 0; token < 8; token++) cache.insert(ids(token), [token]);
    for (let use = 0; use < 5000; use++) cache.matchPrefix(ids((use * 3) % 8));
    const order = Array.from({ length: 8 }, (_, i) => ((4992 + i) * 3) % 8);
    cache.evict(8);
    expect(freed).toEqual(order);
  });
});
