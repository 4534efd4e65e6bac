import { describe, expect, it } from "vitest";
import { SchedulerStats } from "../../src/runtime/scheduler-stats.js";

const step = (startMs: number, endMs: number, maskWaitMs = 0) => ({
  startNs: startMs * 1e6,
  endNs: endMs * 1e6,
  maskWaitNs: maskWaitMs * 1e6,
});

describe("the idle share", () => {
  it("counts the time between steps and the waiting for masks, not the time when nothing runs", () => {
    const stats = new SchedulerStats(40);
    expect(stats.idleShare).toBe(0);
    stats.nativeStep(step(0, 10));
    stats.nativeStep(step(11, 20, 2));
    stats.nothingRuns();
    stats.nativeStep(step(1000, 1010));
    stats.nativeStep(step(1010, 1020));
    expect(stats.idleShare).toBeCloseTo(3 / 40);
    expect(stats.counters.nativeIdleSeconds).toBeCloseTo(0.003);
    expect(stats.counters.nativeBusySeconds).toBeCloseTo(0.037);
  });

  it("looks back on the last steps alone", () => {
    const stats = new SchedulerStats(40);
    stats.nativeStep(step(0, 1));
    stats.nativeStep(step(100, 101));
    for (let i = 0; i < 64; i++) stats.nativeStep(step(101 + i, 102 + i));
    expect(stats.idleShare).toBe(0);
  });
});
