import { describe, expect, it } from "vitest";
import { PackedInts } from "../../src/runtime/packed-ints.js";
import { PageChains } from "../../src/runtime/page-chains.js";

describe("PackedInts", () => {
  it("takes 2, 3 or 4 bytes per value, and keeps what it has when it widens and grows", () => {
    const ints = new PackedInts(8);
    const put = (index: number, value: number) => {
      ints.widen(value);
      ints.low[index] = value;
      if (ints.high) ints.high[index] = value >>> 16;
    };
    const values = [0, 65_535, 65_536, 151_935, 2 ** 24 - 1, 2 ** 24, 2 ** 31 - 1];
    const bytes = [16, 16, 24, 24, 24, 32, 32];
    for (const [i, value] of values.entries()) {
      put(i, value);
      expect(ints.bytes).toBe(bytes[i]);
      expect(values.slice(0, i + 1).map((_, k) => ints.get(k))).toEqual(values.slice(0, i + 1));
    }
    ints.grow(16);
    expect(ints.bytes).toBe(64);
    expect(values.map((_, i) => ints.get(i))).toEqual(values);
    expect(ints.get(15)).toBe(0);
    put(0, 3);
    expect(ints.get(0)).toBe(3);
  });
});

describe("PageChains", () => {
  it.each([1, 3])("gives back ids and pages of every width, page size %i", (pageSize) => {
    const ids = Int32Array.of(1, 70_000, 2, 2 ** 30, 5, 65_536);
    const count = ids.length / pageSize;
    const pages = Array.from({ length: count }, (_, i) => (i % 2 === 0 ? i : 70_000 + i));
    const chains = new PageChains(pageSize, 0);
    chains.write(pages, 0, count, ids);
    const out = new Int32Array(count);
    expect(chains.follow(pages[0], count, ids, pageSize, out)).toBe(count);
    expect([...out]).toEqual(pages);
    expect(pages.flatMap((page) => [...chains.ids(page)])).toEqual([...ids]);
    const other = ids.slice();
    other[other.length - 1] -= 65_536;
    expect(chains.follow(pages[0], count, other, pageSize, null)).toBe(count - 1);
    expect(chains.holds(pages[count - 1], ids, ids.length - pageSize)).toBe(true);
    expect(chains.holds(pages[count - 1], other, ids.length - pageSize)).toBe(false);
  });
});
