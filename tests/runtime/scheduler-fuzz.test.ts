import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import { PAGE_SIZES } from "../../src/runtime/config.js";
import { EVICTION_POLICY_NAMES } from "../../src/runtime/eviction-policy.js";
import { WRITE_POLICIES } from "../../src/runtime/kv-tier.js";
import { SCHEDULE_POLICIES } from "../../src/runtime/policy.js";
import { collectAll } from "./collect.js";
import { EOS, expectedTokens, fakeEngine } from "./fake-runner.js";

vi.setConfig({ testTimeout: 120_000 });
beforeAll(() => setLogLevel("silent"));
afterAll(() => setLogLevel("info"));

interface FuzzRequest {
  prefix: number;
  prefixLength: number;
  own: number[];
  maxNewTokens: number;
  temperature: number;
  seed: number;
  ignoreEos: boolean;
  n: number;
  namespace: string;
  priority: number | undefined;
  tenant: string;
  /** Steps to wait before it is sent. */
  delay: number;
  /** Chunks after which its caller leaves; null = stays to the end. */
  leavesAfter: number | null;
  how: "signal" | "return";
}

/** What a run draws from. */
interface Profile {
  name: string;
  prefixLength: number;
  maxNewTokens: { min: number; max: number };
  /** Above what the largest request needs alone, in tokens. */
  spareTokens: number;
  conservativeness: number[];
  requests: number;
  numRuns: number;
}

const PROFILES: Profile[] = [
  {
    name: "prompts that share prefixes",
    prefixLength: 60,
    maxNewTokens: { min: 0, max: 40 },
    spareTokens: 160,
    conservativeness: [0.1, 1],
    requests: 1,
    numRuns: 60,
  },
  {
    name: "long answers in a pool that is too small for them",
    prefixLength: 4,
    maxNewTokens: { min: 20, max: 40 },
    spareTokens: 20,
    conservativeness: [0],
    requests: 10,
    numRuns: 60,
  },
];

function requestOf({ prefixLength, maxNewTokens }: Profile): fc.Arbitrary<FuzzRequest> {
  return fc.record({
    prefix: fc.nat(2),
    prefixLength: fc.nat(prefixLength),
    own: fc.array(fc.integer({ min: 0, max: EOS - 1 }), { minLength: 1, maxLength: 12 }),
    maxNewTokens: fc.integer(maxNewTokens),
    temperature: fc.constantFrom(0, 0, 1, 1.5),
    seed: fc.nat(1000),
    ignoreEos: fc.constantFrom(true, true, true, false),
    n: fc.constantFrom(1, 1, 1, 2, 3),
    namespace: fc.constantFrom("", "", "", "tenant"),
    priority: fc.option(fc.integer({ min: 0, max: 30 }), { nil: undefined }),
    tenant: fc.constantFrom("", "a", "b"),
    delay: fc.nat(12),
    leavesAfter: fc.option(fc.nat(10), { freq: 4 }),
    how: fc.constantFrom("signal", "return"),
  });
}

function setupOf({ spareTokens, conservativeness }: Profile) {
  return fc.record({
    pageSize: fc.constantFrom(...PAGE_SIZES.filter((size) => size <= 16)),
    spareTokens: fc.nat(spareTokens),
    chunkedPrefillSize: fc.constantFrom(1, 3, 8, 20, 64, 512),
    maxRunningRequests: fc.integer({ min: 1, max: 8 }),
    schedulePolicy: fc.constantFrom(...SCHEDULE_POLICIES),
    /** Without a prefix cache, with one, with a second tier behind it. */
    cache: fc.constantFrom("off", "on", "tier", "tier", "tier"),
    radixEvictionPolicy: fc.constantFrom(...EVICTION_POLICY_NAMES),
    hicacheWritePolicy: fc.constantFrom(...WRITE_POLICIES),
    /** Pages of host memory. */
    hostPages: fc.constantFrom(1, 2, 8, 60, 60),
    onDisk: fc.constantFrom(true, true, false),
    disableOverlapSchedule: fc.boolean(),
    enableMixedChunk: fc.boolean(),
    scheduleConservativeness: fc.constantFrom(...conservativeness),
    enablePriorityScheduling: fc.boolean(),
    enableTenantFairness: fc.boolean(),
    tenantQuantum: fc.constantFrom(1, 16, 512),
  });
}

/** Tokens of the shared prefixes, by index. */
const PREFIXES = [0, 1, 2].map((seed) => expectedTokens([seed], { maxNewTokens: 64, temperature: 1, stopIds: [] }));

function promptOf(r: FuzzRequest): number[] {
  return [...PREFIXES[r.prefix].slice(0, r.prefixLength), ...r.own];
}

const folders: string[] = [];
/** A new one for each run. */
function folder(): string {
  folders.push(mkdtempSync(join(tmpdir(), "fuzz-kv-")));
  return folders[folders.length - 1];
}
afterAll(() => {
  for (const path of folders) rmSync(path, { recursive: true, force: true });
});

