/**
 * What every prefix cache must do, as one suite: fixed examples, and random call sequences compared with a naive cache
 * that keeps one record per page and searches them all.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EVICTION_POLICY_NAMES, type EvictionPolicyName } from "../../src/runtime/eviction-policy.js";
import type { Insertion, Prefix, PrefixCache, PrefixMatch } from "../../src/runtime/radix-cache.js";

interface PageRecord {
  /** Namespace and all tokens up to the end of this page. */
  prefix: string;
  parent: string;
  page: number;
  lockRef: number;
  lastAccess: number;
  createdAt: number;
  hits: number;
  priority: number;
  wanted: number;
}

/** Who goes first, written as the words say it: [decisive, between equals]. */
const ORDER: Record<EvictionPolicyName, (r: PageRecord) => readonly [number, number]> = {
  lru: (r) => [r.lastAccess, 0],
  lfu: (r) => [r.hits, r.lastAccess],
  fifo: (r) => [r.createdAt, 0],
  mru: (r) => [-r.lastAccess, 0],
  filo: (r) => [-r.createdAt, 0],
  priority: (r) => [r.priority, r.lastAccess],
};

type Create<Node> = (pageSize: number, free: (page: number) => void, policy?: EvictionPolicyName) => PrefixCache<Node>;

/** One record per page, keyed by the whole prefix; every question is answered by looking at all records. */
export class NaivePrefixCache implements PrefixCache<string> {
  readonly #records = new Map<string, PageRecord>();
  #clock = 0;
  readonly #pageSize: number;
  readonly #free: (page: number) => void;

  readonly #policy: EvictionPolicyName;

  constructor(pageSize: number, free: (page: number) => void, policy: EvictionPolicyName = "lru") {
    this.#pageSize = pageSize;
    this.#free = free;
    this.#policy = policy;
  }

