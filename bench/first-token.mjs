// Prints the milliseconds from process start to the first token, and the memory held then; run by run.mjs.
//   node first-token.mjs MODEL THREADS
import { Engine } from "../dist/index.js";

const [, , model, threads] = process.argv;
const engine = await Engine.load(model, { threads: Number(threads) });
for await (const _ of engine.generate({
  prompt: { text: "Once upon a time," },
  samplingParams: { maxNewTokens: 1, temperature: 0 },
}))
  break;
const firstTokenMs = performance.now();
const { weightsBytes } = engine.stats().memory;
console.log(JSON.stringify({ firstTokenMs, rssBytes: process.memoryUsage.rss(), weightsBytes }));
await engine.close();
