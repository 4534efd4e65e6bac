/** What the scheduler counts, and its two log lines in SGLang's words. */
import { logger } from "../core/logger.js";
import type { EngineStats } from "../core/protocol.js";
import type { BatchItem } from "./batch.js";
import type { Req } from "./request.js";

/** Prefill batches that the cache hit rate looks back on. */
const HIT_RATE_BATCHES = 32;
/** Steps that the idle share looks back on. */
const IDLE_STEPS = 64;

export interface Load {
  running: number;
  queued: number;
  usedTokens: number;
  maxTokens: number;
}

export class SchedulerStats {
  readonly counters: Omit<EngineStats["counters"], "evictedTokens" | "preemptions"> = {
    requests: 0,
    aborted: 0,
    promptTokens: 0,
    generationTokens: 0,
    cachedTokens: 0,
    computedPromptTokens: 0,
    retractions: 0,
    retractedInputTokens: 0,
    retractedOutputTokens: 0,
    prefillSteps: 0,
    decodeSteps: 0,
    nativeBusySeconds: 0,
    nativeIdleSeconds: 0,
    jumpForwardTokens: 0,
  };
  genThroughput = 0;
  readonly #decodeLogInterval: number;
  readonly #natives: { idleNs: number; busyNs: number }[] = [];
  /** End of the step before; null when nothing ran since. */
  #lastEndNs: number | null = null;
  readonly #hits: { cached: number; computed: number }[] = [];
  readonly #now: () => number;
  #intervalStart: number;
  #intervalTokens = 0;
  #intervalSteps = 0;

  /** @param now milliseconds; a simulation has a clock of its own */
  constructor(decodeLogInterval: number, now: () => number = () => performance.now()) {
    this.#decodeLogInterval = decodeLogInterval;
    this.#now = now;
    this.#intervalStart = now();
  }

  get cacheHitRate(): number {
    let cached = 0;
    let all = 0;
    for (const hit of this.#hits) {
      cached += hit.cached;
      all += hit.cached + hit.computed;
    }
    return all === 0 ? 0 : cached / all;
  }

  /** A step that computes parts of prompts was queued. */
  prefill(items: readonly BatchItem[], load: Load): void {
    const hit = { cached: 0, computed: 0 };
    let fresh = 0;
    for (const { req, start, end } of items) {
      hit.computed += end - start;
      if (req.cachedTokens !== null) continue;
      fresh++;
      req.admittedAt = this.#now();
      req.cachedTokens = start;
      hit.cached += start;
      this.counters.promptTokens += req.promptLength;
      this.counters.cachedTokens += start;
    }
    this.counters.computedPromptTokens += hit.computed;
    this.counters.prefillSteps++;
    this.#hits.push(hit);
    if (this.#hits.length > HIT_RATE_BATCHES) this.#hits.shift();
    logger.info(
      `Prefill batch. #new-seq: ${fresh}, #new-token: ${hit.computed}, #cached-token: ${hit.cached}, ` +
        `token usage: ${usage(load)}, #running-req: ${load.running}, #queue-req: ${load.queued}`,
    );
  }

  /** A step with decode rows was queued. */
  decode(load: Load): void {
    this.counters.decodeSteps++;
    if (this.#intervalSteps === 0) this.#intervalStart = this.#now();
    if (++this.#intervalSteps < this.#decodeLogInterval) return;
    this.endInterval();
    logger.info(
      `Decode batch. #running-req: ${load.running}, #token: ${load.usedTokens}, token usage: ${usage(load)}, ` +
        `gen throughput (token/s): ${this.genThroughput.toFixed(2)}, #queue-req: ${load.queued}`,
    );
  }

  /** Share of the time of the last steps that native threads had nothing to do though requests ran. */
  get idleShare(): number {
    let idle = 0;
    let all = 0;
    for (const { idleNs, busyNs } of this.#natives) {
      idle += idleNs;
      all += idleNs + busyNs;
    }
    return all === 0 ? 0 : idle / all;
  }

  /** Native times of a step: what lies between it and the one before, and its waiting for masks, is idleness. */
  nativeStep({ startNs, endNs, maskWaitNs }: { startNs: number; endNs: number; maskWaitNs: number }): void {
    const gapNs = this.#lastEndNs === null ? 0 : Math.max(0, startNs - this.#lastEndNs);
    this.#lastEndNs = endNs;
    const native = { idleNs: gapNs + maskWaitNs, busyNs: endNs - startNs - maskWaitNs };
    this.counters.nativeIdleSeconds += native.idleNs / 1e9;
    this.counters.nativeBusySeconds += native.busyNs / 1e9;
    this.#natives.push(native);
    if (this.#natives.length > IDLE_STEPS) this.#natives.shift();
  }

  /** Nothing runs any more: what follows is not the scheduler's idleness. */
  nothingRuns(): void {
    this.#lastEndNs = null;
    this.endInterval();
  }

  /** An output token arrived. */
  generated(): void {
    this.counters.generationTokens++;
    this.#intervalTokens++;
  }

  retracted(reqs: readonly Req[], ratioBefore: number, ratioAfter: number): void {
    this.counters.retractions += reqs.length;
    for (const req of reqs) {
      this.counters.retractedInputTokens += req.promptLength;
      this.counters.retractedOutputTokens += req.outputLength;
    }
    logger.warn(
      `KV cache pool is full. Retract requests. #retracted_reqs: ${reqs.length}, ` +
        `#new_token_ratio: ${ratioBefore.toFixed(4)} -> ${ratioAfter.toFixed(4)}`,
    );
  }

  /** Closes the interval that throughput is measured over: it is full, or nothing runs any more. */
  endInterval(): void {
    const seconds = (this.#now() - this.#intervalStart) / 1000;
    if (this.#intervalSteps > 0 && seconds > 0) this.genThroughput = this.#intervalTokens / seconds;
    this.#intervalStart = this.#now();
    this.#intervalTokens = 0;
    this.#intervalSteps = 0;
  }
}

function usage(load: Load): string {
  return (load.usedTokens / load.maxTokens).toFixed(2);
}
