/** What callers can do to requests that wait or run: deadlines, aborts, pauses. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { GenerateRequest, PauseMode } from "../../src/core/protocol.js";
import { until } from "../server/harness.js";
import { type Collected, codeOf, collect, encode, greedy } from "./collect.js";
import { expectedTokens, type FakeEngine, fakeEngine } from "./fake-runner.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

const LONG = "abcdefghijklmnopqrstuvwxyz".repeat(6);
const ask = (text: string, maxNewTokens: number, more: Partial<GenerateRequest> = {}): GenerateRequest => ({
  prompt: { text },
  samplingParams: { ...greedy, maxNewTokens },
  ...more,
});

/** An engine whose steps wait until they are let go. */
function stepped(config: Parameters<typeof fakeEngine>[0] = {}) {
  const held: (() => void)[] = [];
  const fake: FakeEngine = fakeEngine(config, { onStep: () => new Promise<void>((resolve) => held.push(resolve)) });
  return {
    ...fake,
    /** Lets one step go once it runs. */
    async step() {
      await until(() => held.length > 0, "a step runs");
      held.shift()?.();
      await new Promise((resolve) => setImmediate(resolve));
    },
    /** Lets every step go from now on. */
    release() {
      const timer = setInterval(() => {
        for (const go of held.splice(0)) go();
      });
      return () => clearInterval(timer);
    },
  };
}

describe("abort", () => {
  it.each<[where: string, steps: number, maxRunning: number]>([
    ["queued", 1, 1],
    ["prefilling", 1, 4],
    ["decoding", 6, 4],
  ])("ends a request that is %s within one step and frees its pages", async (where, steps, maxRunningRequests) => {
    const { engine, runner, step, release } = stepped({ chunkedPrefillSize: 64, maxRunningRequests });
    const controller = new AbortController();
    const other = where === "queued" ? collect(engine, ask("other", 30)) : null;
    if (other) await until(() => runner.steps.length > 0, "the other runs");
    const victim = collect(engine, ask(LONG, 40, { signal: controller.signal }));
    for (let i = 0; i < steps; i++) await step();
    await until(() => engine.stats().numQueueReqs === (where === "queued" ? 1 : 0), "it is where it should be");
    const before = runner.steps.length;
    controller.abort();
    const go = release();
    const { last } = await victim;
    expect(last.finishReason).toEqual({ type: "abort", message: "The caller aborted the request." });
    // The step that was under way, and at most one of another request.
    expect(runner.steps.length - before).toBeLessThanOrEqual(1);
    if (other) expect((await other).ids).toHaveLength(30);
    await until(() => engine.stats().pages.inUse === 0 && engine.stats().pages.protected === 0, "all pages are free");
    // A step that was queued before the abort may still be under way.
    await engine.close();
    go();
  });
});

describe("timeoutSeconds", () => {
  it("ends an answer where it is and delivers what there is of it", async () => {
    const { engine } = fakeEngine({}, { onStep: () => new Promise((resolve) => setTimeout(resolve, 5)) });
    const { last, ids } = await collect(engine, ask("abc", 200, { timeoutSeconds: 0.2 }));
    expect(last.finishReason).toEqual({ type: "abort", message: "The request's timeout_s of 0.2 s has passed." });
    expect(ids.length).toBeGreaterThan(0);
    expect(ids).toEqual(expectedTokens(encode("abc"), { maxNewTokens: 200, stopIds: [] }).slice(0, ids.length));
    await engine.close();
  });

  it("is an error with status 504 before the answer has begun", async () => {
    const { engine, runner, release } = stepped({ maxRunningRequests: 1 });
    const running = collect(engine, ask("abc", 3));
    await until(() => runner.steps.length > 0, "a step runs");
    const late = collect(engine, ask("def", 3, { timeoutSeconds: 0.02 }));
    await new Promise((resolve) => setTimeout(resolve, 60));
    const go = release();
    expect((await late).last.finishReason).toMatchObject({ type: "abort", statusCode: 504 });
    expect((await running).ids).toHaveLength(3);
    go();
    await engine.close();
  });

  it("has no effect on a request that ends in time, and must be a number above 0", async () => {
    const { engine } = fakeEngine();
    expect((await collect(engine, ask("abc", 3, { timeoutSeconds: 60 }))).ids).toHaveLength(3);
    expect(await codeOf(collect(engine, ask("abc", 3, { timeoutSeconds: 0 })))).toBe("INVALID_REQUEST");
    expect(await codeOf(collect(engine, ask("abc", 3, { timeoutSeconds: 1e9 })))).toBe("INVALID_REQUEST");
    await engine.close();
  });
});

