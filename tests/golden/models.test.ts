import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadModel, type LoadedModel } from "../../src/models/load.js";
import type { NativeAddon, NativeRuntime, StepInputs, StepOutputs } from "../../src/native/addon.js";
import { loadAddon } from "../../src/native/load.js";
import { openCheckpoint } from "../../src/weights/checkpoint.js";
import { resolveModel } from "../../src/weights/resolve.js";
import { stepInputs } from "../native/step-inputs.js";

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
const PAGES = 192;

/** Feeds `ids` from position `start` in chunks; returns the last step's outputs. Sequence 0 owns the whole pool. */
async function prefill(addon: NativeAddon, model: LoadedModel, ids: number[], start: number, options: Partial<StepInputs>): Promise<StepOutputs> {
  let outputs: StepOutputs | null = null;
  for (let from = start; from < ids.length; from += MAX_TOKENS) {
    const to = Math.min(ids.length, from + MAX_TOKENS);
    outputs = await addon.runPlan(
      model.plan,
      stepInputs({
        sequences: [{ tokens: ids.slice(from, to), start: from, pages: Array.from({ length: Math.ceil(to / PAGE_SIZE) }, (_, i) => i) }],
        rows: to === ids.length ? [{ token: to - from - 1 }] : [],
        overrides: options,
      }),
    );
  }
  return outputs as StepOutputs;
}

describe.each(MODELS)("%s against PyTorch transformers", (name) => {
  const golden = JSON.parse(readFileSync(new URL(`data/${name}.json`, import.meta.url), "utf8")) as Golden;
  let addon: NativeAddon;
  let runtime: NativeRuntime;
  let model: LoadedModel;

  beforeAll(async () => {
    addon = loadAddon();
    runtime = addon.createRuntime({ threads: availableParallelism(), tier: process.env.SGLANG_KERNELS ?? null, nice: 0 });
    const { path } = await resolveModel(name, { offline: true });
    expect(existsSync(path)).toBe(true);
    const checkpoint = await openCheckpoint(path);
    model = await loadModel(checkpoint, { addon, runtime }, { maxTokens: MAX_TOKENS, maxRows: 32, kvPages: PAGES, pageSize: PAGE_SIZE, kvDtype: "f32", keepAll: true });
    checkpoint.close();
  });
  afterAll(() => {
    model?.close();
    addon?.closeRuntime(runtime);
  });

  it.each(golden.cases.map((c) => [c.name, c] as const))("%s: layer sums, logits to 1e-3, and 64 greedy tokens", async (_name, c) => {
    const first = await prefill(addon, model, c.ids, 0, { returnLogits: true });
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

    const ids = [...c.ids, first.ids[0]];
    while (ids.length < c.ids.length + c.greedy.length) ids.push((await prefill(addon, model, ids, ids.length - 1, {})).ids[0]);
    expect(ids.slice(c.ids.length)).toEqual(c.greedy);
  });
});
