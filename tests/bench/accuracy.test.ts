/** The arithmetic that accuracy claims rest on. */
import { describe, expect, it } from "vitest";

interface Divergence {
  logSumExp(logits: Float32Array, start: number, size: number): number;
  compareRows(
    reference: Float32Array,
    referenceStart: number,
    logits: Float32Array,
    start: number,
    size: number,
    next: number,
  ): { kl: number; nll: number; same: boolean };
  clusteredMean(values: readonly number[], windows: readonly number[]): { mean: number; se: number };
}
const { clusteredMean, compareRows, logSumExp } = (await import(
  new URL("../../bench/accuracy/divergence.mjs", import.meta.url).href
)) as Divergence;

describe("accuracy bench", () => {
  it("finds the divergence of two small distributions that was computed by hand", () => {
    const p = [0.5, 0.25, 0.25];
    const q = [0.25, 0.25, 0.5];
    const logits = Float32Array.from([9, ...p.map((x) => Math.log(x) + 7), ...q.map(Math.log)]);
    const { kl, nll, same } = compareRows(logits, 1, logits, 4, 3, 2);
    expect(kl).toBeCloseTo(0.5 * Math.log(2) - 0.25 * Math.log(2), 6);
    expect(nll).toBeCloseTo(Math.log(2), 6);
    expect(same).toBe(false);
  });

  it("gives exactly 0 for equal rows, and tells a change of one part in a million from 0", () => {
    const row = Float32Array.from({ length: 1000 }, (_, i) => Math.sin(i) * 5);
    expect(compareRows(row, 0, row, 0, row.length, -1).kl).toBe(0);
    const near = row.slice();
    near[8] *= 1 + 1e-6;
    const { kl } = compareRows(row, 0, near, 0, row.length, -1);
    expect(kl).toBeGreaterThan(0);
    expect(kl).toBeLessThan(1e-11);
  });

  it("does not change when a constant is added to all logits", () => {
    const row = Float32Array.from({ length: 64 }, (_, i) => Math.cos(i * 3));
    const raised = row.map((x) => x + 16);
    expect(logSumExp(raised, 0, 64) - logSumExp(row, 0, 64)).toBeCloseTo(16, 5);
    expect(compareRows(row, 0, raised, 0, 64, -1).kl).toBeLessThan(1e-12);
  });

  it("takes windows, not positions, as independent: copies of a window's value leave the error as it is", () => {
    const once = clusteredMean([1, 3], [0, 1]);
    const often = clusteredMean([1, 1, 1, 1, 3, 3, 3, 3], [0, 0, 0, 0, 1, 1, 1, 1]);
    expect(once).toEqual({ mean: 2, se: 1 });
    expect(often.mean).toBe(2);
    expect(often.se).toBeCloseTo(once.se, 12);
  });
});
