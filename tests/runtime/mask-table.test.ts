import { describe, expect, it } from "vitest";
import { MaskTable, type TokenMask } from "../../src/runtime/mask-table.js";

function table(capacity: number) {
  const uploads: [number, number][] = [];
  const masks = new MaskTable((index, mask) => uploads.push([index, mask[0]]), capacity);
  return { masks, uploads };
}
const mask = (word: number): TokenMask => Int32Array.of(word);

describe("a mask table", () => {
  it("uploads a mask once and names it by the same index afterwards", () => {
    const { masks, uploads } = table(4);
    const [a, b] = [mask(1), mask(2)];
    expect([a, b, a, b, a].map((m) => masks.index(m))).toEqual([0, 1, 0, 1, 0]);
    expect(uploads).toEqual([[0, 1], [1, 2]]); // biome-ignore format: pairs
  });

  it("overwrites the least recently used entry when it is full", () => {
    const { masks, uploads } = table(2);
    const [a, b, c] = [mask(1), mask(2), mask(3)];
    expect([a, b, a, c, a, b].map((m) => masks.index(m))).toEqual([0, 1, 0, 1, 0, 1]);
    expect(uploads).toEqual([[0, 1], [1, 2], [1, 3], [1, 2]]); // biome-ignore format: pairs
  });

  it("takes masks that are views into larger arrays", () => {
    const { masks, uploads } = table(2);
    masks.index(Uint32Array.of(7, 8, 9).subarray(1, 2));
    expect(uploads).toEqual([[0, 8]]);
  });
});
