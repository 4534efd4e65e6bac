/** The lowered plan on every kernel tier of this machine against the reference. Tiers it lacks show up as skipped tests. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Reference, type ReferenceStep } from "../../src/graph/reference.js";
import { loadModel, type PlanOptions, referenceModel } from "../../src/models/load.js";
import type { KvDtype, NativeAddon, StepOutputs } from "../../src/native/addon.js";
import { loadAddon } from "../../src/native/load.js";
import { type TinyModelOptions, writeTinyModel } from "../../src/testing/index.js";
import { openCheckpoint } from "../../src/weights/checkpoint.js";
import { NativeStepper } from "./native-stepper.js";
import { promptOf, SEED, VARIANTS } from "./variants.js";

const addon: NativeAddon = loadAddon();
const tiers = addon.tiers();
const folder = mkdtempSync(join(tmpdir(), "sglang-native-"));
afterAll(() => rmSync(folder, { recursive: true }));

const PAGE_SIZE = 16;
const PLAN: PlanOptions = { maxTokens: 48, maxRows: 3, kvPages: 24, pageSize: PAGE_SIZE, kvDtype: "f32" };
/** Largest difference of two logits. Logits of tiny models have a standard deviation of about 3. */
const TOLERANCE: Record<KvDtype, number> = { f32: 2e-4, f16: 1e-2, bf16: 0.08, int8: 0.15, fp8_e4m3: 0.8 };

const A = promptOf(61);
const B = promptOf(20, 5);
/** Prefill of A in three uneven parts beside B's, then decode of both and of a latecomer. */
const STEPS: readonly ReferenceStep[] = [
  {
    sequences: [
      { key: "A", tokens: A.slice(0, 5) },
      { key: "B", tokens: B },
    ],
    rows: [0, 4, 24, 10, 24, 3, 7],
  },
  { sequences: [{ key: "A", tokens: A.slice(5, 37) }] },
  {
    sequences: [
      { key: "B", tokens: [7] },
      { key: "A", tokens: A.slice(37) },
    ],
  },
  {
    sequences: [
      { key: "A", tokens: [1] },
      { key: "B", tokens: [2] },
      { key: "C", tokens: [3] },
    ],
  },
  {
    sequences: [
      { key: "C", tokens: [250] },
      { key: "A", tokens: [17] },
      { key: "B", tokens: [99] },
    ],
  },
];

async function withModel<T>(
  tier: string,
  name: string,
  options: TinyModelOptions,
  plan: PlanOptions,
  use: (stepper: () => NativeStepper, reference: () => Reference) => Promise<T>,
): Promise<T> {
  const { path } = await writeTinyModel(join(folder, name), { seed: SEED, ...options });
  const checkpoint = await openCheckpoint(path);
  const runtime = addon.createRuntime({ threads: 2, tier, nice: 0 });
  try {
    const model = await loadModel(checkpoint, { addon, runtime }, plan);
    const { graph, read } = await referenceModel(checkpoint);
    const stepper = () => new NativeStepper(addon, model, { pages: plan.kvPages, pageSize: plan.pageSize });
    const result = await use(stepper, () => new Reference(graph, read, plan.numerics === "fast" ? "fast" : "f32"));
    model.close();
    return result;
  } finally {
    addon.closeRuntime(runtime);
    checkpoint.close();
  }
}

function expectClose(
  found: StepOutputs,
  expected: { logits: Float32Array | null; hidden: Float32Array },
  tolerance: number,
): void {
  const furthest = (a: Float32Array, b: Float32Array) =>
    a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), 0);
  expect(found.logits!.length).toBe(expected.logits!.length);
  expect(found.hidden!.length).toBe(expected.hidden.length);
  expect(furthest(found.logits!, expected.logits!)).toBeLessThan(tolerance);
  expect(furthest(found.hidden!, expected.hidden)).toBeLessThan(tolerance);
}

for (const { name: tier, supported, reason } of tiers) {
  describe.skipIf(!supported)(`tier ${tier} (${reason})`, () => {
    describe("gives the reference's logits and hidden states", () => {
      it.each(Object.entries(VARIANTS))("for %s", async (name, options) => {
        await withModel(tier, name, options, PLAN, async (stepper, reference) => {
          const [native, truth] = [stepper(), reference()];
          for (const step of STEPS) expectClose(await native.step(step), truth.step(step), TOLERANCE.f32);
        });
      });

      it("with numerics fast, but for activations that lie where a code ends", async () => {
        for (const [name, options] of [["llama", {}] as const, ["qwen2", VARIANTS.qwen2] as const])
          await withModel(tier, name, options, { ...PLAN, numerics: "fast" }, async (stepper, reference) => {
            const [native, truth] = [stepper(), reference()];
            for (const step of STEPS) expectClose(await native.step(step), truth.step(step), 0.3);
          });
      });

      it.each(["f16", "bf16", "int8", "fp8_e4m3"] as const)("with keys and values in %s", async (kvDtype) => {
        for (const [name, options] of [["llama", {}] as const, ["qwen2", VARIANTS.qwen2] as const])
          await withModel(tier, name, options, { ...PLAN, kvDtype }, async (stepper, reference) => {
            const [native, truth] = [stepper(), reference()];
            for (const step of STEPS) expectClose(await native.step(step), truth.step(step), TOLERANCE[kvDtype]);
          });
      });

      it("when every tensor keeps its own bytes, and op by op", async () => {
        await withModel(tier, "qwen2", VARIANTS.qwen2, { ...PLAN, keepAll: true }, async (stepper, reference) => {
          const [native, truth] = [stepper(), reference()];
          for (const step of STEPS) expectClose(await native.step(step, true), truth.step(step), TOLERANCE.f32);
        });
      });

      const widths = { hidden: 96, intermediate: 160, heads: 6, kvHeads: 3, headDim: 16 };
      it.each<TinyModelOptions>([
        { dtype: "F16" },
        { dtype: "BF16", tie: true },
        ...(["F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] as const).map((dtype) => ({
          dtype,
          format: "gguf" as const,
          ...widths,
        })),
      ])("for weights in %j", async (options) => {
        const name = `${options.dtype}-${options.format ?? "safetensors"}`;
        await withModel(tier, name, options, PLAN, async (stepper, reference) => {
          const [native, truth] = [stepper(), reference()];
          for (const step of STEPS) expectClose(await native.step(step), truth.step(step), TOLERANCE.f32);
        });
      });
    });

    it("gives the same bits wherever the prompt is cut and whoever shares the step", async () => {
      await withModel(tier, "qwen2", VARIANTS.qwen2, { ...PLAN, maxTokens: 128 }, async (stepper) => {
        const last = { key: "A", tokens: [1] };
        const whole = stepper();
        await whole.step({ sequences: [{ key: "A", tokens: A }] });
        const expected = await whole.step({ sequences: [last] });
        for (const cut of [1, 15, 16, 17, 48]) {
          const native = stepper();
          await native.step({
            sequences: [
              { key: "B", tokens: B },
              { key: "A", tokens: A.slice(0, cut) },
            ],
          });
          await native.step({
            sequences: [
              { key: "A", tokens: A.slice(cut) },
              { key: "B", tokens: [7] },
            ],
            rows: [],
          });
          const { logits, hidden } = await native.step({ sequences: [{ key: "C", tokens: B }, last], rows: [20] });
          expect({ cut, logits, hidden }).toEqual({ cut, logits: expected.logits, hidden: expected.hidden });
        }
      });
    });
  });
}
