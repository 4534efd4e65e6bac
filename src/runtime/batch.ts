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

/** Compute tokens [start, end) of a request; `start` of them have keys and values already. */
export interface BatchItem {
  req: Req;
  start: number;
  end: number;
}

export interface Batch {
  kind: "prefill" | "decode";
  items: BatchItem[];
}

/** Does this item reach the request's last token, so that the next one can be sampled? */
export function isFinal(item: BatchItem): boolean {
  return item.end === item.req.length;
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
  item: BatchItem;
  /** Prompt logprobs: row i belongs to prompt position inputStart + i. */
  inputStart: number;
  input: RowOutput[];
  /** The sampled token or the probe; null when the item ends before the request's last token, or nothing is wanted of it. */
  last: RowOutput | null;
  /** Why one of the rows could not be computed, so that none is of use; null = all are there. Other items are not concerned. */
  error: string | null;
}
