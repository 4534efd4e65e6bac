/** EngineConfig as the scheduler takes it: the same for an engine and for a simulation of one. */
import { invalidField, SglangError } from "../core/errors.js";
import { type EngineConfig, prefillStepTokens } from "./config.js";
import { FairShare } from "./fair-share.js";
import type { ModelRunner } from "./model-runner.js";
import { createRandom } from "./random.js";
import type { SchedulerOptions } from "./scheduler.js";

export function schedulerOptions(
  config: EngineConfig,
  runner: ModelRunner,
  { strict, now, trace, tier }: Pick<SchedulerOptions, "strict" | "now" | "trace" | "tier">,
): SchedulerOptions {
  return {
    stepTokens: Math.min(prefillStepTokens(config), runner.maxTokens),
    maxRunningRequests: config.maxRunningRequests,
    maxQueuedRequests: config.maxQueuedRequests,
    prefillMaxRequests: config.prefillMaxRequests,
    policy: config.schedulePolicy,
    byPriority: config.enablePriorityScheduling,
    preemptionThreshold: config.prioritySchedulingPreemptionThreshold,
    fairShare: config.enableTenantFairness ? new FairShare(config.tenantQuantum) : null,
    conservativeness: config.scheduleConservativeness,
    disableRadixCache: config.disableRadixCache,
    radixEvictionPolicy: config.radixEvictionPolicy,
    overlap: !config.disableOverlapSchedule,
    mixedChunk: config.enableMixedChunk,
    decodeLogInterval: config.decodeLogInterval,
    watchdogTimeout: config.watchdogTimeout,
    random: createRandom(config.randomSeed),
    strict,
    now,
    trace,
    tier,
  };
}

/** A request's priority, larger first; without one it has the lowest. @throws SglangError UNSUPPORTED where priorities are off */
export function priorityOf(given: number | undefined, config: EngineConfig): number {
  if (given === undefined) return Number.NEGATIVE_INFINITY;
  if (!Number.isSafeInteger(given)) throw invalidField("priority", "an integer", given);
  if (!config.enablePriorityScheduling && given !== 0) {
    throw new SglangError(
      "UNSUPPORTED",
      `priority ${given} would have no effect: start the server with --enable-priority-scheduling, or leave it out.`,
      { field: "priority" },
    );
  }
  return config.scheduleLowPriorityValuesFirst ? -given : given;
}
