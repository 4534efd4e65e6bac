/** Full pools, refused and aborted requests, failing steps and rows, bursts: nothing leaks and nobody else suffers. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { logger, setLogLevel } from "../../src/core/logger.js";
import type { GenerateChunk, GenerateRequest } from "../../src/core/protocol.js";
import { until } from "../server/harness.js";
import { type Collected, codeOf, collect, decode, encode, greedy } from "./collect.js";
import { expectedTokens, fakeEngine, fakeTokenizer } from "./fake-runner.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

describe("a full KV pool", () => {
  it("retracts the request with the fewest tokens and finishes all, without repeating text", async () => {
    const { engine } = fakeEngine({ scheduleConservativeness: 0 }, { pages: 40 });
    const requests = ["a", "bb", "ccc"].map((text) => ({
      prompt: { text },
      samplingParams: { ...greedy, maxNewTokens: 25 },
    }));
    const answers = await Promise.all(
      requests.map(async (request, i) => {
        await sleep(i);
        return collect(engine, request);
      }),
    );
    for (const [i, answer] of answers.entries()) {
      const expected = expectedTokens(encode(requests[i].prompt.text), { maxNewTokens: 25, stopIds: [] });
      expect(answer.ids).toEqual(expected);
      expect(answer.text).toBe(decode(expected));
    }
    const { counters } = engine.stats();
    expect(counters.retractions).toBeGreaterThan(0);
    expect(answers.reduce((sum, a) => sum + a.last.timing.retractions, 0)).toBe(counters.retractions);
    expect(answers[0].last.timing.retractions).toBe(0);
    await engine.close();
  });

  it("refuses what can never fit and says how much fits", async () => {
    const { engine } = fakeEngine({}, { pages: 32 });
    const tooMany = collect(engine, { prompt: { text: "a".repeat(20) }, samplingParams: { maxNewTokens: 20 } });
    await expect(tooMany).rejects.toMatchObject({
      code: "CONTEXT_TOO_LONG",
      message: expect.stringMatching(/40 tokens.*32 tokens of KV cache/),
    });
    const tooLong = collect(engine, { prompt: { text: "a".repeat(40) }, samplingParams: { maxNewTokens: null } });
    await expect(tooLong).rejects.toMatchObject({ code: "CONTEXT_TOO_LONG" });
    // The default of max_new_tokens is not a wish: it is cut to what fits.
    expect((await collect(engine, { prompt: { text: "a".repeat(20) }, samplingParams: greedy })).ids).toHaveLength(12);
    await engine.close();
  });

  it("cuts prompt and answer with --allow-auto-truncate", async () => {
    const { engine } = fakeEngine({ allowAutoTruncate: true }, {}, { contextLength: 16 });
    const long = await collect(engine, { prompt: { text: "abcdefghijklmnopqrstuvwxyz" }, samplingParams: greedy });
    expect(long.last.usage).toMatchObject({ promptTokens: 15, completionTokens: 1 });
    const wide = await collect(engine, {
      prompt: { text: "abcdefgh" },
      samplingParams: { ...greedy, maxNewTokens: 100 },
    });
    expect(wide.ids).toHaveLength(8);
    await engine.close();
  });

  it("reports the context length when that is the limit", async () => {
    const { engine } = fakeEngine({}, {}, { contextLength: 16 });
    const wrong = collect(engine, { prompt: { text: "abc" }, samplingParams: { maxNewTokens: 14 } });
    await expect(wrong).rejects.toThrow(/17 tokens.*context length of 16/);
    await engine.close();
  });
});

describe("requests that are not carried out", () => {
  it.each<[string, GenerateRequest, RegExp]>([
    ["no prompt", { prompt: {} as never }, /exactly one of text, inputIds, messages, got "none"/],
    ["two prompts", { prompt: { text: "a", inputIds: [1] } as never }, /exactly one/],
    ["an empty prompt", { prompt: { inputIds: [] } }, /at least one token/],
    ["an empty text", { prompt: { text: "" } }, /at least one token/],
    ["an unknown id", { prompt: { inputIds: [1, 4711] } }, /prompt\.inputIds\[1\]/],
    ["a fraction as id", { prompt: { inputIds: [1.5] } }, /prompt\.inputIds\[0\]/],
  ])("%s", async (_name, request, message) => {
    const { engine } = fakeEngine();
    const wrong = collect(engine, request);
    await expect(wrong).rejects.toMatchObject({ code: "INVALID_REQUEST", message: expect.stringMatching(message) });
    await engine.close();
  });

  it("a request id that is in use, until it is free again", async () => {
    const { engine } = fakeEngine();
    const request = { prompt: { text: "a" }, samplingParams: { maxNewTokens: 3, ignoreEos: true }, rid: "mine" };
    const first = collect(engine, request);
    expect(await codeOf(collect(engine, request))).toBe("INVALID_REQUEST");
    await first;
    expect((await collect(engine, request)).ids).toHaveLength(3);
    await engine.close();
  });

  it("more than max-queued-requests waiting ones", async () => {
    const { engine } = fakeEngine({ maxRunningRequests: 2, maxQueuedRequests: 1 });
    const body = { prompt: { text: "a" }, samplingParams: { maxNewTokens: 3, ignoreEos: true } };
    const results = await Promise.all([1, 2, 3, 4, 5].map(() => codeOf(collect(engine, body))));
    expect(results.filter((code) => code === "QUEUE_FULL")).toHaveLength(2);
    expect((await collect(engine, body)).ids).toHaveLength(3);
    await engine.close();
  });

  it("text from an engine for embeddings, and the other way round", async () => {
    const text = fakeEngine().engine;
    expect(await codeOf(text.embed({ prompt: { text: "a" } }))).toBe("UNSUPPORTED");
    const embeddings = fakeEngine({ isEmbedding: true }).engine;
    expect(await codeOf(collect(embeddings, { prompt: { text: "a" } }))).toBe("UNSUPPORTED");
    expect(await codeOf(embeddings.score({ query: "a", items: ["b"], labelTokenIds: [1] }))).toBe("UNSUPPORTED");
    await text.close();
    await embeddings.close();
  });
});

describe("aborting", () => {
  const body = { prompt: { text: "abcdefgh" }, samplingParams: { ...greedy, maxNewTokens: 100 } };

  it("ends a running request with the reason abort within a step and frees its pages", async () => {
    const { engine, runner } = fakeEngine();
    const controller = new AbortController();
    const chunks: GenerateChunk[] = [];
    let stepsAtAbort = 0;
    for await (const chunk of engine.generate({ ...body, signal: controller.signal })) {
      chunks.push(chunk);
      if (chunks.length === 3) {
        controller.abort();
        stepsAtAbort = runner.steps.length;
      }
    }
    expect(chunks.at(-1)?.finishReason).toMatchObject({ type: "abort" });
    expect(runner.steps.length - stepsAtAbort).toBeLessThanOrEqual(1);
    expect(engine.stats()).toMatchObject({
      numRunningReqs: 0,
      numQueueReqs: 0,
      numUsedTokens: 0,
      counters: { aborted: 1 },
    });
    await engine.close();
  });

  it("before the start gives one abort chunk and no work", async () => {
    const { engine, runner } = fakeEngine();
    const { chunks } = await collect(engine, { ...body, signal: AbortSignal.abort() });
    expect(chunks.map((c) => c.finishReason?.type)).toEqual(["abort"]);
    expect(runner.steps).toHaveLength(0);
    await engine.close();
  });

  it("reaches a request that still waits in the queue", async () => {
    const { engine } = fakeEngine({ maxRunningRequests: 1 });
    const first = collect(engine, body);
    const controller = new AbortController();
    const waiting = collect(engine, { ...body, signal: controller.signal });
    setTimeout(() => controller.abort(), 2);
    expect((await waiting).last.finishReason?.type).toBe("abort");
    expect((await first).ids).toHaveLength(100);
    await engine.close();
  });

  it("happens when the consumer leaves the loop", async () => {
    const { engine, runner } = fakeEngine();
    for await (const _ of engine.generate(body)) break;
    expect(await engine.flushCache({ timeoutSeconds: 2 })).toBe(true);
    expect(runner.steps.length).toBeLessThan(10);
    expect(engine.stats().counters.aborted).toBe(1);
    await engine.close();
  });

  it("in the middle of a chunked prompt keeps what was computed for the next one", async () => {
    const controller = new AbortController();
    const { engine } = fakeEngine(
      { chunkedPrefillSize: 4 },
      { onStep: (_, step) => (step === 2 ? controller.abort() : undefined) },
    );
    const text = "abcdefghijklmnopqrstuvwxyz";
    const { last } = await collect(engine, { prompt: { text }, signal: controller.signal });
    expect(last.finishReason?.type).toBe("abort");
    const again = await collect(engine, { prompt: { text }, samplingParams: { ...greedy, maxNewTokens: 1 } });
    expect(again.last.usage.cachedTokens).toBe(12);
    await engine.close();
  });

  it("leaves nothing behind when a generator is made but never read", async () => {
    const { engine, runner } = fakeEngine();
    engine.generate({ ...body, rid: "x" });
    await sleep(5);
    expect(runner.steps).toHaveLength(0);
    expect((await collect(engine, { ...body, rid: "x" })).ids).toHaveLength(100);
    await engine.close();
  });
});

describe("when the native step fails", () => {
  it("the requests in it end with an error and the engine goes on", async () => {
    const failing = { onStep: (_: unknown, step: number) => { if (step === 3) throw new Error("a kernel failed"); } }; // biome-ignore format: short
    const { engine } = fakeEngine({}, failing);
    const body = { prompt: { text: "abcdefgh" }, samplingParams: { ...greedy, maxNewTokens: 10 } };
    const wrong = collect(engine, body);
    await expect(wrong).rejects.toMatchObject({
      code: "ENGINE_FAILED",
      message: expect.stringMatching(/decode step failed: a kernel failed/),
    });
    expect((await collect(engine, body)).ids).toEqual(
      expectedTokens(encode("abcdefgh"), { maxNewTokens: 10, stopIds: [] }),
    );
    expect(await engine.flushCache()).toBe(true);
    expect(engine.stats().pages.free).toBe(256);
    await engine.close();
  });
});

describe("when single rows of a step fail", () => {
  const body = (text: string, more: Partial<GenerateRequest> = {}): GenerateRequest => ({
    prompt: { text },
    samplingParams: { ...greedy, maxNewTokens: 8 },
    ...more,
  });
  const right = (text: string) => expectedTokens(encode(text), { maxNewTokens: 8, stopIds: [] });
  /** Fails the row of the sequence that sees exactly these tokens' worth of cache in a decode step. */
  const failAt = (kvLength: number) => ({
    failRows: ({ kvLength: lengths }: { kvLength: Int32Array }) => [...lengths.keys()].filter((i) => lengths[i] === kvLength),
  }); // biome-ignore format: one call

  it("only the requests of those rows end, each with its own reason, and the others' tokens are right", async () => {
    const { engine } = fakeEngine({}, failAt(20));
    const texts = ["a short one", "seventeen letters", "one more text."];
    const [first, second, third] = await Promise.allSettled(texts.map((text) => collect(engine, body(text))));
    expect(first).toMatchObject({ status: "fulfilled", value: { ids: right(texts[0]) } });
    expect(second).toMatchObject({
      status: "rejected",
      reason: { code: "ENGINE_FAILED", message: expect.stringMatching(/^Request \w+ failed: row 1 is spoilt$/) },
    });
    expect(third).toMatchObject({
      status: "rejected",
      reason: { message: expect.stringMatching(/row \d is spoilt$/) },
    });
    expect(await engine.flushCache()).toBe(true);
    expect(engine.stats().pages.free).toBe(256);
    await engine.close();
  });

  it("nothing a failed row's request computed is cached", async () => {
    const { engine } = fakeEngine({}, { failRows: (_, step) => (step === 0 ? [0] : []) });
    await expect(collect(engine, body("abcdefgh"))).rejects.toMatchObject({ code: "ENGINE_FAILED" });
    const again = await collect(engine, body("abcdefgh"));
    expect(again.ids).toEqual(right("abcdefgh"));
    expect(again.last.usage.cachedTokens).toBe(0);
    await engine.close();
  });

  it("a failed prompt-logprob row ends its request, and rows after it still go to the right requests", async () => {
    const { engine } = fakeEngine({}, { failRows: (_, step) => (step === 0 ? [2] : []) });
    const logprobs = { startLen: 0, topNum: 2 };
    const [wrong, fine] = await Promise.allSettled([
      collect(engine, body("abcdefgh", { logprobs })),
      collect(engine, body("xyz", { logprobs })),
    ]);
    expect(wrong).toMatchObject({ status: "rejected", reason: { message: expect.stringMatching(/row 2 is spoilt/) } });
    expect(fine).toMatchObject({ status: "fulfilled", value: { ids: right("xyz") } });
    const clean = fakeEngine();
    const expected = await collect(clean.engine, body("xyz", { logprobs }));
    expect((fine as PromiseFulfilledResult<Collected>).value.chunks.map((c) => c.logprobs)).toEqual(
      expected.chunks.map((c) => c.logprobs),
    );
    await Promise.all([engine.close(), clean.engine.close()]);
  });

  it("a request that was aborted in the same step gives its pages back uncached", async () => {
    const controller = new AbortController();
    const { engine } = fakeEngine(
      {},
      {
        onStep: (_, step) => (step === 0 ? controller.abort() : undefined),
        failRows: (_, step) => (step === 0 ? [0] : []),
      },
    );
    const aborted = collect(engine, body("abcdefgh", { signal: controller.signal }));
    await expect(aborted).rejects.toMatchObject({ message: expect.stringMatching(/row 0 is spoilt/) });
    expect((await collect(engine, body("abcdefgh"))).last.usage.cachedTokens).toBe(0);
    await engine.close();
  });
});

