import { describe, expect, it } from "vitest";
import { PageChains } from "../../src/runtime/page-chains.js";
import { RadixCache, type RadixNode } from "../../src/runtime/radix-cache.js";
import { NaivePrefixCache, runPrefixCacheContract } from "../contracts/prefix-cache.js";

runPrefixCacheContract("RadixCache", (pageSize, free, policy) => new RadixCache({ pageSize, free, policy }));
runPrefixCacheContract("NaivePrefixCache", (...args) => new NaivePrefixCache(...args));

describe("RadixCache", () => {
  const ids = (...tokens: number[]) => Int32Array.from(tokens);

  it("peeks without counting as a use and without splitting", () => {
    const freed: number[] = [];
    const cache = new RadixCache({ pageSize: 1, free: (page) => freed.push(page) });
    cache.insert(ids(1, 2, 3), [10, 11, 12]);
    cache.insert(ids(7), [20]);
    expect(cache.peek(ids(1, 2, 9)).tokens).toBe(2);
    cache.evict(1);
    expect(freed).toEqual([12]);
  });

  it("refuses to be emptied while a request uses it", () => {
    const cache = new RadixCache({ pageSize: 1, free: () => {} });
    cache.insert(ids(1), [10]);
    cache.incLock(cache.matchPrefix(ids(1)).node);
    expect(() => cache.reset()).toThrow(/while requests use it/);
  });

  it("notices a lock that is given back twice", () => {
    const cache = new RadixCache({ pageSize: 1, free: () => {} });
    cache.insert(ids(1), [10]);
    const { node } = cache.matchPrefix(ids(1));
    cache.incLock(node);
    cache.decLock(node);
    expect(() => cache.decLock(node)).toThrow(/unlocked more often/);
  });

  it("still evicts in order of use after very many uses of few prefixes", () => {
    const freed: number[] = [];
    const cache = new RadixCache({ pageSize: 1, free: (page) => freed.push(page) });
    for (let token = 0; token < 8; token++) cache.insert(ids(token), [token]);
    for (let use = 0; use < 5000; use++) cache.matchPrefix(ids((use * 3) % 8));
    const order = Array.from({ length: 8 }, (_, i) => ((4992 + i) * 3) % 8);
    cache.evict(8);
    expect(freed).toEqual(order);
  });
});

describe("RadixCache in memory", () => {
  const sequence = (length: number, from = 0) => Int32Array.from({ length }, (_, i) => from + i);
  const pageList = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i);

  it("keeps at most 3 + 3 / pageSize bytes per token outside of its nodes, whatever is inserted, split and evicted", () => {
    for (const pageSize of [1, 16, 32]) {
      const pages = 4096 / pageSize;
      const cache = new RadixCache({ pageSize, free: () => {}, pages });
      cache.insert(sequence(4096), pageList(pages));
      cache.matchPrefix(sequence(2048));
      cache.evict(pages / 4);
      // Ids and page ids below 65,536 take 2 bytes.
      expect(cache.chains.bytes).toBe(4096 * (2 + 2 / pageSize));
      cache.insert(sequence(4096, 150_000), pageList(pages));
      expect(cache.chains.bytes).toBe(4096 * (3 + 2 / pageSize));
    }
  });

  it("makes one node per insertion and one per place where texts part", () => {
    const cache = new RadixCache({ pageSize: 1, free: () => {} });
    const count = (node: RadixNode): number => [...node.childNodes()].reduce((sum, child) => sum + count(child), 1);
    const nodes = () => [...cache.roots].reduce((sum, root) => sum + count(root) - 1, 0);
    cache.insert(sequence(1000), pageList(1000));
    expect(nodes()).toBe(1);
    cache.insert(Int32Array.of(...sequence(500), 7), pageList(501, 1000));
    expect(nodes()).toBe(3);
    cache.matchPrefix(sequence(250));
    expect(nodes()).toBe(4);
    cache.matchPrefix(sequence(250));
    expect(nodes()).toBe(4);
  });

  it("takes the tail off a long text in the same order, one page at a time or many", () => {
    const evictAll = (step: number) => {
      const freed: number[] = [];
      const cache = new RadixCache({ pageSize: 2, free: (page) => freed.push(page) });
      cache.insert(sequence(2000), pageList(1000));
      while (cache.evict(step) > 0);
      expect(cache.evictablePages).toBe(0);
      return freed;
    };
    const expected = pageList(1000).reverse();
    for (const step of [1, 3, 63, 64, 65, 200, 1000]) expect(evictAll(step)).toEqual(expected);
  });

  it("tells children apart whose first pages have the same key", () => {
    const chains = new PageChains(2, 0);
    const seen = new Map<number, Int32Array>();
    let clash: [Int32Array, Int32Array] | null = null;
    for (let i = 0; clash === null; i++) {
      const ids = Int32Array.of(Math.imul(i, 40503) & 0xffff, Math.imul(i, 2654435) >>> 8);
      const other = seen.get(chains.key(ids, 0));
      if (other && (other[0] !== ids[0] || other[1] !== ids[1])) clash = [other, ids];
      seen.set(chains.key(ids, 0), ids);
    }
    const freed: number[] = [];
    const cache = new RadixCache({ pageSize: 2, free: (page) => freed.push(page) });
    const [a, b] = clash;
    expect(cache.insert(a, [1]).present).toBe(0);
    expect(cache.insert(b, [2]).present).toBe(0);
    expect(cache.insert(Int32Array.of(...b, ...a), [3, 4]).present).toBe(1);
    expect([a, b].map((ids) => cache.matchPrefix(ids).pages)).toEqual([[1], [2]]);
    cache.evict(1);
    expect(cache.matchPrefix(b).pages).toEqual([2]);
    cache.evict(2);
    expect(freed).toEqual([4, 1, 2]);
    expect(cache.matchPrefix(a).pages).toEqual([]);
  });
});
