// `npm run bench [-- --compare] [--model NAME|FILE] [--rounds N] [--threads N] [--cases LIST] [--numerics LIST] [--append]
// [--openvino PYTHON]`
// Prints a table and writes bench/results/*.json with the machine, CPU flags, commit and command. Engines take turns
// within each round, so that a slow minute of the machine hits all of them; figures are medians over rounds. `--append`
// goes on with the rounds of an earlier run of the same commit; `--model q8_0:NAME` is that model requantised to Q8_0.
// `--openvino PYTHON` measures OpenVINO GenAI too: a Python that has openvino-genai (its reader takes Q8_0 and Q4_0 files).
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import * as engineConfig from "../dist/runtime/config.js";
import { openCheckpoint } from "../dist/weights/index.js";
import { openModelFile } from "./model-file.mjs";
import { median, origin, printTable, writeResults } from "./record.mjs";
import { barPlot } from "./svg.mjs";

const here = dirname(fileURLToPath(import.meta.url));
const CASES = "prefill512,decode1,decode8,decode32";
const { values } = parseArgs({
  options: {
    compare: { type: "boolean", default: false },
    model: { type: "string", default: "qwen2.5-coder-0.5b" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: String(availableParallelism()) },
    cases: { type: "string", default: CASES },
    numerics: { type: "string", default: "" },
    append: { type: "boolean", default: false },
    openvino: { type: "string" },
    out: { type: "string" },
  },
});
const rounds = Number(values.rounds);
const { path: model, note } = await openModelFile(values.model);
const cases = values.cases.split(",");

