// `npm run bench:simulate [-- --model NAME] [--requests N] [--seconds N] [--only predict|scale]`
// predict: records a profile of a model on this machine, replays a trace on the real engine and compares with the
// simulation's prediction. scale: simulates a large trace with the profile of the last `predict` under two policies.
// Without --only both. Tables, and bench/results/simulate.json.
import { existsSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { setLogLevel } from "../dist/core/logger.js";
import { loadEngineParts } from "../dist/runtime/load.js";
import { calibrate, makeTrace, recordedEngine, replay, simulate } from "../dist/runtime/simulate/index.js";
import { printTable, writeResults } from "./record.mjs";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "smollm2-135m" },
    requests: { type: "string", default: "100000" },
    seconds: { type: "string", default: "40" },
    only: { type: "string" },
  },
});
setLogLevel("error");
const blockTokens = 16;
const config = { contextLength: 1024, maxRunningRequests: 32, maxTotalTokens: 16384 };

const LIMIT_SECONDS = 60;
const file = new URL("./results/simulate.json", import.meta.url);
const before = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : {};
const percent = (share) => `${(100 * share).toFixed(1)} %`;
const work = { meanInput: 60, meanOutput: 30, prefixes: 6, prefixTokens: 96, blockTokens, seed: 7 };

const METRICS = [
  ["time of the trace, s", (r) => r.seconds],
  ["output tokens/s", (r) => r.outputTokensPerSecond],
  ["first token, mean ms", (r) => r.firstTokenMs.mean],
  ["first token, p90 ms", (r) => r.firstTokenMs.p90],
  ["between tokens, mean ms", (r) => r.interTokenMs.mean],
  ["end to end, mean ms", (r) => r.endToEndMs.mean],
  ["end to end, p90 ms", (r) => r.endToEndMs.p90],
  ["cache hit rate", (r) => r.cacheHitRate],
];
const show = (value) => value.toFixed(value < 10 ? 3 : 1);

/** Load at which the engine is busy but keeps up, from the profile itself: requests per second. */
async function busyRate(profile) {
  const probe = await simulate(makeTrace({ ...work, requests: 400, rate: 1e6 }), profile, config, { blockTokens });
  return (0.7 * probe.requests) / probe.seconds;
}

async function predict() {
  const parts = await loadEngineParts(values.model, { ...config, offline: true });
  const recorded = recordedEngine(parts);
  const { engine } = recorded;
  await replay(engine, [{ at: 0, inputLength: 8, outputLength: 4, blocks: [] }]);
  recorded.restart();
  const calibrationStarted = performance.now();
  await calibrate(engine);
  const profile = recorded.profile();
  const { error } = profile;
  console.log(
    `profile: ${profile.steps} steps in ${((performance.now() - calibrationStarted) / 1000).toFixed(0)} s, ` +
      `gap ${profile.gapMs.toFixed(2)} ms, fitted to ${percent(error.median)} in the median, ${percent(error.p90)} at p90\n`,
  );

  const rate = await busyRate(profile);
  const trace = makeTrace({ ...work, requests: Math.round(rate * Number(values.seconds)), rate });

  const comparisons = {};
  for (const policy of ["fcfs", "lpm"]) {
    const options = { ...config, schedulePolicy: policy };
    let measured;
    if (policy === "fcfs") {
      await engine.flushCache({ timeoutSeconds: 10 });
      measured = await replay(engine, trace, { blockTokens });
      await engine.close();
    } else {
      const other = recordedEngine(await loadEngineParts(values.model, { ...options, offline: true }));
      await replay(other.engine, [{ at: 0, inputLength: 8, outputLength: 4, blocks: [] }]);
      await other.engine.flushCache({ timeoutSeconds: 10 });
      measured = await replay(other.engine, trace, { blockTokens });
      await other.engine.close();
    }
    const predicted = await simulate(trace, profile, options, { blockTokens });
    const rows = METRICS.map(([name, read]) => [name, read(measured), read(predicted)]);
    console.log(`${policy}: ${trace.length} requests at ${rate.toFixed(2)} per second`);
    printTable([
      ["", "measured", "predicted", "error"],
      ...rows.map(([name, real, guess]) => [name, show(real), show(guess), percent(guess / real - 1)]),
    ]);
    console.log();
    comparisons[policy] = {
      rate,
      measured,
      predicted,
      errors: Object.fromEntries(rows.map(([n, a, b]) => [n, b / a - 1])),
    };
  }

  return { profile, comparisons };
}

/** A large trace: what each policy would give, and how long simulating takes. */
async function scale(profile) {
  const rate = 1.2 * (await busyRate(profile));
  const large = makeTrace({ ...work, requests: Number(values.requests), rate, prefixes: 200, seed: 8 });
  const policies = {};
  for (const schedulePolicy of ["fcfs", "lpm"]) {
    const options = { ...config, schedulePolicy, randomSeed: 1 };
    policies[schedulePolicy] = await simulate(large, profile, options, { blockTokens });
  }
  printTable([
    [`${large.length} requests`, ...Object.keys(policies)],
    ...METRICS.map(([name, read]) => [name, ...Object.values(policies).map((report) => show(read(report)))]),
    ["simulated in, s", ...Object.values(policies).map(({ wallSeconds }) => show(wallSeconds))],
  ]);
  const slowest = Math.max(...Object.values(policies).map(({ wallSeconds }) => wallSeconds));
  console.log(`${slowest < LIMIT_SECONDS ? "below" : "ABOVE"} the bar of ${LIMIT_SECONDS} s`);
  return policies;
}

const { profile, comparisons } = values.only === "scale" ? before : await predict();
if (!profile)
  throw new Error("There is no profile in bench/results/simulate.json yet: run it with --only predict first.");
const policies = values.only === "predict" ? before.policies : await scale(profile);
writeResults("simulate", `npm run bench:simulate -- ${process.argv.slice(2).join(" ")}`.trim(), {
  model: values.model,
  config,
  profile,
  comparisons,
  policies,
});
