/** The GGUF form of a tiny model, as llama.cpp's converter writes it: its names, its row order of q and k, 1-D tensors in F32. */
import { ropeFrequencies } from "../models/rope.js";
import { type GgufTensor, type GgufValue, writeGguf } from "../weights/gguf-writer.js";
import { type QuantizableDType, quantize } from "../weights/quantize.js";

import { CHAT_TEMPLATE, SPECIAL_TOKENS, type TinyTokenizer } from "./tiny-tokenizer.js";
import type { TinyConfig, TinyTensor } from "./tiny-weights.js";

const NAMES: readonly (readonly [huggingFace: string, gguf: string])[] = [
  ["model.embed_tokens", "token_embd"],
  ["model.norm", "output_norm"],
  ["lm_head", "output"],
  ["model.layers", "blk"],
  ["input_layernorm", "attn_norm"],
  ["post_attention_layernorm", "ffn_norm"],
  ["self_attn.q_proj", "attn_q"],
  ["self_attn.k_proj", "attn_k"],
  ["self_attn.v_proj", "attn_v"],
  ["self_attn.o_proj", "attn_output"],
  ["mlp.gate_proj", "ffn_gate"],
  ["mlp.up_proj", "ffn_up"],
  ["mlp.down_proj", "ffn_down"],
];
const TOKEN_TYPE = { normal: 1, control: 3 } as const;

/** @throws RangeError for a sliding window, and for a rope scaling other than linear, llama3, or yarn with its usual ramp. */
export async function writeTinyGguf(
  path: string,
  config: TinyConfig,
  tensors: readonly TinyTensor[],
  tokenizer: TinyTokenizer,
  dtype: QuantizableDType,
): Promise<void> {
  const architecture = config.model_type === "qwen2" ? "qwen2" : "llama";
  if (typeof config.sliding_window === "number") throw new RangeError("a sliding window has no GGUF form here");
  const rope = ropeScaling(config);
  const stored = tensors.map(({ name, shape, values }): GgufTensor => {
    const type = shape.length === 1 ? "F32" : dtype;
    const ordered = architecture === "llama" ? interleave(name, values, config) : values;
    const renamed = NAMES.reduce((text, [from, to]) => text.replace(from, to), name);
    return { name: renamed, type, shape, bytes: quantize(type, ordered) };
  });
  const f32 = (value: number): GgufValue => ({ type: "f32", value });
  const { tokens, merges, specialIds } = tokenizer;
  const firstSpecial = tokens.length - SPECIAL_TOKENS.length;
  const padding = Array.from({ length: config.vocab_size - tokens.length }, (_, i) => `[PAD${tokens.length + i}]`);
  const allTokens = [...tokens, ...padding];
  const metadata: Record<string, GgufValue> = {
    "general.architecture": architecture,
    "general.type": "model",
    "general.name": `tiny ${config.model_type}`,
    [`${architecture}.block_count`]: config.num_hidden_layers,
    [`${architecture}.context_length`]: config.max_position_embeddings,
    [`${architecture}.embedding_length`]: config.hidden_size,
    [`${architecture}.feed_forward_length`]: config.intermediate_size,
    [`${architecture}.attention.head_count`]: config.num_attention_heads,
    [`${architecture}.attention.head_count_kv`]: config.num_key_value_heads,
    [`${architecture}.attention.key_length`]: config.head_dim,
    [`${architecture}.attention.value_length`]: config.head_dim,
    [`${architecture}.attention.layer_norm_rms_epsilon`]: f32(config.rms_norm_eps),
    [`${architecture}.rope.dimension_count`]: config.head_dim,
    [`${architecture}.rope.freq_base`]: f32(config.rope_theta),
    [`${architecture}.vocab_size`]: config.vocab_size,
    ...Object.fromEntries(
      Object.entries(rope.keys).map(([key, value]) => [`${architecture}.rope.scaling.${key}`, value]),
    ),
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen2",
    "tokenizer.ggml.tokens": { type: "array", items: "string", value: allTokens },
    "tokenizer.ggml.token_type": {
      type: "array",
      items: "i32",
      value: allTokens.map((_, id) => (id < firstSpecial ? TOKEN_TYPE.normal : TOKEN_TYPE.control)),
    },
    "tokenizer.ggml.merges": { type: "array", items: "string", value: merges.map((pair) => pair.join(" ")) },
    "tokenizer.ggml.eos_token_id": specialIds.imEnd,
    "tokenizer.ggml.padding_token_id": specialIds.endOfText,
    "tokenizer.ggml.add_bos_token": false,
    "tokenizer.chat_template": CHAT_TEMPLATE,
  };
  await writeGguf(path, { metadata, tensors: [...stored, ...rope.tensors] });
}

/** The converter's `reshape(heads, 2, headDim / 2, in).swapaxes(1, 2)` on rows of q and k. */
function interleave(name: string, values: Float32Array, config: TinyConfig): Float32Array {
  if (!/\.[qk]_proj\./.test(name)) return values;
  const { head_dim: headDim } = config;
  const heads = name.includes("q_proj") ? config.num_attention_heads : config.num_key_value_heads;
  const width = values.length / (heads * headDim);
  const out = new Float32Array(values.length);
  for (let head = 0; head < heads; head++)
    for (let half = 0; half < 2; half++)
      for (let i = 0; i < headDim / 2; i++) {
        const from = head * headDim + (half * headDim) / 2 + i;
        const to = head * headDim + 2 * i + half;
        out.set(values.subarray(from * width, (from + 1) * width), to * width);
      }
  return out;
}

function ropeScaling(config: TinyConfig): { keys: Record<string, GgufValue>; tensors: GgufTensor[] } {
  const scaling = (config.rope_scaling ?? {}) as Record<string, number | string>;
  const type = scaling.rope_type ?? "default";
  const factor: GgufValue = { type: "f32", value: Number(scaling.factor) };
  const original = Number(scaling.original_max_position_embeddings ?? config.max_position_embeddings);
  if (type === "default") return { keys: {}, tensors: [] };
  if (type === "linear") return { keys: { type, factor }, tensors: [] };
  if (type === "yarn" && Object.keys(scaling).every((key) => YARN_KEYS.includes(key)))
    return { keys: { type, factor, original_context_length: original }, tensors: [] };
  if (type !== "llama3") throw new RangeError(`ropeScaling ${JSON.stringify(scaling)} has no GGUF form here`);
  const { rope_theta: theta, head_dim: headDim } = config;
  const plain = ropeFrequencies(theta, headDim, { type: "default" }).frequencies;
  const scaled = ropeFrequencies(theta, headDim, {
    type,
    factor: Number(scaling.factor),
    lowFreqFactor: Number(scaling.low_freq_factor),
    highFreqFactor: Number(scaling.high_freq_factor),
    originalContextLength: original,
  }).frequencies;
  const factors = plain.map((x, i) => x / scaled[i]);
  return {
    keys: {},
    tensors: [{ name: "rope_freqs.weight", type: "F32", shape: [headDim / 2], bytes: quantize("F32", factors) }],
  };
}
const YARN_KEYS = ["rope_type", "factor", "original_max_position_embeddings"];
