/** The real engine over tiny random models: the same tokens however requests are batched, cached, chunked and paged. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { GenerateRequest } from "../../src/core/protocol.js";
import type { EngineConfig } from "../../src/runtime/config.js";
import { Engine } from "../../src/runtime/engine.js";
import { writeTinyModel } from "../../src/testing/index.js";
import { collect, collectAll } from "./collect.js";

let folder: string;
let model: string;

beforeAll(async () => {
  setLogLevel("silent");
  folder = mkdtempSync(join(tmpdir(), "engine-tiny-"));
  model = (await writeTinyModel(join(folder, "llama"), { seed: 3 })).path;
});
afterAll(() => {
  setLogLevel("info");
  rmSync(folder, { recursive: true });
});

const load = (config: Partial<EngineConfig> = {}) =>
  Engine.load(model, { offline: true, threads: 2, maxTotalTokens: 4096, ...config });

const SHARED = "the user said that they would like to use all of the words in this list, one by one, and then ";
/** 32 requests: shared and own prefixes, greedy and seeded, with penalties, short and long. */
const REQUESTS: GenerateRequest[] = Array.from({ length: 32 }, (_, i) => ({
  prompt: {
    text: `${i % 3 === 0 ? "" : SHARED.repeat(1 + (i % 2))}request number ${i} is about ${"some ".repeat(i % 7)}`,
  },
  samplingParams: {
    maxNewTokens: 4 + (i % 9),
    ignoreEos: true,
    temperature: i % 4 === 0 ? 0 : 0.9,
    topP: i % 5 === 0 ? 0.8 : 1,
    topK: i % 6 === 0 ? 20 : -1,
    seed: i,
    repetitionPenalty: i % 8 === 0 ? 1.3 : 1,
    frequencyPenalty: i % 7 === 0 ? 0.5 : 0,
  },
}));

/** Legal values that are infinite, zero or negative once they are f32 or i32. */
const EXTREMES: { name: string; params: GenerateRequest["samplingParams"]; greedy: boolean }[] = [
  { name: "temperature", params: { temperature: 1e300 }, greedy: false },
  { name: "top_p", params: { temperature: 1, topP: 1e-300 }, greedy: true },
  { name: "top_k", params: { temperature: 1, topK: 2 ** 32 + 1, seed: 5 }, greedy: false },
  { name: "min_p", params: { temperature: 1, minP: 1e-300 }, greedy: false },
  { name: "repetition_penalty", params: { temperature: 0, repetitionPenalty: 1e-300 }, greedy: false },
  { name: "logit_bias", params: { temperature: 0, logitBias: { 7: 1e300, 8: -1e300 } }, greedy: false },
];

async function oneByOne(engine: Engine): Promise<number[][]> {
  const all: number[][] = [];
  for (const request of REQUESTS) all.push((await collect(engine, request)).ids);
  return all;
}

const together = async (engine: Engine) =>
  (await Promise.all(REQUESTS.map((r) => collect(engine, r)))).map((a) => a.ids);

