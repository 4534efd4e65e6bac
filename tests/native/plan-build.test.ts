import { afterAll, beforeAll, expect, test } from "vitest";
import { Activation, Opcode } from "../../src/graph/instructions.js";
import type { NativeKvPool, NativeRuntime, NativeWeight, PlanDescription } from "../../src/native/addon.js";
import { addon, f, kvPool, matrix, noise, PlanWriter, runtime, table } from "./support.js";

let rt: NativeRuntime;
let kv: NativeKvPool;
let linear: NativeWeight;
beforeAll(async () => {
  rt = runtime();
  kv = kvPool({ layers: 2, kvHeads: 2, headDim: 4, pages: 4 });
  linear = await matrix(rt, 24, 16, noise(24 * 16, 1));
});
afterAll(() => addon.closeRuntime(rt));

/** Buffers and weights that the cases below name. */
function writer() {
  const p = new PlanWriter(8, 2);
  const b = {
    x16: p.buffer(16),
    y16: p.buffer(16),
    x24: p.buffer(24),
    x8: p.buffer(8),
    y8: p.buffer(8),
    row16: p.buffer(16, "rows"),
    row24: p.buffer(24, "rows"),
    left: -1,
    right: -1,
    skewed: -1,
  };
  b.left = p.view(b.x16, 0, 8);
  b.right = p.view(b.x16, 8, 8);
  b.skewed = p.view(b.x16, 4, 8);
  const w = {
    matrix: p.weight(linear),
    table: p.weight(table(30, 16, noise(480, 2))),
    v16: p.weight(addon.uploadVector(noise(16, 3))),
    v24: p.weight(addon.uploadVector(noise(24, 4))),
    v4: p.weight(addon.uploadVector(noise(4, 5))),
    v2: p.weight(addon.uploadVector(noise(2, 6))),
  };
  return { p, b, w };
}
type Kit = ReturnType<typeof writer>;

