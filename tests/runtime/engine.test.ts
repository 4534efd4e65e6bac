import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { logger, setLogLevel } from "../../src/core/logger.js";
import type { GenerateChunk, GenerateRequest } from "../../src/core/protocol.js";
import { type Collected, collect, collectAll } from "./collect.js";
import { EOS, expectedLogprobs, expectedTokens, fakeEngine, fakeTokenizer } from "./fake-runner.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

const encode = (text: string) => fakeTokenizer.encode(text);
const decode = (ids: readonly number[]) => fakeTokenizer.decode(ids);
const greedy = { temperature: 0, ignoreEos: true };

async function codeOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    () => new Error("nothing was thrown"),
    (e: Error) => e,
  );
  return error instanceof SglangError ? error.code : String(error);
}

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
    expect(last.usage).toEqual({ promptTokens: 9, completionTokens: 5, cachedTokens: 0 });
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
  it("counts seen tokens for penalties: prompt ids only with a repetition penalty, output ids always", async () => {
    const { engine, runner } = fakeEngine();
    await collect(engine, {
      prompt: { inputIds: [1, 2, 2] },
      samplingParams: { ...greedy, maxNewTokens: 3, repetitionPenalty: 1.5, logitBias: { 2: 50, 9: 25 } },
    });
    await collect(engine, {
      prompt: { inputIds: [1, 2, 2] },
      samplingParams: { ...greedy, maxNewTokens: 3, presencePenalty: 0.5, logitBias: { 2: 50 } },
    });
    const seen = runner.steps.map(({ inputs }) => [[...inputs.seenIds], [...inputs.seenCounts]]);
    expect(seen).toEqual([
      [[1, 2], [0, 0]],
      [[1, 2], [0, 1]],
      [[1, 2], [0, 2]],
      [[], []],
      [[2], [1]],
      [[2], [2]],
    ]); // biome-ignore format: a table
    expect([...runner.steps[0].inputs.biasIds]).toEqual([2, 9]);
    expect([...runner.steps[0].inputs.penalties]).toEqual([0, 0, 1.5]);
    await engine.close();
  });

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

describe("logprobs", () => {
  const prompt = "some prompt text";
  const ids = encode(prompt);
  const close = (a: number | null, b: number) => expect(a).toBeCloseTo(b, 4);

  it.each([
    { startLen: 0, chunkedPrefillSize: 512 },
    { startLen: 0, chunkedPrefillSize: 3 },
    { startLen: 5, chunkedPrefillSize: 4 },
    { startLen: 15, chunkedPrefillSize: 1 },
    { startLen: 16, chunkedPrefillSize: 512 },
  ])(
    "of the prompt from $startLen are right with chunks of $chunkedPrefillSize, cached or not",
    async ({ startLen, chunkedPrefillSize }) => {
      const { engine } = fakeEngine({ chunkedPrefillSize });
      for (let round = 0; round < 2; round++) {
        const { chunks } = await collect(engine, {
          prompt: { text: prompt },
          samplingParams: { ...greedy, maxNewTokens: 2 },
          logprobs: { startLen, topNum: 2, tokenIds: [3, 4] },
        });
        const { input, inputTop, inputTokenIds } = chunks[0].logprobs ?? {};
        expect(input?.map(([, id]) => id)).toEqual(ids.slice(startLen));
        expect(input?.map(([, , text]) => text).join("")).toBe(prompt.slice(startLen));
        for (let i = 0; i < ids.length - startLen; i++) {
          const position = startLen + i;
          if (position === 0) {
            expect([input?.[0][0], inputTop?.[0], inputTokenIds?.[0]]).toEqual([null, null, null]);
            continue;
          }
          const expected = expectedLogprobs(ids.slice(0, position));
          close(input?.[i][0] as number, expected[ids[position]]);
          close(inputTop?.[i]?.[0][0] as number, Math.max(...expected));
          expect(inputTop?.[i]).toHaveLength(2);
          expect(inputTokenIds?.[i]?.map(([, id]) => id)).toEqual([3, 4]);
          close(inputTokenIds?.[i]?.[1][0] as number, expected[4]);
        }
        expect(chunks.slice(1).every((c) => c.logprobs?.input === undefined)).toBe(true);
      }
      await engine.close();
    },
  );

  it("of the answer are there for every token, with the likeliest and the wanted ones", async () => {
    const { engine } = fakeEngine();
    const { chunks, ids: out } = await collect(engine, {
      prompt: { text: prompt },
      samplingParams: { ...greedy, maxNewTokens: 4 },
      logprobs: { topNum: 3, tokenIds: [8] },
    });
    for (const [i, chunk] of chunks.entries()) {
      const expected = expectedLogprobs([...ids, ...out.slice(0, i)]);
      const { output, outputTop, outputTokenIds } = chunk.logprobs as NonNullable<GenerateChunk["logprobs"]>;
      expect(output.map(([, id]) => id)).toEqual([out[i]]);
      close(output[0][0], expected[out[i]]);
      expect(outputTop[0].map(([, id]) => id)[0]).toBe(out[i]);
      expect(outputTop[0]).toHaveLength(3);
      close(outputTokenIds[0][0][0], expected[8]);
    }
    expect(chunks[0].logprobs?.input).toBeUndefined();
    await engine.close();
  });

  it("of the prompt come with max_new_tokens 0 and for a prompt of one token", async () => {
    const { engine } = fakeEngine();
    const scored = await collect(engine, {
      prompt: { text: prompt },
      samplingParams: { maxNewTokens: 0 },
      logprobs: { startLen: 0 },
    });
    expect(scored.last.logprobs?.input).toHaveLength(16);
    const single = await collect(engine, {
      prompt: { text: "a" },
      samplingParams: { maxNewTokens: 2 },
      logprobs: { startLen: 0 },
    });
    expect(single.chunks[0].logprobs?.input).toEqual([[null, 0, "a"]]);
    await engine.close();
  });

  it("survive a retraction in the middle of a chunked prompt", async () => {
    // The short request grows between the chunks of the long prompt, until the pool is full.
    const long = encode("a long prompt whose logprobs are wanted from the start");
    let second: Promise<Collected> | undefined;
    const { engine } = fakeEngine(
      { chunkedPrefillSize: 2, scheduleConservativeness: 0 },
      {
        pages: 64,
        onStep: (_, step) => {
          if (step === 2) {
            second = collect(engine, {
              prompt: { inputIds: long },
              samplingParams: { ...greedy, maxNewTokens: 2 },
              logprobs: { startLen: 0 },
            });
          }
        },
      },
    );
    const running = await collect(engine, { prompt: { text: "b" }, samplingParams: { ...greedy, maxNewTokens: 60 } });
    const scored = (await second) as Collected;
    expect(running.last.timing.retractions).toBe(0);
    expect(scored.last.timing.retractions).toBeGreaterThan(0);
    const { input } = scored.chunks[0].logprobs as NonNullable<GenerateChunk["logprobs"]>;
    expect(input?.map(([, id]) => id)).toEqual(long);
    for (const [i, [logprob]] of (input ?? []).entries()) {
      if (i > 0) close(logprob, expectedLogprobs(long.slice(0, i))[long[i]]);
    }
    await engine.close();
  });

  it.each([
    [{ startLen: 17 }, "logprob_start_len"],
    [{ startLen: -2 }, "logprob_start_len"],
    [{ topNum: 65 }, "top_logprobs_num"],
    [{ tokenIds: [99999] }, "token_ids_logprob[0]"],
  ])("%j is refused", async (logprobs, field) => {
    const { engine } = fakeEngine();
    const wrong = collect(engine, { prompt: { text: prompt }, logprobs });
    await expect(wrong).rejects.toMatchObject({ code: "INVALID_REQUEST", details: { field } });
    await engine.close();
  });
});

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
    const { engine: failing, runner } = fakeEngine({}, {}, {}, broken);
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
    expect(runner.steps).toHaveLength(2);
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
      "Watchdog: a prefill step of 1 requests and 3 tokens has been running for more than 0.005 s.",
    ]);
    report.mockRestore();
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

