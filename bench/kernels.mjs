// `npm run bench:kernels [-- --model NAME] [--threads N] [--tier NAME] [--rounds N] [--numerics MODE]`: what the machine can do at most, every
// kernel against it, and where a step of a real model spends its time. Needs a C++ compiler ($CXX, default g++).
// Prints tables and writes bench/results/kernels-TIER.json.
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { DEFAULT_ENGINE_CONFIG } from "../dist/runtime/config.js";
import { printTable, writeResults } from "./record.mjs";
import { profileSteps } from "./step-profile.mjs";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "qwen2.5-coder-0.5b" },
    threads: { type: "string", default: String(availableParallelism()) },
    tier: { type: "string", default: "" },
    rounds: { type: "string", default: "5" },
    numerics: { type: "string", default: DEFAULT_ENGINE_CONFIG.numerics },
    formats: { type: "string", default: "Q5_0,Q8_0,Q4_0" },
  },
});
const threads = Number(values.threads);
const script = join(dirname(fileURLToPath(import.meta.url)), "../native/test/run.sh");

/** Runs one of the native bench programs and gives its lines. */
function program(name, ...args) {
  const run = spawnSync("sh", [script, ...args], { encoding: "utf8", env: { ...process.env, PROGRAM: name } });
  if (run.status !== 0) throw new Error(`${name} ended with exit code ${run.status}:\n${run.stderr.slice(-2000)}`);
  return run.stdout.trim().split("\n");
}

const lines = program("attention_bench", values.tier, String(threads)).map((line) => JSON.parse(line));
const tier = lines.find((line) => "tier" in line).tier;
const limits = lines.filter((line) => "by" in line);
const unit = (limit) => (["dram", "l2"].includes(limit) ? "GB/s" : "Gop/s");
console.log(`${tier} kernels, ${threads} threads; the machine's limits, measured:`);
printTable([
  ["limit", "rate", "", "by"],
  ...limits.map(({ limit, rate, by }) => [limit, rate.toFixed(1), unit(limit), by]),
]);

const rateOf = (limit) => limits.find((entry) => entry.limit === limit)?.rate ?? Number.NaN;
const share = (rate, limit) => `${((100 * rate) / rateOf(limit)).toFixed(0)} %`;
const kernels = lines
  .filter((line) => "kernel" in line)
  .map((line) => ({ ...line, share: line.rate / rateOf(line.limit) }));
console.log("");
printTable([
  ["kernel", "ms", "rate", "", "of its limit", ""],
  ...kernels.map(({ kernel, ms, rate, limit }) => [
    kernel,
    ms.toFixed(2),
    rate.toFixed(1),
    unit(limit),
    share(rate, limit),
    limit,
  ]),
]);

const { pool } = JSON.parse(program("pool_bench", String(threads))[0]);
console.log(
  `\npool: ${pool.emptyRunMicroseconds.toFixed(1)} us per run of empty chunks; with one more busy thread than cores ${(100 * pool.lossWithOneMoreBusyThread).toFixed(0)} % slower`,
);

const PRECISION = { f32: "f32", exact: "s16", faithful: "s8" };
const multiplies = values.numerics === "f32" ? "f32" : "int8";
// "Q5_0   9728 x 896   |1: 9.1 GB/s 88% ... |32: 61 66%": few rows by the bytes of the weights, many by multiply-adds.
const matrices = values.formats.split(",").flatMap((format) =>
  program("kernels_bench", tier, String(threads), format, PRECISION[values.numerics]).flatMap((line) => {
    const shape = /^(\S+)\s+(\d+) x (\d+)/.exec(line);
    if (shape === null) return [];
    return [...line.matchAll(/\|(\d+): ([\d.]+)( GB\/s)?/g)].map(([, m, rate, bytes]) => ({
      kernel: `${shape[1]} ${shape[2]} x ${shape[3]}`,
      m: Number(m),
      rate: Number(rate),
      limit: bytes === undefined ? multiplies : "dram",
    }));
  }),
);
console.log(`\nproducts, share of DRAM (m <= 8) or of the ${multiplies} peak:`);
const batches = [...new Set(matrices.map(({ m }) => m))];
printTable([
  ["matrix", ...batches.map((m) => `m=${m}`)],
  ...[...new Set(matrices.map(({ kernel }) => kernel))].map((kernel) => [
    kernel,
    ...batches.map((m) => {
      const found = matrices.find((entry) => entry.kernel === kernel && entry.m === m);
      return found === undefined ? "-" : share(found.rate, found.limit);
    }),
  ]),
]);

const rounds = Number(values.rounds);
const { numerics } = values;
const steps = await profileSteps({ model: values.model, threads, tier, rounds, numerics });
console.log(`\nsteps of ${values.model}, numerics ${numerics}, greedy, ms:`);
const parts = [...new Set(steps.cases.flatMap((step) => step.parts.map(({ name }) => name)))].filter((name) =>
  steps.cases.some((step) => step.parts.some((part) => part.name === name && part.share >= 0.005)),
);
printTable([
  ["", ...steps.cases.map(({ name }) => name)],
  ["whole step", ...steps.cases.map(({ ms }) => ms.toFixed(1))],
  ...parts.map((name) => [
    name,
    ...steps.cases.map((step) => {
      const part = step.parts.find((entry) => entry.name === name);
      return part === undefined ? "-" : `${part.ms.toFixed(2)} (${(100 * part.share).toFixed(1)} %)`;
    }),
  ]),
]);

// Everything a request may ask of sampling at once: temperature, top-p, penalties over 500 ids, a grammar mask.
const { vocab } = steps;
const sampling = {
  temperature: 0.8,
  topP: 0.9,
  penalty: 0.5,
  seen: 500,
  mask: new Uint32Array(Math.ceil(vocab / 32)).fill(0xfffffffe),
};
const sampled = await profileSteps({
  model: values.model,
  threads,
  tier,
  rounds,
  numerics,
  sampling,
  cases: [{ name: "B=32, context 128, sampled", batch: 32, tokens: 1, context: 128 }],
});
const sample = sampled.cases[0].parts.find(({ name }) => name === "sample");
console.log(
  `\nsampling 32 rows of ${vocab} with temperature, top-p, penalties and masks: ${sample.ms.toFixed(2)} ms, ${(100 * sample.share).toFixed(1)} % of the step`,
);

writeResults(`kernels-${tier}`, `npm run bench:kernels -- ${process.argv.slice(2).join(" ")}`.trim(), {
  model: values.model,
  tier,
  threads,
  numerics,
  limits,
  kernels,
  pool,
  matrices: matrices.map((entry) => ({ ...entry, share: entry.rate / rateOf(entry.limit) })),
  steps: [...steps.cases, ...sampled.cases],
});
