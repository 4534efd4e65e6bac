import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ARENA_ALIGNMENT, type Lifetime, planMemory, printMemoryPlan } from "../../src/graph/memory-plan.js";

const buffer = (name: string, bytes: number, first: number, last: number): Lifetime => ({ name, bytes, first, last });
const lifetimes = fc.array(
  fc
    .record({ bytes: fc.integer({ min: 1, max: 5000 }), first: fc.nat(20), length: fc.nat(8) })
    .map(({ bytes, first, length }) => buffer("b", bytes, first, first + length)),
  { maxLength: 30 },
);

describe("planMemory", () => {
  it("never lets two buffers that live at the same time share a byte", () => {
    fc.assert(
      fc.property(lifetimes, (lives) => {
        const { offsets, arenaBytes } = planMemory(lives);
        for (const [i, a] of lives.entries()) {
          expect(offsets[i] % ARENA_ALIGNMENT).toBe(0);
          expect(offsets[i] + a.bytes).toBeLessThanOrEqual(arenaBytes);
          for (const [j, b] of lives.entries()) {
            if (i === j || a.last < b.first || b.last < a.first) continue;
            const apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
            expect(apart, `${i} and ${j} overlap`).toBe(true);
          }
        }
      }),
    );
  });

  it("gives a chain of equal buffers two slots", () => {
    const chain = Array.from({ length: 10 }, (_, i) => buffer(`t${i}`, 640, i, i + 1));
    expect(planMemory(chain).arenaBytes).toBe(2 * 640);
  });

  it("fills a gap that a dead buffer left", () => {
    const plan = planMemory([buffer("a", 1024, 0, 1), buffer("b", 512, 0, 5), buffer("c", 256, 2, 5)]);
    expect(plan.arenaBytes).toBe(1536);
    expect(plan.offsets[2]).toBe(0);
  });

  it("needs no bytes for no buffers", () => {
    expect(planMemory([])).toEqual({ lifetimes: [], offsets: [], arenaBytes: 0 });
  });

  it("prints a line per buffer and the saving", () => {
    const plan = planMemory([buffer("a", 100, 0, 1), buffer("b", 100, 2, 3)]);
    expect(printMemoryPlan(plan)).toBe(
      "0..100  live 0..1  a\n0..100  live 2..3  b\narena 128 bytes for 200 bytes of buffers",
    );
  });
});
