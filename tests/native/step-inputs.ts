/** Builds the arrays of a step from sequences and rows: for every test that runs a plan. */
import type { StepInputs } from "../../src/native/addon.js";

export interface SequenceSpec {
  tokens: number[];
  /** Position of the first token. @default 0 */
  start?: number;
  /** @default as many as are needed, none shared with another sequence */
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
  /** Entry of the mask table; -2 = late. */
  mask?: number;
  top?: number;
  wanted?: number[];
}

function starts(lengths: number[]): Int32Array {
  let sum = 0;
  return Int32Array.from([0, ...lengths.map((n) => (sum += n))]);
}

/** The arrays of one step. `overrides` replaces whole fields, to say what no sequence or row can. */
export function stepInputs(spec: {
  sequences: SequenceSpec[];
  rows?: RowSpec[];
  /** Of the KV pool; counts the pages of sequences that name none. @default 4 */
  pageSize?: number;
  overrides?: Partial<StepInputs>;
}): StepInputs {
  const { sequences, rows = [], pageSize = 4 } = spec;
  const kvLength = (s: SequenceSpec) => (s.start ?? 0) + s.tokens.length;
  let nextPage = 0;
  const pages = sequences.map(
    (s) => s.pages ?? Array.from({ length: Math.ceil(kvLength(s) / pageSize) }, () => nextPage++),
  );
  return {
    tokens: Int32Array.from(sequences.flatMap((s) => s.tokens)),
    positions: Int32Array.from(sequences.flatMap((s) => s.tokens.map((_, j) => (s.start ?? 0) + j))),
    seqStart: starts(sequences.map((s) => s.tokens.length)),
    kvLength: Int32Array.from(sequences.map(kvLength)),
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
    maskTicket: 0,
    topLogprobs: Int32Array.from(rows.map((r) => r.top ?? -1)),
    wantedStart: starts(rows.map((r) => r.wanted?.length ?? 0)),
    wantedIds: Int32Array.from(rows.flatMap((r) => r.wanted ?? [])),
    returnLogits: false,
    returnHidden: false,
    ...spec.overrides,
  };
}

/** {@link stepInputs} with what most tests ask for. */
export function step(
  sequences: SequenceSpec[],
  rows: RowSpec[] = [],
  options: { pageSize?: number; ticket?: number; logits?: boolean; hidden?: boolean } = {},
): StepInputs {
  const { pageSize, ticket = 0, logits = false, hidden = false } = options;
  const overrides = { maskTicket: ticket, returnLogits: logits, returnHidden: hidden };
  return stepInputs({ sequences, rows, pageSize, overrides });
}
