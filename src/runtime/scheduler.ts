/**
 * The loop: receive -> schedule -> queue -> process, one step at a time.
 *
 * Overlapped, step k + 1 is queued natively before the results of step k are processed. A decode row of k + 1 reads the
 * token that step k samples from the native token pool, so native threads go from step to step without waiting for
 * JavaScript, which detokenises, looks for stops and answers HTTP meanwhile. What that means:
 *
 * - A request that ends in step k wastes a row in k + 1, whose result is dropped. How many tokens a request may produce is
 *   known beforehand, so reaching that limit wastes nothing.
 * - Pages may be taken from a request while steps with it are queued: steps run in order, so whoever gets the pages writes
 *   to them later. Only what a processed step computed (`req.computed`) enters the prefix cache. Whatever else reads or
 *   writes pages must go through the same native queue.
 * - Constraints need the token before: when k is processed, their masks go to step k + 1, which waits for them just before
 *   it samples.
 *
 * The plain loop (`overlap: false`) processes each step before it queues the next; tokens and logprobs are the same. With
 * nothing to do the loop sleeps until a request arrives: no timers, no polling. Aborts are noted at once and carried out
 * between two steps.
 *
 * Longer than most files here: the loop and all that may happen to a request between two steps, in one place. Who is
 * admitted (`prefill`), who goes on (`decode`), what a step is (`batch`) and what is counted (`scheduler-stats`) is elsewhere.
 */
import { SglangError } from "../core/errors.js";
import { logger } from "../core/logger.js";
import type { EngineStats, FinishReason, PauseMode } from "../core/protocol.js";
import type { Batch, QueuedItem, RowOutput, StepOutput } from "./batch.js";
import { DecodeSet } from "./decode.js";
import type { EvictionPolicyName } from "./eviction-policy.js";
import { KvCache } from "./kv-cache.js";
import type { KvTier } from "./kv-tier.js";
import { BatchRunner, draftHolds, type ModelRunner, type QueuedStep, type StepResult } from "./model-runner.js";
import { type PrefillOptions, PrefillQueue } from "./prefill.js";
import type { Req } from "./request.js";
import { type Load, SchedulerStats } from "./scheduler-stats.js";
import type { Trace } from "./trace.js";

/** Longest stretch of delivering results before timers and sockets get their turn. One request may exceed it. */
const SLICE_MS = 2;

export interface SchedulerOptions extends PrefillOptions {
  /** null = no limit. */
  maxQueuedRequests: number | null;
  conservativeness: number;
  disableRadixCache: boolean;
  radixEvictionPolicy: EvictionPolicyName;
  /** Behind the prefix cache. @default none */
  tier?: KvTier | null;
  /** Queue a step before the results of the one before are processed. */
  overlap: boolean;
  /** Decode rows ride in prefill steps. */
  mixedChunk: boolean;
  /** Where steps and phases are written. @default nowhere */
  trace?: Trace | null;
  decodeLogInterval: number;
  /** Seconds after which a step is reported as stuck; 0 = never. */
  watchdogTimeout: number;
  /** Check page accounting after every step and throw, instead of logging when idle. For tests. */
  strict: boolean;
  /** Milliseconds; a simulation has a clock of its own. @default performance.now */
  now?: () => number;
}

export class Scheduler {
  readonly kv: KvCache;
  readonly #options: SchedulerOptions;
  readonly #runner: BatchRunner;
  readonly #prefill: PrefillQueue;
  readonly #decode: DecodeSet;
  readonly #stats: SchedulerStats;
  readonly #aborts: Req[] = [];
  readonly #now: () => number;
  #wake: (() => void) | null = null;
  #idleWaiters: (() => void)[] = [];
  #paused: { mode: PauseMode; carriedOut: boolean } | null = null;
  #pauseWaiters: (() => void)[] = [];
  /** The step whose results are still to come. */
  #queued: QueuedStep | null = null;
  #lastKind: Batch["kind"] | null = null;
  #closing = false;
  /** Why the loop died; null while it lives. */
  #failure: SglangError | null = null;
  #onFailure!: (error: SglangError) => void;
  /** Resolves when the loop died of an internal error; every request was answered with it, and none is taken any more. */
  readonly failed: Promise<SglangError> = new Promise((resolve) => {
    this.#onFailure = resolve;
  });
  readonly #done: Promise<void>;

