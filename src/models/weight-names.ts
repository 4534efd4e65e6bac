/**
 * Tensor names of files to ours. Ours are Hugging Face's without the leading `model.`:
 * `embed_tokens.weight`, `layers.3.self_attn.q_proj.bias`, `norm.weight`, `lm_head.weight`.
 */
import type { Checkpoint } from "../core/model-files.js";

const GGUF_TOP: Readonly<Record<string, string>> = {
  token_embd: "embed_tokens",
  output_norm: "norm",
  output: "lm_head",
};
/** After `blk.N.`; ours after `layers.N.`. */
const GGUF_LAYER: Readonly<Record<string, string>> = {
  attn_norm: "input_layernorm",
  attn_q: "self_attn.q_proj",
  attn_k: "self_attn.k_proj",
  attn_v: "self_attn.v_proj",
  attn_output: "self_attn.o_proj",
  ffn_norm: "post_attention_layernorm",
  ffn_gate: "mlp.gate_proj",
  ffn_up: "mlp.up_proj",
  ffn_down: "mlp.down_proj",
};
/** Buffers that old files carry; their numbers follow from the config. The GGUF ones are read by gguf-config. */
const REDUNDANT: Readonly<Record<Checkpoint["format"], RegExp>> = {
  safetensors: /(^|\.)rotary_emb\.(inv_freq|cos_cached|sin_cached)$/,
  gguf: /^rope_freqs\.weight$/,
};

/** Our name of a file's tensor; null when it has none. */
export function ourName(format: Checkpoint["format"], name: string): string | null {
  if (format === "safetensors")
    return name.startsWith("model.") ? name.slice("model.".length) : name === "lm_head.weight" ? name : null;
  const [, layer, stem, suffix] = /^(?:blk\.(\d+)\.)?([a-z_]+)\.(weight|bias)$/.exec(name) ?? [];
  const table = layer === undefined ? GGUF_TOP : GGUF_LAYER;
  if (stem === undefined || !Object.hasOwn(table, stem)) return null;
  return `${layer === undefined ? "" : `layers.${layer}.`}${table[stem]}.${suffix}`;
}

/** Whether a tensor may stay unread. */
export function isRedundant(format: Checkpoint["format"], name: string): boolean {
  return REDUNDANT[format].test(name);
}
