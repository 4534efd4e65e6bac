/**
 * A request inside the runtime. The scheduler owns a `Req` from enqueue to finish; outside, only what its
 * {@link ReqOutput} passes on is visible.
 *
 * Its tokens are one growing array: prompt, then output. `computed` of them have keys and values in `pages`. Of these
 * pages the first `sharedPages` belong to the prefix cache (locked through `node`), the others to the request alone.
 */
import type { FinishReason, LogprobRequest } from "../core/protocol.js";
import type { SamplingParams } from "../core/sampling-params.js";
import type { Draft, QueuedItem, RowOutput } from "./batch.js";
import type { TokenMask } from "./mask-table.js";
import type { RadixNode } from "./radix-cache.js";
import { ReqSampling } from "./sampler.js";

/** waiting: in the queue. prefill: partly computed. running: the whole prompt is computed, or queued to be. */
export type ReqState = "waiting" | "prefill" | "running" | "finished";

/** Where a request's results go. Called by the scheduler only, in the order of the tokens. */
export interface ReqOutput {
  /** The logprobs of prompt position `position`. */
  pushInput(req: Req, position: number, row: RowOutput): void;
  /** Output token number `count`, counted from 1, already in req.ids. Returns the reason when it ends the answer. */
  pushToken(req: Req, row: RowOutput, count: number): FinishReason | null;
  /** The row of the last prompt token, for requests with a probe. */
  pushProbe(req: Req, row: RowOutput): void;
  finish(req: Req, reason: FinishReason): void;
  /** Ends the request with an error. */
  fail(error: Error): void;
}

/** What may come next in an answer: a grammar. Called by the scheduler only, mask and accept in turns. */
export interface ReqConstraint {
  /**
   * The tokens that may come next; null = any. One object per situation, which must not change afterwards: it is uploaded
   * once (mask-table.ts). Called while the forward pass runs. An error ends the request.
   * @param ahead tokens of a draft that are taken to have come already
   */
  mask(ahead: readonly number[]): TokenMask | null;
  /** The next output token. An error ends the request. */
  accept(id: number): void;
  /**
   * Jump-forward: tokens that are likely to come next because the grammar forces their text; often none. Each is verified
   * against the model, so a wrong guess costs its computation and changes nothing.
   * @param ids prompt and output so far
   */
  draft?(ids: Int32Array): readonly number[];
}

export const NO_DRAFT: Draft = Object.freeze({ ids: [], after: null });

/** What to read at the last prompt token instead of sampling: a hidden state, or the logprobs of `tokenIds`. */
export interface Probe {
  hidden: boolean;
  tokenIds: readonly number[];
}

export interface ReqInit {
  rid: string;
  /** Equal for the n answers to one prompt. */
  group: object;
  promptIds: readonly number[];
  params: SamplingParams;
  /** Most output tokens: params.maxNewTokens, cut to what fits. */
  maxNewTokens: number;
  seed: bigint;
  /** Token ids that end the answer; empty with ignoreEos and no stopTokenIds. */
  stopIds: ReadonlySet<number>;
  namespace?: string;
  /** Larger goes first. @default -Infinity */
  priority?: number;
  /** Whose share of the engine it takes (fair-share.ts). @default "" */
  tenant?: string;
  logprobs?: LogprobRequest;
  probe?: Probe;
  constraint?: ReqConstraint;
  /** When the caller asked, on performance.now's clock. @default now */
  receivedAt?: number;
  output: ReqOutput;
}

export class Req {
  readonly rid: string;
  readonly group: object;
  readonly params: SamplingParams;
  readonly maxNewTokens: number;
  readonly stopIds: ReadonlySet<number>;
  readonly namespace: string;
  readonly priority: number;
  readonly tenant: string;
  readonly probe: Probe | null;
  readonly constraint: ReqConstraint | null;
  readonly output: ReqOutput;
  readonly sampling: ReqSampling;
  readonly promptLength: number;
  /** Logprobs reported per row; -1 = none. */
  readonly topLogprobs: number;
  readonly wantedIds: readonly number[];
  /** First prompt position whose logprob is wanted; promptLength = none. */
  readonly logprobStart: number;
  readonly wantsInputLogprobs: boolean;

  state: ReqState = "waiting";
  abortMessage: string | null = null;
  /** HTTP status of the abort, where it is an error of the request. */
  abortStatus: number | undefined;
  /** Tokens whose keys and values are in `pages`. Those of a queued step are added when its results are in. */
  computed = 0;
  /** Its part of the last step that was queued; null = it is in no step whose results are still to come. */
  inFlight: QueuedItem | null = null;
  pages: number[] = [];
  sharedPages = 0;
  node: RadixNode | null = null;
  /** Next prompt position whose logprob is still to come; promptLength when all are there. */
  nextInputLogprob: number;

