/**
 * Sampling arguments as the native sampler takes them. Each request keeps its own part ready (bias, seen tokens); every
 * step copies the parts of its rows into arrays that are reused.
 *
 * The draw of a token depends on (seed, index of the output token) alone, so it is the same in any batch, after any
 * cache hit or retraction.
 */
import type { SamplingParams } from "../core/sampling-params.js";
import type { StepInputs } from "../native/addon.js";
import type { Req } from "./request.js";
import { float32List, int32List, uint32List } from "./typed-list.js";

/** Parameters are checked as doubles; the kernels take f32 and i32. What a cast would make infinite, zero or negative stays as extreme as it can. */
const F32_MAX = 2 ** 127 * (2 - 2 ** -23);
const F32_MIN = 2 ** -126;
const I32_MAX = 2 ** 31 - 1;
const NO_MASK = -1;
const LATE_MASK = -2;

interface Bias {
  ids: number[];
  values: number[];
}

function biasOf(entries: ReadonlyMap<number, number>): Bias {
  const f32 = (value: number) =>
    value === Number.NEGATIVE_INFINITY ? value : Math.min(Math.max(value, -F32_MAX), F32_MAX);
  return { ids: [...entries.keys()], values: Array.from(entries.values(), f32) };
}

/** A request's part of the sampling arguments. */
export class ReqSampling {
  readonly seedLow: number;
  readonly seedHigh: number;
  readonly penalised: boolean;
  /** Distinct ids of the prompt (with a repetition penalty only) and the output; counts are of the output. */
  readonly seenIds = int32List(0);
  readonly #counts = int32List(0);
  readonly #seenIndex = new Map<number, number>();
  readonly #bias: Bias;
  /** The bias while fewer than minNewTokens are out: ids that end the answer are forbidden. */
  readonly #earlyBias: Bias;
  readonly #minNewTokens: number;

  constructor(params: SamplingParams, promptIds: readonly number[], stopIds: ReadonlySet<number>, seed: bigint) {
    const bits = BigInt.asUintN(64, seed);
    this.seedLow = Number(bits & 0xffffffffn);
    this.seedHigh = Number(bits >> 32n);
    this.penalised = params.frequencyPenalty !== 0 || params.presencePenalty !== 0 || params.repetitionPenalty !== 1;
    if (params.repetitionPenalty !== 1) for (const id of promptIds) this.#count(id, 0);
    const bias = new Map(Object.entries(params.logitBias).map(([id, value]) => [Number(id), value]));
    this.#bias = biasOf(bias);
    this.#minNewTokens = params.minNewTokens;
    for (const id of stopIds) bias.set(id, Number.NEGATIVE_INFINITY);
    this.#earlyBias = params.minNewTokens > 0 ? biasOf(bias) : this.#bias;
  }

  /** Counts an output token. */
  observe(id: number): void {
    if (this.penalised) this.#count(id, 1);
  }

  get seenCounts(): Int32Array {
    return this.#counts.view();
  }

  biasAt(outputLength: number): Bias {
    return outputLength < this.#minNewTokens ? this.#earlyBias : this.#bias;
  }

  #count(id: number, times: number): void {
    const index = this.#seenIndex.get(id);
    if (index !== undefined) {
      this.#counts.view()[index] += times;
      return;
    }
    this.#seenIndex.set(id, this.seenIds.length);
    this.seenIds.push(id);
    this.#counts.push(times);
  }
}

/** The sampling half of {@link StepInputs}. Call clear, then one add per row, then fill. */
export class SamplingArrays {
  readonly #rowTarget = int32List();
  readonly #rowSlot = int32List();
  readonly #temperature = float32List();
  readonly #topP = float32List();
  readonly #topK = int32List();
  readonly #minP = float32List();
  readonly #seed = uint32List();
  readonly #draw = int32List();
  readonly #penalties = float32List();
  readonly #seenStart = int32List();
  readonly #seenIds = int32List();
  readonly #seenCounts = int32List();
  readonly #biasStart = int32List();
  readonly #biasIds = int32List();
  readonly #biasValues = float32List();
  readonly #maskIndex = int32List();
  readonly #topLogprobs = int32List();
  readonly #wantedStart = int32List();
  readonly #wantedIds = int32List();

