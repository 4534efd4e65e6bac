/** A two-layer transformer of every op, as a plan and as plain TypeScript in double precision. */
import { Activation, Opcode } from "../../src/graph/instructions.js";
import type { KvDtype, NativePlan, NativeRuntime } from "../../src/native/addon.js";
import { addon, f, kvPool, matrix, noise, PlanWriter, table } from "./support.js";

export const shape = {
  vocab: 50,
  padded: 56,
  hidden: 32,
  heads: 4,
  kvHeads: 2,
  headDim: 8,
  inner: 40,
  layers: 2,
  pageSize: 4,
  pages: 64,
};
const EPS = 1e-5;
const EMBED_SCALE = 1.5;
const MSCALE = 1.25;
const SCALE = 0.35;

/** All weights by name, as f32 values. */
function weightValues() {
  const s = shape;
  const qkv = (s.heads + 2 * s.kvHeads) * s.headDim;
  const layers = Array.from({ length: s.layers }, (_, l) => ({
    norm1: noise(s.hidden, 10 * l + 1).map((x) => 1 + x / 4),
    norm2: noise(s.hidden, 10 * l + 2).map((x) => 1 + x / 4),
    qNorm: noise(s.headDim, 10 * l + 3).map((x) => 1 + x / 4),
    qkv: noise(qkv * s.hidden, 10 * l + 4).map((x) => x / 3),
    qkvBias: noise(qkv, 10 * l + 5),
    o: noise(s.hidden * s.heads * s.headDim, 10 * l + 6).map((x) => x / 3),
    gateUp: noise(2 * s.inner * s.hidden, 10 * l + 7).map((x) => x / 3),
    down: noise(s.hidden * s.inner, 10 * l + 8).map((x) => x / 3),
  }));
  return {
    embed: noise(s.padded * s.hidden, 100),
    freq: Float32Array.from({ length: 3 }, (_, i) => 10 ** -i), // 6 of 8 columns rotate
    normF: noise(s.hidden, 101).map((x) => 1 + x / 4),
    head: noise(s.padded * s.hidden, 102),
    layers,
  };
}
const w = weightValues();

export interface TinyModel {
  plan: NativePlan;
  /** Buffers worth reading. */
  residual: number;
}

/** The same model as a plan. */
export async function tinyPlan(
  of: NativeRuntime,
  options: {
    maxTokens?: number;
    maxRows?: number;
    dtype?: KvDtype;
    window?: number;
    cascade?: boolean;
    pageSize?: number;
    pages?: number;
    keyScales?: Float32Array;
  } = {},
): Promise<TinyModel> {
  const s = shape;
  const p = new PlanWriter(options.maxTokens ?? 64, options.maxRows ?? 4);
  p.cascade = options.cascade ?? true;
  const vector = (values: Float32Array) => p.weight(addon.uploadVector(values));
  const linear = async (rows: number, columns: number, values: Float32Array) =>
    p.weight(await matrix(of, rows, columns, values));
  const qWidth = s.heads * s.headDim;
  const kvWidth = s.kvHeads * s.headDim;
  const [x, normed, qkv, attended, projected, gateUp, gated] = [
    s.hidden,
    s.hidden,
    qWidth + 2 * kvWidth,
    qWidth,
    s.hidden,
    2 * s.inner,
    s.inner,
  ].map((c) => p.buffer(c));
  const q = p.view(qkv, 0, qWidth);
  const k = p.view(qkv, qWidth, kvWidth);
  const v = p.view(qkv, qWidth + kvWidth, kvWidth);
  const freq = vector(w.freq);
  p.op(Opcode.Embed, x, p.weight(table(s.padded, s.hidden, w.embed)), f(EMBED_SCALE));
  for (const [l, layer] of w.layers.entries()) {
    const norm1 = vector(layer.norm1);
    if (l === 0) p.op(Opcode.RmsNorm, normed, x, norm1, f(EPS), 1);
    else p.op(Opcode.AddRmsNorm, x, normed, x, projected, norm1, f(EPS));
    p.op(Opcode.Linear, qkv, normed, await linear(qWidth + 2 * kvWidth, s.hidden, layer.qkv), vector(layer.qkvBias));
    p.op(Opcode.RmsNorm, q, q, vector(layer.qNorm), f(EPS), s.heads);
    p.op(Opcode.Rope, q, freq, s.heads, s.headDim, f(MSCALE));
    p.op(Opcode.Rope, k, freq, s.kvHeads, s.headDim, f(MSCALE));
    p.op(Opcode.KvWrite, k, v, l);
    p.op(Opcode.Attention, attended, q, l, s.heads, s.kvHeads, s.headDim, f(SCALE), options.window ?? 0, 1);
    p.op(Opcode.Linear, projected, attended, await linear(s.hidden, qWidth, layer.o), -1);
    p.op(Opcode.AddRmsNorm, x, normed, x, projected, vector(layer.norm2), f(EPS));
    p.op(Opcode.Linear, gateUp, normed, await linear(2 * s.inner, s.hidden, layer.gateUp), -1);
    p.op(Opcode.GatedAct, gated, gateUp, l === 0 ? Activation.Silu : Activation.GeluTanh);
    p.op(Opcode.Linear, projected, gated, await linear(s.hidden, s.inner, layer.down), -1);
  }
  p.op(Opcode.Add, x, x, projected).head();
  const [rows, hidden, logits] = [s.hidden, s.hidden, s.padded].map((c) => p.buffer(c, "rows"));
  p.op(Opcode.TakeRows, rows, x);
  p.op(Opcode.RmsNorm, hidden, rows, vector(w.normF), f(EPS), 1);
  p.op(Opcode.Linear, logits, hidden, await linear(s.padded, s.hidden, w.head), -1);
  p.logits = logits;
  p.hidden = hidden;
  const kv = kvPool({
    layers: s.layers,
    kvHeads: s.kvHeads,
    headDim: s.headDim,
    pageSize: options.pageSize ?? s.pageSize,
    pages: options.pages ?? s.pages,
    dtype: options.dtype ?? "f32",
    keyScales: options.keyScales ?? null,
  });
  return { plan: p.create(of, s.vocab, kv), residual: x };
}

