// Where a step of a real model spends its time, instruction by instruction: prefill of 512 tokens, and decode at several
// batches and contexts. Keys and values of the decode cases are written by a small plan of their own over the same pool,
// so that no context has to be computed first.
import { floatWord, INSTRUCTION_WORDS, Opcode } from "../dist/graph/instructions.js";
import { loadWeights } from "../dist/models/load.js";
import { loadAddon } from "../dist/native/load.js";
import { openCheckpoint, resolveModel } from "../dist/weights/index.js";
import { median } from "./record.mjs";

const PAGE = 16;
export const CASES = [
  { name: "prefill 512", batch: 1, tokens: 512, context: 0 },
  ...[128, 1024].flatMap((context) =>
    [1, 8, 32].map((batch) => ({ name: `B=${batch}, context ${context}`, batch, tokens: 1, context })),
  ),
];

/** @returns {{ name: string, ms: number, parts: { name: string, ms: number, share: number }[] }[]} medians over `rounds` steps */
export async function profileSteps({
  model,
  threads,
  tier = null,
  kvDtype = "f16",
  numerics = "f32",
  rounds = 5,
  cases = CASES,
  sampling = {},
}) {
  const addon = loadAddon();
  const runtime = addon.createRuntime({ threads, tier, nice: 0 });
  const { path } = await resolveModel(model, { offline: true });
  const checkpoint = await openCheckpoint(path);
  const weights = await loadWeights(checkpoint, { addon, runtime }, { kvDtype, numerics });
  checkpoint.close();
  const results = [];
  for (const c of cases) {
    const length = c.context + c.tokens;
    const perSequence = Math.ceil(length / PAGE);
    const plan = weights.createPlan({
      maxTokens: Math.max(512, c.batch),
      maxRows: 64,
      kvPages: perSequence * c.batch,
      pageSize: PAGE,
      kvDtype,
      numerics,
    });
    const sequences = Array.from({ length: c.batch }, (_, s) => ({
      start: c.context,
      tokens: Array.from({ length: c.tokens }, (_, i) => (i * 7919 + s * 104729) % 5000),
      pages: Array.from({ length: perSequence }, (_, p) => p * c.batch + s),
    }));
    if (c.context > 0) await fillPool(addon, runtime, weights, plan, sequences, c.context);
    if (sampling.mask) addon.setMask(plan.plan, 0, sampling.mask);
    const labels = labelsOf(plan.lowered);
    const inputs = stepInputs(sequences, sampling);
    await addon.runPlan(plan.plan, inputs);
    addon.takePlanTimings(plan.plan);
    const samples = [];
    for (let round = 0; round < rounds; round++) {
      await addon.runPlan(plan.plan, inputs);
      const { ns } = addon.takePlanTimings(plan.plan);
      const parts = new Map();
      for (const [i, t] of ns.entries()) parts.set(labels[i], (parts.get(labels[i]) ?? 0) + t / 1e6);
      samples.push(parts);
    }
    const ms = median(samples.map((parts) => [...parts.values()].reduce((a, b) => a + b)));
    const parts = [...samples[0].keys()].map((name) => {
      const part = median(samples.map((p) => p.get(name)));
      return { name, ms: part, share: part / ms };
    });
    results.push({
      name: c.name,
      ms,
      /** The fastest step: what is left when nobody else wants the cores. */
      bestMs: Math.min(...samples.map((parts) => [...parts.values()].reduce((a, b) => a + b))),
      tokensPerSecond: (c.batch * c.tokens * 1e3) / ms,
      parts: parts.sort((a, b) => b.ms - a.ms),
    });
    plan.close();
  }
  const kernels = addon.runtimeInfo(runtime);
  const vocab = weights.config.vocabSize;
  weights.close();
  addon.closeRuntime(runtime);
  return { kernels, vocab, cases: results };
}

/** Instructions by what they compute: products by the matrix they read. */
function labelsOf({ drafts }) {
  const names = Object.fromEntries(Object.entries(Opcode).map(([name, code]) => [code, name]));
  const labels = drafts.map(({ opcode, operands }) => {
    const weight = operands.find((o) => "weight" in o && o.weight?.kind === "matrix")?.weight;
    if (weight === undefined) return names[opcode];
    const projections = weight.name.replace(/^.*?\.\d+\./, "").replace(/\.weight$/, "");
    return `${names[opcode]} ${projections.replace(/^self_attn\.|^mlp\./, "")}`;
  });
  return [...labels, "begin", "sample"];
}

