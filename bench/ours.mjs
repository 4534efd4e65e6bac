// One measurement of this engine, in process; run by run.mjs, prints one JSON line.
//   node ours.mjs MODEL THREADS
import { Engine } from "../dist/index.js";

const [, , model, threadsText] = process.argv;
const engine = await Engine.load(model, { threads: Number(threadsText), contextLength: 1024, maxRunningRequests: 64 });
const tokens = (count, salt) => Array.from({ length: count }, (_, i) => 300 + ((i * 7919 + salt * 104729) % 5000));
const median = (xs) => [...xs].sort((a, b) => a - b)[xs.length >> 1];
const greedy = (maxNewTokens) => ({ temperature: 0, maxNewTokens, ignoreEos: true });
const result = { engine: "sglang-ts", kernels: engine.stats().kernels };

/** Runs one request and calls back at each chunk that carries tokens. */
async function run(inputIds, maxNewTokens, onTokens) {
  for await (const chunk of engine.generate({ prompt: { inputIds }, samplingParams: greedy(maxNewTokens) }))
    if (chunk.tokenIdsDelta.length > 0) onTokens?.(chunk.tokenIdsDelta.length);
}

await run(tokens(64, 9999), 2);
const rates = [];
for (let round = 0; round < 5; round++) {
  await engine.flushCache({ timeoutSeconds: 5 });
  const started = performance.now();
  await run(tokens(512, round), 1);
  rates.push(512e3 / (performance.now() - started));
}
result.prefill512 = median(rates);

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

for (const batch of [1, 8, 32]) {
  const perRound = [];
  const stopTimer = watchTimer();
  for (let round = 0; round < 3; round++) {
    await engine.flushCache({ timeoutSeconds: 5 });
    // Counts tokens from the moment every request has its first one: decode only, at full batch.
    let running = 0;
    let counted = 0;
    let started = 0;
    let ended = 0;
    await Promise.all(
      Array.from({ length: batch }, (_, i) => {
        let first = true;
        return run(tokens(128, 1000 * round + i), 33 + (batch > 1 ? 8 : 0), (n) => {
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
  result[`decode${batch}`] = median(perRound);
  result[`timerLate${batch}`] = stopTimer();
}
result.rssBytes = process.memoryUsage.rss();
result.memory = engine.stats().memory;
await engine.close();
console.log(JSON.stringify(result));
