/** Products that use their outputs up at once: the same bits as the instructions they stand for, and less written. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DTYPES } from "../../src/core/dtype.js";
import { Activation, Opcode } from "../../src/graph/instructions.js";
import {
  isStepRowsError,
  type NativeKvPool,
  type NativePlan,
  type NativeRuntime,
  NUMERICS,
} from "../../src/native/addon.js";
import {
  addon,
  bits,
  f,
  kvPool,
  mapFloats,
  matrix,
  noise,
  PlanWriter,
  type RowSpec,
  runtime,
  step,
  table,
  writeTemporary,
} from "./support.js";

const TOKENS = 600; // more than one tile of rows
const HIDDEN = 64;
const INNER = 352; // 11 blocks: an odd number of them
const VOCAB = 2900;
const PADDED = 2920;

let rt: NativeRuntime;
let kv: NativeKvPool;
beforeAll(() => {
  rt = runtime();
  kv = kvPool({ pages: TOKENS / 4 });
});
afterAll(() => addon.closeRuntime(rt));

/** Two halves of Q8_0 rows, any codes and a scale of 2^-9. */
function quantised(rows: number, columns: number, seed: number, rotated: boolean) {
  const blocks = (rows * columns) / 32;
  const bytes = new Uint8Array(blocks * 34);
  for (let i = 0; i < blocks; i++) {
    new DataView(bytes.buffer).setUint16(i * 34, 0x1800, true);
    for (let k = 0; k < 32; k++) bytes[i * 34 + 2 + k] = (i * 31 + k * 57 + seed * 13) & 0xff;
  }
  const file = addon.mapFile(writeTemporary(bytes));
  const half = { file, type: DTYPES.Q8_0.ggml, rows: rows / 2 };
  return addon.packMatrix(rt, {
    columns,
    rotated,
    sources: [
      { ...half, offset: 0 },
      { ...half, offset: bytes.length / 2 },
    ],
  });
}

/** embed, norm, gate and up, down, add; logits of every row. */
async function mlp(fused: boolean, numerics: string): Promise<NativePlan> {
  const p = new PlanWriter(TOKENS, 64);
  p.numerics = numerics;
  const [x, normed, gateUp, gated, projected] = [HIDDEN, HIDDEN, 2 * INNER, INNER, HIDDEN].map((c) => p.buffer(c));
  const embed = p.weight(table(VOCAB, HIDDEN, noise(VOCAB * HIDDEN, 1)));
  const product = async (rows: number, columns: number, seed: number) =>
    p.weight(await quantised(rows, columns, seed, numerics === "fast"));
  const [up, down] = [await product(2 * INNER, HIDDEN, 2), await product(HIDDEN, INNER, 3)];
  const norm = p.weight(addon.uploadVector(noise(HIDDEN, 4)));
  const bias = p.weight(addon.uploadVector(noise(2 * INNER, 5)));
  p.op(Opcode.Embed, x, embed, f(1)).op(Opcode.RmsNorm, normed, x, norm, f(1e-6), 1);
  if (fused) p.op(Opcode.GatedLinear, gated, normed, up, bias, Activation.Silu);
  else p.op(Opcode.Linear, gateUp, normed, up, bias).op(Opcode.GatedAct, gated, gateUp, Activation.Silu);
  p.op(Opcode.Linear, projected, gated, down, -1);
  p.op(Opcode.AddRmsNorm, x, normed, x, projected, norm, f(1e-6)).head();
  const rows = p.buffer(HIDDEN, "rows");
  p.logits = p.buffer(PADDED, "rows");
  p.op(Opcode.TakeRows, rows, normed);
  const head = await product(PADDED, HIDDEN, 7);
  p.op(fused ? Opcode.Logits : Opcode.Linear, p.logits, rows, head, -1);
  return p.create(rt, VOCAB, kv);
}