describe("embed and score", () => {
  it("embeds the last token's state, normalised, alike for any batch", async () => {
    const { engine } = fakeEngine({ isEmbedding: true });
    const texts = ["first text", "second text", "first text"];
    const [a, b, c] = await Promise.all(texts.map((text) => engine.embed({ prompt: { text } })));
    expect(Math.hypot(...a.embedding)).toBeCloseTo(1, 5);
    expect(a.embedding).toEqual(c.embedding);
    expect(a.embedding).not.toEqual(b.embedding);
    expect(b.promptTokens).toBe(11);
    expect(await codeOf(engine.embed({ prompt: { text: "a" }, signal: AbortSignal.abort() }))).toBe("ABORTED");
    await engine.close();
  });

  it("scores items by the probability of the labels after query and item", async () => {
    const { engine } = fakeEngine();
    const items = ["yes", "no"];
    const labelTokenIds = [3, 4, 5];
    const { scores, promptTokens } = await engine.score({ query: "is it ", items, labelTokenIds });
    expect(promptTokens).toBe(6 + 3 + 6 + 2);
    for (const [i, item] of items.entries()) {
      const expected = expectedLogprobs(encode(`is it ${item}`));
      for (const [j, label] of labelTokenIds.entries()) expect(scores[i][j]).toBeCloseTo(Math.exp(expected[label]), 5);
    }
    const soft = await engine.score({
      query: encode("is it "),
      items: items.map(encode),
      labelTokenIds,
      applySoftmax: true,
      itemFirst: true,
    });
    for (const [i, item] of items.entries()) {
      const expected = expectedLogprobs(encode(`${item}is it `));
      const weights = labelTokenIds.map((label) => Math.exp(expected[label]));
      const sum = weights.reduce((x, y) => x + y, 0);
      for (const [j, weight] of weights.entries()) expect(soft.scores[i][j]).toBeCloseTo(weight / sum, 5);
    }
    expect(await codeOf(engine.score({ query: "a", items: ["b"], labelTokenIds: [] }))).toBe("INVALID_REQUEST");
    expect(await codeOf(engine.score({ query: "a", items: [[1]] as never, labelTokenIds: [1] }))).toBe(
      "INVALID_REQUEST",
    );
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