function measure(script, args, cwd = here, program = process.execPath) {
  const run = spawnSync(program, [script, ...args], {
    cwd,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (run.status !== 0) throw new Error(`${script} ended with exit code ${run.status}`);
  return JSON.parse(run.stdout.trim().split("\n").at(-1));
}

const ours = (options) => () =>
  measure(join(here, "ours.mjs"), [model, values.threads, values.cases, JSON.stringify(options)]);
const usual = engineConfig.DEFAULT_ENGINE_CONFIG.numerics;
const others = (engineConfig.NUMERICS ?? []).filter(
  (mode) => mode !== usual && (values.numerics === "all" || values.numerics.split(",").includes(mode)),
);
const engines = [["sglang-ts", ours({})], ...others.map((mode) => [`sglang-ts ${mode}`, ours({ numerics: mode })])];
const compare = join(here, "compare");
if (values.openvino) {
  const peer = join(compare, "openvino_genai_peer.py");
  engines.push([
    "openvino-genai",
    () => measure(peer, [model, values.threads, values.cases], compare, values.openvino),
  ]);
}
if (values.compare) {
  if (!existsSync(join(compare, "node_modules"))) {
    console.log("Installing the peers into bench/compare ...");
    spawnSync("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"], {
      cwd: compare,
      stdio: "inherit",
    });
  }
  engines.push([
    "node-llama-cpp",
    () => measure(join(compare, "node-llama-cpp.mjs"), [model, values.threads, values.cases], compare),
  ]);
}

const samples = new Map(engines.map(([name]) => [name, []]));
for (let round = 0; round < rounds; round++)
  for (const [name, run] of engines) {
    process.stderr.write(`round ${round + 1}/${rounds}: ${name}\n`);
    samples.get(name).push(run());
  }

const kernels = samples.get("sglang-ts")[0].kernels.tier;
const plainName = values.model.replace(/[^a-z0-9.-]+/gi, "-");
const file =
  values.out ??
  join(here, "results", `${plainName}-${kernels}${values.compare || values.openvino ? "-compare" : ""}.json`);
const earlier = values.append && existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : null;
if (earlier !== null) {
  if (earlier.commit !== origin("").commit) throw new Error(`--append: ${file} is of commit ${earlier.commit}`);
  for (const [name, list] of Object.entries(earlier.samples))
    samples.set(name, [...list, ...(samples.get(name) ?? [])]);
}
const startups = [
  ...(earlier?.firstTokenMs ?? []),
  ...Array.from({ length: 3 }, () => measure(join(here, "first-token.mjs"), [model, values.threads]).firstTokenMs),
];

/** `decode32x1024`: what it says in words. */
function labelOf(name) {
  if (name.startsWith("prefill")) return `prefill ${name.slice("prefill".length)}, tok/s`;
  const [, batch, context] = /^decode(\d+)(?:x(\d+))?$/.exec(name);
  return `decode B=${batch}${context ? ` context ${context}` : ""}, tok/s`;
}
const keys = [...new Set([...Object.keys(earlier?.figures?.["sglang-ts"] ?? {}), ...cases, "rssBytes"])];
const medianOf = (list, key) => {
  const known = list.map((sample) => sample[key]).filter((value) => value !== undefined);
  return known.length > 0 ? median(known) : null;
};
const figures = Object.fromEntries(
  [...samples].map(([name, list]) => [name, Object.fromEntries(keys.map((key) => [key, medianOf(list, key)]))]),
);
const show = (key, value) => {
  if (value === null || value === undefined) return "-";
  return key === "rssBytes" ? (value / 1e6).toFixed(0) : value.toFixed(value < 100 ? 1 : 0);
};
const names = [...samples.keys()];
const peers = names.filter((name) => !name.startsWith("sglang-ts"));
const ratio = (key, peer) => {
  const [ours, theirs] = [figures["sglang-ts"][key], figures[peer][key]];
  return ours && theirs ? `${(ours / theirs).toFixed(2)}x` : "-";
};
const head = ["", ...names, ...peers.map((peer) => `of ${peer}`)];
const rows = keys.map((key) => {
  const cells = [...names.map((name) => show(key, figures[name][key])), ...peers.map((peer) => ratio(key, peer))];
  return [key === "rssBytes" ? "resident, MB" : labelOf(key), ...cells];
});
rows.push(["start to first token, s", (median(startups) / 1e3).toFixed(2)]);
printTable([head, ...rows]);

// What the machine's own limits, measured by `npm run bench:kernels`, would allow: one read of the weights per token, and
// two operations per weight of the layers and token of a prompt.
async function limitsOf() {
  const measured = join(here, "results", `kernels-${kernels}.json`);
  if (!existsSync(measured)) return {};
  const { machine, limits, threads } = JSON.parse(readFileSync(measured, "utf8"));
  const now = origin("").machine;
  if (machine.cpu !== now.cpu || String(machine.flags) !== String(now.flags) || threads !== Number(values.threads))
    return {};
  const rateOf = (name) => limits.find(({ limit }) => limit === name)?.rate;
  const checkpoint = await openCheckpoint(model);
  try {
    const tensors = [...checkpoint.tensors.values()];
    const hasHead = tensors.some(({ name }) => name === "output.weight");
    const read = tensors.filter(({ name }) => !hasHead || name !== "token_embd.weight");
    const bytes = read.reduce((sum, { byteLength }) => sum + byteLength, 0);
    const layers = tensors.filter(({ name, shape }) => name.startsWith("blk.") && shape.length > 1);
    const weights = layers.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0);
    const int8 = rateOf("int8");
    return { decode1: (rateOf("dram") * 1e9) / bytes, ...(int8 && { prefill512: (int8 * 1e9) / (2 * weights) }) };
  } finally {
    checkpoint.close();
  }
}
const limits = await limitsOf();
const base = peers[0];
if (base) {
  const plot = file.replace(/(\.json)?$/, ".svg");
  const groups = cases
    .filter((key) => figures[base][key])
    .map((key) => ({
      name: labelOf(key).replace(", tok/s", ""),
      bars: names.map((name) => {
        const value = figures[name][key] ?? Number.NaN;
        return { value: value / figures[base][key], label: show(key, value) };
      }),
      ...(limits[key] && { limit: limits[key] / figures[base][key] }),
    }));
  const note = `labels: tokens per second; dashed: the machine's own limit; ${kernels} kernels, ${values.threads} threads`;
  const title = `${values.model}: speed beside ${base}`;
  writeFileSync(plot, barPlot({ title, note, y: `times ${base}`, series: names, groups }));
  console.log(`\nplotted: ${plot}`);
}

const { memory } = samples.get("sglang-ts").at(-1);
writeResults(
  "",
  `npm run bench -- ${process.argv.slice(2).join(" ")}`.trim(),
  {
    model: values.model,
    ...(note && { note }),
    threads: Number(values.threads),
    rounds: samples.get("sglang-ts").length,
    figures,
    limits,
    memory,
    firstTokenMs: startups,
    samples: Object.fromEntries(samples),
  },
  file,
);