  /** Prompt tokens found in the cache when first admitted; null before that. */
  cachedTokens: number | null = null;
  /** Of these, those that were copied back from host memory and from disk for this request. */
  hostTokens = 0;
  storageTokens = 0;
  /** Names of the request's pages in the second tier, as far as somebody asked. */
  readonly pageKeys: string[] = [];
  /** What storage has of the prompt: not asked for yet, being read into memory, or there. */
  fetch: "none" | "reading" | "done" = "none";
  retractions = 0;
  /** Its tenant has paid for the prompt (fair-share.ts). */
  isCharged = false;
  readonly receivedAt: number;
  admittedAt: number | null = null;
  firstTokenAt: number | null = null;

  #ids: Int32Array;
  #length: number;

  constructor(init: ReqInit) {
    this.rid = init.rid;
    this.group = init.group;
    this.params = init.params;
    this.maxNewTokens = init.maxNewTokens;
    this.stopIds = init.stopIds;
    this.namespace = init.namespace ?? "";
    this.priority = init.priority ?? Number.NEGATIVE_INFINITY;
    this.tenant = init.tenant ?? "";
    this.probe = init.probe ?? null;
    this.constraint = init.constraint ?? null;
    this.output = init.output;
    this.receivedAt = init.receivedAt ?? performance.now();
    this.promptLength = init.promptIds.length;
    this.#length = this.promptLength;
    this.#ids = new Int32Array(this.promptLength + Math.min(init.maxNewTokens, 64));
    this.#ids.set(init.promptIds);
    this.topLogprobs = init.logprobs ? (init.logprobs.topNum ?? 0) : -1;
    this.wantedIds = init.logprobs?.tokenIds ?? [];
    const startLen = init.logprobs?.startLen ?? -1;
    this.wantsInputLogprobs = startLen >= 0;
    this.logprobStart = startLen >= 0 ? startLen : this.promptLength;
    // Position 0 has no logprob; the others come from the row before them.
    this.nextInputLogprob = Math.min(Math.max(this.logprobStart, 1), this.promptLength);
    // Before minNewTokens ids that end the answer are forbidden; a constraint sees to its own end itself.
    const early = init.constraint ? new Set(init.params.stopTokenIds) : init.stopIds;
    this.sampling = new ReqSampling(init.params, init.promptIds, early, init.seed);
  }

  /** Prompt and output tokens so far. */
  get length(): number {
    return this.#length;
  }

  get outputLength(): number {
    return this.#length - this.promptLength;
  }

  /** Tokens computed once the queued steps are through. */
  get queuedTokens(): number {
    return this.inFlight?.end ?? this.computed;
  }

  /**
   * Prompt and output tokens once the queued steps are through: one more than is known while one is being sampled. With a
   * draft in flight there may be more.
   */
  get queuedLength(): number {
    const { inFlight } = this;
    return inFlight?.last === "sample" ? inFlight.end - inFlight.draft.ids.length + 1 : this.#length;
  }

  /** How far it has come depends on a draft whose results are still to come. */
  get awaitsDraft(): boolean {
    return this.inFlight !== null && this.inFlight.draft.ids.length > 0;
  }

  /** Does it want another token beyond those that queued steps sample? Whether these end the answer is not known yet. */
  get wantsToken(): boolean {
    return this.probe === null && !this.awaitsDraft && this.queuedLength - this.promptLength < this.maxNewTokens;
  }

  /** Prompt and output token ids, [length]. A view: valid until the next append. */
  get ids(): Int32Array {
    return this.#ids.subarray(0, this.#length);
  }

  get ownPages(): number {
    return this.pages.length - this.sharedPages;
  }

  /**
   * Most tokens that may come from the prefix cache: the last token must be computed to sample from it, and so must
   * every token whose row gives a prompt logprob.
   */
  get matchLimit(): number {
    const last = this.#length - 1;
    return this.nextInputLogprob < this.promptLength ? Math.min(last, this.nextInputLogprob - 1) : last;
  }

  /** The next output token. @throws what the constraint throws */
  append(id: number): void {
    if (this.#length === this.#ids.length) {
      const grown = new Int32Array(this.#ids.length * 2 + 16);
      grown.set(this.#ids);
      this.#ids = grown;
    }
    this.#ids[this.#length++] = id;
    this.sampling.observe(id);
    this.constraint?.accept(id);
  }

  /** Drops output tokens after `count`, for an answer that ends before what a draft gave is used up. */
  truncate(count: number): void {
    this.#length = this.promptLength + count;
    this.computed = Math.min(this.computed, this.#length);
  }

  /**
   * Tokens that the next step can compute beyond the one that is due, none unless the grammar forces text. Penalties
   * depend on all tokens before, so requests with penalties have no drafts.
   */
  nextDraft(): Draft {
    const { constraint } = this;
    if (!constraint?.draft || this.sampling.penalised) return NO_DRAFT;
    const isSampling = this.inFlight?.last === "sample";
    const expected = constraint.draft(this.ids);
    const [after, ids] = isSampling ? [expected[0] ?? null, expected.slice(1)] : [null, expected];
    const room = this.maxNewTokens - (this.queuedLength - this.promptLength) - 1;
    return ids.length === 0 || room <= 0 ? NO_DRAFT : { after, ids: ids.slice(0, room) };
  }
}
