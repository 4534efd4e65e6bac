// `npm run bench:overlap [-- --model NAME] [--rounds N]`
// How long native threads wait for JavaScript between decode steps at batch 32: over windows of 5 consecutive steps, the
// share of wall time in which no step ran or a step waited for masks. Overlapped and plain loop take turns; figures come
// from the engine's own trace (--trace).
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setLogLevel } from "../dist/core/logger.js";
import { Engine } from "../dist/index.js";
import { median, printTable, quantile, writeResults } from "./record.mjs";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "qwen2.5-coder-0.5b" },
    rounds: { type: "string", default: "2" },
    tokens: { type: "string", default: "40" },
  },
});
const BATCH = 32;
const WINDOW = 5;
setLogLevel("error");
const folder = mkdtempSync(join(tmpdir(), "bench-overlap-"));

/** 32 requests at once, all streamed; returns the native slices of the run. */
async function run(disableOverlapSchedule) {
  const trace = join(folder, "trace.json");
  const engine = await Engine.load(values.model, {
    offline: true,
    contextLength: 1024,
    maxRunningRequests: BATCH,
    disableOverlapSchedule,
    trace,
  });
  const ask = async (salt, maxNewTokens) => {
    const inputIds = Array.from({ length: 64 }, (_, i) => 300 + ((i * 7919 + salt * 104729) % 5000));
    const samplingParams = { temperature: 0.8, topP: 0.95, seed: salt, maxNewTokens, ignoreEos: true };
    for await (const _ of engine.generate({ prompt: { inputIds }, samplingParams, stream: true }));
  };
  await ask(99, 4);
  await Promise.all(Array.from({ length: BATCH }, (_, i) => ask(i, Number(values.tokens))));
  await engine.close();
  return JSON.parse(readFileSync(trace, "utf8")).filter((e) => e.ph === "X");
}

/** Idle shares of all windows of consecutive decode steps at full batch. */
function idleShares(events) {
  const steps = events.filter((e) => e.tid === 1);
  const isFull = (s) => s.name === "decode" && s.args.requests === BATCH;
  const shares = [];
  for (let i = 0; i + WINDOW < steps.length; i++) {
    const window = steps.slice(i, i + WINDOW + 1);
    if (!window.every(isFull)) continue;
    const busy = window.slice(0, WINDOW).reduce((sum, s) => sum + s.dur - s.args.maskWaitUs, 0);
    shares.push(1 - busy / (window[WINDOW].ts - window[0].ts));
  }
  return shares;
}

const loops = { overlapped: false, plain: true };
const found = Object.fromEntries(
  Object.keys(loops).map((name) => [name, { idle: [], step: [], sample: [], phases: [] }]),
);
for (let round = 0; round < Number(values.rounds); round++) {
  for (const [name, plain] of Object.entries(loops)) {
    process.stderr.write(`round ${round + 1}/${values.rounds}: ${name}\n`);
    const events = await run(plain);
    const full = events.filter((e) => e.tid === 1 && e.name === "decode" && e.args.requests === BATCH);
    found[name].idle.push(...idleShares(events));
    found[name].step.push(...full.map((e) => e.dur / 1e3));
    found[name].sample.push(...full.map((e) => e.args.sampleUs / e.dur));
    found[name].phases.push(...events.filter((e) => e.tid === 2 && e.name === "process").map((e) => e.dur / 1e3));
  }
}
rmSync(folder, { recursive: true });

const percent = (x) => `${(100 * x).toFixed(2)} %`;
const figures = Object.fromEntries(
  Object.entries(found).map(([name, { idle, step, sample, phases }]) => [
    name,
    {
      windows: idle.length,
      idleMedian: median(idle),
      idleP99: quantile(idle, 0.99),
      stepMs: median(step),
      sampleShare: median(sample),
      processMs: median(phases),
      processP99Ms: quantile(phases, 0.99),
    },
  ]),
);
console.log(`\n${values.model}, batch ${BATCH}: native idle share over windows of ${WINDOW} decode steps\n`);
printTable([
  ["", "windows", "idle median", "idle p99", "step ms", "sampling", "process ms", "process p99"],
  ...Object.entries(figures).map(([name, f]) => [
    name,
    String(f.windows),
    percent(f.idleMedian),
    percent(f.idleP99),
    f.stepMs.toFixed(1),
    percent(f.sampleShare),
    f.processMs.toFixed(2),
    f.processP99Ms.toFixed(2),
  ]),
]);
writeResults(`overlap-${values.model}`, `npm run bench:overlap -- ${process.argv.slice(2).join(" ")}`.trim(), {
  model: values.model,
  batch: BATCH,
  windowSteps: WINDOW,
  bars: { idleMedian: 0.01, idleP99: 0.03 },
  loops: figures,
});
