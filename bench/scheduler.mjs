// `npm run bench:scheduler [-- --queued N] [--steps N]`
// What the scheduler takes per step with a long queue: its own JavaScript, kernels left out. A step is timed from the
// end of one forward pass to the launch of the next.
import { parseArgs } from "node:util";
import { setLogLevel } from "../dist/core/logger.js";
import { DEFAULT_SAMPLING_PARAMS } from "../dist/core/sampling-params.js";
import { resolveEngineConfig } from "../dist/runtime/config.js";
import { Req } from "../dist/runtime/request.js";
import { Scheduler } from "../dist/runtime/scheduler.js";
import { schedulerOptions } from "../dist/runtime/scheduler-options.js";
import { CostRunner } from "../dist/runtime/simulate/cost-runner.js";
import { CostModel, makeTrace } from "../dist/runtime/simulate/index.js";
import { promptTokens } from "../dist/runtime/simulate/trace.js";
import { printTable, quantile, writeResults } from "./record.mjs";

const { values } = parseArgs({
  options: { queued: { type: "string", default: "1000" }, steps: { type: "string", default: "2000" } },
});
setLogLevel("error");
const queued = Number(values.queued);
const steps = Number(values.steps);
const blockTokens = 64;
const LIMIT_MS = 2;

/** Keeps `queued` requests waiting while `steps` steps run; milliseconds of each step. */
async function measure(options) {
  const config = resolveEngineConfig({ maxRunningRequests: 64, watchdogTimeout: 0, randomSeed: 1, ...options });
  const trace = makeTrace({
    requests: 20_000,
    rate: 1e6,
    meanInput: 200,
    meanOutput: 60,
    prefixes: 100,
    prefixTokens: 256,
    blockTokens,
    tenants: ["a", "b", "c", "d"],
    seed: 1,
  });
  const runner = new CostRunner(new CostModel({ coefficients: [1, ...Array(11).fill(0)] }), {
    pages: 65536 / config.pageSize,
    pageSize: config.pageSize,
    maxTokens: 512,
    maxRows: 512,
    gapMs: 0,
  });
  const times = [];
  let resumed = null;
  const forward = runner.forward.bind(runner);
  runner.forward = async (inputs) => {
    if (resumed !== null) times.push(performance.now() - resumed);
    refill();
    const outputs = await forward(inputs);
    resumed = performance.now();
    return outputs;
  };
  const scheduler = new Scheduler(runner, schedulerOptions(config, runner, { strict: false }));
  let next = 0;
  let waiting = 0;
  const output = {
    pushToken: (req) => (req.outputLength >= req.maxNewTokens ? { type: "length", length: req.outputLength } : null),
    finish: () => {},
    fail: (error) => {
      throw error;
    },
  };
  function refill() {
    waiting = scheduler.stats().numQueueReqs;
    for (; waiting < queued; waiting++, next++) {
      const one = trace[next % trace.length];
      const promptIds = promptTokens(one, next, runner.vocabSize, blockTokens);
      const params = { ...DEFAULT_SAMPLING_PARAMS, ignoreEos: true };
      const init = {
        rid: `${next}`,
        group: {},
        promptIds,
        params,
        maxNewTokens: one.outputLength,
        seed: 0n,
        stopIds: new Set(),
      };
      scheduler.enqueue([new Req({ ...init, tenant: one.tenant, priority: next % 5, output })]);
    }
  }
  refill();
  while (times.length < steps) await new Promise((resolve) => setTimeout(resolve, 5));
  await scheduler.close();
  const own = times.slice(100, steps);
  return {
    median: quantile(own, 0.5),
    mean: own.reduce((a, b) => a + b, 0) / own.length,
    p99: quantile(own, 0.99),
    max: Math.max(...own),
  };
}

const SETUPS = {
  fcfs: {},
  lpm: { schedulePolicy: "lpm" },
  "dfs-weight": { schedulePolicy: "dfs-weight" },
  lof: { schedulePolicy: "lof" },
  random: { schedulePolicy: "random" },
  priorities: { enablePriorityScheduling: true },
  "fair shares": { enableTenantFairness: true },
  "both, no cache": { enablePriorityScheduling: true, enableTenantFairness: true, disableRadixCache: true },
};
const figures = {};
for (const [name, options] of Object.entries(SETUPS)) figures[name] = await measure(options);
console.log(`${queued} requests wait, 64 run; milliseconds of JavaScript per step over ${steps} steps`);
printTable([
  ["", "median", "mean", "p99", "max"],
  ...Object.entries(figures).map(([name, f]) => [name, ...[f.median, f.mean, f.p99, f.max].map((ms) => ms.toFixed(3))]),
]);
const slowest = Math.max(...Object.values(figures).map(({ mean }) => mean));
console.log(
  `${slowest < LIMIT_MS ? "below" : "ABOVE"} the bar of ${LIMIT_MS} ms per step: the slowest mean is ${slowest.toFixed(3)} ms`,
);
writeResults("scheduler", "npm run bench:scheduler", { queued, steps, figures });