describe("when something else goes wrong", () => {
  it("a request whose tokens cannot be decoded ends with an error, and the others go on", async () => {
    const broken = {
      ...fakeTokenizer,
      tokenBytes: (id: number) => {
        if (id > 2) throw new Error("no such piece");
        return fakeTokenizer.tokenBytes(id);
      },
    };
    // A grammar vocabulary would read all tokens at once.
    const { engine: failing, runner } = fakeEngine({ grammarBackend: "none" }, {}, {}, broken);
    const wrong = collect(failing, {
      prompt: { text: "abc" },
      samplingParams: { ...greedy, maxNewTokens: 5, logitBias: { 9: 100 } },
    });
    await expect(wrong).rejects.toMatchObject({
      code: "ENGINE_FAILED",
      message: expect.stringMatching(/no such piece/),
    });
    // Nothing of this one has to be decoded.
    const silent = await collect(failing, { prompt: { text: "abc" }, samplingParams: { maxNewTokens: 0 } });
    expect(silent.last.finishReason).toEqual({ type: "length", length: 0 });
    // The second was queued before the first one's tokens were looked at.
    expect(runner.steps.map((s) => s.sequences.map((q) => q.kvLength))).toEqual([[3], [4], [3]]);
    await failing.close();
  });

  it("a pattern that explodes ends its request with a 400", async () => {
    const { engine } = fakeEngine();
    const { last } = await collect(engine, {
      prompt: { text: "abc" },
      samplingParams: { temperature: 0, maxNewTokens: 60, logitBias: { 0: 100 }, stopRegex: ["(a+)+b$"] },
    });
    expect(last.finishReason).toMatchObject({
      type: "abort",
      statusCode: 400,
      message: expect.stringMatching(/stop_regex/),
    });
    await engine.close();
  });

  it("a step that takes too long is reported, with its size", async () => {
    const report = vi.spyOn(logger, "error");
    const { engine } = fakeEngine({ watchdogTimeout: 0.005 }, { onStep: () => sleep(30) });
    await collect(engine, { prompt: { text: "abc" }, samplingParams: { maxNewTokens: 1 } });
    expect(report.mock.calls.map(([line]) => line)).toEqual([
      expect.stringMatching(
        /^Watchdog: a prefill step of 1 requests and 3 tokens has been running for more than 0.005 s. #running-req: 1, #queue-req: 0, #token: 3 of 256. In the step: \w+ \[0, 3\)\.$/,
      ),
    ]);
    report.mockRestore();
    await engine.close();
  });
});

