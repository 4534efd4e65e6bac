import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import { Trace } from "../../src/runtime/trace.js";
import { collect, greedy } from "./collect.js";
import { FakeRunner, fakeEngine } from "./fake-runner.js";
import { answer, FakeConstraint, scheduler } from "./scheduler-harness.js";

const folder = mkdtempSync(join(tmpdir(), "trace-"));
beforeAll(() => setLogLevel("silent"));
afterAll(() => {
  setLogLevel("info");
  rmSync(folder, { recursive: true });
});

interface TraceEvent {
  name: string;
  ph: string;
  tid: number;
  ts?: number;
  dur?: number;
  args?: Record<string, unknown>;
}
const read = (file: string): TraceEvent[] => JSON.parse(readFileSync(file, "utf8"));

describe("--trace", () => {
  it("writes one native slice per step and the phases of the loop, as JSON that Perfetto reads", async () => {
    const trace = join(folder, "a.json");
    const { engine, runner } = fakeEngine({ trace });
    await Promise.all(
      Array.from({ length: 3 }, (_, i) =>
        collect(engine, { prompt: { inputIds: [i, 2, 3] }, samplingParams: { ...greedy, maxNewTokens: 200 } }),
      ),
    );
    await engine.close();
    const events = read(trace);
    const tracks = new Map(events.filter((e) => e.ph === "M").map((e) => [e.args?.name, e.tid]));
    const native = events.filter((e) => e.ph === "X" && e.tid === tracks.get("native"));
    expect(native).toHaveLength(runner.steps.length);
    expect(native.map((e) => e.name)).toEqual(
      runner.steps.map(({ sequences }) => (sequences[0].tokens.length > 1 ? "prefill" : "decode")),
    );
    for (const [i, { sequences }] of runner.steps.entries())
      expect(native[i].args).toMatchObject({
        requests: sequences.length,
        tokens: sequences.reduce((sum, { tokens }) => sum + tokens.length, 0),
      });
    const loop = events.filter((e) => e.ph === "X" && e.tid === tracks.get("loop"));
    const phases = ["receive", "schedule", "queue", "accept", "process"];
    const calls = ["cache match", "cache grow", "cache share", "cache release"];
    expect(new Set(loop.map((e) => e.name))).toEqual(new Set([...phases, ...calls]));
    const cacheCalls = (call: string) => loop.filter((e) => e.name === `cache ${call}`);
    // At the end of each request, and whenever one was matched but did not fit yet.
    expect(cacheCalls("release").length).toBeGreaterThanOrEqual(3);
    // Prefill and decode steps make room for what they add: once for each request in each.
    expect(cacheCalls("grow").length).toBeGreaterThanOrEqual(3 * 200);
    for (const { ts, dur } of loop) expect([ts, dur].every((x) => Number.isFinite(x) && (x as number) >= 0)).toBe(true);
  });

  it("shows when masks were made", async () => {
    const file = join(folder, "b.json");
    const trace = new Trace(file);
    const loop = scheduler(new FakeRunner(), { trace });
    await answer(loop, {
      prompt: [1, 2],
      params: { maxNewTokens: 5, ignoreEos: true },
      constraint: () => new FakeConstraint(),
    });
    await loop.close();
    await trace.close();
    expect(read(file).filter((e) => e.name === "masks")).toHaveLength(5);
  });

  it("is refused by name when the file cannot be written", () => {
    expect(() => fakeEngine({ trace: join(folder, "no/such/folder.json") })).toThrow(
      /^--trace: .*no\/such\/folder.json cannot be written: ENOENT/,
    );
  });
});
