// Generates with the addon of this Node's architecture and prints what came out as one line of JSON: test-arm64.mjs runs
// it on two architectures and compares. Usage: node generate.mjs FOLDER_OF_MODELS TIER...
// The models are written by the first run, so that both read the same files.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setLogLevel } from "../../dist/core/logger.js";
import { loadAddon } from "../../dist/native/load.js";
import { Engine } from "../../dist/runtime/engine.js";
import { writeTinyModel } from "../../dist/testing/index.js";

const [folder, ...tiers] = process.argv.slice(2);
const MODELS = {
  plain: { options: { seed: 3 }, config: { kvCacheDtype: "bf16" } },
  offsets: { options: { seed: 5, format: "gguf", dtype: "Q5_1" }, config: {} },
  wide: {
    options: { seed: 7, format: "gguf", dtype: "Q8_0", architecture: "qwen2" },
    config: { kvCacheDtype: "int8" },
  },
};
const NUMERICS = ["f32", "exact", "faithful"];
const REQUESTS = [
  {
    prompt: { text: "the user said that they would like to use all of the words" },
    samplingParams: { maxNewTokens: 12, ignoreEos: true, temperature: 0 },
  },
  {
    prompt: { text: "one by one, and then" },
    samplingParams: { maxNewTokens: 12, ignoreEos: true, temperature: 0.9, topP: 0.9, seed: 11 },
  },
];

async function answer(engine, request) {
  const ids = [];
  for await (const chunk of engine.generate(request)) ids.push(...chunk.tokenIdsDelta);
  return ids;
}

setLogLevel("silent");
const addon = loadAddon();
const result = {
  arch: process.arch,
  layout: addon.packedLayout(),
  tiers: addon
    .tiers()
    .filter((t) => t.supported)
    .map((t) => t.name),
  tokens: {},
};
for (const [name, { options, config }] of Object.entries(MODELS)) {
  const directory = join(folder, name);
  const path = existsSync(directory)
    ? options.format === "gguf"
      ? join(directory, "model.gguf")
      : directory
    : (await writeTinyModel(directory, options)).path;
  for (const tier of tiers)
    for (const numerics of NUMERICS) {
      process.env.SGLANG_KERNELS = tier;
      const engine = await Engine.load(path, { offline: true, threads: 2, maxTotalTokens: 512, numerics, ...config });
      result.tokens[`${tier} ${name} ${numerics}`] = await Promise.all(
        REQUESTS.map((request) => answer(engine, request)),
      );
      await engine.close();
    }
}
console.log(JSON.stringify(result));
