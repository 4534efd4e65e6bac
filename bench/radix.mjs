// `npm run bench:radix [-- --quick] [--model NAME] [--workloads a,b] [--setups a,b]`: RadixAttention on the paper's
// workloads (bench/radix/workloads.mjs), everything on and with one part turned off in turn.
//
//   full            lpm, radix cache, hints, forks side by side, cascade
//   no-cache        every prompt from its first token            fcfs, random    order of the waiting queue
//   no-tree         a flat cache: only the very same prompt      no-parallelism  branches of a fork one after another
//   no-hint         the engine is not told what will be shared   no-cascade      shared pages read once per request
//   tight, tight-fcfs      a pool of half of what the workload caches, beside the bound of an eviction that knows the future
//
// Setups without a cache run only the first items (throughput is programs per second). Hit rate: cached share of all
// prompt tokens; optimal: a cache that never forgets, over the same requests in whole pages. Setups of one workload are
// run in one process, one after the other, `--rounds` times (the tight ones once); the fastest of the rounds counts, for
// every setup alike. The results file is written after each workload.
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Engine, engineBackend } from "../dist/index.js";
import { boundedHitRate, infiniteHitRate } from "./radix/optimal.mjs";
import { WORKLOADS, Writer } from "./radix/workloads.mjs";
import { printTable, writeResults } from "./record.mjs";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "smollm2-135m" },
    quick: { type: "boolean", default: false },
    workloads: { type: "string" },
    setups: { type: "string" },
    name: { type: "string", default: "radix" },
    /** Size of the KV cache, but for the tight setups. */
    "pool-tokens": { type: "string", default: "16384" },
    /** Adds to the results file instead of starting it anew: a long table in several runs. */
    merge: { type: "boolean", default: false },
    /** Times that every setup is run; the fastest counts. */
    rounds: { type: "string", default: "2" },
    "own-cost": { type: "boolean", default: false },
  },
});

const CONCURRENCY = 32;
const POOL_TOKENS = Number(values["pool-tokens"]);
const SETUPS = {
  full: {},
  "no-cache": { config: { disableRadixCache: true }, share: 1 / 4 },
  "no-tree": { flat: true, share: 1 / 4 },
  fcfs: { config: { schedulePolicy: "fcfs" } },
  random: { config: { schedulePolicy: "random" } },
  "no-parallelism": { parallel: false },
  "no-hint": { hint: false },
  "no-cascade": { config: { disableCascade: true } },
  tight: { tight: true },
  "tight-fcfs": { tight: true, config: { schedulePolicy: "fcfs" } },
};
const QUICK = {
  workloads: ["mmlu", "tree", "chat-short"],
  setups: ["full", "no-cache", "no-tree", "tight", "tight-fcfs"],
};
const names = (given, quick, all) => given?.split(",") ?? (values.quick ? quick : Object.keys(all));
const workloads = names(values.workloads, QUICK.workloads, WORKLOADS);
/** The others are compared with `full`. */
const setups = [...new Set(["full", ...names(values.setups, QUICK.setups, SETUPS)])];

/** The engine as the backend sees it, with every request recorded. */
function recorder(engine, { flat = false }) {
  const requests = [];
  const keyOf = ({ prompt }) => createHash("sha256").update(JSON.stringify(prompt)).digest("hex");
  async function* generate(request) {
    const record = { prompt: [], output: [], limit: 0, usage: null };
    requests.push(record);
    const asked = flat ? { ...request, extraKey: keyOf(request) } : request;
    for await (const chunk of engine.generate(asked)) {
      if (chunk.index === 0 && chunk.promptTokenIds) {
        record.prompt = [...chunk.promptTokenIds];
        const start = request.logprobs?.startLen ?? -1;
        record.limit = Math.min(record.prompt.length, start < 0 ? record.prompt.length : Math.max(start, 1)) - 1;
      }
      if (chunk.index === 0) record.output.push(...chunk.tokenIdsDelta);
      record.usage = chunk.usage;
      yield chunk;
    }
  }
  const { model, tokenizer } = engine;
  return { requests, engine: { model, tokenizer, generate, flushCache: () => engine.flushCache() } };
}

