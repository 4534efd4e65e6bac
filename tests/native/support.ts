/** Tiny plans, files and steps for the tests of the native room. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DTYPES } from "../../src/core/dtype.js";
import { floatWord, INSTRUCTION_WORDS, type Opcode } from "../../src/graph/instructions.js";
import type {
  NativeFile,
  NativeKvPool,
  NativePlan,
  NativeRuntime,
  NativeWeight,
  PlanDescription,
  StepInputs,
} from "../../src/native/addon.js";
import { loadAddon } from "../../src/native/load.js";

export const addon = loadAddon();
export const F32 = DTYPES.F32.ggml;

const folder = mkdtempSync(join(tmpdir(), "sglang-native-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
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
  return addon.createKvPool({ layers: 1, kvHeads: 1, headDim: 8, pageSize: 4, pages: 8, dtype: "f32", ...options });
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
      kv,
    };
  }

  create(of: NativeRuntime, vocabSize: number, kv: NativeKvPool = kvPool()): NativePlan {
    return addon.createPlan(of, this.description(vocabSize, kv));
  }
}

export interface SequenceSpec {
  tokens: number[];
  /** @default tokens.length */
  kvLength?: number;
  /** @default [] */
  pages?: number[];
}

export interface RowSpec {
  token: number;
  target?: number;
  slot?: number;
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  seed?: bigint;
  draw?: number;
  frequency?: number;
  presence?: number;
  repetition?: number;
  /** [id, times in the output] */
  seen?: [number, number][];
  /** [id, bias] */
  bias?: [number, number][];
  mask?: number;
  top?: number;
  wanted?: number[];
}

function starts(lengths: number[]): Int32Array {
  let sum = 0;
  return Int32Array.from([0, ...lengths.map((n) => (sum += n))]);
}

/** The arrays of one step. Pages default to as many as are needed, in order from 0, none shared. */
export function step(
  sequences: SequenceSpec[],
  rows: RowSpec[] = [],
  options: { pageSize?: number; masks?: Uint32Array; logits?: boolean; hidden?: boolean } = {},
): StepInputs {
  const pageSize = options.pageSize ?? 4;
  let nextPage = 0;
  const pages = sequences.map(
    (s) => s.pages ?? Array.from({ length: Math.ceil((s.kvLength ?? s.tokens.length) / pageSize) }, () => nextPage++),
  );
  return {
    tokens: Int32Array.from(sequences.flatMap((s) => s.tokens)),
    positions: Int32Array.from(
      sequences.flatMap((s) => s.tokens.map((_, j) => (s.kvLength ?? s.tokens.length) - s.tokens.length + j)),
    ),
    seqStart: starts(sequences.map((s) => s.tokens.length)),
    kvLength: Int32Array.from(sequences.map((s) => s.kvLength ?? s.tokens.length)),
    pageStart: starts(pages.map((p) => p.length)),
    pageTable: Int32Array.from(pages.flat()),
    rowToken: Int32Array.from(rows.map((r) => r.token)),
    rowTarget: Int32Array.from(rows.map((r) => r.target ?? -1)),
    rowSlot: Int32Array.from(rows.map((r) => r.slot ?? -1)),
    temperature: Float32Array.from(rows.map((r) => r.temperature ?? 0)),
    topP: Float32Array.from(rows.map((r) => r.topP ?? 1)),
    topK: Int32Array.from(rows.map((r) => r.topK ?? -1)),
    minP: Float32Array.from(rows.map((r) => r.minP ?? 0)),
    seed: Uint32Array.from(rows.flatMap((r) => [Number((r.seed ?? 0n) & 0xffffffffn), Number((r.seed ?? 0n) >> 32n)])),
    draw: Int32Array.from(rows.map((r) => r.draw ?? 0)),
    penalties: Float32Array.from(rows.flatMap((r) => [r.frequency ?? 0, r.presence ?? 0, r.repetition ?? 1])),
    seenStart: starts(rows.map((r) => r.seen?.length ?? 0)),
    seenIds: Int32Array.from(rows.flatMap((r) => (r.seen ?? []).map(([id]) => id))),
    seenCounts: Int32Array.from(rows.flatMap((r) => (r.seen ?? []).map(([, count]) => count))),
    biasStart: starts(rows.map((r) => r.bias?.length ?? 0)),
    biasIds: Int32Array.from(rows.flatMap((r) => (r.bias ?? []).map(([id]) => id))),
    biasValues: Float32Array.from(rows.flatMap((r) => (r.bias ?? []).map(([, value]) => value))),
    maskIndex: Int32Array.from(rows.map((r) => r.mask ?? -1)),
    masks: options.masks ?? new Uint32Array(0),
    topLogprobs: Int32Array.from(rows.map((r) => r.top ?? -1)),
    wantedStart: starts(rows.map((r) => r.wanted?.length ?? 0)),
    wantedIds: Int32Array.from(rows.flatMap((r) => r.wanted ?? [])),
    returnLogits: options.logits ?? false,
    returnHidden: options.hidden ?? false,
  };
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
