import { describe, expect, it } from "vitest";
import {
  DEFAULT_ENGINE_CONFIG,
  type EngineConfig,
  kvDtype,
  prefillStepTokens,
  resolveEngineConfig,
} from "../../src/runtime/config.js";

describe("resolveEngineConfig", () => {
  it("fills in every default, and takes undefined for absent", () => {
    expect(resolveEngineConfig({ pageSize: undefined })).toEqual(DEFAULT_ENGINE_CONFIG);
    expect(resolveEngineConfig({ pageSize: 1 })).toEqual({ ...DEFAULT_ENGINE_CONFIG, pageSize: 1 });
  });

  it.each<[Partial<EngineConfig> | Record<string, unknown>, RegExp]>([
    [{ pageSize: 7 }, /^--page-size \(pageSize\) must be one of 1, 8, 16, 32, 64, got 7\.$/],
    [{ schedulePolicy: "lifo" }, /--schedule-policy .*fcfs, lpm, dfs-weight, lof, random, got "lifo"/],
    [{ memFractionStatic: 1 }, /--mem-fraction-static .*between 0 and 1/],
    [{ chunkedPrefillSize: 0 }, /--chunked-prefill-size .*-1 \(off\) or an integer >= 1/],
    [{ maxRunningRequests: 1.5 }, /--max-running-requests/],
    [{ maxQueuedRequests: -1 }, /--max-queued-requests .*>= 0, or null/],
    [{ contextLength: "8k" }, /--context-length .*got "8k"/],
    [{ isEmbedding: 1 }, /--is-embedding .*true or false/],
    [{ dtype: "fp8" }, /--dtype/],
    [{ preferredSamplingParams: { top_p: 1 } }, /--preferred-sampling-params/],
    [{ streamInterval: 0 }, /--stream-interval/],
    [{ threads: 257 }, /--threads .*from 1 to 256/],
    [{ watchdogTimeout: Number.NaN }, /--watchdog-timeout/],
    [{ tpSize: 2 }, /--tp-size \(tpSize\) must be a known engine option/],
  ])("refuses %j and names the flag", (options, message) => {
    expect(() => resolveEngineConfig(options as Partial<EngineConfig>)).toThrow(message);
  });
});

describe("derived values", () => {
  it.each([
    [{ chunkedPrefillSize: 256 }, 256],
    [{ chunkedPrefillSize: -1 }, 16384],
    [{ chunkedPrefillSize: -1, maxPrefillTokens: 1000 }, 1000],
    [{ chunkedPrefillSize: 4096, maxPrefillTokens: 1000 }, 1000],
  ])("%j prefills %i tokens per step", (options, tokens) => {
    expect(prefillStepTokens(resolveEngineConfig(options))).toBe(tokens);
  });

  it.each<[Partial<EngineConfig>, string]>([
    [{}, "f16"],
    [{ dtype: "bfloat16" }, "f16"],
    [{ dtype: "float32" }, "f32"],
    [{ dtype: "float32", kvCacheDtype: "f16" }, "f16"],
    [{ dtype: "half", kvCacheDtype: "f32" }, "f32"],
  ])("%j caches keys and values as %s", (options, dtype) => {
    expect(kvDtype(resolveEngineConfig(options))).toBe(dtype);
  });
});
