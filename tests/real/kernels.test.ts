import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { expect, it } from "vitest";

/** Compiles the C++ test program, so it stands with the slow suites. */
it("every kernel tier of this CPU agrees with double precision and keeps its bits however work is split", () => {
  const script = resolve(import.meta.dirname, "../../native/test/run.sh");
  const run = spawnSync("sh", [script], { encoding: "utf8", maxBuffer: 64 << 20 });
  const summary = /(\d+) passed, (\d+) failed/.exec(run.stdout.trim().split("\n").at(-1) ?? "");
  expect(summary, run.stdout.slice(-2000) + run.stderr.slice(-2000)).not.toBeNull();
  expect(Number(summary?.[2])).toBe(0);
  expect(Number(summary?.[1])).toBeGreaterThan(10_000);
  expect(run.status).toBe(0);
}, 900_000);
