// `npm run bench [-- --compare] [--model NAME] [--rounds N] [--threads N]`
// Prints a table and writes bench/results/*.json with the machine, CPU flags, commit and command. Engines take turns
// within each round, so that a slow minute of the machine hits all of them; figures are medians over rounds.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { resolveModel } from "../dist/weights/index.js";
import { median, printTable, writeResults } from "./record.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: {
    compare: { type: "boolean", default: false },
    model: { type: "string", default: "qwen2.5-coder-0.5b" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: String(availableParallelism()) },
    out: { type: "string" },
  },
});
const rounds = Number(values.rounds);
const { path: model } = await resolveModel(values.model, {});

function measure(script, args, cwd = here) {
  const run = spawnSync(process.execPath, [script, ...args], {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (run.status !== 0) throw new Error(`${script} ended with exit code ${run.status}`);
  return JSON.parse(run.stdout.trim().split("\n").at(-1));
}

const engines = [["sglang-ts", () => measure(join(here, "ours.mjs"), [model, values.threads])]];
if (values.compare) {
  const compare = join(here, "compare");
  if (!existsSync(join(compare, "node_modules"))) {
    console.log("Installing the peers into bench/compare ...");
    spawnSync("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"], {
      cwd: compare,
      stdio: "inherit",
    });
  }
  engines.push([
    "node-llama-cpp",
    () => measure(join(compare, "node-llama-cpp.mjs"), [model, values.threads], compare),
  ]);
}

const samples = new Map(engines.map(([name]) => [name, []]));
for (let round = 0; round < rounds; round++)
  for (const [name, run] of engines) {
    process.stderr.write(`round ${round + 1}/${rounds}: ${name}\n`);
    samples.get(name).push(run());
  }
const startups = Array.from(
  { length: 3 },
  () => measure(join(here, "first-token.mjs"), [model, values.threads]).firstTokenMs,
);

const METRICS = [
  ["prefill512", "prefill 512, tok/s"],
  ["decode1", "decode B=1, tok/s"],
  ["decode8", "decode B=8, tok/s"],
  ["decode32", "decode B=32, tok/s"],
  ["rssBytes", "resident, MB"],
];
const figures = Object.fromEntries(
  [...samples].map(([name, list]) => [
    name,
    Object.fromEntries(METRICS.map(([key]) => [key, median(list.map((s) => s[key]))])),
  ]),
);
const show = (key, value) => (key === "rssBytes" ? (value / 1e6).toFixed(0) : value.toFixed(value < 100 ? 1 : 0));
const names = [...samples.keys()];
const head = ["", ...names, ...(names.length > 1 ? ["ratio"] : [])];
const rows = METRICS.map(([key, label]) => {
  const cells = names.map((name) => show(key, figures[name][key]));
  const ratio = names.length > 1 ? [(figures[names[0]][key] / figures[names[1]][key]).toFixed(2)] : [];
  return [label, ...cells, ...ratio];
});
rows.push(
  ["first run to first token, s", (startups[0] / 1e3).toFixed(2)],
  ["later runs to first token, s", (median(startups.slice(1)) / 1e3).toFixed(2)],
);
printTable([head, ...rows]);

const kernels = samples.get("sglang-ts")[0].kernels.tier;
writeResults(
  `${values.model}-${kernels}${values.compare ? "-compare" : ""}`,
  `npm run bench -- ${process.argv.slice(2).join(" ")}`.trim(),
  {
    model: values.model,
    threads: Number(values.threads),
    rounds,
    figures,
    firstTokenMs: startups,
    samples: Object.fromEntries(samples),
  },
  values.out,
);
