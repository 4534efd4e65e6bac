/** Copies of whole KV pages out of and into a pool: bytes, order among the steps, lifetimes, and what is refused. */
import { describe, expect, test } from "vitest";
import type { NativeKvBlock } from "../../src/native/addon.js";
import { addon, kvPool, runtime } from "./support.js";

const DTYPES = [
  ["f32", 4],
  ["f16", 2],
  ["bf16", 2],
  ["int8", 1],
  ["fp8_e4m3", 1],
] as const;

describe("KV pages", () => {
  test.each(DTYPES)("of %s go through the pool and come back bit by bit", async (dtype, elementBytes) => {
    const rt = runtime();
    const kv = kvPool({ layers: 3, kvHeads: 2, dtype });
    const scales = elementBytes === 1 ? 2 * 4 * 4 : 0;
    const bytes = addon.kvBlockBytes(kv);
    expect(bytes).toBe(3 * 2 * (2 * 8 * 4 * elementBytes + scales));
    expect(addon.kvPoolBytes(kv)).toBe(8 * bytes);
    const pages = Int32Array.of(7, 0, 3);
    const given = [...pages].map((page) => Uint8Array.from({ length: bytes }, (_, i) => (i * 7 + page * 13) & 255));
    const blocks = given.map((content) => {
      const block = addon.createKvBlock(kv);
      addon.kvBlockView(block).set(content);
      return block;
    });
    // Not awaited: copies run in the order of their submission.
    void addon.loadKvPages(rt, kv, pages, blocks);
    const copies = [...pages].map(() => addon.createKvBlock(kv));
    const saved = addon.saveKvPages(rt, kv, pages, copies);
    for (const block of blocks) addon.closeKvBlock(block);
    await saved;
    expect(copies.map((block) => [...addon.kvBlockView(block)])).toEqual(given.map((content) => [...content]));
    // Pages that were not named are as they were: zero.
    const other = addon.createKvBlock(kv);
    await addon.saveKvPages(rt, kv, Int32Array.of(5), [other]);
    expect(addon.kvBlockView(other).every((byte) => byte === 0)).toBe(true);
    addon.closeRuntime(rt);
  });

  test("outlive their handles while a view or a copy needs them", async () => {
    const rt = runtime();
    const kv = kvPool();
    const block = addon.createKvBlock(kv);
    const view = addon.kvBlockView(block).fill(9);
    const loaded = addon.loadKvPages(rt, kv, Int32Array.of(2), [block]);
    addon.closeKvBlock(block);
    addon.closeKvPool(kv);
    await loaded;
    expect(view.every((byte) => byte === 9)).toBe(true);
    addon.closeRuntime(rt);
  });

  test("are refused by name when an argument is wrong", () => {
    const rt = runtime();
    const kv = kvPool();
    const block = addon.createKvBlock(kv);
    const larger = addon.createKvBlock(kvPool({ layers: 2 }));
    const closed = addon.createKvBlock(kv);
    addon.closeKvBlock(closed);
    const save = (pages: unknown, blocks: unknown) => () =>
      addon.saveKvPages(rt, kv, pages as Int32Array, blocks as NativeKvBlock[]);
    expect(save(Int32Array.of(8), [block])).toThrow(/pages\[0\] must be a page in \[0, 8\), got 8/);
    expect(save(Int32Array.of(-1), [block])).toThrow(/pages\[0\]/);
    expect(save(Int32Array.of(1, 2), [block])).toThrow(/blocks must have one entry per page \(2\), got 1/);
    expect(save(Int32Array.of(1), [larger])).toThrow(
      /blocks\[0\] must have 256 bytes, like a page of this pool, got 512/,
    );
    expect(save(Int32Array.of(1), [closed])).toThrow(/blocks\[0\] is a KV block that was closed/);
    expect(save(Int32Array.of(1), [kv])).toThrow(/blocks\[0\] must be a KV block handle, got a KV pool handle/);
    expect(save([1], [block])).toThrow(/pages must be an Int32Array/);
    expect(save(Int32Array.of(1), block)).toThrow(/blocks must be an array/);
    expect(() => addon.kvBlockView(closed)).toThrow(/closed/);
    addon.closeRuntime(rt);
    expect(save(Int32Array.of(1), [block])).toThrow(/closed/);
  });
});
