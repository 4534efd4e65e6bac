/** Tiny plans, files and steps for the tests of the native room. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { DTYPES } from "../../src/core/dtype.js";
import { floatWord, INSTRUCTION_WORDS, type Opcode } from "../../src/graph/instructions.js";
import type {
  NativeFile,
  NativeKvPool,
  NativePlan,
  NativeRuntime,
  NativeWeight,
  PlanDescription,
} from "../../src/native/addon.js";
import { loadAddon } from "../../src/native/load.js";

export { type RowSpec, type SequenceSpec, step, stepInputs } from "./step-inputs.js";

export const addon = loadAddon();
export const F32 = DTYPES.F32.ggml;

const folder = mkdtempSync(join(tmpdir(), "sglang-native-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;

/** Writes `bytes` to a fresh temporary file. */
export function writeTemporary(bytes: Uint8Array): string {
  const path = join(folder, `file-${files++}.bin`);
  writeFileSync(path, bytes);
  return path;
}

export function mapFloats(values: Float32Array): NativeFile {
  return addon.mapFile(writeTemporary(new Uint8Array(values.buffer, values.byteOffset, values.byteLength)));
}

/** Numbers in (-1, 1), the same every time. */
export function noise(length: number, seed: number): Float32Array {
  let state = (seed * 2654435761) >>> 0 || 1;
  return Float32Array.from({ length }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return ((state >>> 0) / 2 ** 31 - 1) * 0.999;
  });
}

export function runtime(options: Partial<{ threads: number; tier: string | null; nice: number }> = {}): NativeRuntime {
  return addon.createRuntime({ threads: 2, tier: null, nice: 0, ...options });
}

/** A matrix [rows, columns] of f32. */
export function matrix(of: NativeRuntime, rows: number, columns: number, values: Float32Array): Promise<NativeWeight> {
  return addon.packMatrix(of, { columns, sources: [{ file: mapFloats(values), offset: 0, type: F32, rows }] });
}

/** A table [rows, columns] of f32. */
export function table(rows: number, columns: number, values: Float32Array): NativeWeight {
  return addon.mapTable({ file: mapFloats(values), offset: 0, type: F32, rows, columns });
}

export function kvPool(options: Partial<Parameters<typeof addon.createKvPool>[0]> = {}): NativeKvPool {
  return addon.createKvPool({
    layers: 1,
    kvHeads: 1,
    headDim: 8,
    pageSize: 4,
    pages: 8,
    dtype: "f32",
    keyScales: null,
    ...options,
  });
}

/** A float argument of an instruction. */
export function f(x: number): number {
  return floatWord(x);
}

/** Writes a plan word by word: each buffer has memory of its own. */
export class PlanWriter {
  readonly #words: number[] = [];
  readonly #buffers: number[] = [];
  readonly #weights: NativeWeight[] = [];
  #arena = 0;
  #headStart = -1;
  logits = -1;
  hidden = -1;
  cascade = true;
  numerics = "f32";

  constructor(
    readonly maxTokens: number,
    readonly maxRows: number,
  ) {}

  buffer(columns: number, extent: "tokens" | "rows" = "tokens"): number {
    const rows = extent === "tokens" ? this.maxTokens : this.maxRows;
    const index = this.#buffers.push(this.#arena / 64, columns, 0, columns, extent === "tokens" ? 0 : 1) / 5 - 1;
    this.#arena += Math.ceil((rows * columns * 4) / 64) * 64;
    return index;
  }

  /** Columns [first, first + columns) of a buffer. */
  view(parent: number, first: number, columns: number): number {
    const [offset, stride, , , extent] = this.#buffers.slice(parent * 5, parent * 5 + 5);
    return this.#buffers.push(offset, stride, first, columns, extent) / 5 - 1;
  }

  weight(weight: NativeWeight): number {
    return this.#weights.push(weight) - 1;
  }

  op(opcode: Opcode, ...args: number[]): this {
    const words = new Array(INSTRUCTION_WORDS).fill(0);
    words[0] = opcode;
    for (const [i, x] of args.entries()) words[1 + i] = x;
    this.#words.push(...words);
    return this;
  }

  /** Instructions from here on belong to the head. */
  head(): this {
    this.#headStart = this.#words.length / INSTRUCTION_WORDS;
    return this;
  }

  description(vocabSize: number, kv: NativeKvPool): PlanDescription {
    return {
      instructions: Int32Array.from(this.#words),
      headStart: this.#headStart < 0 ? this.#words.length / INSTRUCTION_WORDS : this.#headStart,
      buffers: Int32Array.from(this.#buffers),
      weights: [...this.#weights],
      arenaBytes: this.#arena,
      maxTokens: this.maxTokens,
      maxRows: this.maxRows,
      logits: this.logits,
      hidden: this.hidden,
      vocabSize,
      cascade: this.cascade,
      numerics: this.numerics,
      kv,
    };
  }

  create(of: NativeRuntime, vocabSize: number, kv: NativeKvPool = kvPool()): NativePlan {
    return addon.createPlan(of, this.description(vocabSize, kv));
  }
}

/** Largest difference relative to the largest expected value. */
export function distance(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let scale = 1e-6;
  for (let i = 0; i < expected.length; i++) {
    // A NaN on either side must not pass.
    const d = Math.abs(found[i] - expected[i]);
    difference = Number.isNaN(d) ? Number.POSITIVE_INFINITY : Math.max(difference, d);
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return difference / scale;
}

/** The bits of floats, for comparisons that must be exact. */
export function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}
