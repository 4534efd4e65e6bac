/**
 * Hand-written types of every native function: the whole native surface on one page.
 *
 * The addon knows tensors, plans and kernels. It never learns what a token means, what a request is, or HTTP.
 * Handles are opaque; each `close*` frees at once and a cleanup hook frees the rest. Every function checks every
 * argument and throws a TypeError or RangeError that names it.
 */

declare const brand: unique symbol;
/** Thread pool + runner thread + kernel tier. */
export type NativeRuntime = { readonly [brand]: "runtime" };
/** A read-only mapped file. */
export type NativeFile = { readonly [brand]: "file" };
/** A matrix in packed order, or a table of rows gathered in place, or a vector of f32. */
export type NativeWeight = { readonly [brand]: "weight" };
/** Pages of keys and values for all layers. */
export type NativeKvPool = { readonly [brand]: "kv" };
export type NativeKvBlock = { readonly [brand]: "kv block" };
/** Instructions over one arena. */
export type NativePlan = { readonly [brand]: "plan" };

/** Types of cached keys and values. int8 and fp8_e4m3 have one f32 scale per position, kv head and K or V. */
export const KV_DTYPES = ["f32", "f16", "bf16", "int8", "fp8_e4m3"] as const;
export type KvDtype = (typeof KV_DTYPES)[number];

/** What inputs of matrix products become (native/src/kernel_table.h). Only fast changes weights too: it takes rotated matrices. */
export const NUMERICS = ["f32", "exact", "faithful", "fast"] as const;
export type Numerics = (typeof NUMERICS)[number];

export interface TierInfo {
  /** Best first: amx, avx512-vnni, avx512, avx-vnni, avx2, neon-dotprod, neon, portable. Those of other architectures are listed, not supported. */
  name: string;
  supported: boolean;
  /** Why (not): the CPU features it needs and whether they are here. */
  reason: string;
}

/** Part of a packed matrix: `rows` rows of `columns` from a mapped file, stacked in order. */
export interface MatrixSource {
  file: NativeFile;
  /** Absolute byte offset of row 0. */
  offset: number;
  /** ggml type id (core/dtype). */
  type: number;
  rows: number;
  /** Row i of the part is row `order[i]` of the file. Absent = identity. Undoes llama.cpp's Q/K permutation, interleaves gate and up. */
  order?: Int32Array;
}

/** A matrix as {@link NativeAddon.packedBytes} gave it, now in a file. */
export interface StoredMatrix {
  file: NativeFile;
  /** Absolute byte offset, a multiple of 64. */
  offset: number;
  bytes: number;
  /** 16 hex digits. */
  checksum: string;
}

/**
 * One step's inputs. T tokens, B sequences, S rows. A sequence's tokens are contiguous and in order.
 * Arrays are copied at submit: the caller may reuse them at once.
 */
export interface StepInputs {
  /** [T] token ids; negative x = the id that slot (-x - 1) of the token pool holds when the step starts. */
  tokens: Int32Array;
  /** [T] positions from 0. */
  positions: Int32Array;
  /** [B + 1] first token of each sequence; the last entry is T. */
  seqStart: Int32Array;
  /** [B] KV length of each sequence after this step. Its last token has position kvLength - 1. */
  kvLength: Int32Array;
  /** [B + 1] first entry of each sequence in pageTable. */
  pageStart: Int32Array;
  /** Page ids, ceil(kvLength / pageSize) per sequence (more is allowed). */
  pageTable: Int32Array;