  constructor(runner: ModelRunner, options: SchedulerOptions) {
    this.#options = options;
    this.kv = new KvCache({
      pages: runner.pages,
      pageSize: runner.pageSize,
      disableRadixCache: options.disableRadixCache,
      evictionPolicy: options.radixEvictionPolicy,
      tier: options.tier,
    });
    options.trace?.calls("cache", this.kv, ["match", "grow", "share", "release"]);
    this.kv.onFetched = () => {
      this.#prefill.retry();
      this.#wakeUp();
    };
    this.#runner = new BatchRunner(runner);
    this.#prefill = new PrefillQueue(this.kv, options);
    this.#decode = new DecodeSet(this.kv, options.conservativeness, runner.maxTokens);
    this.#stats = new SchedulerStats(options.decodeLogInterval, options.now);
    this.#now = options.now ?? (() => performance.now());
    this.#done = this.#run();
  }

  /**
   * Takes requests over, all or none.
   * @throws SglangError QUEUE_FULL | SHUTTING_DOWN | ENGINE_FAILED
   */
  enqueue(reqs: readonly Req[]): void {
    if (this.#failure) throw this.#failure;
    if (this.#closing) throw new SglangError("SHUTTING_DOWN", "The engine is closing and takes no new requests.");
    const { maxQueuedRequests, maxRunningRequests } = this.#options;
    const { queued, running } = this.#load();
    // Requests that only wait for the next step to take them into a free slot do not count as waiting.
    if (
      maxQueuedRequests !== null &&
      queued >= maxQueuedRequests + Math.max(0, maxRunningRequests - running) &&
      !this.#displace(reqs[0])
    ) {
      throw new SglangError(
        "QUEUE_FULL",
        `${queued} requests wait already and --max-queued-requests is ${maxQueuedRequests}; retry later.`,
        { field: "--max-queued-requests" },
      );
    }
    for (const req of reqs) this.#prefill.enqueue(req);
    this.#stats.counters.requests += reqs.length;
    this.#wakeUp();
  }

  /** Does a waiting request of a lower priority leave the full queue to `req`? As in SGLang, it is answered with 503. */
  #displace(req: Req): boolean {
    const outranked = this.#prefill.outranked(req.priority);
    if (outranked)
      this.abort(outranked, "The queue is full and a request of a higher priority arrived; retry later.", 503);
    return outranked !== null;
  }

  /**
   * Ends a request before the next step. Does nothing when it has ended.
   * @param status HTTP status when this is an error rather than the end of the answer
   */
  abort(req: Req, message: string, status?: number): void {
    if (req.state === "finished" || req.abortMessage !== null) return;
    req.abortMessage = message;
    req.abortStatus = status;
    this.#aborts.push(req);
    this.#wakeUp();
  }

  /** No request runs or waits. A step whose requests have all ended may still be under way. */
  get isIdle(): boolean {
    return this.#live().next().done === true;
  }

  /** Resolves the next time nothing runs and nothing waits. */
  whenIdle(): Promise<void> {
    return this.isIdle ? Promise.resolve() : new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /**
   * No steps until {@link resume}; requests that arrive wait. `abort` ends what runs and waits, `retract` puts what runs
   * back into the queue (it keeps its output and is computed again), `in_place` leaves it where it is, pages and all.
   * Resolves when the step under way, if any, is through and the mode is carried out.
   */
  pause(mode: PauseMode): Promise<void> {
    this.#paused = { mode, carriedOut: false };
    if (this.#failure || this.#closing) return Promise.resolve();
    this.#wakeUp();
    return new Promise((resolve) => this.#pauseWaiters.push(resolve));
  }

  resume(): void {
    this.#paused = null;
    this.#prefill.retry();
    this.#settlePauses();
    this.#wakeUp();
  }

  get isPaused(): boolean {
    return this.#paused !== null;
  }

  /** Empties the prefix cache; false when requests run or wait. While paused, those that wait do not matter: they hold no pages. */
  flushCache(): boolean {
    const holdsPages = this.#prefill.partial !== null || this.#decode.reqs.length > 0;
    if (holdsPages || !(this.isIdle || this.isPaused)) return false;
    this.kv.reset();
    return true;
  }

  /** Aborts everything and stops the loop after the step under way. Idempotent. */
  close(): Promise<void> {
    this.#closing = true;
    this.#wakeUp();
    return this.#done;
  }

  stats(): Omit<EngineStats, "grammar" | "kernels" | "memory" | "uptimeSeconds" | "startup"> {
    const { pool, evictablePages, protectedPages } = this.kv;
    let inUse = 0;
    for (const req of this.#live()) inUse += req.ownPages;
    const load = this.#load();
    return {
      numRunningReqs: load.running,
      numQueueReqs: load.queued,
      numRetractedReqs: this.#prefill.waiting.reduce((sum, { retractions }) => sum + Number(retractions > 0), 0),
      decodeSumSeqLens: this.#decode.reqs.reduce((sum, { length }) => sum + length, 0),
      numUsedTokens: load.usedTokens,
      maxTotalNumTokens: load.maxTokens,
      maxRunningRequests: this.#options.maxRunningRequests,
      tokenUsage: load.usedTokens / load.maxTokens,
      cacheHitRate: this.#stats.cacheHitRate,
      genThroughput: this.#stats.genThroughput,
      idleShare: this.#stats.idleShare,
      newTokenRatio: this.#decode.newTokenRatio,
      pages: {
        total: pool.pages,
        free: pool.freePages,
        evictable: evictablePages,
        protected: protectedPages,
        inUse,
        pageSize: pool.pageSize,
      },
      counters: {
        ...this.#stats.counters,
        preemptions: this.#prefill.preemptions,
        evictedTokens: this.kv.evictedTokens,
      },
      hicache: this.kv.tier?.stats ?? null,
      isPaused: this.isPaused,
    };
  }

  async #run(): Promise<void> {
    try {
      while (!this.#closing && !this.#failure) {
        this.#phase("receive", () => this.#receive());
        if (this.#queued && (this.#paused || hasDrafts(this.#queued))) {
          const due = this.#queued;
          this.#queued = null;
          await this.#finishStep(due);
          continue;
        }
        if (this.#paused) {
          this.#carryOutPause(this.#paused);
          await this.#sleepWhilePaused();
          continue;
        }
        const batch = this.#phase("schedule", () => this.#schedule());
        const next = batch && this.#phase("queue", () => this.#queue(batch));
        // Overlapped, the step before is processed now; plain, the one just queued.
        const due = this.#options.overlap ? this.#queued : next;
        this.#queued = this.#options.overlap ? next : null;
        if (due) await this.#finishStep(due);
        else if (!batch) await this.#sleep();
        if (this.#options.strict) this.kv.check(this.#live());
      }
      // The runner must not be closed under it.
      await this.#queued?.outputs.catch(() => {});
      if (this.#failure) return;
      const closed: FinishReason = { type: "abort", message: "The engine was closed.", statusCode: 503 };
      for (const req of [...this.#live()]) this.#guard(req, () => this.#finish(req, closed));
    } catch (cause) {
      this.fail(cause as Error);
    } finally {
      for (const resolve of this.#idleWaiters.splice(0)) resolve();
      this.#settlePauses();
    }
  }

  /** Something went wrong that leaves nothing to rely on: answers every request with it, and takes none any more. Idempotent. */
  fail(cause: Error): void {
    if (this.#failure) return;
    logger.fatal({ err: cause }, "The scheduler stopped because of an internal error; the engine must be restarted.");
    this.#failure = new SglangError(
      "ENGINE_FAILED",
      `The scheduler stopped because of an internal error: ${cause.message}`,
      {},
      { cause },
    );
    for (const req of [...this.#live()]) this.#endAfterFailure(req, this.#failure);
    this.#onFailure(this.#failure);
    this.#wakeUp();
  }

  #carryOutPause(pause: { mode: PauseMode; carriedOut: boolean }): void {
    if (!pause.carriedOut && pause.mode === "abort") {
      for (const req of [...this.#live()]) this.abort(req, "Generation was paused, which aborts what runs.");
      this.#receive();
    }
    if (!pause.carriedOut && pause.mode === "retract") this.#prefill.requeue(this.#takeRunning());
    pause.carriedOut = true;
    this.#settlePauses();
  }

  /** Takes every request that holds pages out of the batch, pages released and cached, latest first. */
  #takeRunning(): Req[] {
    const { partial } = this.#prefill;
    const running = [...this.#decode.reqs];
    this.#decode.giveWay(running);
    if (partial) this.kv.release(partial, true);
    return partial ? [...running, partial] : running;
  }

  async #sleepWhilePaused(): Promise<void> {
    if (this.isIdle) this.#onIdle();
    if (this.#aborts.length > 0 || this.#closing || !this.#paused?.carriedOut) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  #settlePauses(): void {
    for (const resolve of this.#pauseWaiters.splice(0)) resolve();
  }

  /** Carries out the aborts that were asked for since the last step. */
  #receive(): void {
    for (const req of this.#aborts.splice(0)) {
      if (req.state !== "finished") this.#guard(req, () => this.#finish(req, abortOf(req)));
    }
  }

  /**
   * Prefill goes first, as in SGLang: a new request's first token is worth more than the next tokens of others. But
   * between the chunks of a long prompt the running requests get a step each: on a CPU such a prompt takes many seconds.
   */
  #schedule(): Batch | null {
    this.kv.beginStep();
    const batch = this.#options.mixedChunk ? this.#mixedBatch() : this.#nextBatch();
    this.#lastKind = batch?.kind ?? null;
    return batch;
  }

  #nextBatch(): Batch | null {
    const decodeTurn = this.#prefill.partial !== null && this.#lastKind === "prefill" && this.#decode.reqs.length > 0;
    const prefill = decodeTurn ? null : this.#prefill.nextBatch(this.#decode, this.#queued?.items);
    return prefill ?? this.#scheduleDecode();
  }

  /** Every running request's next token, and as many prompt tokens as fit beside them. */
  #mixedBatch(): Batch | null {
    // First: these must have their pages, and making room may retract the request that is half computed.
    const decode = this.#scheduleDecode();
    const prefill = this.#prefill.nextBatch(this.#decode, this.#queued?.items, decode ? tokensOf(decode) : 0);
    // Those that gave way to a higher priority are not in the step any more.
    const rows = decode?.items.filter(({ req }) => req.state === "running") ?? [];
    if (!prefill) return rows.length > 0 ? { kind: "decode", items: rows } : null;
    return rows.length > 0 ? { kind: "mixed", items: [...prefill.items, ...rows] } : prefill;
  }

  #scheduleDecode(): Batch | null {
    const ratio = this.#decode.newTokenRatio;
    const retracted = this.#decode.retract(this.#prefill.partial);
    if (retracted.length > 0) {
      this.#stats.retracted(retracted, ratio, this.#decode.newTokenRatio);
      // The one that lost the most goes first when there is room again.
      this.#prefill.requeue(retracted.reverse());
    }
    return this.#decode.nextBatch();
  }

  /** Queues a batch's step; null when it was refused, which ends the requests in it. */
  #queue(batch: Batch): QueuedStep | null {
    let step: QueuedStep;
    try {
      step = this.#runner.queue(batch);
    } catch (cause) {
      this.#failAll(batch.kind, batch.items, cause);
      return null;
    }
    for (const { req, end } of step.items) if (req.state === "prefill" && end === req.length) this.#decode.add(req);
    if (batch.kind !== "decode")
      this.#stats.prefill(
        step.items.filter((item) => item.isPrefill),
        this.#load(),
      );
    if (batch.kind !== "prefill") this.#stats.decode(this.#load());
    // Whose tokens are all known need not wait for the step before.
    const isKnown = ({ req, end, draft }: QueuedItem) => end - draft.ids.length <= req.length;
    if (!step.supplied && step.constrained.every(isKnown)) this.#phase("masks", () => this.#runner.supplyMasks(step));
    return step;
  }

  /** Waits for a step's results and processes them; a failed step ends the requests in it and nothing else. */
  async #finishStep(step: QueuedStep): Promise<void> {
    const timer = this.#watch(step);
    const outputs = await step.outputs.catch((cause: unknown) => {
      this.#failAll(step.kind, step.items, cause);
      return null;
    });
    clearTimeout(timer);
    if (outputs) {
      this.#stats.nativeStep(outputs);
      this.#traceStep(step, outputs);
      await this.#process(outputs.rows);
    } else {
      this.#supplyNext();
    }
  }

  #failAll(kind: Batch["kind"], items: QueuedStep["items"] | Batch["items"], cause: unknown): void {
    const message = `A ${kind} step failed: ${(cause as Error).message}`;
    logger.error({ err: cause }, message);
    for (const { req } of items) {
      if (req.state !== "finished") this.#fail(req, new SglangError("ENGINE_FAILED", message, {}, { cause }));
    }
  }

  /**
   * Tokens first: the next step may wait for masks that depend on them. Then everything that callers see, in slices: many
   * answers may end in one step, and timers and sockets must not wait for all of them.
   */
  async #process(outputs: readonly StepOutput[]): Promise<void> {
    this.#phase("accept", () => {
      for (const output of outputs) this.#guard(output.item.req, () => this.#accept(output));
    });
    this.#supplyNext();
    let next = 0;
    while (next < outputs.length) {
      if (next > 0) await new Promise((resolve) => setImmediate(resolve));
      this.#phase("process", () => {
        const end = this.#now() + SLICE_MS;
        do {
          const output = outputs[next++];
          this.#guard(output.item.req, () => this.#deliver(output));
        } while (next < outputs.length && this.#now() < end);
      });
    }
  }

