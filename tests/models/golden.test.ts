/** The reference against transformers: `make-transformers-golden.py` made the numbers and says how. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Reference } from "../../src/graph/reference.js";
import { referenceModel } from "../../src/models/load.js";
import { type TinyModelOptions, writeTinyModel } from "../../src/testing/index.js";
import { openCheckpoint } from "../../src/weights/checkpoint.js";
import { SEED, VARIANTS } from "./variants.js";

interface Golden {
  prompt: number[];
  positions: number[];
  ids: number[];
  /** [positions][ids] */
  logits: Record<string, number[][]>;
}
const golden = JSON.parse(readFileSync(new URL("transformers-logits.golden.json", import.meta.url), "utf8")) as Golden;
const kept = process.env.SGLANG_KEEP_TINY_MODELS;
const folder = kept ?? mkdtempSync(join(tmpdir(), "sglang-golden-"));
afterAll(() => {
  if (kept === undefined) rmSync(folder, { recursive: true });
});

/** [positions][ids] */
async function pickedLogits(name: string, options: TinyModelOptions): Promise<number[][]> {
  const { path, vocabSize } = await writeTinyModel(join(folder, name), { seed: SEED, ...options });
  const checkpoint = await openCheckpoint(path);
  const { graph, read } = await referenceModel(checkpoint);
  const step = { sequences: [{ key: "golden", tokens: golden.prompt }], rows: golden.positions };
  const logits = new Reference(graph, read).step(step).logits!;
  checkpoint.close();
  return golden.positions.map((_, row) => golden.ids.map((id) => logits[row * vocabSize + id]));
}

describe("the reference gives transformers' logits to 1e-4", () => {
  it.each(Object.entries(VARIANTS))("for %s", async (name, options) => {
    const picked = await pickedLogits(name, options);
    expect(picked).toEqual(golden.logits[name].map((row) => row.map((x) => expect.closeTo(x, 4))));
  });
});

describe.skipIf(kept !== undefined)("the GGUF form of a model gives the same logits", () => {
  const names = [
    "llama",
    "llama-linear-rope",
    "llama-llama3-rope",
    "llama-yarn-rope",
    "llama-biases-wide-heads-one-kv-head",
    "qwen2-tied",
  ];
  it.each(names)("for %s", async (name) => {
    const picked = await pickedLogits(`${name}.gguf`, { ...VARIANTS[name], format: "gguf" });
    expect(picked).toEqual(golden.logits[name].map((row) => row.map((x) => expect.closeTo(x, 4))));
  });
});
