/**
 * config.json to {@link ModelConfig}, with the defaults of transformers' configuration classes.
 *
 * Reads the keys those classes compute with, in both spellings (rope_scaling / rope_parameters, torch_dtype / dtype).
 * Keys that they know and this package does not compute are refused unless they hold their neutral value. Other keys
 * have no effect in transformers and have none here.
 */
import { join } from "node:path";
import { SglangError } from "../core/errors.js";
import type { Checkpoint } from "../core/model-files.js";
import type { ActivationName } from "../graph/ops.js";
import type { ModelConfig, SlidingConfig } from "./config.js";
import { ConfigFields } from "./config-fields.js";
import { type RopeScaling, yarnMscale } from "./rope.js";

const ACTIVATIONS: Readonly<Record<string, ActivationName>> = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu_erf",
  gelu_new: "gelu_tanh",
  gelu_pytorch_tanh: "gelu_tanh",
};

/** Keys that change the forward pass: the values under which they don't, and why others are refused. */
const NEUTRAL: Readonly<Record<string, readonly [values: readonly unknown[], reason: string]>> = {
  pretraining_tp: [[1], "split projections round differently; set it to 1 to accept that"],
  partial_rotary_factor: [[1], "all columns of a head are rotated"],
  quantization_config: [[], "weights must be F32, F16 or BF16, or a GGUF file"],
  is_causal: [[true], "attention is causal"],
  auto_map: [[], "it names code of its own, which is not run"],
  logit_scale: [[1], "logits are not scaled"],
};
const ROPE_KEYS = new Set(
  "rope_type type rope_theta factor original_max_position_embeddings attention_factor beta_fast beta_slow mscale mscale_all_dim truncate low_freq_factor high_freq_factor partial_rotary_factor finetuned".split(
    " ",
  ),
);
/** transformers' MistralConfig and Qwen2Config without the key. null, as newer Mistral models have it, means none. */
const DEFAULT_WINDOW = 4096;
/** transformers' Qwen2Config without the key. */
const DEFAULT_MAX_WINDOW_LAYERS = 28;

/** @see modelConfig in read-config.ts */
export function huggingFaceConfig(checkpoint: Checkpoint): ModelConfig {
  const file = join(checkpoint.path, "config.json");
  if (checkpoint.config === null)
    throw new SglangError("FILE_NOT_FOUND", `${file} is missing; a safetensors model needs it.`, { file });
  const fields = new ConfigFields(checkpoint.config, file);
  for (const [key, [values, reason]] of Object.entries(NEUTRAL)) fields.neutral(key, values, reason);

  const architectures = fields.raw("architectures");
  if (!Array.isArray(architectures) || architectures.length !== 1 || typeof architectures[0] !== "string")
    throw fields.malformed("architectures", "a list with one name");
  const hiddenSize = fields.count("hidden_size");
  const heads = fields.count("num_attention_heads");
  const kvHeads = fields.count("num_key_value_heads", heads);
  if (heads % kvHeads !== 0)
    throw fields.malformed("num_key_value_heads", `a divisor of num_attention_heads (${heads})`);
  if (!fields.has("head_dim") && hiddenSize % heads !== 0)
    throw fields.malformed("hidden_size", `a multiple of num_attention_heads (${heads}) when head_dim is absent`);
  const headDim = fields.count("head_dim", hiddenSize / heads);
  if (headDim % 2 !== 0) throw fields.malformed("head_dim", "even");
  const activation = ACTIVATIONS[fields.text("hidden_act", "silu")];
  if (activation === undefined)
    throw fields.unsupported("hidden_act", `known are ${Object.keys(ACTIVATIONS).join(", ")}`);
  const contextLength = fields.count("max_position_embeddings");
  const layers = fields.layers("num_hidden_layers");
  const modelType = fields.text("model_type");
  return {
    architecture: architectures[0],
    modelType,
    vocabSize: fields.count("vocab_size"),
    hiddenSize,
    intermediateSize: fields.count("intermediate_size"),
    layers,
    heads,
    kvHeads,
    headDim,
    normEps: fields.positive("rms_norm_eps", 1e-6),
    activation,
    rope: rope(fields, contextLength),
    contextLength,
    tieWordEmbeddings: fields.flag("tie_word_embeddings", false),
    attentionBias: fields.flag("attention_bias", false),
    mlpBias: fields.flag("mlp_bias", false),
    sliding: sliding(fields, modelType, layers),
    dtype:
      fields.has("dtype") || fields.has("torch_dtype") ? fields.text("dtype", fields.text("torch_dtype", "")) : null,
  };
}

