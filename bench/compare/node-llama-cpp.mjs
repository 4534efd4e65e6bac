// One measurement of node-llama-cpp through its public API; run by ../run.mjs, prints one JSON line.
//   node node-llama-cpp.mjs MODEL.gguf THREADS
// The same work as ours: prefill of 512 tokens, then B sequences of 128 prompt tokens decoding together, greedy.
import { getLlama } from "node-llama-cpp";

const [, , modelPath, threadsText] = process.argv;
const threads = Number(threadsText);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: "error" });
const model = await llama.loadModel({ modelPath, gpuLayers: 0 });
const tokens = (count, salt) => Array.from({ length: count }, (_, i) => 300 + ((i * 7919 + salt * 104729) % 5000));
const median = (xs) => [...xs].sort((a, b) => a - b)[xs.length >> 1];
const result = { engine: "node-llama-cpp", version: "3.22.1", system: llama.systemInfo };

{
  const context = await model.createContext({ sequences: 1, contextSize: 1024, batchSize: 512, threads });
  const sequence = context.getSequence();
  const rates = [];
  for (let round = 0; round < 5; round++) {
    await sequence.clearHistory();
    const started = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(tokens(512, round));
    rates.push(512e3 / (performance.now() - started));
  }
  result.prefill512 = median(rates);
  await context.dispose();
}
for (const batch of [1, 8, 32]) {
  const context = await model.createContext({ sequences: batch, contextSize: 512, batchSize: 512, threads });
  const sequences = Array.from({ length: batch }, () => context.getSequence());
  await Promise.all(sequences.map((s, i) => s.evaluateWithoutGeneratingNewTokens(tokens(128, i))));
  const rates = [];
  for (let round = 0; round < 3; round++) {
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
  result[`decode${batch}`] = median(rates);
  await context.dispose();
}
result.rssBytes = process.memoryUsage.rss();
console.log(JSON.stringify(result));
process.exit(0);
