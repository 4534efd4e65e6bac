// One measurement of node-llama-cpp through its public API; run by ../run.mjs, prints one JSON line.
//   node node-llama-cpp.mjs MODEL.gguf THREADS CASES
// The same work as ours: prefill of 512 tokens, then B sequences of CONTEXT prompt tokens (128 if not said) decoding
// together, greedy.
import { getLlama } from "node-llama-cpp";

const [, , modelPath, threadsText, casesText] = process.argv;
const threads = Number(threadsText);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: "error" });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const tokens = (count, salt) => Array.from({ length: count }, (_, i) => 300 + ((i * 7919 + salt * 104729) % 5000));
const median = (xs) => [...xs].sort((a, b) => a - b)[xs.length >> 1];
const result = { engine: "node-llama-cpp", version: "3.22.1", system: llama.systemInfo };

async function prefill(count) {
  const context = await model.createContext({ sequences: 1, contextSize: 2 * count, batchSize: 512, threads });
  const sequence = context.getSequence();
  const rates = [];
  for (let round = 0; round < 3; round++) {
    await sequence.clearHistory();
    const started = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens(count, round));
    rates.push((count * 1e3) / (performance.now() - started));
  }
  await context.dispose();
  return median(rates);
}

async function decode(batch, length) {
  const context = await model.createContext({ sequences: batch, contextSize: length + 128, batchSize: 512, threads });
  const sequences = Array.from({ length: batch }, () => context.getSequence());
  await Promise.all(sequences.map((s, i) => s.evaluateWithoutGeneratingNewTokens(tokens(length, i))));
  const rates = [];
  for (let round = 0; round < 2; round++) {
    let generated = 0;
    const started = performance.now();
    await Promise.all(
      sequences.map(async (s, i) => {
        let left = 32;
        for await (const _ of s.evaluate([400 + i], { temperature: 0 })) {
          generated++;
          if (--left === 0) break;
        }
      }),
    );
    rates.push((generated * 1e3) / (performance.now() - started));
  }
  await context.dispose();
  return median(rates);
}

for (const name of casesText.split(",")) {
  if (name.startsWith("prefill")) {
    result[name] = await prefill(Number(name.slice("prefill".length)));
    continue;
  }
  const [, batch, length] = /^decode(\d+)(?:x(\d+))?$/.exec(name);
  result[name] = await decode(Number(batch), Number(length ?? 128));
}
result.rssBytes = process.memoryUsage.rss();
console.log(JSON.stringify(result));
process.exit(0);