describe.each(NUMERICS)("numerics %s", (numerics) => {
  let plain: NativePlan;
  let fused: NativePlan;
  beforeAll(async () => {
    plain = await mlp(false, numerics);
    fused = await mlp(true, numerics);
  });
  afterAll(() => [plain, fused].map((plan) => addon.closePlan(plan)));

  test.each([1, 2, 3, 8, 33, TOKENS])(
    "gate, up and activation of %i rows in one instruction, bit for bit",
    async (n) => {
      const tokens = Array.from({ length: n }, (_, i) => (i * 37) % VOCAB);
      const rows: RowSpec[] = Array.from({ length: Math.min(n, 20) }, (_, i) => ({ token: n - 1 - i }));
      const [a, b] = await Promise.all(
        [plain, fused].map((plan) => addon.runPlan(plan, step([{ tokens }], rows, { logits: true }))),
      );
      expect(a.logits?.every(Number.isFinite)).toBe(true);
      expect(bits(b.logits as Float32Array)).toEqual(bits(a.logits as Float32Array));
    },
  );

  test("rows get the ids they would get from their logits, and only rows that need logits have them", async () => {
    const seen: [number, number][] = [[3, 2]];
    const mask = new Uint32Array(Math.ceil(VOCAB / 32)).fill(0x55555555);
    const kinds: { spec: Omit<RowSpec, "token">; logits: boolean }[] = [
      { spec: {}, logits: false },
      { spec: { target: 17 }, logits: false },
      { spec: { target: 17, top: 0 }, logits: true },
      { spec: { temperature: 0.7, topK: 1 }, logits: false },
      { spec: { temperature: 0.7, topK: 40, topP: 0.9, minP: 0.01 }, logits: false },
      { spec: { temperature: 2, topK: 64 }, logits: false },
      { spec: { temperature: 2, topK: 65 }, logits: true },
      { spec: { temperature: 0.7 }, logits: true },
      { spec: { temperature: 0, presence: 0.4, seen }, logits: true },
      { spec: { temperature: 0, bias: [[5, 100]] }, logits: true },
      { spec: { mask: 0 }, logits: true },
      { spec: { top: 3 }, logits: true },
    ];
    const rows: RowSpec[] = Array.from({ length: 10 * kinds.length }, (_, i) => ({
      ...kinds[i % kinds.length].spec,
      token: i,
      draw: i,
      seed: BigInt(i),
    }));
    const tokens = rows.map((_, i) => (i * 61) % VOCAB);
    const outputs = [];
    for (const plan of [plain, fused]) {
      addon.setMask(plan, 0, mask);
      addon.takePlanTimings(plan);
      const { ids, logprobs, topIds } = await addon.runPlan(plan, step([{ tokens }], rows));
      outputs.push({ ids, logprobs, topIds });
    }
    expect(outputs[1]).toEqual(outputs[0]);
    expect(addon.takePlanTimings(fused).logitsWritten).toBe(10 * kinds.filter(({ logits }) => logits).length * PADDED);
  });

  test("a row that holds NaN fails alone", async () => {
    const rows: RowSpec[] = [{ token: 0 }, { token: 1 }];
    const bad = await mlpWithNan(numerics);
    const failure = await addon.runPlan(bad, step([{ tokens: [0, 1] }], rows)).catch((error) => error);
    expect(isStepRowsError(failure) && [...failure.rows]).toEqual([1]);
    addon.closePlan(bad);
  });
});

/** A head over embeddings of which row 1 is NaN. */
async function mlpWithNan(numerics: string): Promise<NativePlan> {
  const p = new PlanWriter(4, 4);
  p.numerics = numerics;
  const values = noise(VOCAB * HIDDEN, 1);
  values[HIDDEN + 5] = Number.NaN;
  const x = p.buffer(HIDDEN);
  p.op(Opcode.Embed, x, p.weight(table(VOCAB, HIDDEN, values)), f(1)).head();
  const rows = p.buffer(HIDDEN, "rows");
  p.logits = p.buffer(PADDED, "rows");
  const sources = [{ file: mapFloats(noise(PADDED * HIDDEN, 6)), offset: 0, type: DTYPES.F32.ggml, rows: PADDED }];
  const head = p.weight(await addon.packMatrix(rt, { columns: HIDDEN, sources, rotated: numerics === "fast" }));
  p.op(Opcode.TakeRows, rows, x).op(Opcode.Logits, p.logits, rows, head, -1);
  return p.create(rt, VOCAB, kv);
}

describe("plans that are refused", () => {
  test("a gate whose halves are packed together", async () => {
    const p = new PlanWriter(4, 4);
    const [x, y] = [p.buffer(16), p.buffer(24)];
    const together = p.weight(await matrix(rt, 48, 16, noise(48 * 16, 1)));
    p.op(Opcode.Embed, x, p.weight(table(8, 16, noise(128, 1))), f(1));
    p.op(Opcode.GatedLinear, y, x, together, -1, Activation.Silu);
    expect(() => p.create(rt, 0, kv)).toThrow(
      "instruction 1 (GatedLinear): the matrix must be packed from two parts of 24 rows, or from one whose half is a multiple of 32",
    );
  });

  test("logits in the body, and into another buffer than the plan's", async () => {
    const logits = async (inHead: boolean) => {
      const p = new PlanWriter(4, 4);
      const [x, y, r, z] = [p.buffer(16), p.buffer(48), p.buffer(16, "rows"), p.buffer(48, "rows")];
      const head = p.weight(await matrix(rt, 48, 16, noise(48 * 16, 1)));
      p.op(Opcode.Embed, x, p.weight(table(48, 16, noise(48 * 16, 1))), f(1));
      if (!inHead) return p.op(Opcode.Logits, y, x, head, -1).create(rt, 0, kv);
      return p.head().op(Opcode.TakeRows, r, x).op(Opcode.Logits, z, r, head, -1).create(rt, 0, kv);
    };
    await expect(logits(false)).rejects.toThrow("instruction 1 (Logits): belongs to the head");
    await expect(logits(true)).rejects.toThrow("out is buffer 3, but the plan's logits are buffer -1");
  });
});
