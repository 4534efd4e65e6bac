/**
 * How close every mode is to exact arithmetic on the file's own weights, and to llama.cpp on the same file and tokens.
 *
 *   npm run bench:accuracy -- [--model NAME | q8_0:NAME] [--windows 16] [--stride 2] [--only NAME,...] [--no-compare] [--fresh] [--save]
 *
 * The reference is the plain f32 path (f32 activations, f32 keys and values) of the best tier, which the golden tests
 * check against other implementations. What is measured is kept per position under the cache folder, so a run that was
 * stopped goes on and systems are compared in pairs; a rebuilt engine is measured again. `--only` measures systems whose
 * names have one of the texts (llama.cpp is one) and shows what is known of the others; `--save` writes the results file all
 * the same. `--fresh` forgets everything, the reference too.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { KV_DTYPES } from "../dist/native/addon.js";
import { loadAddon } from "../dist/native/load.js";
import * as engineConfig from "../dist/runtime/config.js";
import { cacheFolders } from "../dist/weights/cache.js";
import { clusteredMean, compareRows, mean } from "./accuracy/divergence.mjs";
import { openEngine, openLlama } from "./accuracy/sources.mjs";
import { readWindows, WINDOW } from "./accuracy/windows.mjs";
import { openModelFile } from "./model-file.mjs";
import { printTable, quantile, writeResults } from "./record.mjs";

/** The first positions of a window have a few ill-conditioned tokens that otherwise dominate a mean. */
const LATE = 16;
const LLAMA = "llama.cpp";
/** Tiers without vector units take a minute per window: they get this many. */
const SLOW_TIER_WINDOWS = 2;

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: {
    model: { type: "string", default: "qwen2.5-coder-0.5b" },
    windows: { type: "string", default: "16" },
    stride: { type: "string", default: "2" },
    threads: { type: "string", default: String(availableParallelism()) },
    only: { type: "string", default: "" },
    "no-compare": { type: "boolean", default: false },
    fresh: { type: "boolean", default: false },
    save: { type: "boolean", default: false },
  },
});
const stride = Number(values.stride);
const threads = Number(values.threads);
const { path: model, note } = await openModelFile(values.model);

const sha = (...parts) =>
  parts
    .reduce((hash, part) => hash.update(part), createHash("sha256"))
    .digest("hex")
    .slice(0, 16);
const contents = (folder, suffix) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(suffix))
    .sort()
    .map((name) => readFileSync(join(folder, name)));
const dist = join(here, "../dist");
const BUILD = sha(
  ...["graph", "models", "native"].flatMap((room) => contents(join(dist, room), ".js")),
  ...contents(join(here, "../native/build/Release"), ".node"),
);
const { size, mtimeMs } = statSync(model);
const folder = join(
  dirname(cacheFolders().models),
  "bench-accuracy",
  sha(model, String([size, mtimeMs, stride]), ...contents(join(here, "accuracy/text"), ".txt")),
);
if (values.fresh) rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });

/** Systems by name: this engine in every tier, numerics mode and KV dtype that it reports, and llama.cpp. */
function allSystems() {
  const tiers = loadAddon()
    .tiers()
    .filter(({ supported }) => supported)
    .map(({ name }) => name);
  const numerics = engineConfig.NUMERICS ?? [null];
  const ours = tiers.flatMap((tier, t) =>
    numerics.flatMap((mode) =>
      // KV dtypes differ in what is stored, not by tier: the best tier shows them, others their arithmetic.
      (t === 0 ? KV_DTYPES : ["f32"]).map((kvCacheDtype) => ({
        name: [mode ?? "f32", `kv ${kvCacheDtype}`, tier].join(", "),
        options: { tier, kvCacheDtype, ...(mode === null ? {} : { numerics: mode }) },
        windows: tier === "portable" ? SLOW_TIER_WINDOWS : Number.POSITIVE_INFINITY,
      })),
    ),
  );
  const plain = ours.find(
    ({ options }) => options.kvCacheDtype === "f32" && [undefined, "f32"].includes(options.numerics),
  );
  if (plain === undefined) throw new Error("the engine reports no plain f32 path");
  return { ours, plain };
}

const { ours, plain } = allSystems();
const referenceInfo = join(folder, "reference.json");
const referenceFile = (window) => join(folder, `reference-${window}.f32`);
const readFloats = (file) => {
  const { buffer, byteOffset, byteLength } = readFileSync(file);
  return new Float32Array(buffer, byteOffset, byteLength / 4);
};

async function withEngine(options, work) {
  const source = await openEngine(model, { threads, ...options });
  try {
    return await work(source);
  } finally {
    await source.close();
  }
}

/** The windows, and the reference's logits for each of them on disk: what is there already stays. */
async function prepareReference() {
  const count = Number(values.windows);
  const known = existsSync(referenceInfo) ? JSON.parse(readFileSync(referenceInfo, "utf8")) : { windows: [] };
  if (known.windows.length >= count) return known;
  return await withEngine(plain.options, async (source) => {
    const windows = readWindows(source.tokenizer, count);
    let info = known;
    for (let i = known.windows.length; i < count; i++) {
      process.stderr.write(`\rreference: window ${i + 1}/${count} `);
      const { logits, columns } = await source.rows(windows[i].ids, stride);
      writeFileSync(referenceFile(i), logits);
      info = { system: plain.name, build: BUILD, columns, windows: windows.slice(0, i + 1) };
      writeFileSync(referenceInfo, JSON.stringify(info));
    }
    process.stderr.write("\n");
    return info;
  });
}

const reference = await prepareReference();
const windows = reference.windows.slice(0, Number(values.windows));