describe("a tiny model answers", () => {
  let alone: number[][];

  beforeAll(async () => {
    const engine = await load({ disableRadixCache: true, maxRunningRequests: 1, chunkedPrefillSize: -1 });
    alone = await oneByOne(engine);
    await engine.close();
  });

  it("with different tokens to different requests", () => {
    expect(new Set(alone.map((ids) => ids.join())).size).toBe(REQUESTS.length);
  });

  it("the same tokens beside a request that may not produce any id, which alone is refused", async () => {
    const engine = await load();
    const stopTokenIds = Array.from({ length: engine.model.vocabSize }, (_, id) => id);
    const impossible = collect(engine, {
      prompt: { text: "nothing may follow" },
      samplingParams: { maxNewTokens: 4, minNewTokens: 1, stopTokenIds },
    });
    const [refused, ...others] = await Promise.allSettled([
      impossible,
      ...REQUESTS.slice(0, 3).map((r) => collect(engine, r)),
    ]);
    expect(refused).toMatchObject({
      status: "rejected",
      reason: { code: "ENGINE_FAILED", message: expect.stringMatching(/no token is allowed/) },
    });
    expect(others.map((o) => (o.status === "fulfilled" ? o.value.ids : o.reason))).toEqual(alone.slice(0, 3));
    await engine.close();
  });

  it.each(EXTREMES)(
    "the same tokens beside a request with an extreme $name, which is served too",
    async ({ params, greedy }) => {
      const engine = await load();
      const body = { prompt: { text: "an extreme request" } };
      const [extreme, normal] = await Promise.all([
        collect(engine, { ...body, samplingParams: { maxNewTokens: 6, ignoreEos: true, ...params } }),
        collect(engine, REQUESTS[1]),
      ]);
      expect(extreme.ids).toHaveLength(6);
      if (greedy) {
        const samplingParams = { maxNewTokens: 6, ignoreEos: true, temperature: 0 };
        expect(extreme.ids).toEqual((await collect(engine, { ...body, samplingParams })).ids);
      }
      if (params?.topK) {
        const samplingParams = { maxNewTokens: 6, ignoreEos: true, temperature: 1, seed: 5 };
        expect(extreme.ids).toEqual((await collect(engine, { ...body, samplingParams })).ids);
      }
      if (params?.logitBias) expect(extreme.ids).toEqual(Array(6).fill(7));
      expect(normal.ids).toEqual(alone[1]);
      await engine.close();
    },
  );

  it.each<[string, Partial<EngineConfig>]>([
    ["32 at once", {}],
    ["32 at once without a prefix cache", { disableRadixCache: true }],
    ["in chunks of 7", { chunkedPrefillSize: 7 }],
    ["in pages of 1 and chunks of 20", { pageSize: 1, chunkedPrefillSize: 20 }],
    ["in pages of 64", { pageSize: 64 }],
    ["three at a time", { maxRunningRequests: 3, schedulePolicy: "lpm" }],
    ["in a pool so small that requests are retracted", { maxTotalTokens: 208, scheduleConservativeness: 0 }],
    ["op by op", { disableCudaGraph: true }],
    ["on one thread", { threads: 1 }],
    ["in the plain loop", { disableOverlapSchedule: true }],
  ])("the same tokens %s", async (_name, config) => {
    const engine = await load(config);
    expect(await together(engine)).toEqual(alone);
    // Again, now with everything in the cache that fits.
    expect(await together(engine)).toEqual(alone);
    expect(await engine.flushCache()).toBe(true);
    const { pages, counters } = engine.stats();
    expect(counters.retractions > 0).toBe(config.scheduleConservativeness === 0);
    expect(counters.cachedTokens > 0).toBe(config.disableRadixCache !== true);
    expect(pages.free).toBe(pages.total);
    await engine.close();
  });

  it("the same tokens with f32 keys and values at any batch", async () => {
    const engine = await load({ dtype: "float32" });
    const batched = await together(engine);
    await engine.flushCache();
    expect(await oneByOne(engine)).toEqual(batched);
    await engine.close();
  });
});