  /** [S] token index whose output is wanted. */
  rowToken: Int32Array;
  /** [S] -1: sample; >= 0: do not sample, report the logprob of this id (prompt logprobs). */
  rowTarget: Int32Array;
  /** [S] token-pool slot that receives the sampled id; -1 = none. */
  rowSlot: Int32Array;
  /** [S] temperature; < 1e-6 is greedy: the highest logit after penalties, ties to the lowest id. */
  temperature: Float32Array;
  /** [S] */
  topP: Float32Array;
  /** [S] <= 0 = all. */
  topK: Int32Array;
  /** [S] */
  minP: Float32Array;
  /** [2S] low and high 32 bits of the seed. */
  seed: Uint32Array;
  /** [S] number of the draw: index of the output token. The draw depends on (seed, draw) only. */
  draw: Int32Array;
  /** [3S] frequency, presence, repetition penalty. */
  penalties: Float32Array;
  /** [S + 1] ranges in seenIds / seenCounts; empty for rows without penalties. */
  seenStart: Int32Array;
  /**
   * Distinct ids seen in prompt or output. When the token of a sampling row is a reference to the token pool, JavaScript
   * cannot know it yet: it counts as seen once more in the output without being listed.
   */
  seenIds: Int32Array;
  /** Times each was seen in the output (0 = prompt only). */
  seenCounts: Int32Array;
  /** [S + 1] ranges in biasIds / biasValues. -Infinity forbids. */
  biasStart: Int32Array;
  biasIds: Int32Array;
  biasValues: Float32Array;
  /** [S] entry of the plan's mask table (`setMask`); -1: every id is allowed; -2: late, `supplyMasks` gives it. */
  maskIndex: Int32Array;
  /** Names this step to `supplyMasks`: not the ticket of another step that waits. 0 when no mask is late. */
  maskTicket: number;
  /** [S] likeliest tokens to report; -1 = no logprobs at all for this row. */
  topLogprobs: Int32Array;
  /** [S + 1] ranges in wantedIds: ids whose logprob is reported. */
  wantedStart: Int32Array;
  wantedIds: Int32Array;
  /** Return the raw logits of every row. For tests: S x vocab floats. */
  returnLogits: boolean;
  /** Return the final hidden state (after the last norm) of every row. */
  returnHidden: boolean;
}

export interface StepOutputs {
  /** [S] sampled id, or the target. */
  ids: Int32Array;
  /** [S] raw logprob of that id; NaN where topLogprobs is -1. */
  logprobs: Float32Array;
  /** Concatenated over rows: max(topLogprobs, 0) entries each, likeliest first. */
  topIds: Int32Array;
  topLogprobs: Float32Array;
  /** Like wantedIds. */
  wantedLogprobs: Float32Array;
  /** [S][vocab] when asked for. */
  logits: Float32Array | null;
  /** [S][hidden] when asked for. */
  hidden: Float32Array | null;
  /** Nanoseconds of the monotonic clock (process.hrtime): when native threads began and ended this step. */
  startNs: number;
  endNs: number;
  /** Of these, nanoseconds spent waiting for late masks. */
  maskWaitNs: number;
  /** Of these, nanoseconds spent sampling and gathering logprobs. */
  sampleNs: number;
}

/**
 * How a step rejects when only some of its rows could not be sampled (NaN logits, every id forbidden): the others are
 * whole. A step that failed as a whole rejects with a plain Error. The message names the first row.
 */
export interface StepRowsError extends Error {
  /** Rows that failed, ascending. Their ids are -1; their token-pool slots hold 0, so that steps already queued can run. */
  rows: Int32Array;
  /** Why, one per entry of `rows`. */
  reasons: string[];
  outputs: StepOutputs;
}

export function isStepRowsError(error: unknown): error is StepRowsError {
  return error instanceof Error && "outputs" in error && "rows" in error && "reasons" in error;
}

