/** How many threads a pool gets: by affinity, and by control groups of both versions. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { loadAddon } from "../../src/native/load.js";
import { usableCores } from "../../src/runtime/usable-cores.js";

const folder = mkdtempSync(join(tmpdir(), "cores-"));
afterAll(() => rmSync(folder, { recursive: true }));
let systems = 0;

function system(files: Record<string, string>): string {
  const root = join(folder, String(systems++));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), `${text}\n`);
  }
  return root;
}
const two = (path: string, limits: Record<string, string>) =>
  system({
    "proc/self/cgroup": `0::${path}`,
    ...Object.fromEntries(Object.entries(limits).map(([at, max]) => [join("sys/fs/cgroup", at, "cpu.max"), max])),
  });
const one = (line: string, quota: string) =>
  system({
    "proc/self/cgroup": line,
    "sys/fs/cgroup/cpu/app/cpu.cfs_quota_us": quota,
    "sys/fs/cgroup/cpu/app/cpu.cfs_period_us": "100000",
  });

describe("usableCores", () => {
  it.each<[string, string, number]>([
    ["no control groups", system({}), 8],
    ["no limit", two("/", { "": "max 100000" }), 8],
    ["two CPUs", two("/", { "": "200000 100000" }), 2],
    ["part of a CPU counts as one more", two("/", { "": "250000 100000" }), 3],
    ["less than one CPU", two("/", { "": "20000 100000" }), 1],
    ["more than there are", two("/", { "": "6400000 100000" }), 8],
    [
      "the smallest of a group and its parents",
      two("/box/app", { "box/app": "max 100000", box: "300000 100000", "": "500000 100000" }),
      3,
    ],
    ["another period", two("/app", { app: "100000 50000" }), 2],
    ["version 1", one("4:cpu,cpuacct:/app", "400000"), 4],
    ["version 1 without a limit", one("4:cpu,cpuacct:/app", "-1"), 8],
    ["version 1 of another controller", one("4:memory:/app", "400000"), 8],
    ["a file that holds nonsense", two("/", { "": "lots of it" }), 8],
  ])("%s", (_, root, cores) => {
    expect(usableCores(8, root)).toBe(cores);
  });

  it("never exceeds the CPUs the process may run on", () => {
    expect(usableCores(1, two("/", { "": "400000 100000" }))).toBe(1);
  });

  it("finds one core in a process bound to one", (context) => {
    if (spawnSync("taskset", ["-c", "0", "true"]).status !== 0) context.skip("taskset is not there");
    expect(loadAddon().cpuInfo().cores).toBe(availableParallelism());
    const addon = process.env.SGLANG_ADDON ?? resolve("native/build/Release/sglang.node");
    const program = `process.stdout.write(String(require(${JSON.stringify(addon)}).cpuInfo().cores))`;
    expect(spawnSync("taskset", ["-c", "0", process.execPath, "-e", program], { encoding: "utf8" }).stdout).toBe("1");
  });
});