describe("the scheduler under random load", () => {
  const seen = { retractions: 0, preemptions: 0, hits: 0, chunks: 0, evicted: 0, loaded: 0, read: 0 };

  it.each(PROFILES)("gives every request the tokens it would get alone and loses no page: $name", async (profile) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(requestOf(profile), { minLength: profile.requests, maxLength: 24, size: "max" }),
        setupOf(profile),
        async (requests, options) => {
          const { pageSize, spareTokens, cache, hostPages, onDisk, ...rest } = options;
          const isTiered = cache === "tier";
          const config = {
            ...rest,
            disableRadixCache: cache === "off",
            enableHierarchicalCache: isTiered,
            hicacheSize: (hostPages * pageSize * 4) / 1e9,
            ...(isTiered && onDisk && { hicacheStorageBackend: "file" as const, hicacheStorageDir: folder() }),
          };
          const largest = Math.max(...requests.map((r) => promptOf(r).length + r.maxNewTokens));
          const pages = Math.ceil((largest + spareTokens) / pageSize) + 1;
          const { engine, runner } = fakeEngine({ ...config, pageSize }, { pages, pageSize });
          await Promise.all(
            requests.map(async (r) => {
              const controller = new AbortController();
              for (let i = 0; i < r.delay; i++) await sleep(0);
              const samplingParams = {
                maxNewTokens: r.maxNewTokens,
                temperature: r.temperature,
                seed: r.seed,
                ignoreEos: r.ignoreEos,
                n: r.n,
              };
              const prompt = { inputIds: promptOf(r) };
              const expected = Array.from({ length: r.n }, (_, i) =>
                expectedTokens(prompt.inputIds, {
                  maxNewTokens: r.maxNewTokens,
                  temperature: r.temperature,
                  seed: r.seed + i,
                  stopIds: r.ignoreEos ? [] : [EOS],
                }),
              );
              const body = {
                prompt,
                samplingParams,
                signal: controller.signal,
                extraKey: r.namespace,
                priority: config.enablePriorityScheduling ? r.priority : undefined,
                tenant: r.tenant,
              };
              if (r.leavesAfter === null) {
                const answers = await collectAll(engine, body);
                expect(answers.map((a) => a.ids)).toEqual(expected);
                for (const { last, ids } of answers) {
                  const stopped = !r.ignoreEos && ids.at(-1) === EOS && ids.length < r.maxNewTokens;
                  expect(last.finishReason).toEqual(
                    stopped ? { type: "stop", matched: EOS } : { type: "length", length: r.maxNewTokens },
                  );
                  expect(last.usage.promptTokens).toBe(prompt.inputIds.length);
                  expect(last.usage.completionTokens).toBe(ids.length);
                  expect(last.usage.cachedTokens).toBeLessThan(prompt.inputIds.length);
                }
                return;
              }
              const ids: number[][] = expected.map(() => []);
              let chunks = 0;
              for await (const chunk of engine.generate(body)) {
                ids[chunk.index].push(...chunk.tokenIdsDelta);
                if (chunks++ < r.leavesAfter) continue;
                if (r.how === "return") break;
                controller.abort();
              }
              for (const [i, got] of ids.entries()) expect(got).toEqual(expected[i].slice(0, got.length));
            }),
          );
          while (!(await engine.flushCache({ timeoutSeconds: 5 }))) throw new Error("never idle");
          const stats = engine.stats();
          expect(stats.pages).toMatchObject({ total: pages, free: pages, evictable: 0, protected: 0, inUse: 0 });
          expect([stats.numRunningReqs, stats.numQueueReqs]).toEqual([0, 0]);
          seen.preemptions += stats.counters.preemptions;
          seen.retractions += stats.counters.retractions;
          seen.hits += stats.counters.cachedTokens;
          seen.evicted += stats.counters.evictedTokens;
          seen.loaded += stats.hicache?.loadedPages ?? 0;
          seen.read += stats.hicache?.storage?.reads ?? 0;
          expect(stats.hicache?.storage?.corrupt ?? 0).toBe(0);
          expect(stats.hicache?.hostPages ?? 0).toBeLessThanOrEqual(hostPages);
          seen.chunks += runner.steps.filter((s) => s.inputs.rowToken.length === 0).length;
          await engine.close();
        },
      ),
      { numRuns: profile.numRuns },
    );
  });

  it("met retractions, preemptions, cache hits, evictions and chunks on its way", () => {
    expect(seen.retractions).toBeGreaterThan(0);
    expect(seen.preemptions).toBeGreaterThan(0);
    expect(seen.hits).toBeGreaterThan(500);
    expect(seen.evicted).toBeGreaterThan(500);
    expect(seen.chunks).toBeGreaterThan(100);
    expect(seen.loaded).toBeGreaterThan(0);
    expect(seen.read).toBeGreaterThan(0);
  });
});