/** Writes [0, context) of every sequence with values of about the size real ones have. */
async function fillPool(addon, runtime, weights, { kv }, sequences, context) {
  const { layers, kvHeads, headDim } = weights.kvShape;
  const width = kvHeads * headDim;
  const chunk = 512;
  const values = Float32Array.from({ length: 64 * 2 * width }, (_, i) => Math.sin(i * 12.9898) * 2);
  const embed = await tableOf(addon, values, 2 * width);
  const words = (opcode, ...args) => [opcode, ...args, ...new Array(INSTRUCTION_WORDS - 1 - args.length).fill(0)];
  const plan = addon.createPlan(runtime, {
    instructions: Int32Array.from([
      ...words(Opcode.Embed, 0, 0, floatWord(1)),
      ...Array.from({ length: layers }, (_, layer) => words(Opcode.KvWrite, 1, 2, layer)).flat(),
    ]),
    headStart: 1 + layers,
    buffers: Int32Array.from([0, 2 * width, 0, 2 * width, 0, 0, 2 * width, 0, width, 0, 0, 2 * width, width, width, 0]),
    weights: [embed],
    arenaBytes: Math.ceil((chunk * 2 * width * 4) / 64) * 64,
    maxTokens: chunk,
    maxRows: 1,
    logits: -1,
    hidden: -1,
    vocabSize: 0,
    cascade: true,
    numerics: "f32",
    kv,
  });
  for (const { pages } of sequences)
    for (let start = 0; start < context; start += chunk) {
      const tokens = Array.from({ length: Math.min(chunk, context - start) }, (_, i) => (start + i * 17) % 64);
      await addon.runPlan(plan, { ...stepInputs([{ start, tokens, pages }], {}), ...NO_ROWS });
    }
  addon.closePlan(plan);
  addon.closeWeight(embed);
}

async function tableOf(addon, values, columns) {
  const { mkdtempSync, rmSync, writeFileSync } = await import("node:fs");
  const { tmpdir } = await import("node:os");
  const { join } = await import("node:path");
  const folder = mkdtempSync(join(tmpdir(), "sglang-profile-"));
  writeFileSync(join(folder, "values"), new Uint8Array(values.buffer));
  const file = addon.mapFile(join(folder, "values"));
  const table = addon.mapTable({ file, offset: 0, type: 0, rows: values.length / columns, columns });
  addon.closeFile(file);
  rmSync(folder, { recursive: true });
  return table;
}

const ints = (values) => Int32Array.from(values);
const NO_ROWS = {
  ...Object.fromEntries(
    ["rowToken", "rowTarget", "rowSlot", "topK", "draw", "maskIndex", "topLogprobs"].map((key) => [key, ints([])]),
  ),
  ...Object.fromEntries(["temperature", "topP", "minP", "penalties"].map((key) => [key, new Float32Array(0)])),
  seed: new Uint32Array(0),
  ...Object.fromEntries(["seenStart", "biasStart", "wantedStart"].map((key) => [key, ints([0])])),
};

/** One step over sequences, with one sampled row at the end of each. `sampling` sets temperature, topP, topK, penalties. */
function stepInputs(sequences, sampling) {
  const { temperature = 0, topP = 1, topK = -1, penalty = 0, seen = 0, mask = null } = sampling;
  const starts = (counts) =>
    ints([
      0,
      ...counts.map(
        (
          (sum) => (n) =>
            (sum += n)
        )(0),
      ),
    ]);
  const n = sequences.length;
  const each = (value) => new Int32Array(n).fill(value);
  const floats = (value) => new Float32Array(n).fill(value);
  const seqStart = starts(sequences.map((s) => s.tokens.length));
  return {
    tokens: ints(sequences.flatMap((s) => s.tokens)),
    positions: ints(sequences.flatMap((s) => s.tokens.map((_, i) => s.start + i))),
    seqStart,
    kvLength: ints(sequences.map((s) => s.start + s.tokens.length)),
    pageStart: starts(sequences.map((s) => s.pages.length)),
    pageTable: ints(sequences.flatMap((s) => s.pages)),
    rowToken: ints(Array.from(seqStart.subarray(1), (end) => end - 1)),
    rowTarget: each(-1),
    rowSlot: each(-1),
    temperature: floats(temperature),
    topP: floats(topP),
    topK: each(topK),
    minP: floats(0),
    seed: new Uint32Array(2 * n).fill(7),
    draw: each(3),
    penalties: Float32Array.from({ length: 3 * n }, (_, i) => (i % 3 === 2 ? 1 : penalty)),
    seenStart: starts(sequences.map(() => seen)),
    seenIds: ints(sequences.flatMap(() => Array.from({ length: seen }, (_, i) => i * 3))),
    seenCounts: new Int32Array(n * seen).fill(1),
    biasStart: new Int32Array(n + 1),
    biasIds: ints([]),
    biasValues: new Float32Array(0),
    maskIndex: each(mask === null ? -1 : 0),
    maskTicket: 0,
    topLogprobs: each(-1),
    wantedStart: new Int32Array(n + 1),
    wantedIds: ints([]),
    returnLogits: false,
    returnHidden: false,
  };
}
