import { setImmediate as turn } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { EngineConfig } from "../../src/runtime/config.js";
import type { Engine } from "../../src/runtime/engine.js";
import { until } from "../server/harness.js";
import { codeOf, collect, encode, greedy } from "./collect.js";
import { expectedTokens, fakeEngine } from "./fake-runner.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

const PRIORITY: Partial<EngineConfig> = { enablePriorityScheduling: true, maxRunningRequests: 1 };

/** Runs a request and says when it has ended. */
function run(
  engine: Engine,
  ended: string[],
  rid: string,
  priority: number | undefined,
  maxNewTokens = 20,
  text = rid,
) {
  const answer = collect(engine, { prompt: { text }, samplingParams: { ...greedy, maxNewTokens }, rid, priority });
  return answer.then(
    (result) => {
      ended.push(rid);
      return result;
    },
    (error: Error) => {
      ended.push(rid);
      throw error;
    },
  );
}

const running = (engine: Engine, steps: number) =>
  until(() => engine.stats().counters.decodeSteps >= steps, `${steps} decode steps`);

describe("priority scheduling", () => {
  it.each([1, -1])("admits the highest priority first, then the earliest (sign %i)", async (sign) => {
    const scheduleLowPriorityValuesFirst = sign < 0;
    const { engine } = fakeEngine({
      ...PRIORITY,
      scheduleLowPriorityValuesFirst,
      prioritySchedulingPreemptionThreshold: 1000,
    });
    const ended: string[] = [];
    const first = run(engine, ended, "first", 5, 40);
    await running(engine, 2);
    await Promise.all([
      first,
      run(engine, ended, "none", undefined),
      run(engine, ended, "low", sign * 1),
      run(engine, ended, "mid1", sign * 2),
      run(engine, ended, "mid2", sign * 2),
      run(engine, ended, "high", sign * 3),
    ]);
    expect(ended).toEqual(["first", "high", "mid1", "mid2", "low", "none"]);
    await engine.close();
  });

  it("keeps the policy's order within a priority", async () => {
    const { engine } = fakeEngine({ ...PRIORITY, schedulePolicy: "lof" });
    const ended: string[] = [];
    const first = run(engine, ended, "first", 5, 40);
    await running(engine, 2);
    await Promise.all([
      first,
      run(engine, ended, "short", 1, 10),
      run(engine, ended, "long", 1, 30),
      run(engine, ended, "urgent", 2, 5),
    ]);
    expect(ended).toEqual(["first", "urgent", "long", "short"]);
    await engine.close();
  });

  it.each([
    [11, 1],
    [10, 0],
  ])("a difference of %i above a threshold of 10 preempts %i running request", async (priority, preemptions) => {
    const { engine } = fakeEngine(PRIORITY);
    const ended: string[] = [];
    const low = run(engine, ended, "low", 0, 60);
    await running(engine, 10);
    const high = await run(engine, ended, "high", priority, 5);
    const answer = await low;
    expect(ended).toEqual(preemptions ? ["high", "low"] : ["low", "high"]);
    expect(engine.stats().counters.preemptions).toBe(preemptions);
    expect(answer.last.timing.retractions).toBe(preemptions);
    // Neither loses or repeats a token.
    expect(answer.ids).toEqual(expectedTokens(encode("low"), { maxNewTokens: 60, stopIds: [] }));
    expect(high.ids).toEqual(expectedTokens(encode("high"), { maxNewTokens: 5, stopIds: [] }));
    await engine.close();
  });

  it("preempts the lowest priority, of these the latest, and no more than make room", async () => {
    const { engine } = fakeEngine({ ...PRIORITY, maxRunningRequests: 3 });
    const ended: string[] = [];
    const others = [
      run(engine, ended, "old", 0, 60),
      run(engine, ended, "mid", 5, 60),
      run(engine, ended, "new", 0, 60),
    ];
    await running(engine, 10);
    const [old, mid, latest] = await Promise.all([...others, run(engine, ended, "high", 100, 5)]);
    expect([old, mid, latest].map(({ last }) => last.timing.retractions)).toEqual([0, 0, 1]);
    await engine.close();
  });

  it("preempts for pages as well as for slots", async () => {
    const { engine } = fakeEngine({ ...PRIORITY, maxRunningRequests: 8 }, { pages: 100 });
    const ended: string[] = [];
    // Step by step until both run: they must be at their beginning when the other arrives.
    await engine.pauseGeneration("in_place");
    const low = [run(engine, ended, "a", 0, 45), run(engine, ended, "b", 0, 45)];
    await until(() => engine.stats().numQueueReqs === 2, "both to wait");
    while (engine.stats().numRunningReqs < 2) {
      engine.continueGeneration();
      await turn();
      await engine.pauseGeneration("in_place");
    }
    const high = run(engine, ended, "high", 50, 35);
    await until(() => engine.stats().numQueueReqs === 1, "the request to wait");
    engine.continueGeneration();
    await high;
    expect(ended[0]).toBe("high");
    expect(engine.stats().counters.preemptions).toBeGreaterThan(0);
    for (const [i, answer] of (await Promise.all(low)).entries())
      expect(answer.ids).toEqual(expectedTokens(encode("ab"[i]), { maxNewTokens: 45, stopIds: [] }));
    await engine.close();
  });

  it.each([true, false])(
    "sets a half-computed prompt aside, and computes none of it twice (mixed: %s)",
    async (mixed) => {
      const { engine } = fakeEngine({
        ...PRIORITY,
        maxRunningRequests: 4,
        chunkedPrefillSize: 4,
        enableMixedChunk: mixed,
        disableOverlapSchedule: true,
      });
      const ended: string[] = [];
      const text = "abcdefghij".repeat(12);
      await engine.pauseGeneration("in_place");
      const low = run(engine, ended, "low", 0, 5, text);
      await until(() => engine.stats().numQueueReqs === 1, "the long prompt to wait");
      while (engine.stats().counters.prefillSteps < 5) {
        engine.continueGeneration();
        await turn();
        await engine.pauseGeneration("in_place");
      }
      expect(engine.stats().counters.decodeSteps).toBe(0);
      const urgent = run(engine, ended, "high", 50, 5);
      await until(() => engine.stats().numQueueReqs === 1, "the urgent request to wait");
      engine.continueGeneration();
      const high = await urgent;
      expect(ended).toEqual(["high"]);
      const answer = await low;
      expect(answer.last.timing.retractions).toBe(1);
      expect(engine.stats().counters).toMatchObject({ preemptions: 1, computedPromptTokens: 120 + 4 });
      expect(answer.ids).toEqual(expectedTokens(encode(text), { maxNewTokens: 5, stopIds: [] }));
      expect(high.ids).toEqual(expectedTokens(encode("high"), { maxNewTokens: 5, stopIds: [] }));
      await engine.close();
    },
  );

  it("leaves those that run in peace when all that may give way would not make enough room", async () => {
    const { engine } = fakeEngine({ ...PRIORITY, maxRunningRequests: 8, scheduleConservativeness: 1 }, { pages: 100 });
    const ended: string[] = [];
    const big = run(engine, ended, "important", 100, 60);
    const low = run(engine, ended, "low", 0, 10);
    await running(engine, 2);
    await Promise.all([big, low, run(engine, ended, "large", 50, 90)]);
    expect(engine.stats().counters.preemptions).toBe(0);
    expect(ended).toEqual(["low", "important", "large"]);
    await engine.close();
  });

  it("gives a place in a full queue to a higher priority, and answers the lower one with 503", async () => {
    const { engine } = fakeEngine({ ...PRIORITY, maxQueuedRequests: 2, prioritySchedulingPreemptionThreshold: 1000 });
    const ended: string[] = [];
    const first = run(engine, ended, "first", 0, 60);
    await running(engine, 2);
    const early = run(engine, ended, "early", 1);
    const late = run(engine, ended, "late", 1);
    await until(() => engine.stats().numQueueReqs === 2, "two wait");
    expect(await codeOf(run(engine, ended, "equal", 1))).toBe("QUEUE_FULL");
    const high = run(engine, ended, "high", 2);
    expect((await late).last.finishReason).toMatchObject({ type: "abort", statusCode: 503 });
    for (const answer of await Promise.all([first, early, high])) expect(answer.last.finishReason?.type).toBe("length");
    await engine.close();
  });

  it("refuses a priority that would have no effect", async () => {
    const { engine } = fakeEngine();
    const ended: string[] = [];
    await expect(run(engine, ended, "a", 1)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      details: { field: "priority" },
    });
    await expect(run(engine, ended, "b", 0)).resolves.toBeDefined();
    await engine.close();
  });
});

describe("tenant fairness", () => {
  const order = async (enableTenantFairness: boolean) => {
    const { engine } = fakeEngine({ enableTenantFairness, tenantQuantum: 24, maxRunningRequests: 1 });
    const ended: string[] = [];
    const ask = (rid: string, tenant: string) =>
      collect(engine, { prompt: { text: rid }, samplingParams: { ...greedy, maxNewTokens: 20 }, rid, tenant }).then(
        () => ended.push(rid),
      );
    const first = ask("first", "a");
    await running(engine, 2);
    await engine.pauseGeneration("in_place");
    const others = [ask("a1", "a"), ask("a2", "a"), ask("a3", "a"), ask("b1", "b"), ask("b2", "b")];
    await until(() => engine.stats().numQueueReqs === 5, "all to wait");
    engine.continueGeneration();
    await Promise.all([first, ...others]);
    await engine.close();
    return ended.join(" ");
  };

  it("is off by default: first come, first served", async () => {
    expect(await order(false)).toBe("first a1 a2 a3 b1 b2");
  });

  it("lets tenants take turns", async () => {
    expect(await order(true)).toBe("first b1 b2 a1 a2 a3");
  });
});
