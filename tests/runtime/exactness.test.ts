/**
 * Random programs of requests on real kernels: whatever is shared, cut, evicted, put away and brought back, queued ahead or
 * aborted, tokens and logprobs are those of one request at a time with an empty cache.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { GenerateRequest } from "../../src/core/protocol.js";
import { type EngineConfig, PAGE_SIZES } from "../../src/runtime/config.js";
import { Engine } from "../../src/runtime/engine.js";
import { EVICTION_POLICY_NAMES } from "../../src/runtime/eviction-policy.js";
import { WRITE_POLICIES } from "../../src/runtime/kv-tier.js";
import { SCHEDULE_POLICIES } from "../../src/runtime/policy.js";
import { writeTinyModel } from "../../src/testing/index.js";
import { collectAll } from "./collect.js";

let folder: string;
let model: string;
const seen = { hits: 0, evicted: 0, retractions: 0, loaded: 0, stored: 0, runs: 0 };

beforeAll(async () => {
  setLogLevel("silent");
  folder = mkdtempSync(join(tmpdir(), "exactness-"));
  model = (await writeTinyModel(join(folder, "llama"), { seed: 5 })).path;
});
afterAll(() => {
  setLogLevel("info");
  rmSync(folder, { recursive: true });
});

interface Step {
  prefix: number;
  prefixLength: number;
  own: number[];
  maxNewTokens: number;
  temperature: number;
  seed: number;
  n: number;
  startLen: number;
  tenant: string;
  delay: number;
  leavesAfter: number | null;
}

const step: fc.Arbitrary<Step> = fc.record({
  prefix: fc.nat(2),
  prefixLength: fc.nat(90),
  own: fc.array(fc.integer({ min: 5, max: 250 }), { minLength: 1, maxLength: 20 }),
  maxNewTokens: fc.nat(12),
  temperature: fc.constantFrom(0, 0, 0.9),
  seed: fc.nat(1000),
  n: fc.constantFrom(1, 1, 1, 2, 3),
  startLen: fc.constantFrom(-1, -1, -1, 0, 3),
  tenant: fc.constantFrom("", "", "a"),
  delay: fc.nat(6),
  leavesAfter: fc.option(fc.nat(6), { freq: 4 }),
});

const setup = fc.record({
  pageSize: fc.constantFrom(...PAGE_SIZES.filter((size) => size <= 32)),
  chunkedPrefillSize: fc.constantFrom(7, 16, 33, 128, 512),
  maxTotalTokens: fc.constantFrom(192, 256, 2048),
  maxRunningRequests: fc.integer({ min: 1, max: 8 }),
  schedulePolicy: fc.constantFrom(...SCHEDULE_POLICIES),
  radixEvictionPolicy: fc.constantFrom(...EVICTION_POLICY_NAMES),
  scheduleConservativeness: fc.constantFrom(0, 1),
  disableOverlapSchedule: fc.boolean(),
  disableCascade: fc.boolean(),
  cache: fc.constantFrom("off", "on", "on", "tier", "disk"),
  hicacheWritePolicy: fc.constantFrom(...WRITE_POLICIES),
});

type Setup = typeof setup extends fc.Arbitrary<infer T> ? T : never;

const PREFIXES = [1, 2, 3].map((k) => Array.from({ length: 96 }, (_, i) => 5 + ((i * (k + 6) + k) % 240)));

function requestOf(s: Step): GenerateRequest {
  return {
    prompt: { inputIds: [...PREFIXES[s.prefix].slice(0, s.prefixLength), ...s.own] },
    samplingParams: { maxNewTokens: s.maxNewTokens, temperature: s.temperature, seed: s.seed, ignoreEos: true, n: s.n },
    logprobs: { startLen: Math.min(s.startLen, s.own.length), topNum: 2 },
    extraKey: s.tenant,
  };
}

/** Tokens and every logprob of each answer. */
async function answersOf(engine: Engine, request: GenerateRequest) {
  return (await collectAll(engine, request)).map(({ ids, chunks }) => ({
    ids,
    output: chunks.flatMap((c) => c.logprobs?.output ?? []),
    top: chunks.flatMap((c) => c.logprobs?.outputTop ?? []),
    input: chunks.flatMap((c) => c.logprobs?.input ?? []),
  }));
}

const load = (config: Partial<EngineConfig>) => Engine.load(model, { offline: true, threads: 2, ...config });

async function check(kvCacheDtype: EngineConfig["kvCacheDtype"], steps: Step[], options: Setup) {
  const { cache, ...config } = options;
  const plain = await load({
    kvCacheDtype,
    disableRadixCache: true,
    maxTotalTokens: 2048,
    maxRunningRequests: 1,
    disableOverlapSchedule: true,
  });
  const expected: Awaited<ReturnType<typeof answersOf>>[] = [];
  for (const s of steps) expected.push(await answersOf(plain, requestOf(s)));
  await plain.close();

  const isTiered = cache === "tier" || cache === "disk";
  const tested: Partial<EngineConfig> = {
    ...config,
    kvCacheDtype,
    disableRadixCache: cache === "off",
    enableHierarchicalCache: isTiered,
    hicacheSize: 0.001,
    ...(cache === "disk" && { hicacheStorageBackend: "file", hicacheStorageDir: join(folder, "kv") }),
  };
  // Twice: the second engine finds what the first left on disk.
  for (let round = 0; round < (cache === "disk" ? 2 : 1); round++) {
    const engine = await load(tested);
    await Promise.all(
      steps.map(async (s, i) => {
        for (let k = 0; k < s.delay; k++) await sleep(1);
        if (s.leavesAfter === null) {
          expect(await answersOf(engine, requestOf(s))).toEqual(expected[i]);
          return;
        }
        const got: number[][] = expected[i].map(() => []);
        let chunks = 0;
        for await (const chunk of engine.generate(requestOf(s))) {
          got[chunk.index].push(...chunk.tokenIdsDelta);
          if (chunks++ >= s.leavesAfter) break;
        }
        for (const [k, ids] of got.entries()) expect(ids).toEqual(expected[i][k].ids.slice(0, ids.length));
      }),
    );
    while (!(await engine.flushCache({ timeoutSeconds: 5 }))) throw new Error("never idle");
    const { pages, counters, hicache } = engine.stats();
    expect(pages.free).toBe(pages.total);
    expect(hicache?.storage?.corrupt ?? 0).toBe(0);
    seen.hits += counters.cachedTokens;
    seen.evicted += counters.evictedTokens;
    seen.retractions += counters.retractions;
    seen.loaded += hicache?.loadedPages ?? 0;
    seen.stored += hicache?.storage?.reads ?? 0;
    seen.runs++;
    await engine.close();
  }
}

describe("random programs on a tiny model give the tokens and logprobs of one request at a time", () => {
  it.each(["f16", "bf16", "f32", "int8", "fp8_e4m3"] as const)(
    "with %s keys and values",
    { timeout: 240_000 },
    async (dtype) => {
      const numRuns = dtype === "f16" ? 20 : 6;
      const programs = fc.array(step, { minLength: 6, maxLength: 14, size: "max" });
      await fc.assert(
        fc.asyncProperty(programs, setup, (steps, options) => check(dtype, steps, options)),
        { numRuns },
      );
    },
  );

  it("and met hits, evictions, retractions, and pages brought back from memory and disk", () => {
    expect(seen.hits).toBeGreaterThan(500);
    expect(seen.evicted).toBeGreaterThan(200);
    expect(seen.loaded).toBeGreaterThan(5);
    expect(seen.stored).toBeGreaterThan(0);
  });
});
