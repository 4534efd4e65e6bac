/** What is read beside sampled tokens: logprobs of prompt and output, embeddings, scores. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { GenerateChunk } from "../../src/core/protocol.js";
import { type Collected, codeOf, collect, encode, greedy } from "./collect.js";
import { expectedLogprobs, fakeEngine } from "./fake-runner.js";

beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

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
