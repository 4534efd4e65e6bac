/**
 * The layers models are made of. Each takes the config and the name of its weights, and returns a tensor; widths come
 * from the config, so a layer fits whatever checkpoint is loaded.
 */
import type { ConstantWeight, Graph, MatrixWeight, Tensor, VectorWeight, WeightPart } from "../graph/graph.js";
import { attention, gatedAct, linear, rmsNorm, rope, slice, takeRows } from "../graph/ops.js";
import type { ModelConfig } from "./config.js";
import { ropeFrequencies } from "./rope.js";

/** The model's frequencies, computed once and shared by its layers. */
export interface Rotary {
  readonly frequencies: ConstantWeight;
  readonly mscale: number;
}

export function rotary(g: Graph, { rope: { theta, scaling }, headDim }: ModelConfig): Rotary {
  const { frequencies, mscale } = ropeFrequencies(theta, headDim, scaling);
  return { frequencies: g.constant("rope_frequencies", frequencies), mscale };
}

/** x normed by `${name}.weight`. */
export function norm(x: Tensor, name: string, config: ModelConfig): Tensor {
  const part = { name: `${name}.weight`, rows: x.columns };
  return rmsNorm(x, x.graph.vector(part.name, [part]), config.normEps).as(name);
}

/** One matrix of stacked projections `${name}.${p}.weight` of x, with their biases when there are any. */
export function projection(
  x: Tensor,
  name: string,
  parts: Readonly<Record<string, number>>,
  withBias: boolean,
): Tensor {
  const weights = (suffix: string): WeightPart[] =>
    Object.entries(parts).map(([p, rows]) => ({ name: `${name}.${p}.${suffix}`, rows }));
  const names = Object.keys(parts);
  const packed = `${name}.${names.length === 1 ? names[0] : `{${names}}`}`;
  const matrix: MatrixWeight = x.graph.matrix(`${packed}.weight`, weights("weight"), x.columns);
  const bias: VectorWeight | null = withBias ? x.graph.vector(`${packed}.bias`, weights("bias")) : null;
  return linear(x, matrix, bias).as(packed);
}

export interface AttentionOptions {
  layer: number;
  rotary: Rotary;
  qkvBias: boolean;
  outputBias: boolean;
  /** Positions a token sees; 0 = all. */
  window: number;
}

/** Causal self-attention with rotary positions and grouped kv heads, x [tokens, hidden] to the same shape. */
export function selfAttention(x: Tensor, name: string, config: ModelConfig, options: AttentionOptions): Tensor {
  const { heads, kvHeads, headDim } = config;
  const { layer, qkvBias, outputBias, window } = options;
  const [qWidth, kvWidth] = [heads * headDim, kvHeads * headDim];
  const qkv = projection(x, name, { q_proj: qWidth, k_proj: kvWidth, v_proj: kvWidth }, qkvBias);
  // Queries and keys are neighbours and rotate alike: one op turns both.
  const qk = rope(slice(qkv, 0, qWidth + kvWidth), { ...options.rotary, heads: heads + kvHeads, headDim }).as(
    `${name}.qk`,
  );
  const q = slice(qk, 0, qWidth);
  const k = slice(qk, qWidth, kvWidth);
  const v = slice(qkv, qWidth + kvWidth, kvWidth);
  const scale = 1 / Math.sqrt(headDim);
  const attended = attention(q, k, v, { layer, heads, kvHeads, headDim, scale, window, causal: true }).as(name);
  return projection(attended, name, { o_proj: config.hiddenSize }, outputBias);
}

/** down(act(gate x) * up x). */
export function gatedMlp(x: Tensor, name: string, config: ModelConfig, withBias: boolean): Tensor {
  const { intermediateSize, hiddenSize, activation } = config;
  const gateUp = projection(x, name, { gate_proj: intermediateSize, up_proj: intermediateSize }, withBias);
  return projection(gatedAct(gateUp, activation).as(name), name, { down_proj: hiddenSize }, withBias);
}

/** The wanted rows, normed, and their logits. */
export function languageHead(h: Tensor, config: ModelConfig): { hidden: Tensor; logits: Tensor } {
  const hidden = norm(takeRows(h), "norm", config);
  const name = config.tieWordEmbeddings ? "embed_tokens.weight" : "lm_head.weight";
  const matrix = h.graph.matrix(name, [{ name, rows: config.vocabSize }], config.hiddenSize);
  return { hidden, logits: linear(hidden, matrix).as("logits") };
}
