// Who gives logits: this engine in one of its modes, or llama.cpp on the same file. A source answers
// `rows(ids, stride)` with the raw logits after the tokens 0, stride, 2 * stride, ... as { logits, columns }.
import { spawn } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Engine } from "../../dist/index.js";
import { loadEngineParts } from "../../dist/runtime/load.js";
import { WINDOW } from "./windows.mjs";

/**
 * The engine, asked as everyone asks it: a request for the logprobs of its prompt. What the runner computes for it is
 * looked at on the way.
 * @param tier a kernel tier by name
 */
export async function openEngine(model, { tier, threads, ...options }) {
  process.env.SGLANG_KERNELS = tier;
  const parts = await loadEngineParts(model, {
    threads,
    contextLength: WINDOW + 1,
    maxRunningRequests: 1,
    disableRadixCache: true,
    offline: true,
    ...options,
  });
  const { runner } = parts;
  let steps = [];
  const forward = runner.forward.bind(runner);
  runner.forward = async (inputs) => {
    const outputs = await forward({ ...inputs, returnLogits: true });
    steps.push(outputs.logits);
    return outputs;
  };
  const engine = new Engine(parts);
  const columns = runner.vocabSize;
  return {
    tokenizer: parts.tokenizer,
    weightsBytes: runner.memory.weightsBytes,
    async rows(ids, stride) {
      steps = [];
      const request = {
        prompt: { inputIds: ids },
        samplingParams: { temperature: 0, maxNewTokens: 1, ignoreEos: true },
        logprobs: { startLen: 0 },
      };
      for await (const _ of engine.generate(request));
      const logits = new Float32Array(Math.ceil(ids.length / stride) * columns);
      let row = 0;
      for (const step of steps)
        for (let start = 0; start < step.length && row < ids.length; start += columns, row++)
          if (row % stride === 0) logits.set(step.subarray(start, start + columns), (row / stride) * columns);
      if (row !== ids.length) throw new Error(`${ids.length} rows of logits were expected, ${row} came`);
      return { logits, columns };
    },
    close: () => engine.close(),
  };
}

/** llama.cpp in a process of its own. */
export function openLlama(model, threads) {
  const script = new URL("../compare/node-llama-cpp-logits.mjs", import.meta.url).pathname;
  const child = spawn(process.execPath, [script, model, String(threads)], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const file = join(tmpdir(), `sglang-ts-accuracy-${process.pid}.f32`);
  return {
    async rows(ids, stride) {
      child.stdin.write(`${JSON.stringify({ ids, stride, file })}\n`);
      const { value, done } = await lines.next();
      if (done) throw new Error("node-llama-cpp ended before it answered");
      const { columns } = JSON.parse(value);
      const { buffer, byteOffset, byteLength } = readFileSync(file);
      return { logits: new Float32Array(buffer, byteOffset, byteLength / 4), columns };
    },
    async close() {
      child.stdin.end();
      rmSync(file, { force: true });
    },
  };
}
