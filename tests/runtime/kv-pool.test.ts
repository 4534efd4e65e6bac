import { describe, expect, it } from "vitest";
import { KvPool } from "../../src/runtime/kv-pool.js";

describe("KvPool", () => {
  it("hands out low pages first and gives back all or nothing", () => {
    const pool = new KvPool(4, 16);
    const table: number[] = [9];
    expect(pool.allocate(3, table)).toBe(true);
    expect(table).toEqual([9, 0, 1, 2]);
    expect(pool.allocate(2, table)).toBe(false);
    expect(table).toHaveLength(4);
    expect(pool.freePages).toBe(1);
    pool.free(1);
    expect(pool.allocate(1, table)).toBe(true);
    expect(table.at(-1)).toBe(1);
  });

  it("counts tokens in whole pages", () => {
    const pool = new KvPool(4, 16);
    expect(pool.capacity).toBe(64);
    expect([0, 1, 16, 17].map((tokens) => pool.pagesFor(tokens))).toEqual([0, 1, 1, 2]);
  });

  it("throws when a page is freed twice or does not exist", () => {
    const pool = new KvPool(2, 1);
    const table: number[] = [];
    pool.allocate(1, table);
    pool.free(table[0]);
    expect(() => pool.free(table[0])).toThrow(/freed twice/);
    expect(() => pool.free(7)).toThrow(/does not exist/);
  });
});
