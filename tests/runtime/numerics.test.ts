/** The numerics modes on quantised tiny models: each gives the same tokens however requests are batched, and all are near f32. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { GenerateRequest } from "../../src/core/protocol.js";
import { NUMERICS, type Numerics } from "../../src/runtime/config.js";
import { Engine } from "../../src/runtime/engine.js";
import { writeTinyModel } from "../../src/testing/index.js";
import { codeOf, collect } from "./collect.js";

let folder: string;
beforeAll(() => {
  setLogLevel("silent");
  folder = mkdtempSync(join(tmpdir(), "numerics-"));
});
afterAll(() => {
  setLogLevel("info");
  rmSync(folder, { recursive: true });
});

const REQUESTS: GenerateRequest[] = Array.from({ length: 16 }, (_, i) => ({
  prompt: { text: `request number ${i} is about ${"some words ".repeat(i % 6)}` },
  samplingParams: { maxNewTokens: 6 + (i % 5), ignoreEos: true, temperature: i % 3 === 0 ? 0 : 0.9, seed: i },
  logprobs: { startLen: 0 },
}));

describe.each(["Q8_0", "Q4_0"] as const)("a %s model", (dtype) => {
  let path: string;
  const prompts = new Map<Numerics, number[]>();
  beforeAll(async () => {
    ({ path } = await writeTinyModel(join(folder, dtype), { seed: 3, format: "gguf", dtype }));
  });

  it.each(NUMERICS)(
    "with numerics %s gives each request the same tokens and logprobs alone and in a batch",
    async (numerics) => {
      const load = (more: object) =>
        Engine.load(path, { offline: true, threads: 2, maxTotalTokens: 4096, numerics, ...more });
      const shown = ({ ids, chunks }: Awaited<ReturnType<typeof collect>>) => ({
        ids,
        logprobs: chunks.flatMap(({ logprobs }) => [...(logprobs?.input ?? []), ...(logprobs?.output ?? [])]),
      });
      const single = await load({ disableRadixCache: true, maxRunningRequests: 1 });
      const alone = [];
      for (const request of REQUESTS) alone.push(shown(await collect(single, request)));
      await single.close();
      const engine = await load({ chunkedPrefillSize: 20 });
      expect((await Promise.all(REQUESTS.map((request) => collect(engine, request)))).map(shown)).toEqual(alone);
      await engine.close();
      prompts.set(
        numerics,
        alone.flatMap(({ logprobs }, i) => logprobs.slice(1, 8 + (i % 2)).map(([logprob]) => logprob as number)),
      );
    },
  );

  it("is nearest to f32 with 16-bit activations, and near with all", () => {
    const [f32, exact, faithful, fast] = NUMERICS.map((numerics) => prompts.get(numerics) as number[]);
    const distance = (other: number[]) =>
      f32.reduce((sum, value, i) => sum + Math.abs(value - other[i]), 0) / f32.length;
    expect(distance(exact)).toBeGreaterThan(0);
    expect(distance(exact)).toBeLessThan(1e-3);
    expect(distance(faithful)).toBeGreaterThan(distance(exact));
    expect(distance(faithful)).toBeLessThan(0.1);
    expect(distance(fast)).toBeGreaterThan(distance(exact));
    expect(distance(fast)).toBeLessThan(0.1);
  });
});

it("an unknown mode is refused by name", async () => {
  expect(await codeOf(Engine.load("x", { numerics: "fastest" as Numerics }))).toBe("INVALID_ARGUMENT");
});