const cases: [string, (kit: Kit) => void, string][] = [
  ["an unknown opcode", ({ p }) => p.op(99 as Opcode), "instruction 0: unknown opcode 99"],
  [
    "a buffer that is not there",
    ({ p, b }) => p.op(Opcode.Add, b.x16, b.x16, 99),
    "instruction 0 (Add): b names buffer 99, but the plan has 10 buffers",
  ],
  [
    "a weight that is not there",
    ({ p, b, w }) => p.op(Opcode.Embed, b.x16, w.table, f(1)).op(Opcode.RmsNorm, b.x16, b.x16, -1, f(0), 1),
    "instruction 1 (RmsNorm): weight names weight -1, but the plan has 6 weights",
  ],
  [
    "a matrix in place of a table",
    ({ p, b, w }) => p.op(Opcode.Embed, b.x16, w.matrix, f(1)),
    "instruction 0 (Embed): table must be a table, but weight 0 is a matrix",
  ],
  [
    "a table in place of a matrix",
    ({ p, b, w }) => p.op(Opcode.Linear, b.x24, b.x16, w.table, -1),
    "instruction 0 (Linear): matrix must be a matrix, but weight 1 is a table",
  ],
  [
    "a table of another width",
    ({ p, b, w }) => p.op(Opcode.Embed, b.x24, w.table, f(1)),
    "instruction 0 (Embed): the width of out is 24, but that of the table is 16",
  ],
  [
    "a scale that is not a number",
    ({ p, b, w }) => p.op(Opcode.Embed, b.x16, w.table, f(Number.NaN)),
    "instruction 0 (Embed): scale must be finite",
  ],
  [
    "a Linear whose input has another width",
    ({ p, b, w }) => p.op(Opcode.Linear, b.x24, b.x8, w.matrix, -1),
    "instruction 0 (Linear): the width of in is 8, but the number of the matrix's columns is 16",
  ],
  [
    "a Linear whose output has another width",
    ({ p, b, w }) => p.op(Opcode.Linear, b.x8, b.x16, w.matrix, -1),
    "instruction 0 (Linear): the width of out is 8, but the number of the matrix's rows is 24",
  ],
  [
    "a Linear with a short bias",
    ({ p, b, w }) => p.op(Opcode.Linear, b.x24, b.x16, w.matrix, w.v16),
    "instruction 0 (Linear): the length of bias is 16, but the number of the matrix's rows is 24",
  ],
  [
    "groups that do not divide the width",
    ({ p, b, w }) => p.op(Opcode.RmsNorm, b.x16, b.x16, w.v4, f(0), 3),
    "instruction 0 (RmsNorm): in has 16 columns, which 3 groups do not divide",
  ],
  [
    "a norm weight of another width",
    ({ p, b, w }) => p.op(Opcode.RmsNorm, b.x16, b.x16, w.v16, f(0), 4),
    "instruction 0 (RmsNorm): the length of weight is 16, but the width of a group is 4",
  ],
  [
    "a norm that writes over half of its input",
    ({ p, b, w }) => p.op(Opcode.RmsNorm, b.left, b.skewed, w.v4, f(0), 2),
    "instruction 0 (RmsNorm): out shares memory with in",
  ],
  [
    "an AddRmsNorm that writes over its own sum",
    ({ p, b, w }) => p.op(Opcode.AddRmsNorm, b.x16, b.x16, b.x16, b.y16, w.v16, f(0)),
    "instruction 0 (AddRmsNorm): out shares memory with sum",
  ],
  [
    "widths that differ in Add",
    ({ p, b }) => p.op(Opcode.Add, b.x16, b.x16, b.x8),
    "instruction 0 (Add): the width of b is 8, but that of out is 16",
  ],
  [
    "Rope with more frequencies than pairs",
    ({ p, b, w }) => p.op(Opcode.Rope, b.x16, w.v4, 4, 4, f(1)),
    "instruction 0 (Rope): freq has 4 entries, more than half of headDim 4",
  ],
  [
    "Rope with heads that do not fill the buffer",
    ({ p, b, w }) => p.op(Opcode.Rope, b.x16, w.v2, 3, 4, f(1)),
    "instruction 0 (Rope): the width of inout is 16, but heads x headDim is 12",
  ],
  [
    "keys of another width than the pool",
    ({ p, b }) => p.op(Opcode.KvWrite, b.x16, b.x8, 0),
    "instruction 0 (KvWrite): the width of k is 16, but kvHeads x headDim of the KV pool is 8",
  ],
  [
    "a layer beyond the pool",
    ({ p, b }) => p.op(Opcode.KvWrite, b.x8, b.y8, 2),
    "instruction 0 (KvWrite): layer is 2, but the KV pool has 2 layers",
  ],
  [
    "attention with another head size than the pool",
    ({ p, b }) => p.op(Opcode.Attention, b.y16, b.x16, 0, 2, 2, 8, f(1), 0, 1),
    "instruction 0 (Attention): headDim is 8, but that of the KV pool is 4",
  ],
  [
    "heads that do not share out over kv heads",
    ({ p, b }) => p.op(Opcode.Attention, b.y16, b.x16, 0, 3, 2, 4, f(1), 0, 1),
    "instruction 0 (Attention): 3 heads cannot be shared out over 2 kv heads",
  ],
  [
    "attention that writes over its queries",
    ({ p, b }) => p.op(Opcode.Attention, b.x16, b.x16, 0, 4, 2, 4, f(1), 0, 1),
    "instruction 0 (Attention): out shares memory with q",
  ],
  [
    "a negative window",
    ({ p, b }) => p.op(Opcode.Attention, b.y16, b.x16, 0, 4, 2, 4, f(1), -1, 1),
    "instruction 0 (Attention): window must be >= 0, got -1",
  ],
  [
    "a causal flag of 2",
    ({ p, b }) => p.op(Opcode.Attention, b.y16, b.x16, 0, 4, 2, 4, f(1), 0, 2),
    "instruction 0 (Attention): causal must be 0 or 1, got 2",
  ],
  [
    "a gate and up of another width",
    ({ p, b }) => p.op(Opcode.GatedAct, b.x8, b.x24, Activation.Silu),
    "instruction 0 (GatedAct): the width of in is 24, but twice that of out is 16",
  ],
  [
    "an unknown activation",
    ({ p, b }) => p.op(Opcode.GatedAct, b.x8, b.x16, 3),
    "instruction 0 (GatedAct): activation must be 0 (silu), 1 (gelu tanh) or 2 (gelu erf), got 3",
  ],
  [
    "TakeRows before the head",
    ({ p, b }) => p.op(Opcode.TakeRows, b.row16, b.x16),
    "instruction 0 (TakeRows): belongs to the head, at or after headStart 1",
  ],
  [
    "attention in the head",
    ({ p, b }) => p.head().op(Opcode.KvWrite, b.x8, b.y8, 0),
    "instruction 0 (KvWrite): works on tokens and must come before headStart 0",
  ],
  [
    "a row buffer before the head",
    ({ p, b }) => p.op(Opcode.Add, b.row16, b.x16, b.x16),
    "instruction 0 (Add): out must have extent 0 (tokens) before headStart",
  ],
  [
    "a token buffer in the head",
    ({ p, b }) => p.head().op(Opcode.Add, b.row16, b.row16, b.x16),
    "instruction 0 (Add): b must have extent 1 (rows) in the head",
  ],
  [
    "logits of another extent",
    ({ p, b }) => {
      p.logits = b.x24;
    },
    "logits must have extent 1 (rows)",
  ],
  [
    "logits narrower than the vocabulary",
    ({ p, b }) => {
      p.logits = b.row16;
    },
    "logits has 16 columns, fewer than vocabSize 20",
  ],
  [
    "a hidden buffer that is not there",
    ({ p }) => {
      p.hidden = 50;
    },
    "hidden names buffer 50, but the plan has 10 buffers",
  ],
];