const withoutHints = (backend) =>
  new Proxy(backend, {
    get(target, key) {
      if (key === "prefixHint") return undefined;
      const value = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });

async function run(workload, items, setup, poolTokens) {
  const { config = {}, parallel = true, hint = true, share = 1 } = setup;
  const engine = await Engine.load(values.model, {
    offline: true,
    schedulePolicy: "lpm",
    maxTotalTokens: poolTokens,
    randomSeed: 1,
    preferredSamplingParams: { temperature: 0, ignoreEos: true },
    ...config,
  });
  try {
    for await (const _ of engine.generate({
      prompt: { text: "warm up" },
      samplingParams: { maxNewTokens: 2 },
      extraKey: "warm",
    }));
    const { requests, engine: recorded } = recorder(engine, setup);
    const backend = hint ? engineBackend(recorded) : withoutHints(engineBackend(recorded));
    const some = items.slice(0, Math.ceil(items.length * share));
    const before = engine.stats().counters;
    const started = performance.now();
    const results = await workload.program.batch(some, {
      backend,
      concurrency: CONCURRENCY,
      sharedPrefix: hint,
      args: (item) => [item, { parallel }],
    });
    const seconds = (performance.now() - started) / 1000;
    const failed = results.find(({ ok }) => !ok);
    if (failed) throw failed.error;
    const { counters, pages } = engine.stats();
    // One program alone on an empty cache.
    const recordedRequests = [...requests];
    const alone = async () => {
      await engine.flushCache({ timeoutSeconds: 10 });
      const since = performance.now();
      await workload.program.run(items[0], { parallel }, { backend });
      return (performance.now() - since) / 1000;
    };
    const latencySeconds = some.length === 1 ? seconds : await alone();
    const prompt = recordedRequests.reduce((sum, { prompt: ids }) => sum + ids.length, 0);
    const cached = recordedRequests.reduce((sum, { usage }) => sum + (usage?.cachedTokens ?? 0), 0);
    return {
      programs: some.length,
      seconds,
      programsPerSecond: some.length / seconds,
      latencySeconds,
      requests: recordedRequests,
      hitRate: cached / prompt,
      computedTokens: counters.computedPromptTokens - before.computedPromptTokens,
      evictedTokens: counters.evictedTokens,
      retractions: counters.retractions,
      pageSize: pages.pageSize,
      values: results.map(({ value }) => JSON.stringify(value)),
    };
  } finally {
    await engine.close();
  }
}

/** Share of wall time inside the prefix cache's own calls when nothing is ever shared, read from a trace (`--trace`). */
async function ownCost() {
  const writer = new Writer(99);
  const prompts = writer.list(values.quick ? 20 : 100, () => writer.words(120));
  const folder = mkdtempSync(join(tmpdir(), "sglang-ts-own-cost-"));
  const trace = join(folder, "trace.json");
  try {
    const engine = await Engine.load(values.model, { offline: true, maxTotalTokens: POOL_TOKENS, trace });
    const started = performance.now();
    try {
      await Promise.all(
        prompts.map(async (text) => {
          const samplingParams = { maxNewTokens: 8, temperature: 0, ignoreEos: true };
          for await (const _ of engine.generate({ prompt: { text }, samplingParams, stream: false }));
        }),
      );
    } finally {
      await engine.close();
    }
    const wall = performance.now() - started;
    const calls = JSON.parse(readFileSync(trace, "utf8")).filter(({ ph, name }) => ph === "X" && /^cache /.test(name));
    const inside = calls.reduce((sum, { dur }) => sum + dur, 0) / 1000;
    return { prompts: prompts.length, wallMs: wall, calls: calls.length, cacheMs: inside, share: inside / wall };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;
const file = new URL(`./results/${values.name}.json`, import.meta.url);
const before = values.merge && existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};

function write(results, cost) {
  const all = { ...before.workloads, ...results };
  const shares = Object.values(all)
    .map(({ full }) => full)
    .filter((r) => r && r.optimalHitRate > 0);
  const mean = (read) => shares.reduce((sum, r) => sum + read(r), 0) / shares.length;
  const hitRates = {
    hitRateOfOptimal: mean((r) => r.hitRate / r.optimalHitRate),
    hitRateOfOptimalPerToken: mean((r) => r.hitRate / r.optimalHitRatePerToken),
  };
  writeResults(values.name, `npm run bench:radix -- ${process.argv.slice(2).join(" ")}`.trim(), {
    model: values.model,
    concurrency: CONCURRENCY,
    poolTokens: POOL_TOKENS,
    ...hitRates,
    ownCost: cost ?? before.ownCost ?? null,
    workloads: all,
  });
  return hitRates;
}

/** The fastest of the rounds of each setup. A first run, which compiles the JavaScript, is not counted. */
async function rounds(workload, items) {
  const full = await run(workload, items, {}, POOL_TOKENS);
  const distinct = full.computedTokens + full.requests.reduce((sum, { output }) => sum + output.length, 0);
  const longest = Math.max(...full.requests.map(({ prompt, output }) => prompt.length + output.length));
  const tightTokens = Math.max(longest + 64, Math.ceil(distinct / 2));
  const best = new Map(setups.map((name) => [name, null]));
  for (let round = 0; round < Number(values.rounds); round++) {
    // There and back, so that a slow minute of the machine does not always meet the same setup.
    for (const name of round % 2 === 0 ? setups : setups.toReversed()) {
      const setup = SETUPS[name];
      // What tight pools are about does not depend on the clock.
      if (setup.tight && round > 0) continue;
      const it = await run(workload, items, setup, setup.tight ? tightTokens : POOL_TOKENS);
      // Exactness on the way: turning anything off changes speed, never an answer.
      const wrong = it.values.findIndex((value, i) => value !== full.values[i]);
      if (wrong >= 0) throw new Error(`answer ${wrong} of setup ${name} differs from that of the full setup`);
      const so = best.get(name);
      const latencySeconds = Math.min(it.latencySeconds, so?.latencySeconds ?? Number.POSITIVE_INFINITY);
      best.set(name, { ...(so && so.seconds < it.seconds ? so : it), latencySeconds });
    }
  }
  return { best, tightTokens };
}

const results = {};
const rows = [
  ["workload / setup", "programs/s", "of full", "latency s", "hit rate", "optimal", "of optimal", "computed tokens"],
];
for (const name of workloads) {
  const workload = WORKLOADS[name];
  const [busy] = loadavg();
  const { best, tightTokens } = await rounds(workload, workload.items(new Writer(7)));
  // Above the number of cores: the machine had other work, and times are longer than they need be.
  results[name] = { what: workload.what, loadAverageBefore: busy, loadAverageAfter: loadavg()[0] };
  const full = best.get("full");
  for (const [setupName, it] of best) {
    const setup = SETUPS[setupName];
    const { requests, values: _, ...figures } = it;
    const cacheless = setupName === "no-cache" || setup.flat;
    const optimal = setup.tight
      ? boundedHitRate(requests, it.pageSize, Math.floor(tightTokens / it.pageSize))
      : infiniteHitRate(requests, it.pageSize);
    results[name][setupName] = {
      ...figures,
      optimalHitRate: optimal,
      optimalHitRatePerToken: infiniteHitRate(requests, 1),
      ...(setup.tight && { poolTokens: tightTokens }),
      speedOfFull: it.programsPerSecond / full.programsPerSecond,
    };
    rows.push([
      `${name} ${setupName}`,
      it.programsPerSecond.toFixed(2),
      `${(it.programsPerSecond / full.programsPerSecond).toFixed(2)}x`,
      it.latencySeconds.toFixed(2),
      percent(it.hitRate),
      cacheless ? "" : percent(optimal),
      cacheless || optimal === 0 ? "" : percent(it.hitRate / optimal),
      String(it.computedTokens),
    ]);
    console.error(rows.at(-1).join("  "));
  }
  write(results, null);
}
const cost = values["own-cost"] || !(values.setups || values.workloads) ? await ownCost() : null;
console.log("");
printTable(rows);
const { hitRateOfOptimal, hitRateOfOptimalPerToken } = write(results, cost);
console.log(
  `\nhit rate: ${percent(hitRateOfOptimal)} of the optimal one in whole pages, ${percent(hitRateOfOptimalPerToken)} of the one in tokens, on average (bar: 97 %)`,
);
for (const name of workloads) {
  const gain = results[name]["no-cache"];
  if (gain) console.log(`${name}: ${(1 / gain.speedOfFull).toFixed(1)}x the throughput without a cache`);
}
if (cost)
  console.log(
    `own cost without reuse: ${percent(cost.share)} of wall time (bar: 0.3 %): ${cost.cacheMs.toFixed(1)} ms of ${cost.wallMs.toFixed(0)} ms`,
  );
