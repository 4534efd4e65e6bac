/**
 * One step's work, and the types around it:
 *
 *   down  GenerateRequest (core/protocol)  ->  Req (request)  ->  Batch  ->  StepInputs (native/addon)
 *   up    StepOutputs (native/addon)  ->  StepOutput  ->  GenerateChunk (core/protocol)
 *
 * engine.ts makes Reqs, prefill.ts and decode.ts make Batches, model-runner.ts turns a Batch into native inputs and
 * native outputs into StepOutputs, output.ts turns those into chunks.
 */
import type { Req } from "./request.js";

/** Compute tokens [start, end) of a request; `start` of them have keys and values already, or will have when queued steps are through. */
export interface BatchItem {
  req: Req;
  start: number;
  end: number;
  /** The last tokens of [start, end): expected, not known (jump-forward). Each is verified by what the row before it samples. */
  draft?: Draft;
}

/** What the grammar of a running request makes likely. */
export interface Draft {
  ids: readonly number[];
  /** What the token before them is expected to be while it is still being sampled; null = it is known. */
  after: number | null;
}

export interface Batch {
  kind: "prefill" | "decode" | "mixed";
  items: BatchItem[];
}

/** A {@link BatchItem} whose step is queued natively, with what was settled when it was. */
export interface QueuedItem extends BatchItem {
  /** Part of a prompt (or of what a retracted request had), as opposed to the newest token of a running request. */
  isPrefill: boolean;
  /** Prompt positions [inputStart, inputEnd) whose logprobs it gives. */
  inputStart: number;
  inputEnd: number;
  /** What the row of its last token is for; null = it has none. */
  last: "sample" | "probe" | null;
  /** Token-pool slot of the sampled id; that of the first with a draft. */
  slot: number;
  draft: Draft;
  /** Why the mask of its next token could not be made. */
  maskError: string | null;
}

/** What one row of the step gave. Typed arrays are views into the step's outputs. */
export interface RowOutput {
  /** The sampled id, or the target whose logprob was asked for. */
  id: number;
  /** NaN when no logprobs were asked for. */
  logprob: number;
  /** [topLogprobs] likeliest first. */
  topIds: Int32Array;
  topLogprobs: Float32Array;
  /** [wantedIds] */
  wantedLogprobs: Float32Array;
  /** [hidden] for embedding probes. */
  hidden: Float32Array | null;
}

/** What one item of a batch gave. */
export interface StepOutput {
  item: QueuedItem;
  /** Prompt logprobs: row i belongs to prompt position item.inputStart + i. */
  input: RowOutput[];
  /** The sampled token or the probe; null when the item ends before the request's last token, or nothing is wanted of it. */
  last: RowOutput | null;
  /** With a draft: what was sampled after each of its tokens. Row i is of use when all that came before it were right. */
  drafted: RowOutput[];
  /** Why `drafted` is shorter than the draft. */
  draftError: string | null;
  /** Why one of the rows could not be computed, so that none is of use; null = all are there. Other items are not concerned. */
  error: string | null;
}