export interface PlanDescription {
  /** See graph/instructions.ts: 16 words per instruction, executed in order. */
  instructions: Int32Array;
  /** Instructions [0, headStart) run once over all T tokens; the rest once per block of at most maxRows rows. */
  headStart: number;
  /** 5 words per buffer: byte offset in the arena / 64, floats per row of the parent, first column, columns, extent (0 tokens, 1 rows). */
  buffers: Int32Array;
  /** Weights named by instructions, by index. */
  weights: NativeWeight[];
  arenaBytes: number;
  /** Most tokens in one step. */
  maxTokens: number;
  /** Most rows in one block of the head. */
  maxRows: number;
  /** Buffer of the logits [rows, vocab]; -1 for a model without head. */
  logits: number;
  /** Buffer of the last hidden state [rows, hidden]. */
  hidden: number;
  /** Ids >= this are never sampled (padding rows of the embedding); also the width of masks. */
  vocabSize: number;
  /** Pages that several sequences of a step begin with are read once for all of them. Same bits either way. */
  cascade: boolean;
  /** One of {@link NUMERICS}. With fast every matrix must be rotated, else none. */
  numerics: string;
  kv: NativeKvPool;
}

/** One entry per instruction, in their order, then "begin" (what a step derives from its inputs) and "sample". */
export interface PlanTimings {
  /** Names of opcodes. */
  names: string[];
  /** Nanoseconds of wall time on the runner thread, the wait for the pool included. */
  ns: Float64Array;
  /** Times it ran. */
  runs: Float64Array;
  /** Positions of keys and values that attention read, per layer and kv head: shared ones once, those of a tile of tokens once. */
  positionsRead: number;
  /** Logits that the head wrote, of {@link Opcode.Logits}: none for rows of which sampling needs only the best ids. */
  logitsWritten: number;
}

export interface NativeAddon {
  /** `cores`: logical CPUs this process may run on; quotas of control groups are not looked at. */
  cpuInfo(): { model: string; features: string[]; cores: number };
  /** Gives memory that the C heap keeps for later back to the system, where the C library can. */
  trimHeap(): void;
  tiers(): TierInfo[];
  /** @param tier a name from tiers(), or null for the best supported. @param nice added to the niceness of pool threads. */
  createRuntime(options: { threads: number; tier: string | null; nice: number }): NativeRuntime;
  runtimeInfo(runtime: NativeRuntime): { tier: string; reason: string; threads: number };
  /** Waits for the step under way, joins the threads. Idempotent. */
  closeRuntime(runtime: NativeRuntime): void;

  mapFile(path: string): NativeFile;
  /** Weights that gather rows in place keep their file mapped until they are closed too. */
  closeFile(file: NativeFile): void;

  /** Packs rows [sum of rows, columns] into tile order, keeping the file's integers and scales unless `rotated`. Runs on the pool. */
  packMatrix(
    runtime: NativeRuntime,
    options: {
      columns: number;
      sources: MatrixSource[];
      /** Rows are rotated and rounded to 8 bits, for plans with numerics "fast" (native/src/rotation.h). @default false */
      rotated?: boolean;
      /** The same matrix, packed before: it is checked and used where it lies. Rejects when it is damaged. */
      stored?: StoredMatrix;
    },
  ): Promise<NativeWeight>;
  /** The bytes of a matrix that was packed here, lent and not copied, with their checksum. They must not be changed. */
  packedBytes(runtime: NativeRuntime, weight: NativeWeight): Promise<{ bytes: Uint8Array; checksum: string }>;
  /** 16 hex digits that change whenever packing would write other bytes: the identity of what packedBytes gives. */
  packedLayout(): string;
  /** Rows gathered from the mapped file and dequantised one by one (embeddings). */
  mapTable(options: { file: NativeFile; offset: number; type: number; rows: number; columns: number }): NativeWeight;
  uploadVector(values: Float32Array): NativeWeight;
  /** `roundingError`: root mean square of what packing changed, relative to that of the weights; 0 when it changed nothing or did not happen here. */
  weightInfo(weight: NativeWeight): { rows: number; columns: number; bytes: number; roundingError: number };
  /** Plans keep what they use alive. */
  closeWeight(weight: NativeWeight): void;

  createKvPool(options: {
    layers: number;
    kvHeads: number;
    headDim: number;
    pageSize: number;
    pages: number;
    dtype: KvDtype;
    /**
     * [layers * kvHeads * headDim] or null: keys are divided by it when they are written and queries multiplied when they
     * are used, so that one scale per key suits all its columns.
     */
    keyScales: Float32Array | null;
  }): NativeKvPool;
  kvPoolBytes(kv: NativeKvPool): number;
  closeKvPool(kv: NativeKvPool): void;

