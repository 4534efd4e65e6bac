/**
 * The waiting queue and the choice of what is prefilled next.
 *
 * A prefill batch takes at most `stepTokens` tokens. A prompt that does not fit into what is left of them is cut: the
 * partly computed request (`partial`, at most one) goes on first in the next batch. Admission also reserves pages for the
 * answers: of a new request all it may produce, of the running ones the share that newTokenRatio expects.
 *
 * A request waits for another one that is being prefilled right now when it would compute a long common prefix a second
 * time: when that step's results are in it finds the prefix in the cache. The n answers to one prompt share it this way.
 */
import { type AdmissionOrderOptions, admissionOrder } from "./admission-order.js";
import type { Batch, BatchItem, QueuedItem } from "./batch.js";
import { type DecodeSet, reservedTokens } from "./decode.js";
import { type KvCache, MAX_MATCHED_QUEUE } from "./kv-cache.js";
import { chooseVictims } from "./preemption.js";
import type { Req } from "./request.js";

/** Tokens that must be saved for a request to wait for another one's prefix ... */
const MIN_SHARED_TOKENS = 32;
/** ... or for that of another answer to the same prompt. */
const MIN_SHARED_IN_GROUP = 16;
/** Decode steps between two tries to admit while the pool is too full. Finished requests end the pause at once. */
const RETRY_STEPS = 16;

export interface PrefillOptions extends AdmissionOrderOptions {
  /** Most prompt tokens in one batch. */
  stepTokens: number;
  maxRunningRequests: number;
  /** Most requests in one batch; null = no limit. @default null */
  prefillMaxRequests?: number | null;
  /** With `byPriority`: how much lower a running request's priority must be for it to give way. */
  preemptionThreshold: number;
}

export class PrefillQueue {
  /** In order of arrival; retracted requests in front. */
  readonly waiting: Req[] = [];
  /** The request that is partly computed. */
  partial: Req | null = null;
  readonly #kv: KvCache;
  readonly #options: PrefillOptions;
  /** The waiting requests as they were ordered last. */
  #order: readonly Req[] = [];
  #pause = 0;
  /** Running requests that gave way to a higher priority. */
  preemptions = 0;

  constructor(kv: KvCache, options: PrefillOptions) {
    this.#kv = kv;
    this.#options = options;
    kv.expected = () => this.#expected();
  }

  enqueue(req: Req): void {
    this.waiting.push(req);
    this.#pause = 0;
  }

  /** Puts retracted requests back; they keep their output and are prefilled again, in front of all others. */
  requeue(reqs: readonly Req[]): void {
    for (const req of reqs) {
      req.state = "waiting";
      req.retractions++;
      if (req === this.partial) this.partial = null;
    }
    this.waiting.unshift(...reqs);
  }

  remove(req: Req): void {
    if (this.partial === req) this.partial = null;
    const index = this.waiting.indexOf(req);
    if (index >= 0) this.waiting.splice(index, 1);
  }

  /** Admission is worth another try at once. */
  retry(): void {
    this.#pause = 0;
  }

  /** A request has ended. Its pages are available: admission is worth another try. */
  ended(req: Req): void {
    this.#pause = 0;
    this.#options.fairShare?.end(req);
  }

  /** The waiting request that gives up its place in a full queue to one of `priority`: the lowest and latest; null = none is lower. */
  outranked(priority: number): Req | null {
    if (!this.#options.byPriority) return null;
    let last: Req | null = null;
    for (const req of this.waiting) {
      if (req.abortMessage !== null || req.priority >= priority) continue;
      if (
        !last ||
        req.priority < last.priority ||
        (req.priority === last.priority && req.receivedAt >= last.receivedAt)
      )
        last = req;
    }
    return last;
  }

  /**
   * The next prefill batch with its pages taken, or null when nothing can be admitted now.
   * @param queued items of the step whose results are still to come
   * @param decodeTokens tokens of running requests that ride in the same step: so many fewer
   */
  nextBatch(decode: DecodeSet, queued: readonly QueuedItem[] = [], decodeTokens = 0): Batch | null {
    const items: BatchItem[] = [];
    // At least one, so that many running requests cannot keep prompts out.
    let budget = Math.max(1, this.#options.stepTokens - decodeTokens);
    if (this.partial && this.#mustGiveWay(this.partial)) {
      const { partial } = this;
      this.#kv.release(partial, true);
      this.requeue([partial]);
      this.preemptions++;
    }
    if (this.partial) {
      const item = this.#continuePartial(this.partial, budget);
      if (!item) return null;
      items.push(item);
      budget -= item.end - item.start;
    }
    if (!this.partial && this.#mayAdmit(decode, items.length)) this.#admit(decode, items, queued, budget);
    return items.length > 0 ? { kind: "prefill", items } : null;
  }

  /** Who will be admitted next, as far as is known: the last order, then who came since. */
  #expected(): Req[] {
    const expected = new Set(this.#order.filter(({ state }) => state === "waiting"));
    for (const req of this.waiting) {
      if (expected.size >= MAX_MATCHED_QUEUE) break;
      expected.add(req);
    }
    return [...expected];
  }

  #mayAdmit(decode: DecodeSet, admitted: number): boolean {
    if (this.waiting.length === 0) return false;
    if (this.#mayPreempt(decode)) return true;
    if (decode.reqs.length + admitted >= this.#options.maxRunningRequests) return false;
    if (this.#pause > 0 && decode.reqs.length > 0) {
      this.#pause--;
      return false;
    }
    return true;
  }

  /** Does anyone wait to whom a running request would have to give way? */
  #mayPreempt(decode: DecodeSet): boolean {
    const { byPriority, preemptionThreshold } = this.#options;
    if (!byPriority || decode.reqs.length === 0) return false;
    const highest = this.#highestPriority();
    return decode.reqs.some(({ priority }) => highest - priority > preemptionThreshold);
  }

  #highestPriority(): number {
    let highest = Number.NEGATIVE_INFINITY;
    // Nobody makes room for one that waits for its pages from storage.
    for (const { priority, fetch } of this.waiting) if (priority > highest && fetch !== "reading") highest = priority;
    return highest;
  }

  /**
   * Is a half-computed prompt in the way of a higher priority? Nobody is admitted beside it, so it would hold all others up
   * for as long as its text is. What is computed of it stays cached.
   */
  #mustGiveWay(partial: Req): boolean {
    const { byPriority, preemptionThreshold } = this.#options;
    return byPriority && this.#highestPriority() - partial.priority > preemptionThreshold;
  }

  /**
   * Is there a slot, and room for the prompt and all it may answer, beside what running and admitted requests will need?
   * If not, may running requests of a lower priority be made to give way?
   * @param answers pages reserved for the answers of the `admitted` requests of this batch
   */
  #hasRoom(req: Req, decode: DecodeSet, admitted: number, answers: number): boolean {
    const { maxRunningRequests, byPriority, preemptionThreshold } = this.#options;
    // Alone it always fits (the engine refuses what cannot): a reservation must not keep it out for ever.
    const isAlone = decode.reqs.length + admitted === 0;
    const lacking = {
      slots: decode.reqs.length + admitted + 1 - maxRunningRequests,
      pages: isAlone ? 0 : this.#reservation(req) + answers + decode.reservedPages() - this.#kv.availablePages,
    };
    if (lacking.slots <= 0 && lacking.pages <= 0) return true;
    if (!byPriority) return false;
    const victims = chooseVictims(req, decode, lacking, preemptionThreshold);
    if (!victims) return false;
    decode.giveWay(victims);
    this.requeue(victims);
    this.preemptions += victims.length;
    return true;
  }

