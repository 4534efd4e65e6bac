/**
 * How cost grows: one axis at a time, everything else as it is by default.
 *
 *   npm run bench:growth -- [context batch prompt model threads kv] [--model NAME] [--most-context 32768]
 *
 * Steps are timed natively, over keys and values written for the purpose, so no long prompt has to be computed first. Each
 * axis is kept in bench/results/growth-TIER.json as soon as it is measured, so that axes can be run one by one, and drawn
 * as an SVG beside it. A point that is off the trend of its neighbours by more than 1.5 is named. A curve is made of points
 * measured one after the other, so each is the fastest of its steps over two passes: a median would draw the neighbours'
 * load.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { KV_DTYPES } from "../dist/native/addon.js";
import { origin, printTable } from "./record.mjs";
import { profileSteps } from "./step-profile.mjs";
import { linePlot } from "./svg.mjs";

const CLIFF = 1.5;
const PASSES = 2;
const MODELS = { "smollm2-135m": 135, "qwen2.5-coder-0.5b": 494, "qwen2.5-coder-1.5b": 1544 };
const here = dirname(fileURLToPath(import.meta.url));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: "string", default: "qwen2.5-coder-0.5b" },
    "most-context": { type: "string", default: "32768" },
    rounds: { type: "string", default: "5" },
    threads: { type: "string", default: String(availableParallelism()) },
  },
});
const doubling = (from, to) => Array.from({ length: Math.round(Math.log2(to / from)) + 1 }, (_, i) => from * 2 ** i);
const decode = (batch, context) => ({ name: `decode ${batch}x${context}`, batch, tokens: 1, context });
const prefill = (tokens) => ({ name: `prefill ${tokens}`, batch: 1, tokens, context: 0 });

let tier = "";
/** The fastest step of each case: { ms, tokensPerSecond }. */
async function run(cases, options = {}) {
  const best = cases.map(() => Number.POSITIVE_INFINITY);
  for (let pass = 0; pass < PASSES; pass++) {
    const { model, threads, rounds } = values;
    const settings = { model, threads: Number(threads), rounds: Number(rounds), cases, ...options };
    const result = await profileSteps(settings);
    tier = result.kernels.tier;
    for (const [i, { bestMs }] of result.cases.entries()) best[i] = Math.min(best[i], bestMs);
  }
  return cases.map(({ batch, tokens }, i) => ({ ms: best[i], tokensPerSecond: (batch * tokens * 1e3) / best[i] }));
}
const points = (xs, cases, key) => xs.map((x, i) => [x, cases[i][key]]);

/** Each axis: what is plotted, and lines of [x, y]. */
const AXES = {
  async context() {
    const xs = doubling(1024, Number(values["most-context"]));
    const cases = await run(xs.map((context) => decode(1, context)));
    return {
      title: "Decode of one request by context",
      x: "tokens of context",
      y: "ms per token",
      series: [{ name: "f16 keys and values", points: points(xs, cases, "ms") }],
    };
  },
  async kv() {
    const xs = [1024, 4096, 16384];
    const series = [];
    for (const kvDtype of KV_DTYPES) {
      const cases = await run(
        xs.map((context) => decode(1, context)),
        { kvDtype },
      );
      series.push({ name: kvDtype, points: points(xs, cases, "ms") });
    }
    return { title: "Decode by type of cached keys and values", x: "tokens of context", y: "ms per token", series };
  },
  async batch() {
    const xs = doubling(1, 128);
    const series = [];
    for (const context of [128, 1024]) {
      const cases = await run(xs.map((batch) => decode(batch, context)));
      series.push({ name: `context ${context}`, points: points(xs, cases, "tokensPerSecond") });
    }
    return { title: "Decode by batch", x: "requests in the batch", y: "tokens per second", series };
  },
  async prompt() {
    const xs = doubling(1, 512);
    const cases = await run(xs.map(prefill));
    return {
      title: "Prefill by tokens in the step",
      x: "tokens in the step",
      y: "tokens per second",
      series: [{ name: "one prompt", points: points(xs, cases, "tokensPerSecond") }],
    };
  },
  async model() {
    const lines = { "prefill 256": [], "decode B=8": [], "decode B=1": [] };
    for (const [model, millions] of Object.entries(MODELS)) {
      const [p, d8, d1] = await run([prefill(256), decode(8, 128), decode(1, 128)], { model });
      lines["prefill 256"].push([millions, p.ms / 256]);
      lines["decode B=8"].push([millions, d8.ms / 8]);
      lines["decode B=1"].push([millions, d1.ms]);
    }
    const series = Object.entries(lines).map(([name, line]) => ({ name, points: line }));
    return { title: "Cost of a token by size of the model", x: "million weights", y: "ms per token", series };
  },
  async threads() {
    const xs = Array.from({ length: availableParallelism() }, (_, i) => i + 1);
    const cases = { "prefill 256": prefill(256), "decode B=8": decode(8, 128), "decode B=1": decode(1, 128) };
    const lines = Object.keys(cases).map((name) => ({ name, points: [] }));
    for (const threads of xs) {
      const results = await run(Object.values(cases), { threads });
      for (const [i, result] of results.entries()) lines[i].points.push([threads, result.tokensPerSecond]);
    }
    return { title: "Speed by threads", x: "threads", y: "tokens per second", logX: false, series: lines };
  },
};

/**
 * Points whose cost no line through their neighbours explains: log-log interpolation between the two, off by more than
 * CLIFF.
 */
function cliffs({ series }) {
  return series.flatMap(({ name, points: line }) =>
    line.slice(1, -1).flatMap(([x, y], i) => {
      const [[x0, y0], [x1, y1]] = [line[i], line[i + 2]];
      const share = Math.log(x / x0) / Math.log(x1 / x0);
      const expected = Math.exp(Math.log(y0) + share * Math.log(y1 / y0));
      const off = Math.max(y / expected, expected / y);
      return off > CLIFF
        ? [`${name} at ${x}: ${y.toPrecision(3)} where neighbours suggest ${expected.toPrecision(3)}`]
        : [];
    }),
  );
}

const unknown = positionals.filter((name) => !(name in AXES));
if (unknown.length > 0)
  throw new Error(`unknown axis ${unknown.join(", ")}; there are ${Object.keys(AXES).join(", ")}`);
for (const name of positionals.length > 0 ? positionals : Object.keys(AXES)) {
  process.stderr.write(`${name} ...\n`);
  const axis = await AXES[name]();
  const about = origin(`npm run bench:growth -- ${process.argv.slice(2).join(" ")}`.trim());
  const found = cliffs(axis);
  const file = join(here, "results", `growth-${tier}.json`);
  const known = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
  const record = { ...about, model: name === "model" ? Object.keys(MODELS) : values.model, ...axis, cliffs: found };
  writeFileSync(file, `${JSON.stringify({ ...known, [name]: record }, null, 1)}\n`);
  const { machine, commit } = about;
  const note = `${values.model}, ${tier}, ${machine.cpu}, ${values.threads} threads, ${commit.slice(0, 7)}`;
  writeFileSync(join(here, "results", `growth-${name}-${tier}.svg`), linePlot({ ...axis, note }));
  console.log(`\n${axis.title} (${axis.y})`);
  const xs = axis.series[0].points.map(([x]) => x);
  printTable([
    [axis.x, ...axis.series.map((line) => line.name)],
    ...xs.map((x, i) => [String(x), ...axis.series.map((line) => line.points[i][1].toPrecision(3))]),
  ]);
  for (const cliff of found) console.log(`off the trend: ${cliff}`);
}