  /** Bytes of one page of a pool, all layers and heads. */
  kvBlockBytes(kv: NativeKvPool): number;
  /** Room for one page outside of the pool. Contents are undefined at first. */
  createKvBlock(kv: NativeKvPool): NativeKvBlock;
  /** The block's bytes, not a copy. Must not be touched while a copy of the block is queued. */
  kvBlockView(block: NativeKvBlock): Uint8Array;
  /** Queued copies and views keep the bytes alive. */
  closeKvBlock(block: NativeKvBlock): void;
  /**
   * Copies pages[i] of the pool to blocks[i], or back. Queued like a step: a copy sees what steps submitted before it wrote,
   * and is seen by steps submitted after it.
   */
  saveKvPages(
    runtime: NativeRuntime,
    kv: NativeKvPool,
    pages: Int32Array,
    blocks: readonly NativeKvBlock[],
  ): Promise<void>;
  loadKvPages(
    runtime: NativeRuntime,
    kv: NativeKvPool,
    pages: Int32Array,
    blocks: readonly NativeKvBlock[],
  ): Promise<void>;

  createPlan(runtime: NativeRuntime, description: PlanDescription): NativePlan;
  /**
   * Queues one step; steps run in the order of submission. One native call per step. Each plan has a token pool of 65,536
   * slots. Rejects with an Error, a {@link StepRowsError} when rows failed alone.
   */
  runPlan(plan: NativePlan, inputs: StepInputs): Promise<StepOutputs>;
  /**
   * Uploads entry `index` (below 65,536) of the plan's mask table: [ceil(vocab / 32)] words, bit = 1: allowed; null empties
   * it. Steps submitted before keep the mask that the entry held then, so a mask that does not change is copied once and an
   * entry may be overwritten at any time.
   */
  setMask(plan: NativePlan, index: number, mask: Uint32Array | null): void;
  /**
   * Gives a submitted step the masks of its late rows (maskIndex -2), one entry per late row, in order: an entry of the mask
   * table, -1 = every id is allowed, -2 = none could be made and the row fails alone. The step runs its forward pass
   * meanwhile and waits before it samples. False, and nothing happens, when no step of that ticket waits: it has failed.
   *
   * A step must be supplied sooner or later: those behind it wait too. Closing the plan or the runtime ends the wait with an
   * error. While a step waits, calls that block (readBuffer, matmul) are refused.
   */
  supplyMasks(plan: NativePlan, ticket: number, masks: Int32Array): boolean;
  /**
   * The same step op by op, a queue entry per instruction (--disable-cuda-graph): slower, same bits, and an instruction
   * that produces NaN anywhere is an error that names it.
   */
  runPlanByOp(plan: NativePlan, inputs: StepInputs): Promise<StepOutputs>;
  /** Contents of a buffer after the last step, [rows, columns]: for tests and debugging. */
  readBuffer(plan: NativePlan, buffer: number): Float32Array;
  /** Where the plan's steps spent their time since the last call. Waits for the steps submitted before it. */
  takePlanTimings(plan: NativePlan): PlanTimings;
  closePlan(plan: NativePlan): void;

  /** y = x W^T through the kernels of a runtime's tier; x [m, columns], as integers when the matrix is rotated. For tests and the kernel bench. */
  matmul(runtime: NativeRuntime, weight: NativeWeight, x: Float32Array, m: number): Float32Array;
  /** One row dequantised by the native code (mapTable path). For tests. */
  dequantizeRow(type: number, bytes: Uint8Array, columns: number): Float32Array;
  /** XXH64, seed 0, as 16 hex digits. For tests. */
  xxh64(bytes: Uint8Array): string;
  /** Times tasks were handed to pool threads since start; for tests that count. */
  poolStats(runtime: NativeRuntime): { runs: number; chunks: number };
}