describe("a loaded engine", () => {
  it("says what it is and what it does", async () => {
    const engine = await load({ servedModelName: "tiny", weightVersion: "v1" });
    expect(engine.model).toMatchObject({
      modelPath: model,
      servedModelName: "tiny",
      architecture: "LlamaForCausalLM",
      contextLength: 512,
      isGeneration: true,
      hasChatTemplate: true,
      weightVersion: "v1",
    });
    expect(engine.model.vocabSize).toBe(engine.tokenizer.vocabSize);
    const stats = engine.stats();
    expect(stats.maxTotalNumTokens).toBe(4096);
    expect(stats.kernels.threads).toBe(2);
    for (const bytes of Object.values(stats.memory)) expect(bytes).toBeGreaterThan(0);
    await engine.close();
  });

  it("reports prompt logprobs that do not depend on chunks, and the greedy token as the likeliest", async () => {
    const request: GenerateRequest = {
      prompt: { text: SHARED },
      samplingParams: { temperature: 0, maxNewTokens: 3, ignoreEos: true },
      logprobs: { startLen: 0, topNum: 2 },
    };
    const [whole, chunked] = await Promise.all(
      [512, 5].map(async (chunkedPrefillSize) => {
        const engine = await load({ chunkedPrefillSize });
        const answer = await collect(engine, request);
        await engine.close();
        return answer;
      }),
    );
    expect(chunked.chunks.map((c) => c.logprobs)).toEqual(whole.chunks.map((c) => c.logprobs));
    const { input, output, outputTop } = whole.chunks[0].logprobs ?? {};
    expect(input?.[0][0]).toBeNull();
    expect(input?.slice(1).every(([logprob]) => logprob !== null && logprob < 0)).toBe(true);
    expect(input?.map(([, , text]) => text).join("")).toBe(SHARED);
    expect(outputTop?.[0][0]).toEqual(output?.[0]);
  });

  it("embeds and scores", async () => {
    const embedder = await load({ isEmbedding: true });
    const texts = ["Hello world", SHARED, "Hello world"];
    const [a, b, c] = await Promise.all(texts.map((text) => embedder.embed({ prompt: { text } })));
    expect(Math.hypot(...a.embedding)).toBeCloseTo(1, 5);
    expect(a.embedding).toEqual(c.embedding);
    expect(a.embedding).not.toEqual(b.embedding);
    await embedder.close();

    const engine = await load();
    const labels = Array.from({ length: engine.model.vocabSize }, (_, id) => id).slice(0, 1024);
    const { scores } = await engine.score({ query: "Hello ", items: ["world", "user"], labelTokenIds: labels });
    for (const row of scores) expect(row.reduce((x, y) => x + y, 0)).toBeCloseTo(1, 4);
    await engine.close();
  });

  it("answers n times from one prompt, and chats", async () => {
    const engine = await load();
    const answers = await collectAll(engine, {
      prompt: { messages: [{ role: "user", content: SHARED }] },
      samplingParams: { n: 4, maxNewTokens: 6, ignoreEos: true, seed: 1 },
    });
    expect(new Set(answers.map((a) => a.ids.join())).size).toBe(4);
    expect(answers[3].last.usage.cachedTokens).toBeGreaterThan(16);
    const single = await collect(engine, {
      prompt: { messages: [{ role: "user", content: SHARED }] },
      samplingParams: { maxNewTokens: 6, ignoreEos: true, seed: 3 },
    });
    expect(single.ids).toEqual(answers[2].ids);
    await engine.close();
  });

  it("serves a GGUF file with quantised weights", async () => {
    const { path } = await writeTinyModel(join(folder, "gguf"), {
      architecture: "qwen2",
      format: "gguf",
      dtype: "Q8_0",
    });
    const engine = await Engine.load(path, { offline: true, threads: 1, maxTotalTokens: 512 });
    const { ids } = await collect(engine, {
      prompt: { text: "Hello" },
      samplingParams: { maxNewTokens: 5, ignoreEos: true },
    });
    expect(ids).toHaveLength(5);
    expect(Object.keys(engine.model.dtypes)).toContain("Q8_0");
    await engine.close();
  });

  it("tokenises a long text in its worker to the same ids", async () => {
    const { path } = await writeTinyModel(join(folder, "long"), { contextLength: 4096 });
    const engine = await Engine.load(path, { offline: true, threads: 1, maxTotalTokens: 4096 });
    const text = SHARED.repeat(60);
    const { last } = await collect(engine, { prompt: { text }, samplingParams: { maxNewTokens: 1 }, stream: false });
    expect(last.promptTokenIds).toEqual(engine.tokenizer.encode(text));
    await engine.close();
  });

  it("takes a chat template from a file", async () => {
    const chatTemplate = join(folder, "template.jinja");
    writeFileSync(chatTemplate, "{% for m in messages %}Hello {{ m.content }}{% endfor %}");
    const engine = await load({ chatTemplate });
    const { last } = await collect(engine, {
      prompt: { messages: [{ role: "user", content: "world" }] },
      stream: false,
    });
    expect(last.promptTokenIds).toEqual(engine.tokenizer.encode("Hello world", false));
    await engine.close();
  });
});

describe("loading is refused", () => {
  it.each<[string, Partial<EngineConfig>, string, RegExp]>([
    ["a KV cache that memory cannot hold", { maxTotalTokens: 2 ** 40 }, "OUT_OF_MEMORY", /--mem-fraction-static/],
    ["a context longer than the model's", { contextLength: 100000 }, "INVALID_ARGUMENT", /512/],
    ["a chat template that is not there", { chatTemplate: "/nowhere.jinja" }, "FILE_NOT_FOUND", /nowhere\.jinja/],
    ["sampling defaults out of range", { preferredSamplingParams: { topP: 3 } }, "INVALID_ARGUMENT", /top_p/],
  ])("for %s", async (_name, config, code, message) => {
    await expect(load(config)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it("for a kernel tier that this machine does not have", async () => {
    process.env.SGLANG_KERNELS = "abacus";
    const refused = load();
    await expect(refused).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
      message: expect.stringMatching(/SGLANG_KERNELS.*portable.*"abacus"/),
    });
    delete process.env.SGLANG_KERNELS;
  });

  it("when it is aborted on the way", async () => {
    await expect(Engine.load(model, { offline: true, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: "ABORTED",
    });
  });
});
