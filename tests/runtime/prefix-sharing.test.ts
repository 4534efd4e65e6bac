/** What is computed once, counted: in a running batch, between answers to one prompt, at every page size, and never across keys. */
import { setImmediate as turn } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { EngineConfig } from "../../src/runtime/config.js";
import { collect, collectAll, greedy } from "./collect.js";
import { expectedTokens, fakeEngine } from "./fake-runner.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

const PREFIX = Array.from({ length: 100 }, (_, i) => (i * 7) % 60);
const whole = (tokens: number, pageSize: number) => tokens - (tokens % pageSize);
const engineOf = (config: Partial<EngineConfig> & { pageSize: number }) =>
  fakeEngine(config, { pages: 4096 / config.pageSize, pageSize: config.pageSize });

describe("requests that arrive together", () => {
  it.each([1, 16, 32])("compute their common prefix once, in pages of %i", async (pageSize) => {
    const { engine } = engineOf({ pageSize });
    const prompts = Array.from({ length: 16 }, (_, i) => [...PREFIX, i, i + 1, i + 2]);
    const body = (inputIds: number[]) => ({ prompt: { inputIds }, samplingParams: { ...greedy, maxNewTokens: 3 } });
    const answers = await Promise.all(prompts.map((ids) => collect(engine, body(ids))));
    expect(answers.map((a) => a.ids)).toEqual(
      prompts.map((ids) => expectedTokens(ids, { maxNewTokens: 3, stopIds: [] })),
    );
    const shared = whole(100, pageSize);
    expect(engine.stats().counters).toMatchObject({
      computedPromptTokens: 103 + 15 * (103 - shared),
      cachedTokens: 15 * shared,
    });
    await engine.close();
  });

  it("share at every level where their texts part", async () => {
    const { engine } = engineOf({ pageSize: 1 });
    const branch = (i: number) => Array.from({ length: 40 }, (_, k) => (k * (i + 3)) % 50);
    const prompts = [0, 1].flatMap((i) => [0, 1, 2].map((j) => [...PREFIX, 60 + i, ...branch(i), j]));
    const samplingParams = { ...greedy, maxNewTokens: 1 };
    await Promise.all(prompts.map((inputIds) => collect(engine, { prompt: { inputIds }, samplingParams })));
    // The prefix once, each branch once, each last token.
    expect(engine.stats().counters.computedPromptTokens).toBe(100 + 2 * 41 + 6);
    await engine.close();
  });

  it("wait for a long prompt that is being computed in chunks rather than compute it again", async () => {
    const { engine } = engineOf({ pageSize: 16, chunkedPrefillSize: 32 });
    const prompts = [1, 2, 3].map((last) => [...PREFIX, last]);
    const samplingParams = { ...greedy, maxNewTokens: 2 };
    await Promise.all(prompts.map((inputIds) => collect(engine, { prompt: { inputIds }, samplingParams })));
    expect(engine.stats().counters.computedPromptTokens).toBe(101 + 2 * (101 - 96));
    await engine.close();
  });
});

describe("the n answers to one prompt", () => {
  it.each([1, 16, 32])("compute it once, in pages of %i, but for the last part of a page", async (pageSize) => {
    const { engine } = engineOf({ pageSize });
    const samplingParams = { ignoreEos: true, temperature: 1, seed: 5, n: 8, maxNewTokens: 4 };
    const answers = await collectAll(engine, { prompt: { inputIds: PREFIX }, samplingParams });
    expect(answers.map((a) => a.ids)).toEqual(
      answers.map((_, i) => expectedTokens(PREFIX, { maxNewTokens: 4, temperature: 1, seed: 5 + i, stopIds: [] })),
    );
    // The last token must be computed to sample from it.
    const shared = whole(99, pageSize);
    expect(engine.stats().counters.computedPromptTokens).toBe(100 + 7 * (100 - shared));
    await engine.close();
  });
});

describe("a last page that is only partly filled", () => {
  it.each([
    [1, 49, 49 + 2],
    [16, 48, 48],
    [32, 32, 32],
  ])(
    "is never cached: pages of %i give %i tokens of 50 back, and %i of a continued conversation",
    async (pageSize, again, turn) => {
      const { engine } = engineOf({ pageSize });
      const prompt = PREFIX.slice(0, 50);
      const samplingParams = { ...greedy, maxNewTokens: 2 };
      const first = await collect(engine, { prompt: { inputIds: prompt }, samplingParams });
      expect((await collect(engine, { prompt: { inputIds: prompt }, samplingParams })).last.usage.cachedTokens).toBe(
        again,
      );
      // All but the last answer token have keys and values; the token after them is new.
      const next = { prompt: { inputIds: [...prompt, ...first.ids, 1, 2, 3] }, samplingParams };
      expect((await collect(engine, next)).last.usage.cachedTokens).toBe(turn);
      await engine.close();
    },
  );
});

