/**
 * A checkpoint to something that runs.
 *
 *   checkpoint --openModel--> config, graph, bindings --packWeights--> LoadedWeights --createPlan--> KV pool + plan
 *
 * Weights are packed once; the number of KV pages is known only after that, so plans are made separately.
 */
import { SglangError } from "../core/errors.js";
import type { Checkpoint } from "../core/model-files.js";
import type { Graph, Weight } from "../graph/graph.js";
import { type KvShape, kvShape, type LoweredPlan, lower } from "../graph/lower.js";
import type { KvDtype, NativeKvPool, NativePlan, NativeWeight, Numerics } from "../native/addon.js";
import { readRows } from "./bind.js";
import type { ModelConfig } from "./config.js";
import { keyScales } from "./key-scales.js";
import { type OpenedModel, openModel } from "./open.js";
import { type NativeHandles, type PackedWeights, type PackOptions, packWeights } from "./pack.js";

export type { KvDtype } from "../native/addon.js";
export { referenceModel } from "./open.js";
export type { NativeHandles } from "./pack.js";

const KV_BYTES: Record<KvDtype, number> = { f32: 4, f16: 2, bf16: 2, int8: 1, fp8_e4m3: 1 };
/** Types with one f32 scale per position, kv head and K or V. */
const isScaled = (dtype: KvDtype) => KV_BYTES[dtype] === 1;
/**
 * Types whose keys are evened out first. Not fp8: its steps are relative, so small columns lose nothing beside large ones,
 * and a large column that hardly changes is best left the largest, which is exact.
 */
const evensKeys = (dtype: KvDtype) => dtype === "int8";

/** `onProgress` is called after each weight with bytes of the files. */
export interface LoadOptions extends Omit<PackOptions, "rotated"> {
  /** Positions a sequence may have; at most the model's own. @default the model's */
  contextLength?: number;
  /** Type of the KV pools that plans will be made with; int8 needs scales from the weights. @default any but int8 */
  kvDtype?: KvDtype;
  /** What plans will be made with: fast needs weights of its own, which the others can't use. @default any but fast */
  numerics?: Numerics;
}

/** What rounding changed in the weights of numerics fast: root mean squares relative to the weights. */
export interface RoundingError {
  /** Over all matrices. */
  all: number;
  /** The largest of one matrix, and its name. */
  most: number;
  name: string;
}

export interface PlanOptions {
  /** Most tokens in one step. */
  maxTokens: number;
  /** Most rows in one block of the head. */
  maxRows: number;
  kvPages: number;
  /** Positions per page. */
  pageSize: number;
  kvDtype: KvDtype;
  /** Pages that sequences of a step share are read once for all. Same bits either way. @default true */
  cascade?: boolean;
  /** What inputs of matrix products with quantised weights become: f32, 16-bit or 8-bit integers. @default "f32" */
  numerics?: Numerics;
  /** Ids >= this are never sampled: the tokenizer's size. @default config.vocabSize */
  vocabSize?: number;
  /** Every tensor keeps its own bytes until the next step. For tests and debugging. @default false */
  keepAll?: boolean;
}

/** A plan with the KV pool it writes to. */
export interface ModelPlan {
  readonly plan: NativePlan;
  readonly kv: NativeKvPool;
  readonly kvBytes: number;
  /** Instructions, buffers and layout; print with `printPlan`. */
  readonly lowered: LoweredPlan;
  /** Frees plan and pool. Idempotent. */
  close(): void;
}

/** A model whose weights are in native memory. */
export class LoadedWeights {
  readonly config: ModelConfig;
  readonly graph: Graph;
  /** Positions a sequence may have. */
  readonly contextLength: number;
  /** Native memory of all weights; rows gathered in place from the file count with their bytes there. */
  readonly weightBytes: number;
  /** Learnt numbers; tied weights count once. */
  readonly parameters: number;
  /** Tensors of each type. */
  readonly dtypes: Readonly<Record<string, number>>;
  /** Layers and shape of the pages. */
  readonly kvShape: KvShape;
  /** null: the weights are the file's own. */
  readonly roundingError: RoundingError | null;
  readonly #native: NativeHandles;
  readonly #weights: ReadonlyMap<Weight, NativeWeight>;
  readonly #keyScales: Float32Array | null;
  readonly #plans = new Set<ModelPlan>();
  #closed = false;

  constructor(
    opened: OpenedModel,
    native: NativeHandles,
    { handles, roundingErrors }: PackedWeights,
    contextLength: number,
    keyScales: Float32Array | null,
  ) {
    this.config = opened.config;
    this.graph = opened.graph;
    this.contextLength = contextLength;
    this.parameters = opened.parameters;
    this.dtypes = opened.dtypes;
    this.kvShape = kvShape(opened.graph);
    this.#native = native;
    this.#weights = handles;
    this.#keyScales = keyScales;
    this.roundingError = summarise(roundingErrors);
    this.weightBytes = [...handles.values()].reduce((sum, weight) => sum + native.addon.weightInfo(weight).bytes, 0);
  }

  /** Bytes that keys and values of one position take over all layers. */
  kvBytesPerToken(dtype: KvDtype): number {
    const { layers, kvHeads, headDim } = this.kvShape;
    return 2 * layers * kvHeads * (headDim * KV_BYTES[dtype] + (isScaled(dtype) ? 4 : 0));
  }

