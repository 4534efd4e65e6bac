import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../../src/core/logger.js";
import type { Profile } from "../../../src/runtime/simulate/cost-model.js";
import { simulate } from "../../../src/runtime/simulate/simulator.js";
import { makeTrace, type TraceRequest } from "../../../src/runtime/simulate/trace.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

/** 2 ms per step and 0.1 ms per token, nothing else. */
const PROFILE: Profile = {
  version: 1,
  model: "m",
  kernels: { tier: "t", threads: 2 },
  kvTokens: 4096,
  recordedAt: "",
  steps: 0,
  gapMs: 0,
  coefficients: [2, 0.1, ...Array(10).fill(0)],
  error: { median: 0, p90: 0, total: 0 },
};
const one = (
  at: number,
  inputLength: number,
  outputLength: number,
  more: Partial<TraceRequest> = {},
): TraceRequest => ({
  at,
  inputLength,
  outputLength,
  blocks: [],
  ...more,
});

describe("simulate", () => {
  it("gives a request alone the time that its steps cost", async () => {
    const report = await simulate([one(1000, 100, 11)], PROFILE);
    expect(report).toMatchObject({ requests: 1, refused: 0, prefillSteps: 1, decodeSteps: 10 });
    expect(report.firstTokenMs.mean).toBeCloseTo(2 + 0.1 * 100);
    expect(report.interTokenMs.mean).toBeCloseTo(2.1);
    expect(report.seconds).toBeCloseTo((12 + 21) / 1000);
  });

  it("counts the scheduler's own time where it is not hidden", async () => {
    const report = await simulate([one(0, 100, 11)], { ...PROFILE, gapMs: 0.5 }, { disableOverlapSchedule: true });
    expect(report.interTokenMs.mean).toBeCloseTo(2.6);
  });

  it("lets requests that arrive during a step go with the next one, and jumps over idle time", async () => {
    const trace = [one(0, 100, 5), one(3, 50, 5), one(1e7, 100, 5)];
    const plain = await simulate(trace, PROFILE, { disableOverlapSchedule: true });
    // The second waits for the rest of the first step, which takes 12 ms, then for its own prefill of 7 ms.
    expect(plain.firstTokenMs.p99).toBeCloseTo(12 - 3 + 7);
    // Overlapped, a decode step of the first is queued already.
    const report = await simulate(trace, PROFILE);
    expect(report.firstTokenMs.p99).toBeCloseTo(12 - 3 + 2.1 + 7);
    expect(report.seconds).toBeGreaterThan(1e4);
    expect(report.wallSeconds).toBeLessThan(10);
  });

  it("shares prefixes as the engine does", async () => {
    const trace = Array.from({ length: 10 }, (_, i) => one(i * 1000, 600, 2, { blocks: [7] }));
    const report = await simulate(trace, PROFILE);
    expect(report.cacheHitRate).toBeCloseTo((9 * 512) / 6000);
    const without = await simulate(trace, PROFILE, { disableRadixCache: true });
    expect(without.cacheHitRate).toBe(0);
    expect(without.firstTokenMs.mean).toBeGreaterThan(report.firstTokenMs.mean * 2);
  });

  it("is the same every time, whatever the policy", async () => {
    const options = { requests: 300, rate: 20, meanInput: 100, meanOutput: 20, prefixTokens: 200, blockTokens: 64 };
    const trace = makeTrace({ ...options, prefixes: 8, tenants: ["a", "b"], seed: 3 });
    for (const schedulePolicy of ["fcfs", "lpm", "dfs-weight", "lof", "random"] as const) {
      const run = () => simulate(trace, PROFILE, { schedulePolicy, randomSeed: 1 }, { blockTokens: 64 });
      const [first, second] = [await run(), await run()];
      expect(first.requests).toBe(300);
      expect(Object.keys(first.tenants ?? {})).toEqual(["a", "b"]);
      expect({ ...second, wallSeconds: 0 }).toEqual({ ...first, wallSeconds: 0 });
    }
  });

  it("refuses what an engine would refuse", async () => {
    const long = one(0, 5000, 10);
    const burst = Array.from({ length: 8 }, () => one(5, 10, 100));
    const report = await simulate([long, ...burst], PROFILE, { maxRunningRequests: 2, maxQueuedRequests: 1 });
    expect(report).toMatchObject({ requests: 3, refused: 6 });
  });

  it("shows what priorities and fair shares do", async () => {
    const crowd = Array.from({ length: 40 }, () => one(0, 50, 20, { tenant: "crowd", priority: 0 }));
    const trace = [...crowd, one(1, 50, 20, { tenant: "single", priority: 5 })];
    const single = async (options: object) =>
      (await simulate(trace, PROFILE, { maxRunningRequests: 2, ...options })).tenants?.single.firstTokenMs.mean ?? 0;
    const fcfs = await single({});
    expect(await single({ enableTenantFairness: true })).toBeLessThan(fcfs / 4);
    expect(await single({ enablePriorityScheduling: true })).toBeLessThan(fcfs / 4);
  });
});
