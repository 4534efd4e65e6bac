import { describe, expect, it } from "vitest";
import { TimeSlices } from "../../src/runtime/time-slices.js";

function busy(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe("TimeSlices", () => {
  it("runs a job at once when there is time", async () => {
    const slices = new TimeSlices();
    let ran = false;
    const result = slices.run(() => {
      ran = true;
      return 7;
    });
    expect(ran).toBe(true);
    expect(await result).toBe(7);
  });

  it("runs many jobs in order and lets the event loop turn between slices", async () => {
    const slices = new TimeSlices();
    const order: (number | "turn")[] = [];
    const turn = () => {
      order.push("turn");
      if (order.length < 100) setImmediate(turn);
    };
    setImmediate(turn);
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        slices.run(() => {
          busy(1);
          order.push(i);
        }),
      ),
    );
    expect(order.filter((x) => x !== "turn")).toEqual([...Array(20).keys()]);
    expect(order.slice(0, order.indexOf(19)).filter((x) => x === "turn").length).toBeGreaterThanOrEqual(3);
  });

  it("passes a job's error on and goes on with the next", async () => {
    const slices = new TimeSlices();
    const wrong = slices.run(() => {
      throw new Error("no");
    });
    await expect(wrong).rejects.toThrow("no");
    expect(await slices.run(() => 1)).toBe(1);
  });
});
