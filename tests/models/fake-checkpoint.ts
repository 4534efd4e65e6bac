/** A checkpoint in memory: config and tensors as literals, values made up from the name. */
import type { Checkpoint, Metadata, TensorInfo } from "../../src/core/model-files.js";

export interface FakeFiles {
  format?: Checkpoint["format"];
  config?: Record<string, unknown> | null;
  metadata?: Metadata;
  /** Shape by the tensor's name in the file. */
  tensors?: Record<string, readonly number[]>;
  values?: Record<string, readonly number[]>;
}

export function fakeCheckpoint({
  format = "safetensors",
  config = null,
  metadata = {},
  tensors = {},
  values = {},
}: FakeFiles): Checkpoint {
  let offset = 0;
  const infos = Object.entries(tensors).map(([name, shape]): TensorInfo => {
    const byteLength = 4 * shape.reduce((a, b) => a * b, 1);
    offset += byteLength;
    return { name, dtype: "F32", shape, file: "/model/weights", offset: offset - byteLength, byteLength };
  });
  const byName = new Map(infos.map((info) => [info.name, info]));
  const readFloat32 = (name: string) => {
    const size = byName.get(name)!.byteLength / 4;
    return values[name] ? Float32Array.from(values[name]) : Float32Array.from({ length: size }, (_, i) => i);
  };
  return {
    format,
    path: "/model",
    files: ["/model/weights"],
    metadata,
    config,
    generationConfig: {},
    tokenizer: null,
    tensors: byName,
    readBytes: (name) => new Uint8Array(readFloat32(name).buffer),
    readFloat32,
    identity: () => "fake",
    close: () => {},
  };
}

/** config.json of the smallest Llama. */
export const LLAMA = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  vocab_size: 10,
  hidden_size: 8,
  intermediate_size: 6,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  max_position_embeddings: 32,
} as const;

/** Its tensors. */
export const LLAMA_TENSORS: Readonly<Record<string, readonly number[]>> = {
  "model.embed_tokens.weight": [10, 8],
  "model.layers.0.input_layernorm.weight": [8],
  "model.layers.0.self_attn.q_proj.weight": [8, 8],
  "model.layers.0.self_attn.k_proj.weight": [8, 8],
  "model.layers.0.self_attn.v_proj.weight": [8, 8],
  "model.layers.0.self_attn.o_proj.weight": [8, 8],
  "model.layers.0.post_attention_layernorm.weight": [8],
  "model.layers.0.mlp.gate_proj.weight": [6, 8],
  "model.layers.0.mlp.up_proj.weight": [6, 8],
  "model.layers.0.mlp.down_proj.weight": [8, 6],
  "model.norm.weight": [8],
  "lm_head.weight": [10, 8],
};

/** GGUF metadata of a llama of the same size but with one kv head. */
export const LLAMA_METADATA: Metadata = {
  "general.architecture": "llama",
  "llama.block_count": 1,
  "llama.context_length": 32,
  "llama.embedding_length": 8,
  "llama.feed_forward_length": 6,
  "llama.attention.head_count": 2,
  "llama.attention.head_count_kv": 1,
  "llama.attention.layer_norm_rms_epsilon": 1e-5,
  "llama.rope.freq_base": 10_000,
};
export const LLAMA_GGUF_TENSORS: Readonly<Record<string, readonly number[]>> = {
  "token_embd.weight": [10, 8],
  "blk.0.attn_norm.weight": [8],
  "blk.0.attn_q.weight": [8, 8],
  "blk.0.attn_k.weight": [4, 8],
  "blk.0.attn_v.weight": [4, 8],
  "blk.0.attn_output.weight": [8, 8],
  "blk.0.ffn_norm.weight": [8],
  "blk.0.ffn_gate.weight": [6, 8],
  "blk.0.ffn_up.weight": [6, 8],
  "blk.0.ffn_down.weight": [8, 6],
  "output_norm.weight": [8],
};