  clear(): void {
    for (const list of [
      this.#rowTarget, this.#rowSlot, this.#temperature, this.#topP, this.#topK, this.#minP, this.#seed, this.#draw,
      this.#penalties, this.#seenStart, this.#seenIds, this.#seenCounts, this.#biasStart, this.#biasIds,
      this.#biasValues, this.#maskIndex, this.#topLogprobs, this.#wantedStart, this.#wantedIds,
    ]) // biome-ignore format: one list of lists
      list.clear();
    for (const starts of [this.#seenStart, this.#biasStart, this.#wantedStart]) starts.push(0);
  }

  /**
   * A row that samples a request's next token.
   * @param outputLength output tokens before it, known or not
   * @param slot of the token pool, for the sampled id
   */
  addSample(req: Req, outputLength: number, slot: number): void {
    const { params, sampling } = req;
    this.#rowTarget.push(-1);
    this.#temperature.push(Math.min(params.temperature, F32_MAX));
    this.#topP.push(Math.max(params.topP, F32_MIN));
    this.#topK.push(Math.min(params.topK, I32_MAX));
    this.#minP.push(params.minP);
    this.#seed.push(sampling.seedLow);
    this.#seed.push(sampling.seedHigh);
    this.#draw.push(outputLength);
    this.#penalties.push(params.frequencyPenalty);
    this.#penalties.push(params.presencePenalty);
    this.#penalties.push(Math.max(params.repetitionPenalty, F32_MIN));
    if (sampling.penalised) {
      this.#seenIds.append(sampling.seenIds.view());
      this.#seenCounts.append(sampling.seenCounts);
    }
    const bias = sampling.biasAt(outputLength);
    this.#biasIds.append(bias.ids);
    this.#biasValues.append(bias.values);
    this.#rowSlot.push(slot);
    this.#maskIndex.push(req.constraint ? LATE_MASK : NO_MASK);
    this.#finishRow(req.topLogprobs, req.wantedIds);
  }

  /** A row that samples nothing and reports the logprobs of `target` and of `wantedIds`; topLogprobs -1 = none. */
  addTarget(target: number, topLogprobs: number, wantedIds: readonly number[]): void {
    this.#rowTarget.push(target);
    this.#temperature.push(0);
    this.#topP.push(1);
    this.#topK.push(-1);
    this.#minP.push(0);
    this.#seed.push(0);
    this.#seed.push(0);
    this.#draw.push(0);
    this.#penalties.push(0);
    this.#penalties.push(0);
    this.#penalties.push(1);
    this.#rowSlot.push(-1);
    this.#maskIndex.push(NO_MASK);
    this.#finishRow(topLogprobs, wantedIds);
  }

  #finishRow(topLogprobs: number, wantedIds: readonly number[]): void {
    this.#topLogprobs.push(topLogprobs);
    this.#wantedIds.append(wantedIds);
    this.#seenStart.push(this.#seenIds.length);
    this.#biasStart.push(this.#biasIds.length);
    this.#wantedStart.push(this.#wantedIds.length);
  }

  /** Writes the arrays into `inputs`. They are valid until the next clear. */
  fill(inputs: StepInputs): void {
    inputs.rowTarget = this.#rowTarget.view();
    inputs.rowSlot = this.#rowSlot.view();
    inputs.temperature = this.#temperature.view();
    inputs.topP = this.#topP.view();
    inputs.topK = this.#topK.view();
    inputs.minP = this.#minP.view();
    inputs.seed = this.#seed.view();
    inputs.draw = this.#draw.view();
    inputs.penalties = this.#penalties.view();
    inputs.seenStart = this.#seenStart.view();
    inputs.seenIds = this.#seenIds.view();
    inputs.seenCounts = this.#seenCounts.view();
    inputs.biasStart = this.#biasStart.view();
    inputs.biasIds = this.#biasIds.view();
    inputs.biasValues = this.#biasValues.view();
    inputs.maskIndex = this.#maskIndex.view();
    inputs.topLogprobs = this.#topLogprobs.view();
    inputs.wantedStart = this.#wantedStart.view();
    inputs.wantedIds = this.#wantedIds.view();
  }
}