test.each(cases)("createPlan refuses %s", (_, write, message) => {
  const kit = writer();
  write(kit);
  expect(() => kit.p.create(rt, 20, kv)).toThrow(RangeError);
  expect(() => kit.p.create(rt, 20, kv)).toThrow(`createPlan: ${message}`);
});

const descriptions: [string, (d: PlanDescription) => Partial<Record<keyof PlanDescription, unknown>>, string][] = [
  [
    "a buffer beyond the arena",
    (d) => ({ arenaBytes: d.arenaBytes - 64 }),
    "createPlan: buffer 6: 2 rows of 24 floats at byte",
  ],
  [
    "columns beyond the row",
    (d) => ({ buffers: Int32Array.from(d.buffers).fill(17, 3, 4) }),
    "createPlan: buffer 0: columns [0, 17) reach outside the parent's rows of 16 floats",
  ],
  [
    "a negative offset",
    (d) => ({ buffers: Int32Array.from(d.buffers).fill(-1, 0, 1) }),
    "createPlan: buffer 0: offset must be >= 0, got -1",
  ],
  [
    "an unknown extent",
    (d) => ({ buffers: Int32Array.from(d.buffers).fill(2, 4, 5) }),
    "createPlan: buffer 0: extent must be 0 (tokens) or 1 (rows), got 2",
  ],
  [
    "half an instruction",
    () => ({ instructions: new Int32Array(24) }),
    "createPlan: instructions must hold a multiple of 16 words, got 24",
  ],
  [
    "half a buffer",
    () => ({ buffers: new Int32Array(4) }),
    "createPlan: buffers must hold a multiple of 5 words, got 4",
  ],
  ["a head beyond the end", () => ({ headStart: 2 }), "createPlan: headStart must be in [0, 1 instructions], got 2"],
  ["an arena of half a byte", () => ({ arenaBytes: 0.5 }), "description.arenaBytes must be an integer"],
  ["no tokens", () => ({ maxTokens: 0 }), "description.maxTokens must be an integer from 1"],
  ["weights that are no list", () => ({ weights: {} }), "description.weights must be an array, got an object"],
  [
    "a weight that is a pool",
    () => ({ weights: [kv] }),
    "description.weights[0] must be a weight handle, got a KV pool handle",
  ],
  ["no pool", () => ({ kv: null }), "description.kv must be a KV pool handle, got null"],
  [
    "instructions of another type",
    () => ({ instructions: [1, 2] }),
    "description.instructions must be an Int32Array, got an array",
  ],
  [
    "a vocabulary beyond the table",
    (d) => ({ vocabSize: 31, logits: 6, buffers: Int32Array.from(d.buffers) }),
    "createPlan: logits has 24 columns, fewer than vocabSize 31",
  ],
];

test.each(descriptions)("createPlan refuses %s", (_, change, message) => {
  const { p, b, w } = writer();
  p.op(Opcode.Embed, b.x16, w.table, f(1));
  const good = p.description(20, kv);
  addon.closePlan(addon.createPlan(rt, good));
  expect(() => addon.createPlan(rt, { ...good, ...change(good) } as PlanDescription)).toThrow(message);
});

test("createPlan refuses a head that overwrites the tokens its next block reads", () => {
  const { p, b } = writer();
  p.head().op(Opcode.TakeRows, b.row16, b.x16);
  const d = p.description(20, kv);
  const buffers = Int32Array.from(d.buffers);
  buffers[b.row24 * 5] = buffers[b.x16 * 5];
  const words = Int32Array.from([...d.instructions, ...d.instructions]);
  words.set([Opcode.Add, b.row24, b.row24, b.row24], 16);
  expect(() => addon.createPlan(rt, { ...d, instructions: words, buffers })).toThrow(
    "instruction 1: out shares memory with tokens that TakeRows reads for the next block of rows",
  );
});

test("views of one parent that do not touch may be read and written by one instruction", () => {
  const { p, b } = writer();
  p.op(Opcode.Add, b.left, b.left, b.right);
  expect(() => p.create(rt, 20, kv)).not.toThrow();
});
