/**
 * A Batch as native inputs, native outputs as StepOutputs. One native call per step.
 *
 * Steps run in the order in which they were queued. A step may be queued while the one before it runs: a token that is not
 * known yet is then named by its slot in the native token pool, and the masks of constrained rows follow as soon as their
 * requests know all tokens before them.
 *
 * {@link ModelRunner} is the whole of what the runtime knows of a model: tests put a deterministic fake behind it.
 */
import type { EngineStats } from "../core/protocol.js";
import { isStepRowsError, type StepInputs, type StepOutputs } from "../native/addon.js";
import type { Batch, BatchItem, QueuedItem, RowOutput, StepOutput } from "./batch.js";
import type { PageStore } from "./kv-tier.js";
import { MaskTable } from "./mask-table.js";
import { NO_DRAFT } from "./request.js";
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
  /**
   * Queues one step; steps run in order. Inputs are copied before this returns. Rejects with a StepRowsError when single
   * rows failed.
   */
  forward(inputs: StepInputs): Promise<StepOutputs>;
  /** Uploads an entry of the mask table; see NativeAddon.setMask. */
  setMask(index: number, mask: Uint32Array): void;
  /** Gives a queued step the masks of its late rows; see NativeAddon.supplyMasks. */
  supplyMasks(ticket: number, masks: Int32Array): boolean;
  /** Copies pages in and out of the KV pool, in the same queue. Absent where there are no pages to copy. */
  readonly pageStore?: PageStore;
  close(): Promise<void>;
}

/** What a step gave, and when it ran (see StepOutputs). Row i belongs to item i. */
export interface StepResult {
  rows: StepOutput[];
  startNs: number;
  endNs: number;
  maskWaitNs: number;
  sampleNs: number;
}

/** A batch whose step is queued. */
export interface QueuedStep {
  kind: Batch["kind"];
  items: readonly QueuedItem[];
  /** Rejects when the step failed as a whole; failed rows mark their items. */
  outputs: Promise<StepResult>;
  /** Rows of items whose constraint must say what may come next; they wait for {@link BatchRunner.supplyMasks}. */
  constrained: readonly QueuedItem[];
  ticket: number;
  supplied: boolean;
}

/** Prompt positions [from, to) whose logprobs this item gives. Position p comes from the row of token p - 1. */
function inputLogprobRange({ req, start, end }: BatchItem): { from: number; to: number } {
  if (req.nextInputLogprob >= req.promptLength) return { from: 0, to: 0 };
  const from = Math.max(req.nextInputLogprob, start + 1);
  return { from, to: Math.max(from, Math.min(end + 1, req.promptLength)) };
}

/** The item as it is queued: `slot` is its place in the batch, so no two items of a step write the same one. */
function queuedItem(item: BatchItem, slot: number): QueuedItem {
  const { req, start, end } = item;
  const { from, to } = inputLogprobRange(item);
  const draft = item.draft ?? NO_DRAFT;
  const isFinal = end - draft.ids.length === req.queuedLength;
  const samples = isFinal && !req.probe && req.maxNewTokens > 0;
  const last = samples ? "sample" : isFinal && req.probe ? "probe" : null;
  const isPrefill = req.state === "prefill";
  return { req, start, end, isPrefill, inputStart: from, inputEnd: to, last, slot, draft, maskError: null };
}

export class BatchRunner {
  readonly #runner: ModelRunner;
  readonly #masks: MaskTable;
  readonly #tokens = int32List();
  readonly #positions = int32List();
  readonly #seqStart = int32List();
  readonly #kvLength = int32List();
  readonly #pageStart = int32List();
  readonly #pageTable = int32List();
  readonly #rowToken = int32List();
  readonly #sampling = new SamplingArrays();
  readonly #inputs = { returnLogits: false } as StepInputs;
  #ticket = 0;

  constructor(runner: ModelRunner) {
    this.#runner = runner;
    this.#masks = new MaskTable((index, mask) => runner.setMask(index, mask));
  }

  /**
   * Queues the batch's step and marks its requests as in flight. A step with constrained rows waits for
   * {@link supplyMasks}.
   * @throws Error when the step is refused; nothing was queued or changed then
   */
  queue(batch: Batch): QueuedStep {
    const items = batch.items.map(queuedItem);
    const constrained = items.filter(({ req, last }) => last === "sample" && req.constraint !== null);
    const ticket = constrained.length > 0 ? ++this.#ticket : 0;
    this.#fill(items, ticket);
    const outputs = this.#outputs(items, this.#runner.forward(this.#inputs));
    // A step may fail before the loop comes to await it.
    outputs.catch(() => {});
    for (const item of items) item.req.inFlight = item;
    return { kind: batch.kind, items, outputs, constrained, ticket, supplied: constrained.length === 0 };
  }

