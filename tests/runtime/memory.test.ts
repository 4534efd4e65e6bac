import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { availableMemory } from "../../src/runtime/memory.js";
import {
  asMemoryError,
  checkWeightsFit,
  DEFAULT_KV_BYTES,
  type MemoryNeeds,
  planKvPages,
} from "../../src/runtime/memory-plan.js";

const GIB = 2 ** 30;
const MEMINFO = "MemTotal:       16777216 kB\nMemFree:         1048576 kB\nMemAvailable:    8388608 kB\n";

describe("availableMemory", () => {
  const roots: string[] = [];
  afterEach(() => {
    for (const root of roots.splice(0)) rmSync(root, { recursive: true });
  });

  function system(files: Record<string, string>): string {
    const root = mkdtempSync(join(tmpdir(), "memory-"));
    roots.push(root);
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    return root;
  }

  it("is what the machine has left when no group limits it", () => {
    const root = system({ "proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n" });
    expect(availableMemory(root)).toEqual({ bytes: 8 * GIB, source: "machine" });
  });

  it("is the tightest limit on the way up, with page cache counted as available (version 2)", () => {
    const root = system({
      "proc/meminfo": MEMINFO,
      "proc/self/cgroup": "0::/box/app\n",
      "sys/fs/cgroup/box/app/memory.max": "max\n",
      "sys/fs/cgroup/box/app/memory.current": "100\n",
      "sys/fs/cgroup/box/memory.max": `${4 * GIB}\n`,
      "sys/fs/cgroup/box/memory.current": `${3 * GIB}\n`,
      "sys/fs/cgroup/box/memory.stat": `anon 1\ninactive_file ${GIB}\nactive_file ${GIB}\n`,
    });
    expect(availableMemory(root)).toEqual({ bytes: 3 * GIB, source: join(root, "sys/fs/cgroup/box") });
  });

  it("stays below the limit above which the kernel swaps and throttles (version 2)", () => {
    const root = system({
      "proc/meminfo": MEMINFO,
      "proc/self/cgroup": "0::/box\n",
      "sys/fs/cgroup/box/memory.max": `${4 * GIB}\n`,
      "sys/fs/cgroup/box/memory.high": `${2 * GIB}\n`,
      "sys/fs/cgroup/box/memory.current": `${GIB}\n`,
    });
    expect(availableMemory(root)).toEqual({ bytes: GIB, source: join(root, "sys/fs/cgroup/box") });
  });

  it("knows version 1 groups and their number for no limit", () => {
    const group = "sys/fs/cgroup/memory/app";
    const root = system({
      "proc/meminfo": MEMINFO,
      "proc/self/cgroup": "12:cpu,cpuacct:/app\n5:memory:/app\n",
      [`${group}/memory.limit_in_bytes`]: `${2 * GIB}\n`,
      [`${group}/memory.usage_in_bytes`]: `${GIB}\n`,
      [`${group}/memory.stat`]: "total_inactive_file 0\n",
      "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
      "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
    });
    expect(availableMemory(root)).toEqual({ bytes: GIB, source: join(root, group) });
  });

  it("falls back to what Node knows where there is no /proc", () => {
    expect(availableMemory(system({})).bytes).toBeGreaterThan(0);
  });
});

describe("planKvPages", () => {
  const needs: MemoryNeeds = {
    available: { bytes: 8 * GIB, source: "machine" },
    memFractionStatic: 0.75,
    weightsBytes: GIB,
    arenaBytes: GIB,
    kvBytesPerToken: 2 ** 14,
    pageSize: 16,
    contextLength: 2 ** 13,
    maxRunningRequests: 64,
    maxTotalTokens: null,
  };
  const pageBytes = needs.kvBytesPerToken * needs.pageSize;

  it.each([
    ["the default cap", {}, DEFAULT_KV_BYTES / pageBytes],
    ["one full context when that is more than the cap", { contextLength: 2 ** 17 + 16 }, (2 ** 17 + 16) / 16],
    ["what all running requests can use", { maxRunningRequests: 2 }, (2 * 2 ** 13) / 16],
    ["the budget", { available: { bytes: 4 * GIB, source: "machine" } }, GIB / pageBytes],
    ["what was asked for, in whole pages", { maxTotalTokens: 1001 }, 63],
  ])("takes %s", (_name, change, pages) => {
    expect(planKvPages({ ...needs, ...change })).toBe(pages);
  });

  it("says with numbers when memory is too small", () => {
    const available = { bytes: 2 * GIB, source: "/sys/fs/cgroup/app" };
    expect(() => planKvPages({ ...needs, available })).toThrow(
      /128 tokens takes 2\.0 MiB.*2\.00 GiB available \(\/sys\/fs\/cgroup\/app\) leaves 0\.0 MiB after 1\.00 GiB of weights/,
    );
    expect(() => planKvPages({ ...needs, maxTotalTokens: 2 ** 19 })).toThrow(/takes 8\.00 GiB/);
  });

  it.each([
    "out of memory: a KV pool of 2e+09 bytes could not be allocated",
    "createPlan: out of memory: an arena of 9 bytes could not be allocated",
    "/m.gguf: cannot be mapped: Cannot allocate memory (errno 12)",
  ])("makes one sentence of a failed native allocation: %s", (message) => {
    const cause = new Error(message);
    expect(asMemoryError(cause, "smollm2-135m")).toMatchObject({
      code: "OUT_OF_MEMORY",
      message: expect.stringMatching(/^smollm2-135m does not fit .*ulimit -v/),
      cause,
    });
  });

  it("leaves every other failure as it is", () => {
    const error = new Error("packMatrix: columns must be a multiple of 32");
    expect(asMemoryError(error, "m")).toBe(error);
  });

  it("refuses weights that cannot fit before they are packed", () => {
    expect(() => checkWeightsFit(9 * GIB, needs.available)).toThrow(/take 9\.00 GiB, but only 8\.00 GiB/);
    expect(() => checkWeightsFit(GIB, needs.available)).not.toThrow();
  });
});