  /** Arena a plan will take, without making it. */
  arenaBytes({ maxTokens, maxRows }: Pick<PlanOptions, "maxTokens" | "maxRows">): number {
    return lower(this.graph, { maxTokens, maxRows, vocabSize: this.config.vocabSize }).arenaBytes;
  }

  /** Makes a KV pool and a plan over it. */
  createPlan(options: PlanOptions): ModelPlan {
    const { maxTokens, maxRows, kvPages, pageSize, kvDtype, keepAll, cascade = true, numerics = "f32" } = options;
    const { addon, runtime } = this.#native;
    if (this.#closed) throw new SglangError("ENGINE_FAILED", "The model is closed; load it again to make a plan.");
    const vocabSize = options.vocabSize ?? this.config.vocabSize;
    const lowered = lower(this.graph, { maxTokens, maxRows, vocabSize, keepAll });
    const keyScales = evensKeys(kvDtype) ? this.#keyScales : null;
    if (evensKeys(kvDtype) && keyScales === null)
      throw new SglangError(
        "INVALID_ARGUMENT",
        `Load the weights with kvDtype ${kvDtype} to make a KV pool of that type.`,
      );
    const kv = addon.createKvPool({ ...this.kvShape, pageSize, pages: kvPages, dtype: kvDtype, keyScales });
    let plan: NativePlan;
    try {
      plan = addon.createPlan(runtime, {
        instructions: lowered.instructions,
        headStart: lowered.headStart,
        buffers: lowered.buffers,
        weights: lowered.weights.map((weight) => this.#weights.get(weight)!),
        arenaBytes: lowered.arenaBytes,
        maxTokens,
        maxRows,
        logits: lowered.logits,
        hidden: lowered.hidden,
        vocabSize,
        cascade,
        numerics,
        kv,
      });
    } catch (error) {
      addon.closeKvPool(kv);
      throw error;
    }
    const modelPlan: ModelPlan = {
      plan,
      kv,
      kvBytes: addon.kvPoolBytes(kv),
      lowered,
      close: () => {
        if (!this.#plans.delete(modelPlan)) return;
        addon.closePlan(plan);
        addon.closeKvPool(kv);
      },
    };
    this.#plans.add(modelPlan);
    return modelPlan;
  }

  /** Closes its plans and frees all weights. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const plan of [...this.#plans]) plan.close();
    for (const weight of this.#weights.values()) this.#native.addon.closeWeight(weight);
  }
}

/** A model with one plan: what a runtime that knows its page count beforehand needs. */
export interface LoadedModel extends ModelPlan {
  readonly config: ModelConfig;
  readonly graph: Graph;
  readonly weights: LoadedWeights;
  readonly kvBytesPerToken: number;
  readonly weightBytes: number;
  readonly parameters: number;
  readonly dtypes: Readonly<Record<string, number>>;
}

/**
 * Checks a checkpoint and packs its weights. The checkpoint may be closed afterwards.
 * @throws SglangError UNSUPPORTED_MODEL | MALFORMED_FILE | TENSOR_MISMATCH for the files, INVALID_ARGUMENT for `contextLength`.
 */
export async function loadWeights(
  checkpoint: Checkpoint,
  native: NativeHandles,
  options: LoadOptions = {},
): Promise<LoadedWeights> {
  const opened = await openModel(checkpoint);
  const most = opened.config.contextLength;
  const contextLength = options.contextLength ?? most;
  if (!Number.isSafeInteger(contextLength) || contextLength < 1 || contextLength > most) {
    const expected = `an integer from 1 to the model's own ${most}`;
    throw new SglangError(
      "INVALID_ARGUMENT",
      `--context-length (contextLength) must be ${expected}, got ${contextLength}.`,
      {
        field: "--context-length",
        expected,
        found: String(contextLength),
      },
    );
  }
  const scales =
    options.kvDtype !== undefined && evensKeys(options.kvDtype)
      ? keyScales(opened.graph, (weight, ...rows) =>
          readRows(checkpoint, weight, opened.bindings.get(weight)!, ...rows),
        )
      : null;
  const packed = await packWeights(checkpoint, opened, native, { ...options, rotated: options.numerics === "fast" });
  return new LoadedWeights(opened, native, packed, contextLength, scales);
}

function summarise(errors: PackedWeights["roundingErrors"]): RoundingError | null {
  let squares = 0;
  let size = 0;
  let worst: RoundingError | null = null;
  for (const [{ name, rows, columns }, error] of errors) {
    squares += error ** 2 * rows * columns;
    size += rows * columns;
    if (error > (worst?.most ?? 0)) worst = { all: 0, most: error, name };
  }
  return worst && { ...worst, all: Math.sqrt(squares / size) };
}

/** {@link loadWeights} and one plan. `close` frees both. */
export async function loadModel(
  checkpoint: Checkpoint,
  native: NativeHandles,
  options: LoadOptions & PlanOptions,
): Promise<LoadedModel> {
  const weights = await loadWeights(checkpoint, native, options);
  try {
    const { config, graph, weightBytes, parameters, dtypes } = weights;
    return {
      ...weights.createPlan(options),
      config,
      graph,
      weights,
      kvBytesPerToken: weights.kvBytesPerToken(options.kvDtype),
      weightBytes,
      parameters,
      dtypes,
      close: () => weights.close(),
    };
  } catch (error) {
    weights.close();
    throw error;
  }
}