const rms = (x: number[], weight: ArrayLike<number>, group: number) =>
  x.map((_, i) => {
    const start = i - (i % group);
    const mean = x.slice(start, start + group).reduce((a, b) => a + b * b, 0) / group;
    return (x[i] / Math.sqrt(mean + EPS)) * weight[i % group];
  });
const multiply = (x: number[], values: Float32Array, rows: number) =>
  Array.from({ length: rows }, (_, r) => x.reduce((sum, value, c) => sum + value * values[r * x.length + c], 0));
const rotate = (x: number[], position: number, headDim: number) =>
  x.map((value, i) => {
    const d = i % headDim;
    const n = w.freq.length;
    if (d >= 2 * n) return value;
    const angle = position * w.freq[d % n];
    const [a, b] = [Math.cos(angle) * MSCALE, Math.sin(angle) * MSCALE];
    return d < n ? value * a - x[i + n] * b : value * a + x[i - n] * b;
  });
const silu = (x: number) => x / (1 + Math.exp(-x));
const geluTanh = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** Logits [vocab] and last hidden state of every token of one sequence, from scratch. */
export function naiveModel(tokens: number[], window = 0): { logits: number[][]; hidden: number[][] } {
  const s = shape;
  const qWidth = s.heads * s.headDim;
  const kvWidth = s.kvHeads * s.headDim;
  let xs = tokens.map((t) => Array.from(w.embed.subarray(t * s.hidden, (t + 1) * s.hidden), (v) => v * EMBED_SCALE));
  for (const [l, layer] of w.layers.entries()) {
    const qkv = xs.map((x) =>
      multiply(rms(x, layer.norm1, s.hidden), layer.qkv, qWidth + 2 * kvWidth).map((v, i) => v + layer.qkvBias[i]),
    );
    const qs = qkv.map((row, t) => rotate(rms(row.slice(0, qWidth), layer.qNorm, s.headDim), t, s.headDim));
    const ks = qkv.map((row, t) => rotate(row.slice(qWidth, qWidth + kvWidth), t, s.headDim));
    const vs = qkv.map((row) => row.slice(qWidth + kvWidth));
    xs = xs.map((x, t) => {
      const attended = Array.from({ length: s.heads }, (_, h) => {
        const kvStart = Math.floor(h / (s.heads / s.kvHeads)) * s.headDim;
        const first = window ? Math.max(0, t - window + 1) : 0;
        const scores = ks.slice(first, t + 1).map((key) => {
          let dot = 0;
          for (let d = 0; d < s.headDim; d++) dot += qs[t][h * s.headDim + d] * key[kvStart + d];
          return dot * SCALE;
        });
        const max = Math.max(...scores);
        const weights = scores.map((score) => Math.exp(score - max));
        const total = weights.reduce((a, b) => a + b);
        return Array.from({ length: s.headDim }, (_, d) =>
          weights.reduce((sum, weight, j) => sum + (weight / total) * vs[first + j][kvStart + d], 0),
        );
      }).flat();
      const afterAttention = multiply(attended, layer.o, s.hidden).map((v, i) => v + x[i]);
      const gateUp = multiply(rms(afterAttention, layer.norm2, s.hidden), layer.gateUp, 2 * s.inner);
      const act = l === 0 ? silu : geluTanh;
      const gated = gateUp.slice(0, s.inner).map((gate, i) => act(gate) * gateUp[s.inner + i]);
      return multiply(gated, layer.down, s.hidden).map((v, i) => v + afterAttention[i]);
    });
  }
  const hidden = xs.map((x) => rms(x, w.normF, s.hidden));
  return { logits: hidden.map((h) => multiply(h, w.head, s.padded).slice(0, s.vocab)), hidden };
}