describe("pauseGeneration", () => {
  const MODES: readonly PauseMode[] = ["in_place", "retract"];
  const whole = (text: string, maxNewTokens: number) => expectedTokens(encode(text), { maxNewTokens, stopIds: [] });

  async function paused(mode: PauseMode): Promise<FakeEngine & { answers: Promise<Collected>[] }> {
    const fake = fakeEngine({ chunkedPrefillSize: 32 });
    const answers = [collect(fake.engine, ask("abc", 60)), collect(fake.engine, ask(LONG, 40))];
    await until(
      () => fake.engine.stats().counters.decodeSteps > 8 && fake.engine.stats().numRunningReqs === 2,
      "both run",
    );
    await fake.engine.pauseGeneration(mode);
    return { ...fake, answers };
  }

  it.each(MODES)("stops between two steps and goes on with the very same tokens (%s)", async (mode) => {
    const { engine, runner, answers } = await paused(mode);
    const steps = runner.steps.length;
    const later = collect(engine, ask("later", 5));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(runner.steps.length).toBe(steps);
    expect(engine.stats()).toMatchObject({ isPaused: true, numRunningReqs: mode === "retract" ? 0 : 2 });
    engine.continueGeneration();
    expect((await later).ids).toEqual(whole("later", 5));
    expect((await answers[0]).ids).toEqual(whole("abc", 60));
    expect((await answers[1]).ids).toEqual(whole(LONG, 40));
    await engine.close();
  });

  it("lets the cache be flushed when requests were retracted, not when they are in place", async () => {
    const inPlace = await paused("in_place");
    expect(await inPlace.engine.flushCache()).toBe(false);
    const retracted = await paused("retract");
    expect(await retracted.engine.flushCache()).toBe(true);
    expect(retracted.engine.stats().pages).toMatchObject({ free: 256, evictable: 0 });
    for (const { engine, answers } of [inPlace, retracted]) {
      engine.continueGeneration();
      expect((await answers[0]).ids).toEqual(whole("abc", 60));
      await engine.close();
    }
  });

  it("aborts what runs and waits in mode abort; what comes later waits", async () => {
    const { engine, answers } = await paused("abort");
    for (const answer of answers) expect((await answer).last.finishReason?.type).toBe("abort");
    expect(await engine.flushCache()).toBe(true);
    const later = collect(engine, ask("later", 5));
    await until(() => engine.stats().numQueueReqs === 1, "it waits");
    engine.continueGeneration();
    expect((await later).ids).toEqual(whole("later", 5));
    await engine.close();
  });

  it("lets a paused engine abort requests and be closed, and may be called when idle and twice", async () => {
    const { engine } = fakeEngine();
    await engine.pauseGeneration("in_place");
    await engine.pauseGeneration("abort");
    const controller = new AbortController();
    const first = collect(engine, ask("abc", 5, { signal: controller.signal }));
    await until(() => engine.stats().numQueueReqs === 1, "it waits");
    controller.abort();
    expect((await first).last.finishReason?.type).toBe("abort");
    const second = collect(engine, ask("abc", 5));
    await until(() => engine.stats().numQueueReqs === 1, "it waits");
    await engine.close();
    expect((await second).last.finishReason).toMatchObject({ type: "abort", statusCode: 503 });
  });
});
