import { readFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DTYPES } from "../../src/core/dtype.js";
import { Opcode } from "../../src/graph/instructions.js";
import type {
  KvDtype,
  NativeAddon,
  NativeFile,
  NativeKvPool,
  NativePlan,
  NativeRuntime,
  NativeWeight,
} from "../../src/native/addon.js";
import {
  addon,
  distance,
  F32,
  f,
  kvPool,
  mapFloats,
  matrix,
  noise,
  PlanWriter,
  runtime,
  step,
  table,
  writeTemporary,
} from "./support.js";

let rt: NativeRuntime;
let file: NativeFile;
let weight: NativeWeight;
let vector: NativeWeight;
let kv: NativeKvPool;
let plan: NativePlan;
beforeAll(async () => {
  rt = runtime();
  file = mapFloats(noise(256, 1));
  weight = await matrix(rt, 8, 32, noise(256, 1));
  vector = addon.uploadVector(noise(4, 2));
  kv = kvPool();
  const p = new PlanWriter(4, 2);
  p.op(Opcode.Embed, p.buffer(4), p.weight(table(8, 4, noise(32, 3))), f(1));
  plan = p.create(rt, 0, kv);
});
afterAll(() => addon.closeRuntime(rt));

test("the addon exports exactly the functions that addon.ts declares", () => {
  const source = readFileSync(new URL("../../src/native/addon.ts", import.meta.url), "utf8");
  const declared = source.slice(source.indexOf("export interface NativeAddon")).matchAll(/^ {2}(\w+)\(/gm);
  expect(Object.keys(addon).sort()).toEqual(Array.from(declared, ([, name]) => name).sort());
});

test("cpuInfo names the processor and counts usable cores", () => {
  const cpu = addon.cpuInfo();
  expect(cpu.model).not.toBe("");
  expect(cpu.cores).toBeGreaterThanOrEqual(1);
  expect(cpu.cores).toBeLessThanOrEqual(availableParallelism());
  expect(cpu.features.every((name) => /^[a-z0-9_]+$/.test(name))).toBe(true);
});

test("the portable tier is always supported, every tier says why, and each supported one makes a runtime of its name", () => {
  const tiers = addon.tiers();
  expect(tiers.find((t) => t.name === "portable")?.supported).toBe(true);
  for (const tier of tiers) {
    expect(tier.reason).not.toBe("");
    if (!tier.supported) expect(() => runtime({ tier: tier.name })).toThrow(`options.tier must be null or one of`);
    else {
      const of = runtime({ tier: tier.name, threads: 1 });
      expect(addon.runtimeInfo(of)).toMatchObject({ tier: tier.name, threads: 1, reason: "asked for by name" });
      addon.closeRuntime(of);
    }
  }
  const best = tiers.find((t) => t.supported)!.name;
  expect(addon.runtimeInfo(rt)).toMatchObject({ tier: best, threads: 2 });
});

describe("weights", () => {
  test("tell their shape and size", () => {
    expect(addon.weightInfo(weight)).toMatchObject({ rows: 8, columns: 32 });
    expect(addon.weightInfo(weight).bytes).toBeGreaterThanOrEqual(8 * 32 * 4);
    expect(addon.weightInfo(vector)).toEqual({ rows: 1, columns: 4, bytes: 16, roundingError: 0 });
    expect(addon.weightInfo(table(8, 4, noise(32, 3)))).toEqual({ rows: 8, columns: 4, bytes: 128, roundingError: 0 });
  });

  test("of several sources are their rows one after another, in the order asked for", async () => {
    const [rows, columns] = [70, 32];
    const values = noise(rows * columns, 4);
    const of = mapFloats(values);
    const order = Int32Array.from({ length: 40 }, (_, i) => (i * 7) % rows);
    const packed = await addon.packMatrix(rt, {
      columns,
      sources: [
        { file: of, offset: 0, type: F32, rows: 40, order },
        { file: of, offset: 5 * columns * 4, type: F32, rows: 3 },
      ],
    });
    const x = noise(2 * columns, 5);
    const source = [...order, 5, 6, 7];
    const expected = [0, 1].flatMap((i) =>
      source.map((r) =>
        Array.from({ length: columns }, (_, c) => x[i * columns + c] * values[r * columns + c]).reduce((a, b) => a + b),
      ),
    );
    expect(addon.weightInfo(packed)).toMatchObject({ rows: 43, columns });
    expect(distance(addon.matmul(rt, packed, x, 2), expected)).toBeLessThan(1e-5);
    expect(addon.matmul(rt, packed, new Float32Array(0), 0)).toHaveLength(0);
  });

  test("dequantizeRow reads a row as its file holds it", () => {
    const values = noise(8, 6);
    expect(addon.dequantizeRow(F32, new Uint8Array(values.buffer), 8)).toEqual(values);
  });
});

test("kvPoolBytes counts keys and values of all layers and pages", () => {
  expect(addon.kvPoolBytes(kvPool({ layers: 3, kvHeads: 2, headDim: 16, pageSize: 8, pages: 5, dtype: "f16" }))).toBe(
    2 * 3 * 2 * 16 * 8 * 5 * 2,
  );
  expect(addon.kvPoolBytes(kvPool({ layers: 3, kvHeads: 2, headDim: 16, pageSize: 8, pages: 5, dtype: "f32" }))).toBe(
    2 * 3 * 2 * 16 * 8 * 5 * 4,
  );
  // One byte each, and a scale of four per position.
  expect(addon.kvPoolBytes(kvPool({ layers: 3, kvHeads: 2, headDim: 16, pageSize: 8, pages: 5, dtype: "int8" }))).toBe(
    2 * 3 * 2 * (16 + 4) * 8 * 5,
  );
});

describe("files", () => {
  test("that do not exist, or are folders, are errors with the path and the system's words", () => {
    expect(() => addon.mapFile("/nowhere/model.gguf")).toThrow(
      "/nowhere/model.gguf: cannot be opened: No such file or directory",
    );
    expect(() => addon.mapFile(tmpdir())).toThrow(`${tmpdir()}: is not a regular file`);
    expect(() => addon.mapFile("a\0b")).toThrow("path must not contain a zero byte");
  });

  test("of no bytes can be mapped and hold no row", () => {
    const empty = addon.mapFile(writeTemporary(new Uint8Array(0)));
    expect(() => addon.mapTable({ file: empty, offset: 0, type: F32, rows: 1, columns: 1 })).toThrow(
      "1 rows of 4 bytes at offset 0 reach beyond the 0 bytes of",
    );
    addon.closeFile(empty);
  });
});

// One call per line: what is wrong, the call, the error's class and words.
type Call = [string, () => unknown, typeof TypeError | typeof RangeError, string];
const any = (value: unknown) => value as never;
const calls: Call[] = [
  ["no options", () => addon.createRuntime(any(undefined)), TypeError, "options must be an object, got undefined"],
  ["no threads", () => runtime({ threads: 0 }), RangeError, "options.threads must be an integer from 1 to 256, got 0"],
  [
    "half a thread",
    () => runtime({ threads: 1.5 }),
    RangeError,
    "options.threads must be an integer from 1 to 256, got 1.5",
  ],
  [
    "threads by name",
    () => runtime({ threads: any("two") }),
    TypeError,
    'options.threads must be an integer, got "two"',
  ],
  [
    "NaN threads",
    () => runtime({ threads: Number.NaN }),
    RangeError,
    "options.threads must be an integer from 1 to 256, got NaN",
  ],
  [
    "a nicer thread than there is",
    () => runtime({ nice: 20 }),
    RangeError,
    "options.nice must be an integer from 0 to 19, got 20",
  ],
  ["an unknown tier", () => runtime({ tier: "mmx" }), RangeError, "options.tier must be null or one of"],
  ["a tier by number", () => runtime({ tier: any(2) }), TypeError, "options.tier must be a string or null, got 2"],
  [
    "a runtime that is null",
    () => addon.runtimeInfo(any(null)),
    TypeError,
    "runtime must be a runtime handle, got null",
  ],
  [
    "a runtime that is a plain object",
    () => addon.runtimeInfo(any({})),
    TypeError,
    "runtime must be a runtime handle, got an object",
  ],
  [
    "a runtime that is a proxy",
    () => addon.runtimeInfo(any(new Proxy(rt, {}))),
    TypeError,
    "runtime must be a runtime handle, got an object",
  ],
  [
    "a runtime that inherits from one",
    () => addon.runtimeInfo(any(Object.create(rt))),
    TypeError,
    "runtime must be a runtime handle, got an object",
  ],
  [
    "a weight for a runtime",
    () => addon.poolStats(any(weight)),
    TypeError,
    "runtime must be a runtime handle, got a weight handle",
  ],
  [
    "a plan for a runtime",
    () => addon.closeRuntime(any(plan)),
    TypeError,
    "runtime must be a runtime handle, got a plan handle",
  ],
  ["a path that is a number", () => addon.mapFile(any(7)), TypeError, "path must be a string, got 7"],
  [
    "a runtime for a file",
    () => addon.closeFile(any(rt)),
    TypeError,
    "file must be a file handle, got a runtime handle",
  ],
  [
    "a file for a weight",
    () => addon.weightInfo(any(file)),
    TypeError,
    "weight must be a weight handle, got a file handle",
  ],
  [
    "a file for a weight to close",
    () => addon.closeWeight(any(file)),
    TypeError,
    "weight must be a weight handle, got a file handle",
  ],
  [
    "a weight for a pool",
    () => addon.kvPoolBytes(any(weight)),
    TypeError,
    "kv must be a KV pool handle, got a weight handle",
  ],
  [
    "nothing for a pool to close",
    () => addon.closeKvPool(any(undefined)),
    TypeError,
    "KV pool must be a KV pool handle, got undefined",
  ],
  ["a string for a plan", () => addon.closePlan(any("plan")), TypeError, 'plan must be a plan handle, got "plan"'],
  [
    "a pool for a plan",
    () => addon.runPlan(any(kv), step([])),
    TypeError,
    "plan must be a plan handle, got a KV pool handle",
  ],
  ["no inputs", () => addon.runPlan(plan, any(null)), TypeError, "inputs must be an object, got null"],
  [
    "a buffer that is not there",
    () => addon.readBuffer(plan, 1),
    RangeError,
    "buffer must be an integer from 0 to 0, got 1",
  ],
  [
    "values that are no floats",
    () => addon.uploadVector(any(new Float64Array(2))),
    TypeError,
    "values must be a Float32Array, got a Float64Array",
  ],
  [
    "a vector of nothing",
    () => addon.uploadVector(new Float32Array(0)),
    RangeError,
    "values must have at least one entry, got 0",
  ],
  [
    "a pool of no pages",
    () => kvPool({ pages: 0 }),
    RangeError,
    "options.pages must be an integer from 1 to 2147483647, got 0",
  ],
  [
    "a pool of another type",
    () => kvPool({ dtype: "int4" as KvDtype }),
    RangeError,
    'options.dtype must be f32, f16, bf16, int8 or fp8_e4m3, got "int4"',
  ],
  [
    "scales of another shape",
    () => kvPool({ keyScales: new Float32Array(7) }),
    RangeError,
    "options.keyScales must have layers x kvHeads x headDim = 8 entries, got 7",
  ],
  [
    "a scale of zero",
    () => kvPool({ keyScales: new Float32Array(8) }),
    RangeError,
    "options.keyScales[0] must be from 1e-9 to 1e9, got 0.000000",
  ],
  [
    "a table beyond its file",
    () => addon.mapTable({ file, offset: 4, type: F32, rows: 8, columns: 32 }),
    RangeError,
    "options: 8 rows of 128 bytes at offset 4 reach beyond the 1024 bytes of",
  ],
  [
    "a negative offset",
    () => addon.mapTable({ file, offset: -4, type: F32, rows: 1, columns: 4 }),
    RangeError,
    "options.offset must be an integer from 0 to 9007199254740991, got -4",
  ],
  [
    "a type that does not exist",
    () => addon.mapTable({ file, offset: 0, type: 4, rows: 1, columns: 32 }),
    RangeError,
    "options.type must be a ggml type that this package reads, got 4",
  ],
  [
    "columns that split a block",
    () => addon.mapTable({ file, offset: 0, type: DTYPES.Q4_0.ggml, rows: 1, columns: 40 }),
    RangeError,
    "columns must be a multiple of the block of ggml type 2, got 40",
  ],
  [
    "no sources",
    () => addon.packMatrix(rt, { columns: 32, sources: [] }),
    RangeError,
    "options.sources must have at least one entry, got 0",
  ],
  [
    "sources that are no list",
    () => addon.packMatrix(rt, { columns: 32, sources: any(3) }),
    TypeError,
    "options.sources must be an array, got 3",
  ],
  [
    "a source that is no object",
    () => addon.packMatrix(rt, { columns: 32, sources: [any(3)] }),
    TypeError,
    "options.sources[0] must be an object, got 3",
  ],
  [
    "a source whose file is a weight",
    () => addon.packMatrix(rt, { columns: 32, sources: [{ file: any(weight), offset: 0, type: F32, rows: 1 }] }),
    TypeError,
    "options.sources[0].file must be a file handle, got a weight handle",
  ],
  [
    "a source beyond its file",
    () => addon.packMatrix(rt, { columns: 32, sources: [{ file, offset: 0, type: F32, rows: 9 }] }),
    RangeError,
    "options.sources[0]: 9 rows of 128 bytes",
  ],
  [
    "an order of another length",
    () =>
      addon.packMatrix(rt, {
        columns: 32,
        sources: [{ file, offset: 0, type: F32, rows: 2, order: Int32Array.of(0) }],
      }),
    RangeError,
    "options.sources[0].order must have 2 entries (one per row), got 1",
  ],
  [
    "an order beyond the file",
    () =>
      addon.packMatrix(rt, {
        columns: 32,
        sources: [{ file, offset: 0, type: F32, rows: 2, order: Int32Array.of(0, 8) }],
      }),
    RangeError,
    "options.sources[0]: 9 rows of 128 bytes",
  ],
  [
    "an order that counts from -1",
    () =>
      addon.packMatrix(rt, {
        columns: 32,
        sources: [{ file, offset: 0, type: F32, rows: 2, order: Int32Array.of(0, -1) }],
      }),
    RangeError,
    "options.sources[0].order[1] must be >= 0, got -1",
  ],
  [
    "an order that is a plain list",
    () => addon.packMatrix(rt, { columns: 32, sources: [{ file, offset: 0, type: F32, rows: 1, order: any([0]) }] }),
    TypeError,
    "options.sources[0].order must be an Int32Array, got an array",
  ],
  [
    "a vector to multiply by",
    () => addon.matmul(rt, vector, new Float32Array(4), 1),
    TypeError,
    "weight must be a matrix, got a vector",
  ],
  [
    "a product of another size",
    () => addon.matmul(rt, weight, new Float32Array(33), 1),
    RangeError,
    "x must have m x columns = 32 entries, got 33",
  ],
  [
    "a row of too few bytes",
    () => addon.dequantizeRow(DTYPES.Q4_0.ggml, new Uint8Array(17), 32),
    RangeError,
    "bytes must have 18 entries (one row), got 17",
  ],
];
test.each(calls)("%s is refused by name", (_, call, type, message) => {
  expect(call).toThrow(message);
  expect(call).toThrow(type);
});

describe("closed handles", () => {
  const closed: [string, (a: NativeAddon) => unknown, string][] = [
    [
      "a file",
      (a) => {
        const h = mapFloats(noise(4, 1));
        a.closeFile(h);
        a.closeFile(h);
        return a.mapTable({ file: h, offset: 0, type: F32, rows: 1, columns: 4 });
      },
      "options.file is a file that was closed",
    ],
    [
      "a weight",
      (a) => {
        const h = a.uploadVector(noise(4, 1));
        a.closeWeight(h);
        a.closeWeight(h);
        return a.weightInfo(h);
      },
      "weight is a weight that was closed",
    ],
    [
      "a pool",
      (a) => {
        const h = kvPool();
        a.closeKvPool(h);
        a.closeKvPool(h);
        return a.kvPoolBytes(h);
      },
      "kv is a KV pool that was closed",
    ],
    [
      "a plan",
      (a) => {
        const h = new PlanWriter(1, 1).create(rt, 0, kv);
        a.closePlan(h);
        a.closePlan(h);
        return a.runPlan(h, step([]));
      },
      "plan is a plan that was closed",
    ],
  ];
  test.each(closed)("%s closed twice and then used is a TypeError", (_, use, message) => {
    expect(() => use(addon)).toThrow(message);
    expect(() => use(addon)).toThrow(TypeError);
  });

  test("a closed runtime tells its tier and refuses work", () => {
    const of = runtime();
    const mine = new PlanWriter(1, 1).create(of, 0, kv);
    addon.closeRuntime(of);
    addon.closeRuntime(of);
    expect(addon.runtimeInfo(of).threads).toBeGreaterThanOrEqual(1);
    expect(() => addon.runPlan(mine, step([]))).toThrow("runPlan: the runtime was closed");
    expect(() => addon.packMatrix(of, { columns: 32, sources: [{ file, offset: 0, type: F32, rows: 1 }] })).toThrow(
      "packMatrix: the runtime was closed",
    );
    expect(() => addon.matmul(of, weight, new Float32Array(32), 1)).toThrow("matmul: the runtime was closed");
    expect(() => new PlanWriter(1, 1).create(of, 0, kv)).toThrow("createPlan: the runtime was closed");
  });
});
