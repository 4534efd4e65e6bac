// `npm run bench:simulate [-- --model NAME] [--requests N] [--seconds N]`
// 1. Records a profile of a model on this machine. 2. Replays a trace on the real engine and compares with the
// simulation's prediction. 3. Simulates a large trace under every policy. Tables, and bench/results/simulate.json.
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
  },
});
setLogLevel("error");
const blockTokens = 16;
const config = { contextLength: 1024, maxRunningRequests: 32, maxTotalTokens: 16384 };

const parts = await loadEngineParts(values.model, { ...config, offline: true });
const recorded = recordedEngine(parts);
const { engine } = recorded;
await replay(engine, [{ at: 0, inputLength: 8, outputLength: 4, blocks: [] }]);
recorded.restart();
const calibrationStarted = performance.now();
await calibrate(engine);
const profile = recorded.profile();
const { error } = profile;
const percent = (share) => `${(100 * share).toFixed(1)} %`;
console.log(
  `profile: ${profile.steps} steps in ${((performance.now() - calibrationStarted) / 1000).toFixed(0)} s, ` +
    `gap ${profile.gapMs.toFixed(2)} ms, fitted to ${percent(error.median)} in the median, ${percent(error.p90)} at p90\n`,
);

// Load at which the engine is busy but keeps up, from the profile itself.
const work = { meanInput: 60, meanOutput: 30, prefixes: 6, prefixTokens: 96, blockTokens, seed: 7 };
const probe = await simulate(makeTrace({ ...work, requests: 400, rate: 1e6 }), profile, config, { blockTokens });
const rate = (0.7 * probe.requests) / probe.seconds;
const trace = makeTrace({ ...work, requests: Math.round(rate * Number(values.seconds)), rate });

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

const large = makeTrace({ ...work, requests: Number(values.requests), rate: rate * 1.2, prefixes: 200, seed: 8 });
const policies = {};
for (const schedulePolicy of ["fcfs", "lpm"]) {
  policies[schedulePolicy] = await simulate(
    large,
    profile,
    { ...config, schedulePolicy, randomSeed: 1 },
    { blockTokens },
  );
}
printTable([
  [`${large.length} requests`, ...Object.keys(policies)],
  ...METRICS.map(([name, read]) => [name, ...Object.values(policies).map((report) => show(read(report)))]),
  ["simulated in, s", ...Object.values(policies).map(({ wallSeconds }) => show(wallSeconds))],
]);
writeResults("simulate", "npm run bench:simulate", { model: values.model, config, profile, comparisons, policies });
