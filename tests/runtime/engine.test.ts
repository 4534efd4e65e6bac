/** The six verbs over the fake model: tokens, text, stops, parameters. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import { type Collected, codeOf, collect, collectAll, decode, encode, greedy } from "./collect.js";
import { EOS, expectedTokens, fakeEngine } from "./fake-runner.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

describe("generate", () => {
  it("streams one chunk per token and says at the end why it stopped", async () => {
    const { engine } = fakeEngine();
    const { chunks, ids, text, last } = await collect(engine, {
      prompt: { text: "Once upon" },
      samplingParams: { ...greedy, maxNewTokens: 5 },
    });
    const expected = expectedTokens(encode("Once upon"), { maxNewTokens: 5, stopIds: [] });
    expect(ids).toEqual(expected);
    expect(text).toBe(decode(expected));
    expect(chunks.map((c) => c.tokenIdsDelta.length)).toEqual([1, 1, 1, 1, 1]);
    expect(chunks.map((c) => c.finishReason)).toEqual([null, null, null, null, { type: "length", length: 5 }]);
    expect(chunks[0].promptTokenIds).toEqual(encode("Once upon"));
    expect(chunks.slice(1).every((c) => c.promptTokenIds === undefined)).toBe(true);
    expect(last.usage).toMatchObject({ promptTokens: 9, completionTokens: 5, cachedTokens: 0 });
    expect(last.timing.firstTokenMs).toBeGreaterThanOrEqual(last.timing.queuedMs);
    expect(last.timing.totalMs).toBeGreaterThanOrEqual(last.timing.firstTokenMs as number);
    await engine.close();
  });

  it("gives the whole answer in one chunk when not streaming", async () => {
    const { engine } = fakeEngine();
    const request = { prompt: { text: "Once upon" }, samplingParams: { ...greedy, maxNewTokens: 7 } };
    const streamed = await collect(engine, request);
    const whole = await collect(engine, { ...request, stream: false });
    expect(whole.chunks).toHaveLength(1);
    expect(whole.ids).toEqual(streamed.ids);
    expect(whole.text).toBe(streamed.text);
    await engine.close();
  });

  it("groups tokens by the stream interval, after a first chunk for the first token", async () => {
    const { engine } = fakeEngine({ streamInterval: 3 });
    const { chunks } = await collect(engine, {
      prompt: { text: "abc" },
      samplingParams: { ...greedy, maxNewTokens: 8 },
    });
    expect(chunks.map((c) => c.tokenIdsDelta.length)).toEqual([1, 2, 3, 2]);
    await engine.close();
  });

  it("renders messages through the chat template", async () => {
    const { engine } = fakeEngine();
    const { last } = await collect(engine, {
      prompt: { messages: [{ role: "user", content: "Hello" }] },
      samplingParams: { maxNewTokens: 1 },
    });
    expect(last.promptTokenIds).toEqual(encode("user Hello."));
    await engine.close();
  });

  it("draws the same tokens for the same seed, and others for another", async () => {
    const { engine } = fakeEngine();
    const answer = async (seed: number) =>
      (await collect(engine, { prompt: { text: "abc" }, samplingParams: { maxNewTokens: 20, ignoreEos: true, seed } }))
        .ids;
    const first = await answer(1);
    expect(first).toEqual(expectedTokens(encode("abc"), { maxNewTokens: 20, temperature: 1, seed: 1, stopIds: [] }));
    expect(await answer(1)).toEqual(first);
    expect(await answer(2)).not.toEqual(first);
    await engine.close();
  });

  it("gives requests without a seed fresh ones, repeatable with --random-seed", async () => {
    const answers = async (randomSeed: number) => {
      const { engine } = fakeEngine({ randomSeed });
      const request = { prompt: { text: "abc" }, samplingParams: { maxNewTokens: 20, ignoreEos: true } };
      const both = [(await collect(engine, request)).ids, (await collect(engine, request)).ids];
      await engine.close();
      return both;
    };
    const [first, second] = await answers(5);
    expect(first).not.toEqual(second);
    expect(await answers(5)).toEqual([first, second]);
  });

  it("answers n times with seeds seed + i, computing the prompt once", async () => {
    const { engine, runner } = fakeEngine({}, { pages: 512 });
    const prompt = "a prompt that is long enough to be worth sharing among answers";
    const answers = await collectAll(engine, {
      prompt: { text: prompt },
      samplingParams: { maxNewTokens: 10, ignoreEos: true, seed: 7, n: 3 },
      rid: "r",
    });
    expect(answers.map((a) => a.ids)).toEqual(
      [7, 8, 9].map((seed) => expectedTokens(encode(prompt), { maxNewTokens: 10, temperature: 1, seed, stopIds: [] })),
    );
    expect(answers.map((a) => a.last.rid)).toEqual(["r_0", "r_1", "r_2"]);
    expect(answers.map((a) => a.last.usage.cachedTokens)).toEqual([0, prompt.length - 1, prompt.length - 1]);
    const prefilled = runner.steps.flatMap((s) => s.sequences).filter((s) => s.kvLength <= prompt.length);
    expect(prefilled.reduce((sum, s) => sum + s.tokens.length, 0)).toBe(prompt.length + 2);
    await engine.close();
  });

  it("reuses the KV of an earlier prompt and answer, but always computes the last token", async () => {
    const { engine, runner } = fakeEngine();
    const first = await collect(engine, {
      prompt: { text: "abcdefgh" },
      samplingParams: { ...greedy, maxNewTokens: 4 },
    });
    const again = await collect(engine, {
      prompt: { text: "abcdefgh" },
      samplingParams: { ...greedy, maxNewTokens: 4 },
    });
    expect(again.ids).toEqual(first.ids);
    expect(again.last.usage.cachedTokens).toBe(7);
    const next = await collect(engine, {
      prompt: { inputIds: [...encode("abcdefgh"), ...first.ids, 1] },
      samplingParams: { ...greedy, maxNewTokens: 1 },
    });
    expect(next.last.usage.cachedTokens).toBe(8 + 3);
    expect(runner.steps.at(-1)?.sequences[0].tokens).toEqual([first.ids[3], 1]);
    expect(engine.stats().counters).toMatchObject({
      requests: 3,
      promptTokens: 29,
      cachedTokens: 18,
      generationTokens: 9,
    });
    await engine.close();
  });

  it("never shares between extra keys, and nothing at all without the radix cache", async () => {
    const body = { prompt: { text: "abcdefgh" }, samplingParams: { ...greedy, maxNewTokens: 2 } };
    const { engine } = fakeEngine();
    await collect(engine, { ...body, extraKey: "a" });
    expect((await collect(engine, { ...body, extraKey: "b" })).last.usage.cachedTokens).toBe(0);
    expect((await collect(engine, { ...body, extraKey: "a" })).last.usage.cachedTokens).toBe(7);
    await engine.close();
    const plain = fakeEngine({ disableRadixCache: true }).engine;
    await collect(plain, body);
    expect((await collect(plain, body)).last.usage.cachedTokens).toBe(0);
    expect(plain.stats().pages).toMatchObject({ free: 256, evictable: 0 });
    await plain.close();
  });

  it("computes and caches the prompt only with max_new_tokens 0", async () => {
    const { engine } = fakeEngine();
    const { chunks } = await collect(engine, { prompt: { text: "abcdefgh" }, samplingParams: { maxNewTokens: 0 } });
    expect(chunks).toHaveLength(1);
    expect(chunks[0]).toMatchObject({ textDelta: "", tokenIdsDelta: [], finishReason: { type: "length", length: 0 } });
    expect(engine.stats().pages.evictable).toBe(8);
    await engine.close();
  });

  it("generates to the end of the context with max_new_tokens null", async () => {
    const { engine } = fakeEngine({}, {}, { contextLength: 20 });
    const { ids, last } = await collect(engine, {
      prompt: { text: "abcdefgh" },
      samplingParams: { ...greedy, maxNewTokens: null },
    });
    expect(ids).toHaveLength(12);
    expect(last.finishReason).toEqual({ type: "length", length: 12 });
    await engine.close();
  });

  it("cuts long prompts into chunks at page boundaries and gets the same answer", async () => {
    const text = "the quick brown fox jumps over the lazy dog";
    const { engine, runner } = fakeEngine({ chunkedPrefillSize: 20, pageSize: 8 });
    const { ids } = await collect(engine, { prompt: { text }, samplingParams: { ...greedy, maxNewTokens: 3 } });
    expect(ids).toEqual(expectedTokens(encode(text), { maxNewTokens: 3, stopIds: [] }));
    expect(runner.steps.map((s) => s.sequences[0].tokens.length)).toEqual([16, 16, 11, 1, 1]);
    await engine.close();
  });
});

describe("a long prompt", () => {
  it("lets running requests go on between its chunks", async () => {
    let second: Promise<Collected> | undefined;
    const { engine, runner } = fakeEngine(
      { chunkedPrefillSize: 4 },
      {
        onStep: (_, step) => {
          if (step !== 2) return;
          second = collect(engine, {
            prompt: { text: "abcdefghijklmnop" },
            samplingParams: { ...greedy, maxNewTokens: 1 },
          });
        },
      },
    );
    const running = await collect(engine, { prompt: { text: "b" }, samplingParams: { ...greedy, maxNewTokens: 30 } });
    expect((await second)?.ids).toEqual(expectedTokens(encode("abcdefghijklmnop"), { maxNewTokens: 1, stopIds: [] }));
    const sizes = runner.steps.map((s) => s.sequences[0].tokens.length);
    expect(sizes.join(" ")).toContain("1 4 1 4 1 4 1 4 1");
    expect(running.ids).toEqual(expectedTokens(encode("b"), { maxNewTokens: 30, stopIds: [] }));
    await engine.close();
  });
});

describe("an answer ends", () => {
  const prompt = { text: "Once upon a time" };
  const free = expectedTokens(encode(prompt.text), { maxNewTokens: 40, stopIds: [] });

  it("at an end token, which is trimmed from the text but not from the ids", async () => {
    const { engine } = fakeEngine();
    const stopAt = free[5];
    const { ids, text, last } = await collect(engine, {
      prompt,
      samplingParams: { ...greedy, maxNewTokens: 40, stopTokenIds: [stopAt] },
    });
    const end = free.indexOf(stopAt);
    expect(ids).toEqual(free.slice(0, end + 1));
    expect(text).toBe(decode(free.slice(0, end)));
    expect(last.finishReason).toEqual({ type: "stop", matched: stopAt });
    const kept = await collect(engine, {
      prompt,
      samplingParams: { ...greedy, maxNewTokens: 40, stopTokenIds: [stopAt], noStopTrim: true },
    });
    expect(kept.text).toBe(decode(free.slice(0, end + 1)));
    await engine.close();
  });

  it("at a stop string, trimmed from the text", async () => {
    const { engine } = fakeEngine();
    const stop = decode(free.slice(4, 7));
    const { ids, text, last, chunks } = await collect(engine, {
      prompt,
      samplingParams: { ...greedy, maxNewTokens: 40, stop: [stop] },
    });
    const at = decode(free).indexOf(stop);
    expect(text).toBe(decode(free).slice(0, at));
    expect(ids).toEqual(free.slice(0, at + stop.length));
    expect(last.finishReason).toEqual({ type: "stop", matched: stop });
    expect(chunks.map((c) => c.textDelta).join("")).not.toContain(stop);
    await engine.close();
  });

  it("at a stop pattern", async () => {
    const { engine } = fakeEngine();
    const letter = decode(free.slice(6, 7));
    const pattern = `[${letter}]`;
    const { text, last } = await collect(engine, {
      prompt,
      samplingParams: { ...greedy, maxNewTokens: 40, stopRegex: [pattern] },
    });
    expect(text).toBe(decode(free).slice(0, decode(free).indexOf(letter)));
    expect(last.finishReason).toEqual({ type: "stop", matched: pattern });
    await engine.close();
  });

  it("with length when the last allowed token is an end token, as in SGLang", async () => {
    const { engine } = fakeEngine();
    const { last } = await collect(engine, {
      prompt,
      samplingParams: { ...greedy, maxNewTokens: 3, stopTokenIds: [free[2]] },
    });
    expect(last.finishReason).toEqual({ type: "length", length: 3 });
    await engine.close();
  });

  it("with stop when the last allowed token completes a stop string, so that it never shows", async () => {
    const { engine } = fakeEngine();
    const stop = decode(free.slice(1, 3));
    const { last, text } = await collect(engine, {
      prompt,
      samplingParams: { ...greedy, maxNewTokens: 3, stop: [stop] },
    });
    expect(last.finishReason).toEqual({ type: "stop", matched: stop });
    expect(text).toBe(decode(free.slice(0, 1)));
    await engine.close();
  });

  it("not before min_new_tokens: end ids are forbidden, stop strings are text", async () => {
    const { engine } = fakeEngine();
    const byId = await collect(engine, {
      prompt,
      samplingParams: { temperature: 0, maxNewTokens: 40, minNewTokens: 10, stopTokenIds: [free[0]] },
    });
    expect(byId.ids.slice(0, 10)).not.toContain(free[0]);
    expect(byId.ids.slice(0, 10)).not.toContain(EOS);
    const stop = decode(free.slice(2, 4));
    const byText = await collect(engine, {
      prompt,
      samplingParams: { ...greedy, maxNewTokens: 12, minNewTokens: 10, stop: [stop] },
    });
    expect(byText.text).toContain(stop);
    expect(byText.ids.length).toBeGreaterThanOrEqual(10);
    await engine.close();
  });

  it("at the model's end token unless ignore_eos", async () => {
    const { engine } = fakeEngine();
    const bias = { logitBias: { [EOS]: 100 }, temperature: 0, maxNewTokens: 5 };
    const stopped = await collect(engine, { prompt, samplingParams: bias });
    expect(stopped.last.finishReason).toEqual({ type: "stop", matched: EOS });
    expect(stopped.text).toBe("");
    const ignored = await collect(engine, { prompt, samplingParams: { ...bias, ignoreEos: true } });
    expect(ignored.ids).toEqual([EOS, EOS, EOS, EOS, EOS]);
    await engine.close();
  });
});

describe("sampling parameters reach the sampler", () => {
  // Overlapped, the newest token is not known yet when the step is queued: the native sampler adds it.
  it.each([true, false])("counts seen tokens for penalties: of the prompt only with a repetition penalty (plain loop: %s)", async (plain) => {
    const { engine, runner } = fakeEngine({ disableOverlapSchedule: plain });
    const prompt = { inputIds: [1, 2, 2] };
    const logitBias = { 2: 50, 9: 25 };
    const repeated = await collect(engine, {
      prompt,
      samplingParams: { ...greedy, maxNewTokens: 3, repetitionPenalty: 1.5, logitBias },
    });
    const present = await collect(engine, {
      prompt,
      samplingParams: { ...greedy, maxNewTokens: 3, presencePenalty: 0.5, logitBias },
    });
    expect([repeated.ids, present.ids]).toEqual([[2, 2, 2], [2, 2, 2]]);
    const seen = runner.steps.map(({ inputs }) => [[...inputs.seenIds], [...inputs.seenCounts]]);
    const late = plain ? 0 : 1;
    expect(seen).toEqual([
      [[1, 2], [0, 0]],
      [[1, 2], [0, 1 - late]],
      [[1, 2], [0, 2 - late]],
      [[], []],
      plain ? [[2], [1]] : [[], []],
      [[2], [2 - late]],
    ]);
    expect([...runner.steps[0].inputs.biasIds]).toEqual([2, 9]);
    expect([...runner.steps[0].inputs.penalties]).toEqual([0, 0, 1.5]);
    await engine.close();
  }); // biome-ignore format: tables

  it("sends all 64 bits of a seed, negative ones too, and numbers the draws by output token", async () => {
    const { engine, runner } = fakeEngine();
    await collect(engine, { prompt: { text: "a" }, samplingParams: { ignoreEos: true, maxNewTokens: 2, seed: -1 } });
    expect([...runner.steps[0].inputs.seed]).toEqual([0xffffffff, 0xffffffff]);
    expect(runner.steps.map((s) => s.inputs.draw[0])).toEqual([0, 1]);
    await engine.close();
  });

  it("takes the model's defaults where a request gives none", async () => {
    const { engine, runner } = fakeEngine({}, {}, { preferredSamplingParams: { temperature: 0.5, topK: 7 } });
    await collect(engine, { prompt: { text: "a" }, samplingParams: { maxNewTokens: 1, temperature: 0.25 } });
    expect([runner.steps[0].inputs.temperature[0], runner.steps[0].inputs.topK[0]]).toEqual([0.25, 7]);
    await engine.close();
  });

  it("says which parameter is wrong", async () => {
    const { engine } = fakeEngine();
    const wrong = collect(engine, { prompt: { text: "a" }, samplingParams: { topP: 2 } });
    await expect(wrong).rejects.toMatchObject({ code: "INVALID_REQUEST", details: { field: "top_p" } });
    await engine.close();
  });
});

describe("flushCache", () => {
  it("empties the cache when idle, refuses while busy, and waits when asked to", async () => {
    const { engine } = fakeEngine();
    const body = { prompt: { text: "abcdefgh" }, samplingParams: { ...greedy, maxNewTokens: 30 } };
    await collect(engine, body);
    expect(engine.stats().pages.evictable).toBeGreaterThan(0);
    expect(await engine.flushCache()).toBe(true);
    expect(engine.stats().pages.evictable).toBe(0);
    const running = collect(engine, body);
    await sleep(2);
    expect(await engine.flushCache()).toBe(false);
    expect(await engine.flushCache({ timeoutSeconds: 5 })).toBe(true);
    expect((await running).ids).toHaveLength(30);
    await engine.close();
  });
});

describe("close", () => {
  it("ends what runs, refuses what comes, closes the runner, and may be called twice", async () => {
    const { engine, runner } = fakeEngine();
    const body = { prompt: { text: "abcdefgh" }, samplingParams: { ...greedy, maxNewTokens: 200 } };
    const running = collect(engine, body);
    await sleep(5);
    await Promise.all([engine.close(), engine.close()]);
    expect(runner.closed).toBe(true);
    expect((await running).last.finishReason).toMatchObject({ type: "abort", statusCode: 503 });
    expect(await codeOf(collect(engine, body))).toBe("SHUTTING_DOWN");
  });

  it("happens at the end of an `await using` block", async () => {
    const { engine, runner } = fakeEngine();
    await engine[Symbol.asyncDispose]();
    expect(runner.closed).toBe(true);
  });
});