/** One system over the windows, kept on disk window by window: { kl, nll, same } of each position. */
async function measure(name, build, count, open) {
  const file = join(folder, `${name.replace(/[^a-z0-9.]+/gi, "-")}.json`);
  const kept = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : { build: null };
  const measured = kept.build === build ? kept.windows : [];
  let { weightsBytes } = kept;
  if (measured.length < count && wanted(name)) {
    const source = await open();
    weightsBytes = source.weightsBytes;
    try {
      for (let w = measured.length; w < count; w++) {
        process.stderr.write(`\r${name}: window ${w + 1}/${count} `);
        measured.push(
          compareWindow(windows[w].ids, readFloats(referenceFile(w)), await source.rows(windows[w].ids, stride)),
        );
        writeFileSync(file, JSON.stringify({ build, weightsBytes, windows: measured }));
      }
    } finally {
      await source.close();
    }
    process.stderr.write("\n");
  }
  return { weightsBytes, windows: measured.slice(0, count) };
}

function compareWindow(ids, expected, { logits, columns }) {
  const row = { kl: [], nll: [], same: [] };
  for (let p = 0, r = 0; p < WINDOW; p += stride, r++) {
    const next = ids[p + 1] ?? -1;
    const { kl, nll, same } = compareRows(
      expected,
      r * reference.columns,
      logits,
      r * columns,
      reference.columns,
      next,
    );
    row.kl.push(kl);
    row.nll.push(nll);
    row.same.push(same ? 1 : 0);
  }
  return row;
}

const results = new Map();
const wanted = (name) => values.only.split(",").some((text) => name.includes(text));
for (const { name, options, windows: most } of ours) {
  const count = Math.min(windows.length, most);
  const result = await measure(name, BUILD, count, () => openEngine(model, { threads, ...options }));
  if (result.windows.length > 0) results.set(name, result);
}
if (!values["no-compare"]) {
  const compare = join(here, "compare");
  const manifest = join(compare, "node_modules/node-llama-cpp/package.json");
  if (existsSync(manifest)) {
    const { version } = JSON.parse(readFileSync(manifest, "utf8"));
    const result = await measure(LLAMA, version, windows.length, () => openLlama(model, threads));
    if (result.windows.length > 0) results.set(LLAMA, result);
  } else console.log("llama.cpp is left out: run `npm install --ignore-scripts` in bench/compare to compare with it.");
}

/** Positions of all windows in one list, with the window of each. */
function flat({ windows: measured }, key, from) {
  const skip = Math.ceil(from / stride);
  return measured.flatMap((row) => row[key].slice(skip));
}
const windowOf = ({ windows: measured }, from) =>
  measured.flatMap((row, w) => row.kl.slice(Math.ceil(from / stride)).map(() => w));

function summary(name, result) {
  const kl = flat(result, "kl", 0);
  const late = clusteredMean(flat(result, "kl", LATE), windowOf(result, LATE));
  const llama = results.get(LLAMA);
  const row = {
    system: name,
    windows: result.windows.length,
    positions: kl.length,
    kl: mean(kl),
    kl16: late.mean,
    kl16Se: late.se,
    p99: quantile(kl, 0.99),
    top1: mean(flat(result, "same", 0)),
    perplexity: Math.exp(mean(flat(result, "nll", 0).filter((nll) => nll !== null && !Number.isNaN(nll)))),
    weightsBytes: result.weightsBytes ?? null,
  };
  if (llama === undefined || name === LLAMA) return row;
  // Pairs need both: a run that was stopped has fewer windows of one.
  const pairs = Math.min(llama.windows.length, result.windows.length);
  if (pairs === 0) return row;
  const peer = { windows: llama.windows.slice(0, pairs) };
  const own = { windows: result.windows.slice(0, pairs) };
  const theirs = flat(peer, "kl", LATE);
  const paired = clusteredMean(
    flat(own, "kl", LATE).map((x, i) => x - theirs[i]),
    windowOf(own, LATE),
  );
  const better = own.windows.filter(
    (row, w) => mean(row.kl.slice(LATE / stride)) < mean(peer.windows[w].kl.slice(LATE / stride)),
  );
  return {
    ...row,
    vsLlama: {
      difference: paired.mean,
      se: paired.se,
      t: paired.mean / paired.se,
      windowsBetter: better.length,
      windows: pairs,
    },
  };
}

const rows = [...results].map(([name, result]) => summary(name, result));
const power = (x) => x.toExponential(1);
console.log(
  `${values.model}: ${windows.length} windows of ${WINDOW} tokens, every ${stride}nd position scored; reference: ${reference.system}\n`,
);
printTable([
  ["system", "windows", "KL", "KL16", "SE", "p99", "top-1", "perplexity", "KL16 - llama.cpp", "t", "windows better"],
  ...rows.map((row) => [
    row.system,
    String(row.windows),
    power(row.kl),
    power(row.kl16),
    power(row.kl16Se),
    power(row.p99),
    row.top1.toFixed(4),
    row.perplexity.toFixed(4),
    row.vsLlama ? power(row.vsLlama.difference) : "",
    row.vsLlama ? row.vsLlama.t.toFixed(1) : "",
    row.vsLlama ? `${row.vsLlama.windowsBetter}/${row.vsLlama.windows}` : "",
  ]),
]);
if (values.save || (values.only === "" && !values["no-compare"]))
  writeResults(
    `accuracy-${values.model.replace(/[^a-z0-9.-]+/gi, "-")}-${ours[0].options.tier}`,
    `npm run bench:accuracy -- ${process.argv.slice(2).join(" ")}`.trim(),
    {
      model: values.model,
      ...(note && { note }),
      window: WINDOW,
      stride,
      reference: reference.system,
      systems: rows,
    },
  );
