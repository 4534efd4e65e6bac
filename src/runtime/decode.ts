/**
 * The running set: requests whose prompt is computed and that get one token per step. Before each step every one of them
 * needs room for its next token; when the pool cannot give it, requests are retracted until it can.
 *
 * `newTokenRatio` is SGLang's guess of how much of its maxNewTokens a request will really use. It starts high, falls by a
 * little every step, and jumps back up when a retraction shows that it was too low.
 */
import type { Batch, BatchItem } from "./batch.js";
import type { KvCache } from "./kv-cache.js";
import type { Req } from "./request.js";

const INITIAL_RATIO = 0.7;
/** The ratio falls from its start to this share of it ... */
const MIN_RATIO_SHARE = 0.14;
/** ... over this many decode steps. */
const DECAY_STEPS = 600;
/** Output tokens beyond this are not reserved for. */
const MAX_RESERVED_TOKENS = 4096;
/** A retraction makes room for this many steps, so that the next one does not follow at once. */
const RETRACT_STEPS = 20;

/** Output tokens a request may still produce, as far as admission cares. */
export function reservedTokens(req: Req): number {
  return Math.min(req.maxNewTokens - req.outputLength, MAX_RESERVED_TOKENS);
}

/** Retracted first: fewest output tokens (least work lost), then the longest prompt (most room made). */
function giveWayOrder(a: Req, b: Req): number {
  return a.outputLength - b.outputLength || b.promptLength - a.promptLength;
}

export class DecodeSet {
  readonly reqs: Req[] = [];
  readonly #kv: KvCache;
  readonly #maxTokens: number;
  readonly #initialRatio: number;
  #ratio: number;

  /** @param maxTokens most tokens in one step */
  constructor(kv: KvCache, conservativeness: number, maxTokens: number) {
    this.#kv = kv;
    this.#maxTokens = maxTokens;
    this.#initialRatio = Math.min(INITIAL_RATIO * conservativeness, 1);
    this.#ratio = this.#initialRatio;
  }

  get newTokenRatio(): number {
    return this.#ratio;
  }

  add(req: Req): void {
    req.state = "running";
    this.reqs.push(req);
  }

  remove(req: Req): void {
    const index = this.reqs.indexOf(req);
    if (index >= 0) this.reqs.splice(index, 1);
  }

  /** Pages the running requests are expected to take beyond those they have. */
  reservedPages(): number {
    let pages = 0;
    for (const req of this.reqs) pages += this.reservedPagesOf(req);
    return pages;
  }

  /** Of these, the pages of one request. */
  reservedPagesOf(req: Req): number {
    const tokens = req.length + Math.ceil(reservedTokens(req) * this.#ratio);
    return Math.max(0, this.#kv.pool.pagesFor(tokens) - req.pages.length);
  }

  /** Takes requests out of the set to make room for others. What they computed stays cached. */
  giveWay(victims: readonly Req[]): void {
    for (const victim of victims) {
      this.remove(victim);
      this.#kv.release(victim, true);
    }
  }

  /** Nothing runs or waits: what was learnt about answer lengths no longer holds. */
  resetRatio(): void {
    this.#ratio = this.#initialRatio;
  }

  /**
   * Chooses who must give way before the next decode step and takes them out of the set; usually nobody.
   * @param partial the half-prefilled request, which may be chosen too
   */
  retract(partial: Req | null): Req[] {
    if (this.#pagesForSteps(1) <= this.#kv.availablePages) return [];
    const order = [...this.reqs].sort(giveWayOrder);
    const victims: Req[] = [];
    if (partial) order.unshift(partial);
    while (order.length > 1 && this.#pagesForSteps(RETRACT_STEPS) > this.#kv.availablePages) {
      const victim = order.shift() as Req;
      this.giveWay([victim]);
      victims.push(victim);
    }
    this.#ratio = Math.max(this.#ratio, this.#observedRatio());
    return victims;
  }

  /** One token for every running request that wants one; null when none does. Room must have been made by {@link retract}. */
  nextBatch(): Batch | null {
    const ready = this.reqs.filter((req) => req.wantsToken);
    if (ready.length === 0) return null;
    for (const req of ready) {
      if (!this.#kv.grow(req, req.queuedLength))
        throw new Error(`No KV page for request ${req.rid}, which should fit alone.`);
    }
    const items: BatchItem[] = ready.map((req) => ({ req, start: req.queuedLength - 1, end: req.queuedLength }));
    this.#addDrafts(items);
    this.#ratio = Math.max(
      this.#ratio - (this.#initialRatio * (1 - MIN_RATIO_SHARE)) / DECAY_STEPS,
      this.#initialRatio * MIN_RATIO_SHARE,
    );
    return { kind: "decode", items };
  }

  /**
   * Jump-forward: what grammars force is computed in the same step, as far as tokens and free pages go round. Half of a
   * step's tokens at most: prompts may ride in it too.
   */
  #addDrafts(items: readonly BatchItem[]): void {
    let budget = Math.floor(this.#maxTokens / 2) - items.length;
    for (const item of items) {
      const draft = item.req.nextDraft();
      const { length } = draft.ids;
      if (length === 0 || length > budget || !this.#kv.grow(item.req, item.end + length)) continue;
      item.end += length;
      item.draft = draft;
      budget -= length;
    }
  }

  /** Pages needed for the next `steps` tokens of everyone. */
  #pagesForSteps(steps: number): number {
    let pages = 0;
    for (const req of this.reqs) {
      if (!req.wantsToken) continue;
      const left = req.maxNewTokens - (req.queuedLength - req.promptLength);
      const tokens = req.queuedLength + Math.min(steps, left) - 1;
      pages += Math.max(0, this.#kv.pool.pagesFor(tokens) - req.pages.length);
    }
    return pages;
  }

  /** Share of their allowance that the remaining requests have used, with some steps to spare. */
  #observedRatio(): number {
    let used = 0;
    let allowed = 1;
    for (const req of this.reqs) {
      used += req.outputLength + RETRACT_STEPS;
      allowed += req.maxNewTokens;
    }
    return Math.min(used / allowed, 1);
  }
}
