// `npm run bench:pool [-- --rounds N]`: what the pool of threads costs, and what is left of it when the cores are not its
// own: with one busy thread more than cores, bound to one core, and what a quota of control groups makes of the thread count.
// Needs a C++ compiler ($CXX, default g++). Writes bench/results/pool.json.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { loadAddon } from "../dist/native/load.js";
import { usableCores } from "../dist/runtime/usable-cores.js";
import { median, printTable, writeResults } from "./record.mjs";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" } } });
const here = dirname(fileURLToPath(import.meta.url));
const script = join(here, "../native/test/run.sh");

/** @param {string[]} before a command that runs the program, e.g. taskset */
function measure(threads, before = []) {
  const [command, ...args] = [...before, "sh", script, String(threads)];
  const run = spawnSync(command, args, { encoding: "utf8", env: { ...process.env, PROGRAM: "pool_bench" } });
  if (run.status !== 0) throw new Error(`pool_bench ended with exit code ${run.status}:\n${run.stderr.slice(-2000)}`);
  return JSON.parse(run.stdout.trim().split("\n").at(-1)).pool;
}
const medians = (rounds) =>
  Object.fromEntries(Object.keys(rounds[0]).map((key) => [key, median(rounds.map((round) => round[key]))]));
const repeat = (f) => medians(Array.from({ length: Number(values.rounds) }, f));

const cores = availableParallelism();
const threads = usableCores(loadAddon().cpuInfo().cores);
const crowded = repeat(() => measure(threads));

// In a process bound to one core the pool is as large as what it may use: one thread.
const hasTaskset = spawnSync("taskset", ["-c", "0", "true"]).status === 0;
const bound = ["taskset", "-c", "0"];
const program = `
  const { loadAddon } = await import(${JSON.stringify(join(here, "../dist/native/load.js"))});
  const { usableCores } = await import(${JSON.stringify(join(here, "../dist/runtime/usable-cores.js"))});
  console.log(usableCores(loadAddon().cpuInfo().cores));`;
const boundThreads = hasTaskset
  ? Number(
      spawnSync("taskset", ["-c", "0", process.execPath, "--input-type=module", "-e", program], { encoding: "utf8" })
        .stdout,
    )
  : null;
const asLarge = hasTaskset ? repeat(() => measure(1, bound)) : null;
const tooLarge = hasTaskset ? repeat(() => measure(Math.max(2, cores), bound)) : null;

printTable([
  ["", "threads", "us per empty run", "work lost to one more busy thread"],
  [
    "all cores",
    String(threads),
    crowded.emptyRunMicroseconds.toFixed(2),
    `${(100 * crowded.lossWithOneMoreBusyThread).toFixed(0)} % lost`,
  ],
  ...(hasTaskset
    ? [
        ["bound to one core", String(boundThreads), asLarge.emptyRunMicroseconds.toFixed(2), "-"],
        [
          "bound to one core, too many threads",
          String(Math.max(2, cores)),
          tooLarge.emptyRunMicroseconds.toFixed(2),
          "-",
        ],
      ]
    : [["bound to one core", "-", "taskset was not found", "-"]]),
]);

writeResults("pool", `npm run bench:pool -- ${process.argv.slice(2).join(" ")}`.trim(), {
  cores,
  threads,
  crowded,
  boundToOneCore: hasTaskset ? { threads: boundThreads, asLarge, tooLarge } : null,
});
