import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { EngineMetrics } from "../../src/core/metrics.js";
import type { FinishReason, GenerateChunk } from "../../src/core/protocol.js";
import { FakeEngine } from "../server/fake-engine.js";

function metrics(calls = { stats: 0 }) {
  const engine = new FakeEngine();
  return new EngineMetrics({
    modelName: "m",
    stats: () => {
      calls.stats += 1;
      return engine.stats();
    },
  });
}

function chunk(tokens: number, totalMs: number, finishReason: FinishReason | null = null, index = 0): GenerateChunk {
  return {
    rid: "r",
    index,
    textDelta: "",
    tokenIdsDelta: Array(tokens).fill(1),
    finishReason,
    usage: { promptTokens: 10, completionTokens: tokens, cachedTokens: 0 },
    timing: { queuedMs: 5, firstTokenMs: tokens > 0 ? 250 : null, totalMs, retractions: 1 },
  };
}

const STOP: FinishReason = { type: "stop", matched: 0 };

async function value(from: EngineMetrics, series: string): Promise<number> {
  const line = (await from.render())
    .split("\n")
    .find((text) => text.startsWith(`sglang:${series}${series.endsWith("}") ? " " : "{"}`));
  if (!line) throw new Error(`no series ${series}`);
  return Number(line.split(" ").at(-1));
}

describe("engine metrics", () => {
  it("time the first token once per answer and the others by the gaps between chunks", async () => {
    const m = metrics();
    const observe = m.track();
    observe(chunk(1, 250));
    observe(chunk(1, 280));
    observe(chunk(2, 340));
    observe(chunk(0, 345, STOP));
    expect(await value(m, "time_to_first_token_seconds_count")).toBe(1);
    expect(await value(m, "time_to_first_token_seconds_sum")).toBeCloseTo(0.25);
    expect(await value(m, "inter_token_latency_seconds_count")).toBe(3);
    expect(await value(m, "inter_token_latency_seconds_sum")).toBeCloseTo(0.09);
    expect(await value(m, "e2e_request_latency_seconds_sum")).toBeCloseTo(0.345);
    expect(await value(m, "queue_time_seconds_sum")).toBeCloseTo(0.005);
  });

  it("count each compilation of a grammar once, whoever scrapes when", async () => {
    const engine = new FakeEngine();
    const grammar = {
      ...engine.stats().grammar,
      requests: 3,
      cacheHits: 1,
      compiled: 2,
      latestCompileSeconds: [0.003, 0.3],
    };
    const m = new EngineMetrics({ modelName: "m", stats: () => ({ ...engine.stats(), grammar: { ...grammar } }) });
    expect(await value(m, "num_grammar_cache_miss_total")).toBe(2);
    grammar.compiled = 4;
    grammar.latestCompileSeconds = [0.003, 0.3, 0.3, 7];
    expect(await value(m, "grammar_compilation_time_seconds_count")).toBe(4);
    expect(await value(m, "grammar_compilation_time_seconds_sum")).toBeCloseTo(7.603);
    expect(await value(m, 'grammar_compilation_time_seconds_bucket{le="0.5",model_name="m"}')).toBe(3);
  });

  it("spread the time of an answer that comes in one chunk over its tokens", async () => {
    const m = metrics();
    m.track()(chunk(11, 350, STOP));
    expect(await value(m, "inter_token_latency_seconds_count")).toBe(10);
    expect(await value(m, "inter_token_latency_seconds_sum")).toBeCloseTo(0.1);
  });

  it("keep the answers of one request apart", async () => {
    const m = metrics();
    const observe = m.track();
    for (const index of [0, 1]) observe(chunk(1, 250, null, index));
    for (const index of [0, 1]) observe(chunk(1, 260, STOP, index));
    expect(await value(m, "time_to_first_token_seconds_count")).toBe(2);
    expect(await value(m, "inter_token_latency_seconds_sum")).toBeCloseTo(0.02);
    expect(await value(m, "e2e_request_latency_seconds_count")).toBe(2);
  });

  it("time no end for an aborted answer, and no first token for one that has none", async () => {
    const m = metrics();
    m.track()(chunk(0, 100, { type: "abort", message: "gone" }));
    m.track()(chunk(0, 100, { type: "length", length: 0 }));
    expect(await value(m, "time_to_first_token_seconds_count")).toBe(0);
    expect(await value(m, "e2e_request_latency_seconds_count")).toBe(1);
  });

  it("split an answer's time into its stages", async () => {
    const m = metrics();
    m.track()(chunk(11, 350, STOP));
    const text = await m.render();
    for (const [stage, seconds] of [
      ["prefill_waiting", 0.005],
      ["prefill_forward", 0.245],
      ["decode_forward", 0.1],
    ])
      expect(text).toContain(`sglang:per_stage_req_latency_seconds_sum{model_name="m",stage="${stage}"} ${seconds}`);
  });

  it("are all that the dashboard asks for", async () => {
    const file = new URL("../../examples/monitoring/grafana/dashboards/sglang-ts.json", import.meta.url);
    const { panels }: { panels: { targets?: { expr: string }[] }[] } = JSON.parse(readFileSync(file, "utf8"));
    const expressions = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));
    const m = metrics();
    m.track()(chunk(11, 350, STOP));
    const exported = new Set([...(await m.render()).matchAll(/^(sglang:\w+)\{/gm)].map(([, name]) => name));
    const asked = new Set(expressions.flatMap((expr) => expr.match(/sglang:\w+/g) ?? []));
    expect(asked.size).toBeGreaterThan(25);
    expect([...asked].filter((name) => !exported.has(name))).toEqual([]);
  });

  it("read the engine once per scrape", async () => {
    const calls = { stats: 0 };
    const m = metrics(calls);
    await m.render();
    await m.render();
    expect(calls.stats).toBe(2);
  });
});