describe("an error that nobody caught", () => {
  it.each([true, false])(
    "answers every request, running or waiting, and takes none after it (overlapped: %s)",
    async (overlap) => {
      const { engine } = fakeEngine(
        { maxRunningRequests: 1, disableOverlapSchedule: !overlap },
        // Slow: the first must still run when the others have come, on a busy machine too.
        { onStep: () => sleep(20) },
      );
      const ask = (text: string, regex?: string) =>
        collect(engine, {
          prompt: { text },
          samplingParams: { ...greedy, maxNewTokens: 200 },
          ...(regex && { constraint: { type: "regex", pattern: regex } as const }),
        });
      const answers = [ask("running", "[a-z]{200}"), ask("waits"), ask("waits too")].map((answer) =>
        expect(answer).rejects.toMatchObject({ code: "ENGINE_FAILED", message: expect.stringMatching(/lost its way/) }),
      );
      await until(() => engine.stats().counters.decodeSteps > 2 && engine.stats().numQueueReqs === 2, "two to wait");
      engine.fail(new Error("lost its way"));
      engine.fail(new Error("and again"));
      await Promise.all(answers);
      expect((await engine.failed).message).toMatch(/lost its way/);
      await expect(ask("late")).rejects.toMatchObject({ code: "ENGINE_FAILED" });
      await engine.close();
    },
  );

  it("is noticed by an idle engine too", async () => {
    const { engine } = fakeEngine();
    engine.fail(new Error("lost its way"));
    expect((await engine.failed).code).toBe("ENGINE_FAILED");
    await engine.close();
  });
});

