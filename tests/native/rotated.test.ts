/** Numerics "fast": products of rotated rows are the reference's bit for bit in every tier, and plans refuse other matrices. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Opcode } from "../../src/graph/instructions.js";
import { rotatedProduct, roundActivations, roundWeights } from "../../src/graph/rotated.js";
import type { NativeKvPool, NativeRuntime, NativeWeight } from "../../src/native/addon.js";
import { addon, bits, f, kvPool, mapFloats, matrix, noise, PlanWriter, runtime, step, table } from "./support.js";

const F32 = 0;
const ROWS = 45; // a block and a part of one
const TIERS = addon.tiers().filter(({ supported }) => supported);

function rotated(of: NativeRuntime, rows: number, columns: number, values: Float32Array): Promise<NativeWeight> {
  const sources = [{ file: mapFloats(values), offset: 0, type: F32, rows }];
  return addon.packMatrix(of, { columns, sources, rotated: true });
}

const rowsOf = (values: Float32Array, columns: number) =>
  Array.from({ length: values.length / columns }, (_, r) => values.subarray(r * columns, (r + 1) * columns));

/** Activations with an outlier in every row. */
function activations(rows: number, columns: number): Float32Array {
  return noise(rows * columns, 3).map((x, i) => (i % columns === 5 ? 40 * x : x));
}

describe.each(TIERS)("tier $name", ({ name }) => {
  let rt: NativeRuntime;
  beforeAll(() => {
    rt = runtime({ tier: name });
  });
  afterAll(() => addon.closeRuntime(rt));

  test.each([7, 24, 64, 192, 896, 1280])("gives the bits of the reference for rows of %i", async (columns) => {
    const m = 37;
    const values = noise(ROWS * columns, 1);
    const x = activations(m, columns);
    const weight = await rotated(rt, ROWS, columns, values);
    const weights = rowsOf(values, columns).map(roundWeights);
    const lines = rowsOf(x, columns).map((row) => roundActivations(row, 1));
    const expected = Float32Array.from(lines.flatMap((row) => weights.map((w) => rotatedProduct(row, w))));
    expect(bits(addon.matmul(rt, weight, x, m))).toEqual(bits(expected));
    // Any number of rows at once.
    for (const count of [1, 2, 3, 4, 5, 16, 17, 33])
      expect(bits(addon.matmul(rt, weight, x.slice(0, count * columns), count))).toEqual(
        bits(expected.slice(0, count * ROWS)),
      );
    addon.closeWeight(weight);
  });

  test("gives the head's input twice the bits", async () => {
    const columns = 96;
    const tokens = [3, 1, 2, 0];
    const embeddings = activations(4, columns);
    const values = noise(ROWS * columns, 1);
    const kv = kvPool();
    const p = new PlanWriter(4, 4);
    p.numerics = "fast";
    const x = p.buffer(columns);
    p.op(Opcode.Embed, x, p.weight(table(4, columns, embeddings)), f(1)).head();
    const rows = p.buffer(columns, "rows");
    p.logits = p.buffer(ROWS, "rows");
    p.op(Opcode.TakeRows, rows, x).op(
      Opcode.Linear,
      p.logits,
      rows,
      p.weight(await rotated(rt, ROWS, columns, values)),
      -1,
    );
    const plan = p.create(rt, 4, kv);
    const specs = tokens.map((_, token) => ({ token }));
    const { logits } = await addon.runPlan(plan, step([{ tokens }], specs, { logits: true }));
    const weights = rowsOf(values, columns).map(roundWeights);
    const expected = tokens.flatMap((token) => {
      const lines = roundActivations(rowsOf(embeddings, columns)[token], 2);
      return weights.slice(0, 4).map((w) => rotatedProduct(lines, w));
    });
    const found = rowsOf(logits as Float32Array, (logits as Float32Array).length / 4).map((row) => row.slice(0, 4));
    expect(bits(Float32Array.from(found.flatMap((row) => [...row])))).toEqual(bits(Float32Array.from(expected)));
    addon.closePlan(plan);
    addon.closeKvPool(kv);
  });
});

describe("the door", () => {
  let rt: NativeRuntime;
  let kv: NativeKvPool;
  beforeAll(() => {
    rt = runtime();
    kv = kvPool();
  });
  afterAll(() => addon.closeRuntime(rt));

  test("says what rounding changed, and of matrices as in the file that nothing did", async () => {
    const values = noise(ROWS * 128, 1);
    const { roundingError } = addon.weightInfo(await rotated(rt, ROWS, 128, values));
    const squares = { all: 0, changed: 0 };
    for (const row of rowsOf(values, 128)) {
      const { codes, scale } = roundWeights(row);
      // The rotation keeps lengths up to its own: compare with the rotated row, found from products with unit vectors.
      const rotatedRow = Array.from({ length: 128 }, (_, k) =>
        row.reduce((sum, x, i) => sum + (parity(i & k) ? -x : x), 0),
      );
      for (const [k, x] of rotatedRow.entries()) {
        squares.all += x * x;
        squares.changed += (x - codes[k] * scale * 128) ** 2;
      }
    }
    expect(roundingError).toBeCloseTo(Math.sqrt(squares.changed / squares.all), 6);
    expect(addon.weightInfo(await matrix(rt, ROWS, 128, values)).roundingError).toBe(0);
  });

  const planOf = (weight: NativeWeight, numerics: string) => {
    const p = new PlanWriter(4, 4);
    p.numerics = numerics;
    const [x, y] = [p.buffer(16), p.buffer(ROWS)];
    p.op(Opcode.Embed, x, p.weight(table(8, 16, noise(128, 1))), f(1)).op(Opcode.Linear, y, x, p.weight(weight), -1);
    return p.create(rt, 0, kv);
  };

  test.each(["f32", "exact", "faithful"])("numerics %s take no rotated matrix", async (numerics) => {
    const weight = await rotated(rt, ROWS, 16, noise(ROWS * 16, 1));
    expect(() => planOf(weight, numerics)).toThrow(
      `instruction 1 (Linear): matrix is packed rotated, for numerics fast, but the plan's numerics are ${numerics}`,
    );
  });

  test("numerics fast takes no other", async () => {
    const weight = await matrix(rt, ROWS, 16, noise(ROWS * 16, 1));
    expect(() => planOf(weight, "fast")).toThrow(
      "instruction 1 (Linear): matrix is packed as it is in the file, not rotated, but the plan's numerics are fast",
    );
  });

  test("columns beyond 32-bit sums and other values than true and false are refused", () => {
    const file = mapFloats(new Float32Array(131073));
    const sources = [{ file, offset: 0, type: F32, rows: 1 }];
    expect(() => addon.packMatrix(rt, { columns: 131073, sources, rotated: true })).toThrow(
      "options.columns must be at most 131072 for a rotated matrix, got 131073",
    );
    expect(() => addon.packMatrix(rt, { columns: 16, sources, rotated: 1 as unknown as boolean })).toThrow(
      "options.rotated must be",
    );
  });
});

function parity(x: number): boolean {
  let odd = false;
  for (let rest = x; rest !== 0; rest &= rest - 1) odd = !odd;
  return odd;
}
