/**
 * GGUF metadata to {@link ModelConfig}, read as llama.cpp reads it: sizes under `{architecture}.`, the vocabulary from the
 * shape of token_embd, tying and biases from which tensors are there.
 *
 * Every key under the architecture's prefix changes the computation, so one that is not known is refused by name.
 */
import { SglangError } from "../core/errors.js";
import type { Checkpoint } from "../core/model-files.js";
import type { ModelConfig } from "./config.js";
import { ConfigFields } from "./config-fields.js";
import { type RopeScaling, yarnMscale } from "./rope.js";

const KNOWN_KEYS = new Set([
  ..."context_length embedding_length block_count feed_forward_length vocab_size".split(" "),
  ..."head_count head_count_kv key_length value_length layer_norm_rms_epsilon causal sliding_window"
    .split(" ")
    .map((key) => `attention.${key}`),
  ..."dimension_count freq_base scale_linear".split(" ").map((key) => `rope.${key}`),
  ..."type factor attn_factor original_context_length finetuned yarn_ext_factor yarn_attn_factor yarn_beta_fast yarn_beta_slow"
    .split(" ")
    .map((key) => `rope.scaling.${key}`),
  // Say nothing about the forward pass: the converter's note on its input, and counts of what is absent.
  "tensor_data_layout",
  "expert_count",
  "expert_used_count",
  "use_parallel_residual",
]);

/** @see modelConfig in read-config.ts */
export function ggufConfig(checkpoint: Checkpoint): ModelConfig {
  const { metadata, path, tensors } = checkpoint;
  const general = new ConfigFields(metadata, path, "general.");
  const architecture = general.text("architecture");
  const type = general.text("type", "model");
  if (type !== "model") throw general.unsupported("type", "only files of whole models can be served");
  const fields = new ConfigFields(metadata, path, `${architecture}.`);
  const unknown = fields.keys.find((key) => !KNOWN_KEYS.has(key));
  if (unknown !== undefined) throw fields.unsupported(unknown, `this option of ${architecture} models is not known`);
  for (const key of ["expert_count", "expert_used_count"]) fields.neutral(key, [0], "mixtures of experts are not");
  fields.neutral("use_parallel_residual", [false], "attention and MLP run one after the other");
  fields.neutral("attention.causal", [true], "attention is causal");

  const hiddenSize = fields.count("embedding_length");
  const heads = fields.count("attention.head_count");
  const kvHeads = fields.count("attention.head_count_kv", heads);
  if (heads % kvHeads !== 0) throw fields.malformed("attention.head_count_kv", `a divisor of the ${heads} heads`);
  if (!fields.has("attention.key_length") && hiddenSize % heads !== 0)
    throw fields.malformed("embedding_length", `a multiple of the ${heads} heads when attention.key_length is absent`);
  const headDim = fields.count("attention.key_length", hiddenSize / heads);
  if (headDim % 2 !== 0) throw fields.malformed("attention.key_length", "even");
  fields.neutral("attention.value_length", [headDim], `keys and values must be equally long (${headDim})`);
  fields.neutral("rope.dimension_count", [headDim], `all ${headDim} columns of a head are rotated`);

  const embedding = tensors.get("token_embd.weight");
  if (embedding === undefined)
    throw new SglangError("TENSOR_MISMATCH", `${path} has no tensor token_embd.weight, which every model needs.`, {
      file: path,
      tensor: "token_embd.weight",
    });
  const contextLength = fields.count("context_length");
  return {
    architecture,
    modelType: architecture,
    vocabSize: embedding.shape[0],
    hiddenSize,
    intermediateSize: fields.count("feed_forward_length"),
    layers: fields.layers("block_count"),
    heads,
    kvHeads,
    headDim,
    normEps: fields.positive("attention.layer_norm_rms_epsilon"),
    activation: "silu",
    rope: {
      theta: fields.positive("rope.freq_base", 10_000),
      scaling: scaling(fields, checkpoint, headDim, contextLength),
    },
    contextLength,
    tieWordEmbeddings: !tensors.has("output.weight"),
    attentionBias: tensors.has("blk.0.attn_q.bias"),
    mlpBias: tensors.has("blk.0.ffn_gate.bias"),
    // No key says which layers have the window: architectures that need to know refuse it.
    sliding: fields.has("attention.sliding_window")
      ? { window: fields.count("attention.sliding_window"), maxWindowLayers: null, layerTypes: null }
      : null,
    dtype: null,
  };
}

function scaling(fields: ConfigFields, checkpoint: Checkpoint, headDim: number, contextLength: number): RopeScaling {
  const factorKey = fields.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  const factor = fields.positive(factorKey, 1);
  const type = fields.text("rope.scaling.type", factor === 1 ? "none" : "linear");
  if (checkpoint.tensors.has("rope_freqs.weight")) {
    if (type !== "none" && factor !== 1)
      throw fields.unsupported("rope.scaling.type", "the file also has rope_freqs.weight");
    const factors = checkpoint.readFloat32("rope_freqs.weight");
    if (factors.length !== headDim / 2)
      throw new SglangError(
        "TENSOR_MISMATCH",
        `rope_freqs.weight in ${checkpoint.path} has ${factors.length} values where half the head dimension is ${headDim / 2}.`,
        { file: checkpoint.path, tensor: "rope_freqs.weight", expected: `${headDim / 2}`, found: `${factors.length}` },
      );
    return { type: "factors", factors };
  }
  switch (type) {
    case "none":
      return { type: "default" };
    case "linear":
      return factor === 1 ? { type: "default" } : { type, factor };
    case "yarn": {
      fields.neutral("rope.scaling.yarn_ext_factor", [1], "the ramp is applied whole");
      const attnFactor = fields.positive(
        "rope.scaling.yarn_attn_factor",
        fields.positive("rope.scaling.attn_factor", 1),
      );
      return {
        type,
        factor,
        originalContextLength: fields.count("rope.scaling.original_context_length", contextLength),
        betaFast: fields.positive("rope.scaling.yarn_beta_fast", 32),
        betaSlow: fields.positive("rope.scaling.yarn_beta_slow", 1),
        attentionFactor: attnFactor * yarnMscale(factor),
        truncate: true,
      };
    }
    default:
      throw fields.unsupported("rope.scaling.type", "known are none, linear, yarn");
  }
}