  /** Asks the constraints of a queued step what may come next. Their requests must know all tokens before. */
  supplyMasks(step: QueuedStep): void {
    step.supplied = true;
    const masks: number[] = [];
    for (const item of step.constrained) {
      for (let ahead = 0; ahead <= item.draft.ids.length; ahead++) masks.push(this.#mask(item, ahead));
    }
    this.#runner.supplyMasks(step.ticket, Int32Array.from(masks));
  }

  /** The mask of the row after the first `ahead` tokens of the item's draft. */
  #mask(item: QueuedItem, ahead: number): number {
    const { req, draft } = item;
    // The result is dropped: the request has ended, or the draft is for another token than came.
    if (req.state === "finished" || (ahead > 0 && !draftHolds(item))) return NO_MASK;
    try {
      const mask = req.constraint?.mask(draft.ids.slice(0, ahead)) ?? null;
      return mask === null ? NO_MASK : this.#masks.index(mask);
    } catch (error) {
      item.maskError = (error as Error).message;
      return FAILED_MASK;
    }
  }

  async #outputs(items: readonly QueuedItem[], step: Promise<StepOutputs>): QueuedStep["outputs"] {
    const result = (outputs: StepOutputs, failures: ReadonlyMap<number, string>) => {
      const { startNs, endNs, maskWaitNs, sampleNs } = outputs;
      return { rows: split(items, outputs, failures), startNs, endNs, maskWaitNs, sampleNs };
    };
    try {
      return result(await step, NO_FAILURES);
    } catch (error) {
      if (!isStepRowsError(error)) throw error;
      return result(error.outputs, new Map(error.reasons.map((reason, i) => [error.rows[i], reason])));
    }
  }

  #fill(items: readonly QueuedItem[], ticket: number): void {
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
    for (const { req, start, end, inputStart, inputEnd, last, slot, draft } of items) {
      const ids = req.ids;
      const due = end - draft.ids.length;
      const firstToken = this.#tokens.length;
      this.#seqStart.push(firstToken);
      this.#pageStart.push(this.#pageTable.length);
      this.#tokens.append(ids, start, Math.min(due, ids.length));
      // The token after the known ones is the one that the step before samples.
      if (due > ids.length) this.#tokens.push(-1 - (req.inFlight as QueuedItem).slot);
      this.#tokens.append(draft.ids);
      for (let position = start; position < end; position++) this.#positions.push(position);
      this.#kvLength.push(end);
      this.#pageTable.append(req.pages, 0, Math.ceil(end / pageSize));

      for (let position = inputStart; position < inputEnd; position++) {
        this.#rowToken.push(firstToken + position - 1 - start);
        this.#sampling.addTarget(ids[position], req.topLogprobs, req.wantedIds);
      }
      if (last === null) continue;
      for (let length = due; length <= end; length++) this.#rowToken.push(firstToken + length - 1 - start);
      if (last === "sample") {
        // After a draft the request is in no step until its results are in, so nothing refers to its last token.
        for (let length = due; length <= end; length++)
          this.#sampling.addSample(req, length - req.promptLength, length === due ? slot : -1);
      } else if (req.probe) {
        const { tokenIds, hidden } = req.probe;
        this.#sampling.addTarget(tokenIds[0] ?? 0, tokenIds.length > 0 ? 0 : -1, tokenIds);
        returnHidden ||= hidden;
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
    inputs.maskTicket = ticket;
    inputs.returnHidden = returnHidden;
    this.#sampling.fill(inputs);
  }
}

/** Did the token that was still being sampled when the item was queued turn out as its draft expects? It must be known. */
export function draftHolds({ req, start, draft }: QueuedItem): boolean {
  return draft.after === null || req.ids[start] === draft.after;
}

const NO_MASK = -1;
const FAILED_MASK = -2;
const NO_FAILURES: ReadonlyMap<number, string> = new Map();

/**
 * Cuts the step's outputs into rows, in the order `#fill` made them.
 * @param failures reason by row, for the rows that failed
 */
function split(
  items: readonly QueuedItem[],
  outputs: StepOutputs,
  failures: ReadonlyMap<number, string>,
): StepOutput[] {
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
  return items.map((item) => {
    const { req, inputStart, inputEnd } = item;
    const tops = Math.max(req.topLogprobs, 0);
    error = null;
    const input: RowOutput[] = [];
    for (let position = inputStart; position < inputEnd; position++) input.push(next(tops, req.wantedIds.length));
    let last: RowOutput | null = null;
    if (item.last === "sample") last = next(tops, req.wantedIds.length);
    if (item.last === "probe") last = next(0, req.probe?.tokenIds.length ?? 0);
    const reason = () => (error === null ? null : (item.maskError ?? error));
    const rowsError = reason();
    // A row that failed after a wrong guess concerns nobody.
    error = null;
    const drafted: RowOutput[] = [];
    for (const _ of item.draft.ids) {
      const out = next(tops, req.wantedIds.length);
      if (error === null) drafted.push(out);
    }
    return { item, input, last, drafted, error: rowsError, draftError: reason() };
  });
}
