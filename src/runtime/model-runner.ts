/**
 * A Batch as native inputs, native outputs as StepOutputs. One native call per step.
 *
 * {@link ModelRunner} is the whole of what the runtime knows of a model: tests put a deterministic fake behind it.
 */
import type { EngineStats } from "../core/protocol.js";
import { isStepRowsError, type StepInputs, type StepOutputs } from "../native/addon.js";
import { type Batch, type BatchItem, isFinal, type RowOutput, type StepOutput } from "./batch.js";
import { SamplingArrays } from "./sampler.js";
import { int32List } from "./typed-list.js";

export interface ModelRunner {
  /** Ids >= this are never sampled. */
  readonly vocabSize: number;
  /** Most tokens in one step. */
  readonly maxTokens: number;
  /** Pages of the KV pool, and tokens per page. */
  readonly pages: number;
  readonly pageSize: number;
  readonly kernels: EngineStats["kernels"];
  readonly memory: Omit<EngineStats["memory"], "rssBytes">;
  /** Runs one step. Inputs are copied before this returns. Rejects with a StepRowsError when single rows failed. */
  forward(inputs: StepInputs): Promise<StepOutputs>;
  close(): Promise<void>;
}

/** Prompt positions [from, to) whose logprobs this item gives. Position p comes from the row of token p - 1. */
function inputLogprobRange({ req, start, end }: BatchItem): { from: number; to: number } {
  if (req.nextInputLogprob >= req.promptLength) return { from: 0, to: 0 };
  const from = Math.max(req.nextInputLogprob, start + 1);
  return { from, to: Math.max(from, Math.min(end + 1, req.promptLength)) };
}

/** Does the item's last token need a row: a sample, or a probe? */
function hasLastRow(item: BatchItem): boolean {
  return isFinal(item) && (item.req.probe !== null || item.req.maxNewTokens > 0);
}

export class BatchRunner {
  readonly #runner: ModelRunner;
  readonly #tokens = int32List();
  readonly #positions = int32List();
  readonly #seqStart = int32List();
  readonly #kvLength = int32List();
  readonly #pageStart = int32List();
  readonly #pageTable = int32List();
  readonly #rowToken = int32List();
  readonly #sampling = new SamplingArrays();
  readonly #inputs = { returnLogits: false } as StepInputs;

  constructor(runner: ModelRunner) {
    this.#runner = runner;
  }

  /** Runs the batch; output i belongs to item i. Rejects when the step failed as a whole; failed rows mark their items. */
  async run(batch: Batch): Promise<StepOutput[]> {
    this.#fill(batch);
    try {
      return split(batch, await this.#runner.forward(this.#inputs), NO_FAILURES);
    } catch (error) {
      if (!isStepRowsError(error)) throw error;
      return split(batch, error.outputs, new Map(error.reasons.map((reason, i) => [error.rows[i], reason])));
    }
  }

  #fill(batch: Batch): void {
    const { pageSize } = this.#runner;
    for (const list of [
      this.#tokens,
      this.#positions,
      this.#seqStart,
      this.#kvLength,
      this.#pageStart,
      this.#pageTable,
      this.#rowToken,
    ])
      list.clear();
    this.#sampling.clear();
    let returnHidden = false;
    for (const item of batch.items) {
      const { req, start, end } = item;
      const ids = req.ids;
      const firstToken = this.#tokens.length;
      this.#seqStart.push(firstToken);
      this.#pageStart.push(this.#pageTable.length);
      this.#tokens.append(ids, start, end);
      for (let position = start; position < end; position++) this.#positions.push(position);
      this.#kvLength.push(end);
      this.#pageTable.append(req.pages, 0, Math.ceil(end / pageSize));

      const { from, to } = inputLogprobRange(item);
      for (let position = from; position < to; position++) {
        this.#rowToken.push(firstToken + position - 1 - start);
        this.#sampling.addTarget(ids[position], req.topLogprobs, req.wantedIds);
      }
      if (!hasLastRow(item)) continue;
      this.#rowToken.push(firstToken + end - 1 - start);
      if (req.probe) {
        this.#sampling.addTarget(
          req.probe.tokenIds[0] ?? 0,
          req.probe.tokenIds.length > 0 ? 0 : -1,
          req.probe.tokenIds,
        );
        returnHidden ||= req.probe.hidden;
      } else {
        this.#sampling.addSample(req);
      }
    }
    this.#seqStart.push(this.#tokens.length);
    this.#pageStart.push(this.#pageTable.length);
    const inputs = this.#inputs;
    inputs.tokens = this.#tokens.view();
    inputs.positions = this.#positions.view();
    inputs.seqStart = this.#seqStart.view();
    inputs.kvLength = this.#kvLength.view();
    inputs.pageStart = this.#pageStart.view();
    inputs.pageTable = this.#pageTable.view();
    inputs.rowToken = this.#rowToken.view();
    inputs.returnHidden = returnHidden;
    this.#sampling.fill(inputs);
  }
}

const NO_FAILURES: ReadonlyMap<number, string> = new Map();

/**
 * Cuts the step's outputs into rows, in the order `#fill` made them.
 * @param failures reason by row, for the rows that failed
 */
function split(batch: Batch, outputs: StepOutputs, failures: ReadonlyMap<number, string>): StepOutput[] {
  let row = 0;
  let top = 0;
  let wanted = 0;
  const hiddenSize = outputs.hidden && outputs.ids.length > 0 ? outputs.hidden.length / outputs.ids.length : 0;
  let error: string | null = null;
  const next = (tops: number, wants: number): RowOutput => {
    error ??= failures.get(row) ?? null;
    const out: RowOutput = {
      id: outputs.ids[row],
      logprob: outputs.logprobs[row],
      topIds: outputs.topIds.subarray(top, top + tops),
      topLogprobs: outputs.topLogprobs.subarray(top, top + tops),
      wantedLogprobs: outputs.wantedLogprobs.subarray(wanted, wanted + wants),
      hidden: outputs.hidden ? outputs.hidden.subarray(row * hiddenSize, (row + 1) * hiddenSize) : null,
    };
    row++;
    top += tops;
    wanted += wants;
    return out;
  };
  return batch.items.map((item) => {
    const { req } = item;
    const tops = Math.max(req.topLogprobs, 0);
    const { from, to } = inputLogprobRange(item);
    error = null;
    const input: RowOutput[] = [];
    for (let position = from; position < to; position++) input.push(next(tops, req.wantedIds.length));
    let last: RowOutput | null = null;
    if (hasLastRow(item)) last = req.probe ? next(0, req.probe.tokenIds.length) : next(tops, req.wantedIds.length);
    return { item, inputStart: from, input, last, error };
  });
}
