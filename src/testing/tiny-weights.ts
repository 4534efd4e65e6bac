/** Tensors of a tiny model: which there are, and their seeded random numbers. */

/** config.json of a tiny model: the keys this module itself reads, and others. */
export interface TinyConfig extends Record<string, unknown> {
  model_type: "llama" | "mistral" | "qwen2";
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  max_position_embeddings: number;
  rope_theta: number;
  rms_norm_eps: number;
  tie_word_embeddings: boolean;
}

/** A tensor of a tiny model under its Hugging Face name. */
export interface TinyTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** All tensors. Every layer keeps its input's scale, and logits spread enough for the likeliest token to stand out. */
export function tinyTensors(config: TinyConfig, seed: number): TinyTensor[] {
  const { hidden_size: hidden, intermediate_size: wide, vocab_size: vocab, head_dim: headDim } = config;
  const [qWidth, kvWidth] = [config.num_attention_heads * headDim, config.num_key_value_heads * headDim];
  const tensors: TinyTensor[] = [];
  const put = (name: string, shape: number[], centre: number, deviation: number) =>
    tensors.push({ name, shape, values: randomValues(`${seed} ${name}`, shape, centre, deviation) });
  const linear = (name: string, rows: number, columns: number, hasBias: unknown) => {
    put(`${name}.weight`, [rows, columns], 0, 1 / Math.sqrt(columns));
    if (hasBias === true) put(`${name}.bias`, [rows], 0, 0.3);
  };
  put("model.embed_tokens.weight", [vocab, hidden], 0, LOGIT_SPREAD / Math.sqrt(hidden));
  for (let i = 0; i < config.num_hidden_layers; i++) {
    const layer = `model.layers.${i}`;
    const qkvBias = config.model_type === "qwen2" || config.attention_bias;
    put(`${layer}.input_layernorm.weight`, [hidden], 1, 0.2);
    linear(`${layer}.self_attn.q_proj`, qWidth, hidden, qkvBias);
    linear(`${layer}.self_attn.k_proj`, kvWidth, hidden, qkvBias);
    linear(`${layer}.self_attn.v_proj`, kvWidth, hidden, qkvBias);
    linear(`${layer}.self_attn.o_proj`, hidden, qWidth, config.attention_bias);
    put(`${layer}.post_attention_layernorm.weight`, [hidden], 1, 0.2);
    linear(`${layer}.mlp.gate_proj`, wide, hidden, config.mlp_bias);
    linear(`${layer}.mlp.up_proj`, wide, hidden, config.mlp_bias);
    linear(`${layer}.mlp.down_proj`, hidden, wide, config.mlp_bias);
  }
  put("model.norm.weight", [hidden], 1, 0.2);
  if (!config.tie_word_embeddings) put("lm_head.weight", [vocab, hidden], 0, LOGIT_SPREAD / Math.sqrt(hidden));
  return tensors;
}

/** Standard deviation of the logits. */
const LOGIT_SPREAD = 3;

/** Uniform values of the given centre and standard deviation, from a hash of `key`. */
function randomValues(key: string, shape: readonly number[], centre: number, deviation: number): Float32Array {
  let state = [...key].reduce((hash, char) => Math.imul(hash ^ char.charCodeAt(0), 0x01000193), 0x811c9dc5);
  // mulberry32
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const size = shape.reduce((a, b) => a * b, 1);
  return Float32Array.from({ length: size }, () => centre + (next() - 0.5) * Math.sqrt(12) * deviation);
}
