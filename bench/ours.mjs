// One measurement of this engine, in process; run by run.mjs, prints one JSON line.
//   node ours.mjs MODEL THREADS CASES [OPTIONS]
// CASES: prefill512, decodeB or decodeBxCONTEXT, joined by commas. OPTIONS: engine options as JSON.
import { Engine } from "../dist/index.js";
import { median } from "./record.mjs";

const [, , model, threadsText, casesText, optionsText = "{}"] = process.argv;
const cases = casesText.split(",");
const longest = Math.max(512, ...cases.map((name) => Number(/x(\d+)$/.exec(name)?.[1] ?? 128))) + 64;
const engine = await Engine.load(model, {
  threads: Number(threadsText),
  contextLength: longest + 8,
  maxRunningRequests: 64,
  ...JSON.parse(optionsText),
});
const tokens = (count, salt) => Array.from({ length: count }, (_, i) => 300 + ((i * 7919 + salt * 104729) % 5000));
const greedy = (maxNewTokens) => ({ temperature: 0, maxNewTokens, ignoreEos: true });
const result = { engine: "sglang-ts", kernels: engine.stats().kernels };

/** Runs one request and calls back at each chunk that carries tokens. */
async function run(inputIds, maxNewTokens, onTokens) {
  for await (const chunk of engine.generate({ prompt: { inputIds }, samplingParams: greedy(maxNewTokens) }))
    if (chunk.tokenIdsDelta.length > 0) onTokens?.(chunk.tokenIdsDelta.length);
}

async function prefill(count) {
  const rates = [];
  for (let round = 0; round < 3; round++) {
    await engine.flushCache({ timeoutSeconds: 5 });
    const started = performance.now();
    await run(tokens(count, round), 1);
    rates.push((count * 1e3) / (performance.now() - started));
  }
  return median(rates);
}

// How late a 60 Hz timer of the same process is while requests run: the event loop must stay free.
const FRAME = 1000 / 60;
function watchTimer() {
  const late = [];
  let expected = performance.now() + FRAME;
  const timer = setInterval(() => {
    const now = performance.now();
    late.push(now - expected);
    expected = now + FRAME;
  }, FRAME);
  return () => {
    clearInterval(timer);
    late.sort((a, b) => a - b);
    return { ticks: late.length, p99Ms: late[Math.floor(late.length * 0.99)], maxMs: late.at(-1) };
  };
}

/** Tokens per second of a full batch; the prompts of one round are computed before it is measured. */
async function decode(batch, context) {
  const perRound = [];
  // A context of a thousand tokens for each of 32 requests takes minutes to compute: once has to do.
  for (let round = 0; round < (batch * context > 8192 ? 1 : 2); round++) {
    await engine.flushCache({ timeoutSeconds: 5 });
    // Counts tokens from the moment every request has its first one: decode only, at full batch.
    let running = 0;
    let counted = 0;
    let started = 0;
    let ended = 0;
    await Promise.all(
      Array.from({ length: batch }, (_, i) => {
        let first = true;
        return run(tokens(context, 1000 * round + i), 33 + (batch > 1 ? 16 : 0), (n) => {
          if (first) {
            first = false;
            if (++running === batch) started = performance.now();
            return;
          }
          if (running === batch && started > 0) {
            counted += n;
            ended = performance.now();
          }
        });
      }),
    );
    perRound.push((counted * 1e3) / (ended - started));
  }
  return median(perRound);
}

await run(tokens(64, 9999), 2);
for (const name of cases) {
  if (name.startsWith("prefill")) {
    result[name] = await prefill(Number(name.slice("prefill".length)));
    continue;
  }
  const [, batch, context] = /^decode(\d+)(?:x(\d+))?$/.exec(name);
  const stopTimer = watchTimer();
  result[name] = await decode(Number(batch), Number(context ?? 128));
  result[`timerLate ${name}`] = stopTimer();
}
result.rssBytes = process.memoryUsage.rss();
result.memory = engine.stats().memory;
await engine.close();
console.log(JSON.stringify(result));