  #accept(output: StepOutput): void {
    const { item, last, error } = output;
    const { req, end, draft } = item;
    if (req.state === "finished") return;
    if (req.inFlight === item) req.inFlight = null;
    // Even when the caller has aborted: its pages may hold NaN, and only #fail keeps them out of the prefix cache.
    if (error !== null) throw new Error(error);
    // One that was retracted meanwhile has no pages any more; its token is as good as ever.
    if (req.state !== "waiting") req.computed = end - draft.ids.length;
    if (req.abortMessage !== null) this.#finish(req, abortOf(req));
    if (req.abortMessage !== null || item.last !== "sample" || !last) return;
    const holds = draft.ids.length > 0 && draftHolds(item);
    req.append(last.id);
    // As far as the draft was right, the tokens after it are those that single steps would have sampled.
    let right = 0;
    for (let id = last.id; holds && id === draft.ids[right] && !req.stopIds.has(id); right++) {
      if (right === output.drafted.length) throw new Error(output.draftError as string);
      if (req.state !== "waiting") req.computed++;
      id = output.drafted[right].id;
      req.append(id);
    }
    output.drafted.length = right;
    this.#stats.counters.jumpForwardTokens += right;
  }

  /** Gives the queued step the masks that waited for the tokens of the one before. */
  #supplyNext(): void {
    const next = this.#queued;
    if (next && !next.supplied) this.#phase("masks", () => this.#runner.supplyMasks(next));
  }

  #deliver({ item, input, last, drafted }: StepOutput): void {
    const { req, inputStart, isPrefill } = item;
    if (req.state === "finished") return;
    for (let i = 0; i < input.length; i++) req.output.pushInput(req, inputStart + i, input[i]);
    if (input.length > 0) req.nextInputLogprob = inputStart + input.length;
    if (isPrefill && req.state !== "waiting") this.kv.share(req);
    const reason = this.#advance(item, last, drafted);
    if (reason) this.#finish(req, reason);
  }

  /** An error in the output of one request (its tokens cannot be decoded, say) ends that request alone. */
  #guard(req: Req, action: () => void): void {
    try {
      action();
    } catch (cause) {
      const message = `Request ${req.rid} failed: ${(cause as Error).message}`;
      logger.error({ err: cause }, message);
      this.#fail(req, new SglangError("ENGINE_FAILED", message, {}, { cause }));
    }
  }

  /** One more token (more with a draft), or the end of a request that wants none. */
  #advance(
    { req, end, last: purpose }: QueuedItem,
    row: RowOutput | null,
    drafted: readonly RowOutput[],
  ): FinishReason | null {
    if (purpose === "sample" && row) {
      let count = req.outputLength - drafted.length;
      for (const token of [row, ...drafted]) {
        this.#stats.generated();
        const reason = req.output.pushToken(req, token, count);
        if (reason) req.truncate(count);
        if (reason) return reason;
        count++;
      }
      return null;
    }
    if (purpose === "probe" && row) req.output.pushProbe(req, row);
    const wantsNone = req.probe !== null || req.maxNewTokens === 0;
    return wantsNone && end === req.length ? { type: "length", length: 0 } : null;
  }

  #finish(req: Req, reason: FinishReason): void {
    this.#remove(req, true);
    if (reason.type === "abort") this.#stats.counters.aborted++;
    req.output.finish(req, reason);
  }

  /** What a failed step wrote is not trusted: only pages that were shared before stay cached. */
  #fail(req: Req, error: Error): void {
    try {
      this.#remove(req, false);
    } finally {
      this.#stats.counters.aborted++;
      req.output.fail(error);
    }
  }

  /** The loop is dead and its accounting with it: all that is left to do for a request is to tell its caller. */
  #endAfterFailure(req: Req, error: SglangError): void {
    req.state = "finished";
    req.output.fail(error);
  }

  #remove(req: Req, keep: boolean): void {
    if (req.state === "running") this.#decode.remove(req);
    else this.#prefill.remove(req);
    req.state = "finished";
    this.kv.release(req, keep);
    this.#prefill.ended(req);
  }

  /** Waits for the next request, abort, or pages from storage. */
  async #sleep(): Promise<void> {
    // Pages of waiting requests are being read from storage: that wakes the loop.
    const isReading = this.#prefill.waiting.some(({ fetch }) => fetch === "reading");
    if (!isReading) this.#onIdle();
    if (this.#aborts.length > 0 || this.#closing) return;
    if (this.#prefill.waiting.length > 0 && !isReading) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
  }

  #onIdle(): void {
    if (this.#prefill.waiting.length > 0 || this.#prefill.partial) {
      throw new Error("Requests wait, nothing runs, and nothing can be admitted.");
    }
    this.#decode.resetRatio();
    this.#stats.nothingRuns();
    try {
      this.kv.check([]);
    } catch (error) {
      if (this.#options.strict) throw error;
      logger.error({ err: error }, (error as Error).message);
    }
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = null;
  }

  #phase<T>(name: string, run: () => T): T {
    return this.#options.trace ? this.#options.trace.phase(name, run) : run();
  }

  #traceStep({ kind, items }: QueuedStep, { startNs, endNs, maskWaitNs, sampleNs }: StepResult): void {
    const tokens = items.reduce((sum, { start, end }) => sum + end - start, 0);
    const args = { requests: items.length, tokens, sampleUs: sampleNs / 1e3, maskWaitUs: maskWaitNs / 1e3 };
    this.#options.trace?.step(kind, startNs, endNs, args);
  }

  #watch({ kind, items }: QueuedStep): NodeJS.Timeout | undefined {
    const seconds = this.#options.watchdogTimeout;
    if (seconds <= 0) return undefined;
    const tokens = items.reduce((sum, { start, end }) => sum + end - start, 0);
    const report = () => {
      const { running, queued, usedTokens, maxTokens } = this.#load();
      const rids = items.map(({ req, start, end }) => `${req.rid} [${start}, ${end})`);
      logger.error(
        `Watchdog: a ${kind} step of ${items.length} requests and ${tokens} tokens has been running for more than ${seconds} s. ` +
          `#running-req: ${running}, #queue-req: ${queued}, #token: ${usedTokens} of ${maxTokens}. In the step: ${rids.join(", ")}.`,
      );
    };
    return setTimeout(report, seconds * 1000).unref();
  }

  /** Every request that is not finished. */
  *#live(): Generator<Req> {
    const { waiting, partial } = this.#prefill;
    yield* waiting;
    if (partial) yield partial;
    yield* this.#decode.reqs;
  }

  #load(): Load {
    const { pool, availablePages } = this.kv;
    const { waiting, partial } = this.#prefill;
    return {
      running: this.#decode.reqs.length + (partial ? 1 : 0),
      queued: waiting.length,
      usedTokens: (pool.pages - availablePages) * pool.pageSize,
      maxTokens: pool.capacity,
    };
  }
}

function tokensOf({ items }: Batch): number {
  return items.reduce((sum, { start, end }) => sum + end - start, 0);
}

function abortOf(req: Req): FinishReason {
  return { type: "abort", message: req.abortMessage as string, statusCode: req.abortStatus };
}

/**
 * Requests with a draft in flight join no step before its results are in. A step queued meanwhile would be without them,
 * and a batch in two parts reads the weights twice: waiting costs less.
 */
function hasDrafts(step: QueuedStep): boolean {
  return step.items.some(({ draft }) => draft.ids.length > 0);
}