describe("a tenant with another key", () => {
  const request = (extraKey: string | undefined, inputIds = PREFIX) => ({
    prompt: { inputIds },
    samplingParams: { ...greedy, maxNewTokens: 3 },
    extraKey,
  });

  it("cannot tell from its answer, its usage or the work done what others have cached", async () => {
    const alone = engineOf({ pageSize: 1 });
    const expected = await collect(alone.engine, request("spy"));
    await alone.engine.close();
    const { engine, runner } = engineOf({ pageSize: 1 });
    for (const key of [undefined, "", "spy2", "sp", "SPY", '["spy",null]']) await collect(engine, request(key));
    const from = runner.steps.length;
    const answer = await collect(engine, request("spy"));
    expect(answer.ids).toEqual(expected.ids);
    expect(answer.last.usage).toEqual(expected.last.usage);
    const work = (steps: typeof runner.steps) => steps.map((s) => s.sequences.map(({ tokens }) => tokens.length));
    expect(work(runner.steps.slice(from))).toEqual(work(alone.runner.steps));
    await engine.close();
  });

  it("does not wait for the same prompt of another tenant in its batch", async () => {
    const { engine, runner } = engineOf({ pageSize: 1 });
    // All three must be waiting when the first step is made.
    await engine.pauseGeneration("in_place");
    const answers = ["a", "b", "c"].map((key) => collect(engine, request(key)));
    while (engine.stats().numQueueReqs < 3) await turn();
    engine.continueGeneration();
    await Promise.all(answers);
    expect(runner.steps[0].sequences.map(({ tokens }) => tokens.length)).toEqual([100, 100, 100]);
    expect(engine.stats().counters.cachedTokens).toBe(0);
    await engine.close();
  });
});

describe("the shown tree", () => {
  it("has the runs of tokens, where they hang, how often they were found and who holds them", async () => {
    const { engine } = engineOf({ pageSize: 16 });
    const run = (last: number) =>
      collect(engine, {
        prompt: { inputIds: [...PREFIX, ...Array(40).fill(last)] },
        samplingParams: { ...greedy, maxNewTokens: 1 },
      });
    await run(1);
    await run(2);
    const tree = engine.cacheTree({ text: true });
    const stem = { parent: null, depth: 0, tokens: 96, pages: 6, hits: 1, locks: 0, namespace: "" };
    const branch = { parent: 0, depth: 96, tokens: 32, pages: 2, hits: 0, locks: 0 };
    expect(tree).toMatchObject({ pageSize: 16, totalNodes: 3, nodes: [stem, branch, branch] });
    expect(tree?.nodes[0].text).toBe(engine.tokenizer.decode(PREFIX.slice(0, 96)));
    expect(tree?.nodes.every(({ idleSeconds }) => idleSeconds >= 0)).toBe(true);
    expect(tree?.evictableTokens).toBe(96 + 32 + 32);
    expect(engine.cacheTree({ maxNodes: 1 })).toMatchObject({ totalNodes: 3, nodes: [stem] });
    expect(engine.cacheTree()?.nodes[0]).not.toHaveProperty("text");
    await engine.close();
  });

  it("shows namespaces apart without their names", async () => {
    const { engine } = engineOf({ pageSize: 16 });
    const body = { prompt: { inputIds: PREFIX }, samplingParams: { ...greedy, maxNewTokens: 1 } };
    for (const extraKey of [undefined, "secret-salt", "other"]) await collect(engine, { ...body, extraKey });
    const names = engine.cacheTree()?.nodes.map(({ namespace }) => namespace) ?? [];
    expect(new Set(names).size).toBe(3);
    expect(names.join()).not.toMatch(/secret|other/);
    await engine.close();
  });

  it("is null without a cache", async () => {
    const { engine } = fakeEngine({ disableRadixCache: true });
    expect(engine.cacheTree()).toBeNull();
    await engine.close();
  });
});

describe("eviction policies", () => {
  it("priority keeps the prefixes of important requests", async () => {
    const { engine } = fakeEngine(
      { pageSize: 1, radixEvictionPolicy: "priority", enablePriorityScheduling: true },
      { pages: 110, pageSize: 1 },
    );
    const run = (token: number, priority: number) =>
      collect(engine, {
        prompt: { inputIds: Array(40).fill(token) },
        samplingParams: { ...greedy, maxNewTokens: 1 },
        priority,
      });
    await run(1, 5);
    await run(2, 1);
    await run(3, 1);
    expect((await run(1, 1)).last.usage.cachedTokens).toBe(39);
    await engine.close();
  });
});
