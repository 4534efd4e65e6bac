/**
 * The scheduler of the engine, unchanged, over a cost model instead of kernels: a trace of a hundred thousand requests in
 * seconds, so that policies can be compared at a scale that no test machine has.
 */
import { SglangError } from "../../core/errors.js";
import type { FinishReason } from "../../core/protocol.js";
import { DEFAULT_SAMPLING_PARAMS } from "../../core/sampling-params.js";
import { type EngineConfig, prefillStepTokens, resolveEngineConfig } from "../config.js";
import { Req, type ReqOutput } from "../request.js";
import { Scheduler } from "../scheduler.js";
import { schedulerOptions } from "../scheduler-options.js";
import { CostModel, type Profile } from "./cost-model.js";
import { CostRunner } from "./cost-runner.js";
import { type RequestTimes, type RunReport, report } from "./report.js";
import { BLOCK_TOKENS, promptTokens, type TraceRequest } from "./trace.js";

export interface SimulationReport extends RunReport {
  prefillSteps: number;
  decodeSteps: number;
  preemptions: number;
  /** Share of the time that native threads would have been busy. */
  busyShare: number;
  /** Seconds that the simulation took. */
  wallSeconds: number;
}

const PARAMS = Object.freeze({ ...DEFAULT_SAMPLING_PARAMS, temperature: 0, ignoreEos: true });
const NO_STOPS: ReadonlySet<number> = new Set();

/** Notes when a request's first token and its end came. */
class Stopwatch implements ReqOutput {
  readonly #now: () => number;
  readonly #onEnd: (req: Req, firstToken: number | null) => void;
  #firstToken: number | null = null;

  constructor(now: () => number, onEnd: (req: Req, firstToken: number | null) => void) {
    this.#now = now;
    this.#onEnd = onEnd;
  }

  pushInput(): void {
    throw new Error("A simulated request has no prompt logprobs.");
  }

  pushProbe(): void {
    throw new Error("A simulated request has no probe.");
  }

  pushToken(req: Req): FinishReason | null {
    this.#firstToken ??= this.#now();
    return req.outputLength >= req.maxNewTokens ? { type: "length", length: req.outputLength } : null;
  }

  finish(req: Req): void {
    this.#onEnd(req, this.#firstToken);
  }

  fail(error: Error): void {
    throw error;
  }
}

/**
 * Runs a trace in virtual time.
 * @param trace in order of time
 * @param options of the engine, as for Engine.load; without `maxTotalTokens` the KV cache is as large as the recorded one
 */
export async function simulate(
  trace: readonly TraceRequest[],
  profile: Profile,
  options: Partial<EngineConfig> = {},
  { blockTokens = BLOCK_TOKENS }: { blockTokens?: number } = {},
): Promise<SimulationReport> {
  const started = performance.now();
  const config = resolveEngineConfig({ watchdogTimeout: 0, ...options });
  const pages = Math.ceil((config.maxTotalTokens ?? profile.kvTokens) / config.pageSize);
  const maxTokens = Math.max(prefillStepTokens(config), config.maxRunningRequests);
  const times: RequestTimes[] = [];
  let refused = 0;
  let next = 0;

  const runner = new CostRunner(new CostModel(profile), {
    pages,
    pageSize: config.pageSize,
    maxTokens,
    maxRows: maxTokens,
    gapMs: profile.gapMs,
    onTime: () => arrive(),
  });
  const scheduler = new Scheduler(runner, schedulerOptions(config, runner, { strict: false, now: runner.now }));

  const onEnd = (req: Req, firstToken: number | null) => {
    if (firstToken === null) {
      refused++;
      return;
    }
    times.push({
      arrived: req.receivedAt,
      firstToken,
      finished: runner.now(),
      inputTokens: req.promptLength,
      outputTokens: req.outputLength,
      cachedTokens: req.cachedTokens ?? 0,
      retractions: req.retractions,
      tenant: req.tenant,
    });
  };

  function request(one: TraceRequest, index: number): Req {
    const priority = one.priority ?? Number.NEGATIVE_INFINITY;
    return new Req({
      rid: `${index}`,
      group: {},
      promptIds: promptTokens(one, index, runner.vocabSize, blockTokens),
      params: PARAMS,
      maxNewTokens: one.outputLength,
      seed: 0n,
      stopIds: NO_STOPS,
      priority: config.scheduleLowPriorityValuesFirst && one.priority !== undefined ? -priority : priority,
      tenant: one.tenant,
      receivedAt: one.at,
      output: new Stopwatch(runner.now, onEnd),
    });
  }

  /** Queues what has arrived by now. */
  function arrive(): void {
    for (; next < trace.length && trace[next].at <= runner.now(); next++) {
      const one = trace[next];
      if (one.inputLength + one.outputLength > pages * config.pageSize) {
        refused++;
        continue;
      }
      try {
        scheduler.enqueue([request(one, next)]);
      } catch (error) {
        if (!SglangError.isInstance(error) || error.code !== "QUEUE_FULL") throw error;
        refused++;
      }
    }
  }

  while (next < trace.length) {
    runner.advanceTo(trace[next].at);
    arrive();
    await scheduler.whenIdle();
  }
  const { counters } = scheduler.stats();
  await scheduler.close();
  const result = report(times, refused);
  return {
    ...result,
    prefillSteps: counters.prefillSteps,
    decodeSteps: counters.decodeSteps,
    preemptions: counters.preemptions,
    busyShare: runner.busyMs / 1000 / result.seconds,
    wallSeconds: (performance.now() - started) / 1000,
  };
}
