/**
 * A deterministic model that lives in its KV pages, and a tokenizer of one character per token.
 *
 * The fake writes into each page slot a hash of the token and of the slot before it, as found through the page table. A
 * row's logits are a hash of all slots its sequence sees. So a wrong page table, a page shared too early or reused too
 * soon, a wrong position or chunk boundary all change the tokens that come out.
 */
import type { ModelInfo } from "../../src/core/protocol.js";
import type { StepInputs, StepOutputs, StepRowsError } from "../../src/native/addon.js";
import { type EngineConfig, resolveEngineConfig } from "../../src/runtime/config.js";
import { Engine } from "../../src/runtime/engine.js";
import type { PageBlock, PageStore } from "../../src/runtime/kv-tier.js";
import type { ModelRunner } from "../../src/runtime/model-runner.js";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.js";

const CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .";
export const EOS = CHARACTERS.length;
export const VOCAB = CHARACTERS.length + 1;

function mix(a: number, b: number): number {
  let h = Math.imul(a ^ (b + 0x9e3779b9), 0x85ebca6b);
  h ^= h >>> 13;
  h = Math.imul(h, 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

const uniform = (hash: number) => (hash + 0.5) / 2 ** 32;

function logSoftmax(logits: Float64Array): Float64Array {
  const max = Math.max(...logits);
  let sum = 0;
  for (const x of logits) sum += Math.exp(x - max);
  return logits.map((x) => x - max - Math.log(sum));
}

/** Logits after the tokens that led to `state`. */
function logitsOf(state: number): Float64Array {
  return Float64Array.from({ length: VOCAB }, (_, id) => 6 * uniform(mix(state, id)));
}

interface SamplingRow {
  temperature: number;
  topK: number;
  seed: readonly [number, number];
  draw: number;
  penalties: ArrayLike<number>;
  seen: ReadonlyMap<number, number>;
  bias: ReadonlyMap<number, number>;
  /** null = all ids are allowed. */
  mask: Uint32Array | null;
}

function sample(raw: Float64Array, row: SamplingRow): number {
  const [frequency, presence, repetition] = [row.penalties[0], row.penalties[1], row.penalties[2]];
  const logits = Float64Array.from(raw);
  for (const [id, count] of row.seen) {
    logits[id] = logits[id] > 0 ? logits[id] / repetition : logits[id] * repetition;
    logits[id] -= count * frequency + (count > 0 ? presence : 0);
  }
  for (const [id, bias] of row.bias) logits[id] += bias;
  const { mask } = row;
  if (mask) for (const id of logits.keys()) if (!((mask[id >> 5] >> (id & 31)) & 1)) logits[id] = -Infinity;
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  if (row.temperature < 1e-6) return order[0];
  const kept = row.topK > 0 ? order.slice(0, row.topK) : order;
  const noise = mix(mix(row.seed[0], row.seed[1]), row.draw);
  const score = (id: number) => logits[id] / row.temperature - Math.log(-Math.log(uniform(mix(noise, id))));
  return kept.reduce((best, id) => (score(id) > score(best) ? id : best));
}

export interface FakeOptions {
  pages?: number;
  pageSize?: number;
  maxTokens?: number;
  /** Called before each step; may throw, or return a promise to hold the step up. */
  onStep?: (inputs: StepInputs, step: number) => void | Promise<void>;
  /** Rows of a step that fail alone. @default none */
  failRows?: (inputs: StepInputs, step: number) => readonly number[];
}

/** Inputs of a step as they were at its submission. */
export interface RecordedStep {
  sequences: { tokens: number[]; positions: number[]; kvLength: number; pages: number[] }[];
  inputs: StepInputs;
}

/** What a slot of a page holds, outside of the pool. */
class FakeBlock implements PageBlock {
  slots: Uint32Array | null;

  constructor(pageSize: number) {
    this.slots = new Uint32Array(pageSize);
  }

  view(): Uint8Array {
    if (!this.slots) throw new Error("The block was closed.");
    return new Uint8Array(this.slots.buffer);
  }

  close(): void {
    this.slots = null;
  }
}

export class FakeRunner implements ModelRunner {
  readonly vocabSize = VOCAB;
  readonly maxTokens: number;
  readonly pages: number;
  readonly pageSize: number;
  readonly kernels = { tier: "fake", reason: "a test", threads: 1 };
  readonly memory = { weightsBytes: 0, kvBytes: 0, arenaBytes: 0 };
  /** In the order of their submission; tokens that the pool knew are filled in when the step runs. */
  readonly steps: RecordedStep[] = [];
  closed = false;
  /** Masks uploaded, and masks supplied late. */
  readonly counts = { setMask: 0, supplyMasks: 0, mostQueued: 0 };
  /** Steps submitted and not settled. */
  #queued = 0;
  #last: Promise<unknown> = Promise.resolve();
  readonly #pool = new Map<number, number>();
  readonly #masks = new Map<number, Uint32Array>();
  readonly #late = new Map<number, (masks: (Uint32Array | "failed" | null)[]) => void>();
  /** [pages * pageSize] hash of the prefix that ends at the slot. */
  readonly #slots: Uint32Array;
  readonly pageStore: PageStore;
  readonly #onStep: FakeOptions["onStep"];
  readonly #failRows: FakeOptions["failRows"];

  constructor(options: FakeOptions = {}) {
    this.pages = options.pages ?? 256;
    this.pageSize = options.pageSize ?? 1;
    this.maxTokens = options.maxTokens ?? 512;
    this.#onStep = options.onStep;
    this.#failRows = options.failRows;
    this.#slots = new Uint32Array(this.pages * this.pageSize);
    this.pageStore = {
      pageBytes: 4 * this.pageSize,
      createBlock: () => new FakeBlock(this.pageSize),
      save: (pages, blocks) => this.#copy(pages, blocks, (slots, block) => block.set(slots)),
      load: (pages, blocks) => this.#copy(pages, blocks, (slots, block) => slots.set(block)),
    };
  }

  /** Steps run one after the other, as natively. */
  forward(given: StepInputs): Promise<StepOutputs> {
    // The contract: arrays are copied at submit.
    const inputs = Object.fromEntries(
      Object.entries(given).map(([key, value]) => [key, typeof value === "object" ? value.slice() : value]),
    ) as unknown as StepInputs;
    const recorded = this.#check(inputs);
    const index = this.steps.push(recorded) - 1;
    const masks = this.#bindMasks(inputs);
    this.counts.mostQueued = Math.max(this.counts.mostQueued, ++this.#queued);
    const turn = this.#last;
    const run = (async () => {
      await turn;
      return this.#run(recorded, index, masks);
    })();
    this.#last = run.catch(() => {}).finally(() => this.#queued--);
    return run;
  }

  /** In its turn among the steps; blocks may be closed meanwhile. */
  #copy(
    pages: readonly number[],
    blocks: readonly PageBlock[],
    copy: (slots: Uint32Array, block: Uint32Array) => void,
  ): Promise<void> {
    const held = blocks.map((block) => (block as FakeBlock).slots as Uint32Array);
    if (held.includes(null as never)) throw new Error("A block was closed before its copy was queued.");
    const turn = this.#last;
    const run = (async () => {
      await turn;
      for (const [i, page] of pages.entries())
        copy(this.#slots.subarray(page * this.pageSize, (page + 1) * this.pageSize), held[i]);
    })();
    this.#last = run;
    return run;
  }

  setMask(index: number, mask: Uint32Array): void {
    this.counts.setMask++;
    this.#masks.set(index, mask.slice());
  }

  supplyMasks(ticket: number, indices: Int32Array): boolean {
    this.counts.supplyMasks++;
    const supply = this.#late.get(ticket);
    if (!supply) return false;
    this.#late.delete(ticket);
    supply(Array.from(indices, (index) => (index === -2 ? "failed" : index === -1 ? null : this.#mask(index))));
    return true;
  }

  #mask(index: number): Uint32Array {
    const mask = this.#masks.get(index);
    if (!mask) throw new RangeError(`entry ${index} of the mask table is empty`);
    return mask;
  }

  /** The masks of all rows, once the late ones are supplied. */
  #bindMasks({ maskIndex, maskTicket }: StepInputs): Promise<(Uint32Array | "failed" | null)[]> {
    const known = Array.from(maskIndex, (index) => (index < 0 ? null : this.#mask(index)));
    const late = [...maskIndex.keys()].filter((row) => maskIndex[row] === -2);
    if (late.length === 0) return Promise.resolve(known);
    return new Promise((resolve) => {
      this.#late.set(maskTicket, (masks) => resolve(known.map((mask, row) => masks[late.indexOf(row)] ?? mask)));
    });
  }

  async #run(
    recorded: RecordedStep,
    step: number,
    late: Promise<(Uint32Array | "failed" | null)[]>,
  ): Promise<StepOutputs> {
    const { inputs } = recorded;
    // The native runner answers from the event loop, never from a microtask.
    await new Promise((resolve) => setImmediate(resolve));
    try {
      await this.#onStep?.(inputs, step);
    } catch (error) {
      for (const slot of inputs.rowSlot) if (slot >= 0) this.#pool.set(slot, 0);
      throw error;
    }
    const pooled = this.#resolve(recorded);
    const states = this.#states(recorded);
    const masks = await late;
    const outputs = this.#rows(inputs, states, masks, pooled);
    const failed = [...masks.keys()].filter((row) => masks[row] === "failed");
    failed.push(...(this.#failRows?.(inputs, step) ?? []));
    for (const row of failed) outputs.ids[row] = -1;
    for (const [row, slot] of inputs.rowSlot.entries())
      if (slot >= 0) this.#pool.set(slot, Math.max(0, outputs.ids[row]));
    if (failed.length === 0) return outputs;
    const error = new Error(`runPlan: row ${failed[0]}: the row is spoilt`);
    const reasons = failed.map((row) => `row ${row} is spoilt`);
    throw Object.assign(error, { rows: Int32Array.from(failed), reasons, outputs }) satisfies StepRowsError;
  }

  /** Replaces references to the token pool; returns the ids of the tokens that were references. */
  #resolve({ inputs, sequences }: RecordedStep): Map<number, number> {
    const pooled = new Map<number, number>();
    for (const [i, token] of inputs.tokens.entries()) {
      if (token >= 0) continue;
      const id = this.#pool.get(-1 - token);
      if (id === undefined) throw new Error(`slot ${-1 - token} was never written`);
      pooled.set(i, id);
    }
    for (const [i, id] of pooled) inputs.tokens[i] = id;
    for (const [s, sequence] of sequences.entries())
      sequence.tokens = [...inputs.tokens.slice(inputs.seqStart[s], inputs.seqStart[s + 1])];
    return pooled;
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  #check(inputs: StepInputs): RecordedStep {
    const { tokens, positions, seqStart, kvLength, pageStart, pageTable, rowToken } = inputs;
    const fail = (message: string): never => {
      throw new RangeError(`StepInputs: ${message}`);
    };
    if (tokens.length > this.maxTokens) fail(`${tokens.length} tokens are more than ${this.maxTokens}`);
    if (seqStart.at(-1) !== tokens.length || positions.length !== tokens.length) fail("lengths differ");
    for (const key of [
      "rowTarget",
      "rowSlot",
      "temperature",
      "topP",
      "topK",
      "minP",
      "draw",
      "maskIndex",
      "topLogprobs",
    ] as const)
      if (inputs[key].length !== rowToken.length) fail(`${key} has ${inputs[key].length} rows, not ${rowToken.length}`);
    for (const key of ["seenStart", "biasStart", "wantedStart"] as const)
      if (inputs[key].length !== rowToken.length + 1) fail(`${key} has ${inputs[key].length} entries`);
    const written = new Set<number>();
    const sequences = Array.from(kvLength, (length, i) => {
      const sequence = {
        tokens: [...tokens.slice(seqStart[i], seqStart[i + 1])],
        positions: [...positions.slice(seqStart[i], seqStart[i + 1])],
        kvLength: length,
        pages: [...pageTable.slice(pageStart[i], pageStart[i + 1])],
      };
      if (sequence.positions.at(-1) !== length - 1) fail("the last position is not kvLength - 1");
      if (sequence.pages.length < Math.ceil(length / this.pageSize)) fail("too few pages");
      for (const position of sequence.positions) {
        const slot = this.#slot(sequence.pages, position);
        if (written.has(slot)) fail(`slot ${slot} is written twice`);
        written.add(slot);
      }
      return sequence;
    });
    return { sequences, inputs };
  }

  #slot(pages: readonly number[], position: number): number {
    const page = pages[Math.floor(position / this.pageSize)];
    if (!(page >= 0 && page < this.pages)) throw new RangeError(`StepInputs: page ${page} does not exist`);
    return page * this.pageSize + (position % this.pageSize);
  }

  /** Writes the slots of all tokens, then reads what every token sees. */
  #states({ sequences }: RecordedStep): number[] {
    for (const { tokens, positions, pages } of sequences) {
      for (const [i, token] of tokens.entries()) {
        const before = positions[i] === 0 ? 1 : this.#slots[this.#slot(pages, positions[i] - 1)];
        this.#slots[this.#slot(pages, positions[i])] = mix(before, token);
      }
    }
    return sequences.flatMap(({ positions, pages }) =>
      positions.map((last) => {
        let state = 7;
        for (let position = 0; position <= last; position++)
          state = mix(state, this.#slots[this.#slot(pages, position)]);
        return state;
      }),
    );
  }

  #rows(
    inputs: StepInputs,
    states: readonly number[],
    masks: readonly (Uint32Array | "failed" | null)[],
    pooled: ReadonlyMap<number, number>,
  ): StepOutputs {
    const rows = inputs.rowToken.length;
    const out = {
      ids: new Int32Array(rows),
      logprobs: new Float32Array(rows).fill(Number.NaN),
      topIds: [] as number[],
      topLogprobs: [] as number[],
      wantedLogprobs: [] as number[],
      hidden: [] as number[],
    };
    const pairs = (start: Int32Array, ids: Int32Array, values: ArrayLike<number>, row: number) =>
      new Map(Array.from(ids.slice(start[row], start[row + 1]), (id, i) => [id, values[start[row] + i]]));
    for (let row = 0; row < rows; row++) {
      const state = states[inputs.rowToken[row]];
      const logits = logitsOf(state);
      const logprobs = logSoftmax(logits);
      const target = inputs.rowTarget[row];
      const seen = pairs(inputs.seenStart, inputs.seenIds, inputs.seenCounts, row);
      const newest = pooled.get(inputs.rowToken[row]);
      if (newest !== undefined) seen.set(newest, (seen.get(newest) ?? 0) + 1);
      const mask = masks[row];
      const id =
        target >= 0
          ? target
          : sample(logits, {
              temperature: inputs.temperature[row],
              topK: inputs.topK[row],
              seed: [inputs.seed[2 * row], inputs.seed[2 * row + 1]],
              draw: inputs.draw[row],
              penalties: inputs.penalties.slice(3 * row, 3 * row + 3),
              seen,
              bias: pairs(inputs.biasStart, inputs.biasIds, inputs.biasValues, row),
              mask: mask === "failed" ? null : mask,
            });
      out.ids[row] = id;
      if (inputs.topLogprobs[row] >= 0) out.logprobs[row] = logprobs[id];
      const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a]);
      for (const top of order.slice(0, Math.max(0, inputs.topLogprobs[row]))) {
        out.topIds.push(top);
        out.topLogprobs.push(logprobs[top]);
      }
      for (let i = inputs.wantedStart[row]; i < inputs.wantedStart[row + 1]; i++)
        out.wantedLogprobs.push(logprobs[inputs.wantedIds[i]]);
      if (inputs.returnHidden) for (let i = 0; i < 4; i++) out.hidden.push(uniform(mix(state, 1000 + i)));
    }
    return {
      ids: out.ids,
      logprobs: out.logprobs,
      topIds: Int32Array.from(out.topIds),
      topLogprobs: Float32Array.from(out.topLogprobs),
      wantedLogprobs: Float32Array.from(out.wantedLogprobs),
      logits: null,
      hidden: inputs.returnHidden ? Float32Array.from(out.hidden) : null,
      startNs: 0,
      endNs: 0,
      maskWaitNs: 0,
      sampleNs: 0,
    };
  }
}

/** The state after `ids`, computed without pages. */
function stateOf(ids: readonly number[]): number {
  let slot = 1;
  let state = 7;
  for (const id of ids) {
    slot = mix(slot, id);
    state = mix(state, slot);
  }
  return state;
}

/** Logprobs of the token after `ids`. */
export function expectedLogprobs(ids: readonly number[]): Float64Array {
  return logSoftmax(logitsOf(stateOf(ids)));
}

/** What the fake model answers, computed one token at a time without pages, batches or a cache. */
export function expectedTokens(
  prompt: readonly number[],
  options: { maxNewTokens: number; temperature?: number; seed?: number; stopIds?: readonly number[] },
): number[] {
  const { maxNewTokens, temperature = 0, seed = 0, stopIds = [EOS] } = options;
  const ids = [...prompt];
  while (ids.length - prompt.length < maxNewTokens) {
    const id = sample(logitsOf(stateOf(ids)), {
      temperature,
      topK: -1,
      seed: [seed, 0],
      draw: ids.length - prompt.length,
      penalties: [0, 0, 1],
      seen: new Map(),
      bias: new Map(),
      mask: null,
    });
    ids.push(id);
    if (stopIds.includes(id)) break;
  }
  return ids.slice(prompt.length);
}

/** One character per token; `<eos>` is special. */
export const fakeTokenizer: Tokenizer = {
  vocabSize: VOCAB,
  bosTokenId: null,
  eosTokenIds: [EOS],
  padTokenId: null,
  chatTemplate: {
    source: "fake",
    render: (messages) => messages.map((m) => `${m.role} ${m.content as string}.`).join(""),
  },
  encode: (text) => Array.from(text, (c) => CHARACTERS.indexOf(c)),
  decode: (ids) => ids.map((id) => CHARACTERS[id] ?? "").join(""),
  tokenBytes: (id) => Buffer.from(id === EOS ? "<eos>" : CHARACTERS[id]),
  isSpecial: (id) => id === EOS,
  idToToken: (id) => (id === EOS ? "<eos>" : (CHARACTERS[id] ?? null)),
  tokenToId: (token) => (token === "<eos>" ? EOS : CHARACTERS.indexOf(token)),
};

export interface FakeEngine {
  engine: Engine;
  runner: FakeRunner;
}

/** A real engine over the fake model; page accounting is checked after every step. */
export function fakeEngine(
  config: Partial<EngineConfig> = {},
  fake: FakeOptions = {},
  model: Partial<ModelInfo> = {},
  tokenizer: Tokenizer = fakeTokenizer,
): FakeEngine {
  const resolved = resolveEngineConfig({ pageSize: 1, watchdogTimeout: 0, ...config });
  const runner = new FakeRunner({ pageSize: resolved.pageSize, ...fake });
  const engine = new Engine({
    runner,
    tokenizer,
    config: resolved,
    encoders: null,
    strict: true,
    model: {
      modelPath: "fake",
      servedModelName: "fake",
      architecture: "Fake",
      modelType: "fake",
      vocabSize: VOCAB,
      contextLength: 256,
      isGeneration: true,
      hasChatTemplate: true,
      dtypes: {},
      parameters: 0,
      weightVersion: "default",
      preferredSamplingParams: {},
      ...model,
    },
  });
  return { engine, runner };
}