  /** The next chunk of the partial request, as much of it as there are pages for. */
  #continuePartial(req: Req, budget: number): BatchItem | null {
    const room = (req.pages.length + this.#kv.availablePages) * this.#kv.pageSize - req.queuedTokens;
    const end = this.#chunkEnd(req, Math.min(budget, room));
    if (end <= req.queuedTokens || !this.#kv.grow(req, end)) return null;
    if (end === req.length) this.partial = null;
    return { req, start: req.queuedTokens, end };
  }

  /** Where a chunk of at most `budget` tokens ends: at a page boundary, unless it ends the prompt or fits no page. */
  #chunkEnd(req: Req, budget: number): number {
    const end = req.queuedTokens + budget;
    if (end >= req.length) return req.length;
    const aligned = end - (end % this.#kv.pageSize);
    return aligned > req.queuedTokens ? aligned : end;
  }

  #admit(decode: DecodeSet, items: BatchItem[], queued: readonly QueuedItem[], stepTokens: number): void {
    const { maxRunningRequests, prefillMaxRequests, byPriority, fairShare } = this.#options;
    const most = prefillMaxRequests ?? Number.POSITIVE_INFINITY;
    let budget = stepTokens;
    let answers = 0;
    for (const { req } of items) answers += this.#reservation(req);
    const order = admissionOrder(this.waiting, this.#kv.radix, this.#options).slice(0, MAX_MATCHED_QUEUE);
    this.#order = order;
    const admitted = new Set<Req>();
    const computing = queued.filter((item) => item.isPrefill && item.req.inFlight === item);
    // Retracted while a step with it is queued, in mixed steps just now: it goes on from the token which that step gives.
    const unsettled = new Set(queued.map(({ req }) => req));
    for (const req of order) {
      const isFull = decode.reqs.length + items.length >= maxRunningRequests;
      if (budget <= 0 || items.length >= most || (isFull && !byPriority)) break;
      if (unsettled.has(req) || this.#kv.isFetching(req)) continue;
      this.#kv.match(req);
      if (this.#sharesWithBatch(req, items) || this.#sharesWithBatch(req, computing)) {
        this.#kv.release(req, false);
        continue;
      }
      const end = this.#chunkEnd(req, budget);
      if (!this.#hasRoom(req, decode, items.length, answers) || !this.#kv.grow(req, end)) {
        this.#kv.release(req, false);
        this.#pause = RETRY_STEPS;
        break;
      }
      answers += this.#reservation(req);
      fairShare?.admit(req);
      items.push({ req, start: req.computed, end });
      admitted.add(req);
      budget -= end - req.computed;
      req.state = "prefill";
      if (end < req.length) {
        this.partial = req;
        break;
      }
    }
    if (admitted.size === 0) return;
    let kept = 0;
    for (const req of this.waiting) if (!admitted.has(req)) this.waiting[kept++] = req;
    this.waiting.length = kept;
  }

  /** Pages that the whole prompt and answer of a new request take beyond those it has. */
  #reservation(req: Req): number {
    return Math.max(0, this.#kv.pool.pagesFor(req.length + reservedTokens(req)) - req.pages.length);
  }

  #sharesWithBatch(req: Req, items: readonly BatchItem[]): boolean {
    if (!this.#kv.radix) return false;
    const limit = req.matchLimit;
    const ids = req.ids;
    for (const { req: other } of items) {
      if (other.namespace !== req.namespace) continue;
      const least = other.group === req.group ? MIN_SHARED_IN_GROUP : MIN_SHARED_TOKENS;
      if (Math.min(limit, other.length) - req.computed < least) continue;
      const otherIds = other.ids;
      const end = Math.min(limit, other.length);
      let shared = 0;
      while (shared < end && ids[shared] === otherIds[shared]) shared++;
      if (shared - (shared % this.#kv.pageSize) - req.computed >= least) return true;
    }
    return false;
  }
}
