import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type LoadedModel, loadModel } from "../../src/models/load.js";
import type { NativeAddon, NativeRuntime, StepOutputs } from "../../src/native/addon.js";
import { loadAddon } from "../../src/native/load.js";
import { openCheckpoint } from "../../src/weights/checkpoint.js";
import { resolveModel } from "../../src/weights/resolve.js";
import { NativeStepper } from "../models/native-stepper.js";

/** Made by make_model_golden.py with PyTorch transformers on exactly dequantised weights. */
interface Golden {
  cases: {
    name: string;
    ids: number[];
    layerSums: number[];
    layerNorms: number[];
    topIds: number[];
    topLogits: number[];
    everyLogit: number;
    logits: number[];
    greedy: number[];
  }[];
}

const MODELS = ["smollm2-135m", "qwen2.5-coder-0.5b"];
const MAX_TOKENS = 512;
const PAGE_SIZE = 16;
/** All eight prompts and answers stay in the pool at once. */
const PAGES = 257;

/** Feeds `ids` in chunks to a sequence of its own; outputs are of the last token. */
async function feed(stepper: NativeStepper, key: string, ids: readonly number[]): Promise<StepOutputs> {
  let outputs: StepOutputs | null = null;
  for (let from = 0; from < ids.length; from += MAX_TOKENS) {
    const tokens = ids.slice(from, from + MAX_TOKENS);
    const isLast = from + MAX_TOKENS >= ids.length;
    outputs = await stepper.step({ sequences: [{ key, tokens }], rows: isLast ? [tokens.length - 1] : [] });
  }
  return outputs as StepOutputs;
}

describe.each(MODELS)("%s against PyTorch transformers", (name) => {
  const golden = JSON.parse(readFileSync(new URL(`data/${name}.json`, import.meta.url), "utf8")) as Golden;
  let addon: NativeAddon;
  let runtime: NativeRuntime;
  let model: LoadedModel;
  let stepper: NativeStepper;

  beforeAll(async () => {
    addon = loadAddon();
    runtime = addon.createRuntime({
      threads: availableParallelism(),
      tier: process.env.SGLANG_KERNELS ?? null,
      nice: 0,
    });
    const { path } = await resolveModel(name, { offline: true });
    expect(existsSync(path)).toBe(true);
    const checkpoint = await openCheckpoint(path);
    model = await loadModel(
      checkpoint,
      { addon, runtime },
      { maxTokens: MAX_TOKENS, maxRows: 32, kvPages: PAGES, pageSize: PAGE_SIZE, kvDtype: "f32", keepAll: true },
    );
    checkpoint.close();
    stepper = new NativeStepper(addon, model, { pages: PAGES, pageSize: PAGE_SIZE });
  });
  afterAll(() => {
    model?.close();
    addon?.closeRuntime(runtime);
  });

  it.each(golden.cases.map((c) => [c.name, c] as const))(
    "%s: layer sums, logits to 1e-3, and 64 greedy tokens",
    async (_name, c) => {
      const first = await feed(stepper, c.name, c.ids);
      const logits = first.logits as Float32Array;

      // Relative to the largest magnitude of the golden logits: single logits may be near zero.
      const scale = Math.max(...c.logits.map(Math.abs), ...c.topLogits.map(Math.abs));
      const errors = [
        ...c.logits.map((value, i) => Math.abs(logits[i * c.everyLogit] - value)),
        ...c.topIds.map((id, i) => Math.abs(logits[id] - c.topLogits[i])),
      ];
      expect(Math.max(...errors) / scale).toBeLessThan(1e-3);

      const row = (c.ids.length - 1) % MAX_TOKENS;
      for (const [layer, norm] of c.layerNorms.entries()) {
        const buffer = model.lowered.bufferOf.get(`layers.${layer}`) as number;
        const columns = model.config.hiddenSize;
        const hidden = addon.readBuffer(model.plan, buffer).subarray(row * columns, (row + 1) * columns);
        const sum = hidden.reduce((a, b) => a + b, 0);
        expect(Math.abs(sum - c.layerSums[layer]) / norm, `layer ${layer}`).toBeLessThan(1e-3);
        expect(Math.abs(Math.hypot(...hidden) - norm) / norm, `layer ${layer}`).toBeLessThan(1e-3);
      }

      const greedy = [first.ids[0]];
      while (greedy.length < c.greedy.length) greedy.push((await feed(stepper, c.name, greedy.slice(-1))).ids[0]);
      expect(greedy).toEqual(c.greedy);
    },
  );
});