function rope(fields: ConfigFields, contextLength: number): ModelConfig["rope"] {
  const key = fields.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  const values = fields.object(key);
  const unknown = values.keys.find((name) => !ROPE_KEYS.has(name));
  if (unknown !== undefined) throw values.unsupported(unknown, "no such rotary parameter is known");
  values.neutral("partial_rotary_factor", [1], "all columns of a head are rotated");
  const theta = values.positive("rope_theta", fields.positive("rope_theta", 10_000));
  return { theta, scaling: scaling(values, fields, contextLength) };
}

function scaling(values: ConfigFields, fields: ConfigFields, contextLength: number): RopeScaling {
  const key = values.has("rope_type") ? "rope_type" : "type";
  const type = values.text(key, "default");
  // A top-level value wins, as in transformers.
  const originalContextLength = () =>
    fields.count("original_max_position_embeddings", values.count("original_max_position_embeddings", contextLength));
  switch (type) {
    case "default":
      return { type };
    case "linear":
      return { type, factor: values.positive("factor") };
    case "llama3": {
      const lowFreqFactor = values.positive("low_freq_factor");
      const highFreqFactor = values.positive("high_freq_factor");
      if (highFreqFactor <= lowFreqFactor)
        throw values.malformed("high_freq_factor", `more than low_freq_factor (${lowFreqFactor})`);
      return {
        type,
        factor: values.positive("factor"),
        lowFreqFactor,
        highFreqFactor,
        originalContextLength: originalContextLength(),
      };
    }
    case "yarn": {
      const original = originalContextLength();
      const factor = values.positive("factor", contextLength / original);
      const mscales = values.has("mscale") && values.has("mscale_all_dim");
      const recommended = mscales
        ? yarnMscale(factor, values.positive("mscale")) / yarnMscale(factor, values.positive("mscale_all_dim"))
        : yarnMscale(factor);
      return {
        type,
        factor,
        originalContextLength: original,
        betaFast: values.positive("beta_fast", 32),
        betaSlow: values.positive("beta_slow", 1),
        attentionFactor: values.positive("attention_factor", recommended),
        truncate: values.flag("truncate", true),
      };
    }
    default:
      throw values.unsupported(key, "known are default, linear, llama3, yarn");
  }
}

function sliding(fields: ConfigFields, modelType: string, layers: number): SlidingConfig | null {
  // Qwen2 names a window that is off unless switched on; Mistral has one unless it is null; elsewhere one must be named.
  const isNull = fields.keys.includes("sliding_window") && !fields.has("sliding_window");
  const isNamed = modelType === "mistral" ? !isNull : modelType !== "qwen2" && fields.has("sliding_window");
  if (isNull || !fields.flag("use_sliding_window", isNamed)) return null;
  const layerTypes = fields.raw("layer_types");
  const known = ["full_attention", "sliding_attention"];
  if (
    layerTypes !== undefined &&
    !(Array.isArray(layerTypes) && layerTypes.length === layers && layerTypes.every((x) => known.includes(x)))
  )
    throw fields.malformed("layer_types", `${layers} times full_attention or sliding_attention`);
  return {
    window: fields.count("sliding_window", DEFAULT_WINDOW),
    maxWindowLayers: fields.natural("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS),
    layerTypes: (layerTypes as SlidingConfig["layerTypes"]) ?? null,
  };
}
