// `npm run bench:timer [-- --model NAME] [--rounds N] [--seconds S] [--plain]`
// How late a 60 Hz timer of the same process fires while 32 requests run in step: the event loop must stay free. Each round
// is a process of its own, first burst included. Lateness is counted from when the timer should have fired; a tick that the
// machine itself delayed (no core free for a process without an engine) counts too.
import { spawnSync } from "node:child_process";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "qwen2.5-coder-0.5b" },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "25" },
    plain: { type: "boolean", default: false },
    /** One round in this process; prints one JSON line. */
    round: { type: "boolean", default: false },
    /** Flags for Node in each round, such as --trace-gc or --cpu-prof. */
    node: { type: "string", default: "" },
  },
});
const BATCH = 32;
const FRAME = 1000 / 60;
const LIMIT_MS = 10;

/** Latenesses of all ticks and what they fell into. */
function watchTimer() {
  const ticks = [];
  let expected = performance.now() + FRAME;
  const timer = setInterval(() => {
    const now = performance.now();
    ticks.push([now, now - expected]);
    expected = now + FRAME;
  }, FRAME);
  return () => {
    clearInterval(timer);
    return ticks;
  };
}

async function round() {
  const { setLogLevel } = await import("../dist/core/logger.js");
  const { Engine } = await import("../dist/index.js");
  setLogLevel("error");
  const engine = await Engine.load(values.model, {
    offline: true,
    contextLength: 1024,
    maxRunningRequests: 64,
    disableOverlapSchedule: values.plain,
  });
  const ask = async (salt) => {
    const inputIds = Array.from({ length: 128 }, (_, i) => 300 + ((i * 7919 + salt * 104729) % 5000));
    const samplingParams = { temperature: 0, maxNewTokens: 30, ignoreEos: true };
    for await (const _ of engine.generate({ prompt: { inputIds }, samplingParams, stream: true }));
  };
  const stop = watchTimer();
  const started = performance.now();
  const ends = [];
  for (let burst = 0; performance.now() - started < Number(values.seconds) * 1000; burst++) {
    await engine.flushCache({ timeoutSeconds: 5 });
    await Promise.all(Array.from({ length: BATCH }, (_, i) => ask(1000 * burst + i)));
    ends.push(performance.now() - started);
  }
  const ticks = stop();
  await engine.close();
  const late = ticks.map(([, lateness]) => lateness).sort((a, b) => a - b);
  const worst = ticks
    .filter(([, lateness]) => lateness > LIMIT_MS / 2)
    .map(([at, lateness]) => ({ atMs: Math.round(at - started), lateMs: Number(lateness.toFixed(2)) }));
  return {
    ticks: late.length,
    p99Ms: late[Math.floor(late.length * 0.99)],
    maxMs: late.at(-1),
    worst,
    burstEndsMs: ends.map(Math.round),
  };
}

if (values.round) {
  console.log(JSON.stringify(await round()));
} else {
  const { printTable, writeResults } = await import("./record.mjs");
  const rounds = [];
  const args = ["--round", "--model", values.model, "--seconds", values.seconds, ...(values.plain ? ["--plain"] : [])];
  for (let i = 0; i < Number(values.rounds); i++) {
    process.stderr.write(`round ${i + 1}/${values.rounds}\n`);
    const flags = values.node.split(" ").filter(Boolean);
    const run = spawnSync(process.execPath, [...flags, fileURLToPath(import.meta.url), ...args], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
    });
    if (run.status !== 0) throw new Error(`a round ended with exit code ${run.status}`);
    const lines = run.stdout.trim().split("\n");
    rounds.push(JSON.parse(lines.at(-1)));
    for (const line of lines.slice(0, -1)) console.log(line);
  }
  console.log(`\n${values.model}, batch ${BATCH}: lateness of a 60 Hz timer, limit ${LIMIT_MS} ms\n`);
  printTable([
    ["round", "ticks", "p99 ms", "max ms", "late ticks (ms into the round: ms late)"],
    ...rounds.map((r, i) => [
      String(i + 1),
      String(r.ticks),
      r.p99Ms.toFixed(2),
      r.maxMs.toFixed(2),
      r.worst.map((w) => `${w.atMs}: ${w.lateMs}`).join(", "),
    ]),
  ]);
  const maxMs = Math.max(...rounds.map((r) => r.maxMs));
  console.log(`\nworst of all: ${maxMs.toFixed(2)} ms; ${maxMs <= LIMIT_MS ? "met" : "NOT met"}`);
  writeResults(`timer-${values.model}`, `npm run bench:timer -- ${process.argv.slice(2).join(" ")}`.trim(), {
    model: values.model,
    batch: BATCH,
    limitMs: LIMIT_MS,
    maxMs,
    rounds,
  });
}
