// `npm run bench:soak [-- --minutes N] [--model NAME] [--seed N]`
// Random arrivals, aborts, disconnects, deadlines, priorities, pauses and retractions in a tiny KV cache, on real
// weights: no page may be lost, no answer be another than alone, memory must not grow. Writes bench/results/soak.json.
import { spawn } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { soak } from "../dist/testing/soak.js";
import { printTable, writeResults } from "./record.mjs";

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "20" },
    model: { type: "string", default: "smollm2-135m" },
    seed: { type: "string", default: "1" },
  },
});
const FLAGS = ["--max-total-tokens", "1024", "--max-running-requests", "16", "--chunked-prefill-size", "64"];
FLAGS.push("--schedule-conservativeness", "0.1", "--enable-priority-scheduling", "--log-level", "error");

const cli = join(dirname(fileURLToPath(import.meta.url)), "../dist/cli/main.js");
const server = spawn(process.execPath, [cli, "serve", "--model-path", values.model, "--port", "0", ...FLAGS], {
  stdio: ["ignore", "pipe", "inherit"],
});
const url = await new Promise((resolve, reject) => {
  let output = "";
  server.stdout.on("data", (data) => {
    output += data;
    const ready = /ready at (http:\S+)/.exec(output);
    if (ready) resolve(ready[1]);
  });
  server.on("exit", () => reject(new Error(`the server ended: ${output}`)));
});
let lines = 0;
const report = await soak({
  url,
  seconds: 60 * Number(values.minutes),
  seed: Number(values.seed),
  onSecond: ({ seconds, requests, wrong }) => {
    if (lines++ % 30 === 0) console.log(`${seconds.toFixed(0)} s: ${requests} requests, ${wrong} wrong`);
  },
}).finally(() => server.kill("SIGTERM"));

const { ended, counters, memory } = report;
printTable([
  ["requests", `${report.requests}`],
  ...Object.entries(ended).map(([how, count]) => [`  ${how}`, `${count}`]),
  ["retractions", `${counters.retractions}`],
  ["preemptions", `${counters.preemptions}`],
  ["tokens evicted", `${counters.evictedTokens}`],
  ["pauses", `${report.pauses}`],
  ["wrong answers", `${report.wrong}`],
  ["leaked pages", `${report.leakedPages}`],
  ["resident at a third, MB", memory.third.toFixed(1)],
  ["resident at the end, MB", memory.end.toFixed(1)],
  ["slope, MB per minute", memory.slopePerMinute.toFixed(2)],
]);
for (const wrong of report.wrongAnswers) console.log(wrong);
writeResults("soak", `npm run bench:soak -- --minutes ${values.minutes}`, {
  model: values.model,
  flags: FLAGS,
  report,
});
process.exitCode = report.wrong > 0 || report.leakedPages !== 0 ? 1 : 0;