  get evictablePages(): number {
    return [...this.#records.values()].filter((r) => r.lockRef === 0).length;
  }

  get protectedPages(): number {
    return [...this.#records.values()].filter((r) => r.lockRef > 0).length;
  }

  #prefixes(ids: Int32Array, namespace: string): string[] {
    const count = Math.floor(ids.length / this.#pageSize);
    return Array.from({ length: count }, (_, i) => `${namespace}|${ids.slice(0, (i + 1) * this.#pageSize).join()}`);
  }

  matchPrefix(ids: Int32Array, namespace = ""): PrefixMatch<string> {
    const now = ++this.#clock;
    const pages: number[] = [];
    let node = `${namespace}|`;
    for (const prefix of this.#prefixes(ids, namespace)) {
      const record = this.#records.get(prefix);
      if (!record) break;
      record.lastAccess = now;
      record.hits++;
      pages.push(record.page);
      node = prefix;
    }
    return { pages, node };
  }

  insert(ids: Int32Array, pages: readonly number[], namespace = "", priority = 0): Insertion<string> {
    const now = ++this.#clock;
    const held: number[] = [];
    let present = 0;
    let parent = `${namespace}|`;
    for (const [i, prefix] of this.#prefixes(ids, namespace).entries()) {
      const record = this.#records.get(prefix);
      if (record) {
        record.lastAccess = now;
        record.priority = Math.max(record.priority, priority);
        held.push(record.page);
        present++;
      } else {
        const fresh = {
          lockRef: 0,
          lastAccess: now,
          createdAt: now,
          hits: 0,
          priority: Math.max(0, priority),
          wanted: 0,
        };
        this.#records.set(prefix, { prefix, parent, page: pages[i], ...fresh });
        held.push(pages[i]);
      }
      parent = prefix;
    }
    return { present, pages: held, node: parent };
  }

  want(prefixes: Iterable<Prefix>): void {
    for (const record of this.#records.values()) record.wanted = 0;
    for (const [i, { ids, namespace }] of [...prefixes].entries()) {
      for (const prefix of this.#prefixes(ids, namespace)) {
        const record = this.#records.get(prefix);
        if (record && record.wanted === 0) record.wanted = 1000 - i;
      }
    }
  }

  evict(count: number): number {
    for (let evicted = 0; evicted < count; evicted++) {
      const records = [...this.#records.values()];
      const [oldest] = records
        .filter((r) => r.lockRef === 0 && !records.some((other) => other.parent === r.prefix))
        .sort((a, b) => {
          const [x, y] = [a, b].map(ORDER[this.#policy]);
          return a.wanted - b.wanted || x[0] - y[0] || x[1] - y[1];
        });
      if (!oldest) return evicted;
      this.#records.delete(oldest.prefix);
      this.#free(oldest.page);
    }
    return count;
  }

  #lock(node: string, by: number): void {
    for (let r = this.#records.get(node); r; r = this.#records.get(r.parent)) r.lockRef += by;
  }

  incLock(node: string): void {
    this.#lock(node, 1);
  }

  decLock(node: string): void {
    this.#lock(node, -1);
  }

  reset(): void {
    for (const { page } of this.#records.values()) this.#free(page);
    this.#records.clear();
  }
}

/** A cache over a pool of numbered pages, used the way requests use it. */
class Harness<Node> {
  readonly cache: PrefixCache<Node>;
  readonly freed: number[] = [];
  readonly #locks: Node[] = [];
  readonly #pageSize: number;
  #nextPage = 0;

  constructor(create: Create<Node>, pageSize: number, policy: EvictionPolicyName) {
    this.cache = create(pageSize, (page) => this.freed.push(page), policy);
    this.#pageSize = pageSize;
  }

  /** What a caller can see of one call. */
  apply(op: Operation): unknown {
    switch (op.type) {
      case "insert": {
        const ids = Int32Array.from(op.ids);
        const pages = Array.from({ length: Math.floor(ids.length / this.#pageSize) }, () => this.#nextPage++);
        const { present, pages: held } = this.cache.insert(ids, pages, op.namespace, op.priority);
        return { present, held };
      }
      case "match":
        return this.cache.matchPrefix(Int32Array.from(op.ids), op.namespace).pages;
      case "lock": {
        const { node, pages } = this.cache.matchPrefix(Int32Array.from(op.ids), op.namespace);
        this.cache.incLock(node);
        this.#locks.push(node);
        return pages;
      }
      case "unlock": {
        const [node] = this.#locks.splice(op.index % Math.max(1, this.#locks.length), 1);
        if (node !== undefined) this.cache.decLock(node);
        return this.#locks.length;
      }
      case "want":
        this.cache.want(op.prefixes.map(({ ids, namespace }) => ({ ids: Int32Array.from(ids), namespace })));
        return null;
      case "evict":
        return this.cache.evict(op.count);
    }
  }

  get sizes(): readonly number[] {
    return [this.cache.evictablePages, this.cache.protectedPages];
  }

  unlockAll(): void {
    for (const node of this.#locks.splice(0)) this.cache.decLock(node);
  }
}

type Operation =
  | { type: "insert"; ids: number[]; namespace: string; priority: number }
  | { type: "match" | "lock"; ids: number[]; namespace: string }
  | { type: "unlock"; index: number }
  | { type: "want"; prefixes: { ids: number[]; namespace: string }[] }
  | { type: "evict"; count: number };

function operations(pageSize: number): fc.Arbitrary<Operation[]> {
  // Few distinct tokens and page-like repetition: prefixes collide, diverge inside pages and inside nodes.
  const ids = fc
    .array(fc.tuple(fc.integer({ min: 0, max: 2 }), fc.integer({ min: 1, max: 2 * pageSize })), { maxLength: 6 })
    .map((runs) => runs.flatMap(([token, times]) => Array<number>(times).fill(token)));
  const namespace = fc.constantFrom("", "other");
  const onIds = (type: "match" | "lock") => fc.record({ type: fc.constant(type), ids, namespace });
  const priority = fc.nat(3);
  return fc.array(
    fc.oneof(
      { weight: 4, arbitrary: fc.record({ type: fc.constant("insert" as const), ids, namespace, priority }) },
      { weight: 2, arbitrary: onIds("match") },
      { weight: 2, arbitrary: onIds("lock") },
      { weight: 2, arbitrary: fc.record({ type: fc.constant("unlock" as const), index: fc.nat(20) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          type: fc.constant("want" as const),
          prefixes: fc.array(fc.record({ ids, namespace }), { maxLength: 3 }),
        }),
      },
      {
        weight: 2,
        arbitrary: fc.record({ type: fc.constant("evict" as const), count: fc.integer({ min: 0, max: 6 }) }),
      },
    ),
    { maxLength: 60 },
  );
}

export function runPrefixCacheContract<Node>(name: string, create: Create<Node>): void {
  describe(`${name} as a prefix cache`, () => {
    const make = (pageSize: number) => {
      const freed: number[] = [];
      return { cache: create(pageSize, (page) => freed.push(page)), freed };
    };
    const ids = (...tokens: number[]) => Int32Array.from(tokens);

    it("matches nothing before anything was inserted", () => {
      const { cache } = make(1);
      expect(cache.matchPrefix(ids(1, 2, 3)).pages).toEqual([]);
    });

    it("returns the pages of the longest common prefix, even inside a run of tokens", () => {
      const { cache } = make(1);
      expect(cache.insert(ids(1, 2, 3, 4), [10, 11, 12, 13]).present).toBe(0);
      expect(cache.matchPrefix(ids(1, 2, 9)).pages).toEqual([10, 11]);
      expect(cache.matchPrefix(ids(1, 2, 3, 4, 5)).pages).toEqual([10, 11, 12, 13]);
      expect(cache.matchPrefix(ids(2)).pages).toEqual([]);
    });

    it("says how many pages it had already, and keeps its own for them", () => {
      const { cache } = make(2);
      cache.insert(ids(1, 2, 3, 4), [10, 11]);
      expect(cache.insert(ids(1, 2, 3, 5, 6, 7), [20, 21, 22])).toMatchObject({ present: 1, pages: [10, 21, 22] });
      expect(cache.matchPrefix(ids(1, 2, 3, 5, 6, 7)).pages).toEqual([10, 21, 22]);
    });

    it("shares only whole pages", () => {
      const { cache } = make(4);
      cache.insert(ids(1, 2, 3, 4, 5, 6), [10]);
      expect(cache.matchPrefix(ids(1, 2, 3, 4, 5, 6)).pages).toEqual([10]);
      expect(cache.matchPrefix(ids(1, 2, 3)).pages).toEqual([]);
      expect(cache.matchPrefix(ids(1, 2, 3, 9)).pages).toEqual([]);
    });

    it("keeps namespaces apart", () => {
      const { cache } = make(1);
      cache.insert(ids(1, 2), [10, 11], "a");
      expect(cache.matchPrefix(ids(1, 2)).pages).toEqual([]);
      expect(cache.matchPrefix(ids(1, 2), "b").pages).toEqual([]);
      expect(cache.matchPrefix(ids(1, 2), "a").pages).toEqual([10, 11]);
    });

    it("evicts the least recently used pages first, from the end of a prefix", () => {
      const { cache, freed } = make(1);
      cache.insert(ids(1, 2, 3), [10, 11, 12]);
      cache.insert(ids(7, 8), [20, 21]);
      cache.matchPrefix(ids(1));
      expect(cache.evict(3)).toBe(3);
      expect(freed).toEqual([12, 11, 21]);
      expect(cache.matchPrefix(ids(1, 2, 3)).pages).toEqual([10]);
    });

    it("evicts what is wanted after everything else, until other prefixes are", () => {
      const { cache, freed } = make(1);
      cache.insert(ids(1, 2, 3), [10, 11, 12]);
      cache.insert(ids(7, 8), [20, 21]);
      cache.want([{ ids: ids(1, 2, 9), namespace: "" }]);
      cache.insert(ids(5), [30]);
      expect(cache.evict(2)).toBe(2);
      expect(freed).toEqual([12, 21]);
      expect(cache.evict(3)).toBe(3);
      expect(freed.slice(2)).toEqual([20, 30, 11]);
      cache.insert(ids(7, 8), [20, 21]);
      cache.want([]);
      expect(cache.evict(1)).toBe(1);
      expect(freed.slice(5)).toEqual([10]);
    });

    it("never evicts what is locked, nor what locked pages hang on", () => {
      const { cache, freed } = make(1);
      cache.insert(ids(1, 2, 3), [10, 11, 12]);
      const { node } = cache.matchPrefix(ids(1, 2));
      cache.incLock(node);
      expect([cache.evictablePages, cache.protectedPages]).toEqual([1, 2]);
      expect(cache.evict(100)).toBe(1);
      expect(freed).toEqual([12]);
      cache.decLock(node);
      expect(cache.evict(100)).toBe(2);
      expect([cache.evictablePages, cache.protectedPages]).toEqual([0, 0]);
    });

    it("keeps a lock right when the locked run of tokens is split later", () => {
      const { cache } = make(1);
      cache.insert(ids(1, 2, 3, 4), [10, 11, 12, 13]);
      const { node } = cache.matchPrefix(ids(1, 2, 3, 4));
      cache.incLock(node);
      cache.insert(ids(1, 2, 9), [20, 21, 22]);
      expect([cache.evictablePages, cache.protectedPages]).toEqual([1, 4]);
      cache.decLock(node);
      expect([cache.evictablePages, cache.protectedPages]).toEqual([5, 0]);
    });

    it("frees every page at reset and is usable afterwards", () => {
      const { cache, freed } = make(1);
      cache.insert(ids(1, 2), [10, 11]);
      cache.insert(ids(1, 3), [20, 21], "a");
      cache.reset();
      expect(freed.sort()).toEqual([10, 11, 20, 21]);
      expect(cache.insert(ids(1, 2), [30, 31]).present).toBe(0);
      expect(cache.matchPrefix(ids(1, 2)).pages).toEqual([30, 31]);
    });

    const cases = [1, 2, 4].flatMap((size) => EVICTION_POLICY_NAMES.map((policy) => [size, policy] as const));
    it.each(cases)(
      "behaves like the naive cache, call by call, with pages of %i and %s eviction",
      (pageSize, policy) => {
        fc.assert(
          fc.property(operations(pageSize), (calls) => {
            const tested = new Harness(create, pageSize, policy);
            const naive = new Harness((...args) => new NaivePrefixCache(...args), pageSize, policy);
            for (const call of calls) {
              expect(tested.apply(call)).toEqual(naive.apply(call));
              expect(tested.sizes).toEqual(naive.sizes);
              expect(tested.freed).toEqual(naive.freed);
            }
            tested.unlockAll();
            naive.unlockAll();
            tested.cache.evict(1e9);
            naive.cache.evict(1e9);
            expect(tested.sizes).toEqual([0, 0]);
            expect(tested.freed).toEqual(naive.freed);
          }),
          { numRuns: 120 },
        );
      },
    );
  });
}