describe("many requests at once", () => {
  it("are made in slices: the event loop turns before all of them are in the queue", async () => {
    const { engine } = fakeEngine({}, { pages: 4096 });
    const count = 3000;
    const answers = Array.from({ length: count }, (_, i) =>
      collect(engine, { prompt: { inputIds: [i % 60, 1, 2, 3] }, samplingParams: { ...greedy, maxNewTokens: 1 } }),
    );
    await new Promise((resolve) => setImmediate(resolve));
    expect(engine.stats().counters.requests).toBeLessThan(count);
    await Promise.all(answers);
    expect(engine.stats().counters.requests).toBe(count);
    await engine.close();
  });

  it("are all scored, however many, and an abort while they are made leaves nothing behind", async () => {
    const { engine, runner } = fakeEngine({}, { pages: 4096 });
    const items = Array.from({ length: 500 }, (_, i) => [i % 60]);
    const { scores } = await engine.score({ query: [1, 2], items, labelTokenIds: [3, 4] });
    expect(scores[70]).toEqual(scores[10]);
    const steps = runner.steps.length;
    const controller = new AbortController();
    const aborted = engine.score({ query: [1, 2], items, labelTokenIds: [3, 4], signal: controller.signal });
    controller.abort();
    expect(await codeOf(aborted)).toBe("ABORTED");
    expect(runner.steps).toHaveLength(steps);
    expect(await engine.flushCache()).toBe(true);
    await engine.close();
  });

  it("are all answered, and the event loop turns meanwhile", async () => {
    const { engine } = fakeEngine({ maxRunningRequests: 16 }, { pages: 2048 });
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) =>
        collect(engine, { prompt: { text: `request number ${i}` }, samplingParams: { ...greedy, maxNewTokens: 5 } }),
      ),
    );
    clearInterval(timer);
    expect(answers.every((a) => a.ids.length === 5)).toBe(true);
    expect(turns).toBeGreaterThan(0);
    expect(engine.stats().counters).toMatchObject({ requests: 200, generationTokens: 1000 });
    await engine.close();
  });
});
