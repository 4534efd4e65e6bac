/**
 * Writes a seeded random model with a small real tokenizer: for tests of anything that serves models, without downloads.
 *
 *   const { path } = await writeTinyModel(dir, { architecture: "qwen2", seed: 7 });
 *
 * The folder is an ordinary Hugging Face checkpoint that transformers loads too; with `format: "gguf"` it is one GGUF
 * file. Equal options give equal bytes, and a tensor's numbers depend only on seed, name and shape.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { QuantizableDType } from "../weights/quantize.js";
import { type SafetensorsDType, writeSafetensors } from "../weights/safetensors.js";
import { writeTinyGguf } from "./tiny-gguf.js";
import { tinyTokenizer, tokenizerConfig, tokenizerJson } from "./tiny-tokenizer.js";
import { type TinyConfig, tinyTensors } from "./tiny-weights.js";

export interface TinyModelOptions {
  /** @default "llama" */
  architecture?: "llama" | "mistral" | "qwen2";
  /** @default 0 */
  seed?: number;
  /** @default 64 */
  hidden?: number;
  /** @default 2 */
  layers?: number;
  /** @default 4 */
  heads?: number;
  /** @default 2 */
  kvHeads?: number;
  /** @default hidden / heads */
  headDim?: number;
  /** @default 128 */
  intermediate?: number;
  /** Rows of the embedding. @default the tokenizer's size rounded up to a multiple of 64: a few rows are padding */
  vocabSize?: number;
  /** @default 512 */
  contextLength?: number;
  /** Share embedding and head. @default false */
  tie?: boolean;
  /** @default 10000 */
  theta?: number;
  /** As in config.json: `{ rope_type: "llama3", factor: 8, ... }`. @default none */
  ropeScaling?: Readonly<Record<string, unknown>>;
  /** Llama only: biases of q, k, v and o. @default false */
  attentionBias?: boolean;
  /** Llama only: biases of gate, up and down. @default false */
  mlpBias?: boolean;
  /** Mistral: in every layer. Qwen2: in the layers from `maxWindowLayers` on. @default none */
  slidingWindow?: number;
  /** @default 0 */
  maxWindowLayers?: number;
  /** @default "safetensors" */
  format?: "safetensors" | "gguf";
  /** Type of the matrices. Quantised types need `format: "gguf"`. @default "F32" */
  dtype?: QuantizableDType;
}

export interface TinyModel {
  /** What to open: the folder, or the GGUF file in it. */
  readonly path: string;
  /** config.json, also when the format has none. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Rows of the embedding. */
  readonly vocabSize: number;
  /** Ids the tokenizer has; the rest is padding. */
  readonly tokenizerSize: number;
  readonly eosTokenIds: readonly number[];
}

/** Writes the model into `dir`, which is made when absent. */
export async function writeTinyModel(dir: string, options: TinyModelOptions = {}): Promise<TinyModel> {
  const { format = "safetensors", dtype = "F32", seed = 0 } = options;
  const tokenizer = tinyTokenizer();
  const { endOfText, imEnd } = tokenizer.specialIds;
  const vocabSize = options.vocabSize ?? Math.ceil(tokenizer.tokens.length / 64) * 64;
  const config = tinyConfig(options, vocabSize, imEnd, dtype);
  const tensors = tinyTensors(config, seed);
  const model = { config, vocabSize, tokenizerSize: tokenizer.tokens.length, eosTokenIds: [imEnd, endOfText] };
  await mkdir(dir, { recursive: true });
  if (format === "gguf") {
    const path = join(dir, "model.gguf");
    await writeTinyGguf(path, config, tensors, tokenizer, dtype);
    return { path, ...model };
  }
  const saved = safetensorsDType(dtype);
  const json = async (name: string, value: unknown) =>
    writeFile(join(dir, name), `${JSON.stringify(value, null, 2)}\n`);
  await json("config.json", config);
  await json("generation_config.json", { eos_token_id: model.eosTokenIds, pad_token_id: endOfText });
  await json("tokenizer.json", tokenizerJson(tokenizer));
  await json("tokenizer_config.json", tokenizerConfig(config.max_position_embeddings));
  await writeSafetensors(
    join(dir, "model.safetensors"),
    tensors.map(({ name, shape, values }) => ({ name, dtype: saved, shape, data: values })),
    { format: "pt" },
  );
  return { path: dir, ...model };
}

const ARCHITECTURES = { llama: "LlamaForCausalLM", mistral: "MistralForCausalLM", qwen2: "Qwen2ForCausalLM" } as const;
const TORCH_TYPES: Record<SafetensorsDType, string> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

function tinyConfig(options: TinyModelOptions, vocabSize: number, eos: number, dtype: QuantizableDType): TinyConfig {
  const { architecture = "llama", hidden = 64, heads = 4, headDim = hidden / heads, layers = 2 } = options;
  const { slidingWindow, attentionBias = false, mlpBias = false, ropeScaling } = options;
  return {
    architectures: [ARCHITECTURES[architecture]],
    model_type: architecture,
    vocab_size: vocabSize,
    hidden_size: hidden,
    intermediate_size: options.intermediate ?? 128,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: options.kvHeads ?? 2,
    head_dim: headDim,
    hidden_act: "silu",
    max_position_embeddings: options.contextLength ?? 512,
    rms_norm_eps: 1e-5,
    rope_theta: options.theta ?? 10_000,
    ...(ropeScaling === undefined ? {} : { rope_scaling: ropeScaling }),
    tie_word_embeddings: options.tie ?? false,
    ...(architecture === "llama" ? { attention_bias: attentionBias, mlp_bias: mlpBias } : {}),
    ...(architecture === "mistral" ? { sliding_window: slidingWindow ?? null } : {}),
    ...(architecture === "qwen2" && slidingWindow !== undefined
      ? { use_sliding_window: true, sliding_window: slidingWindow, max_window_layers: options.maxWindowLayers ?? 0 }
      : {}),
    bos_token_id: null,
    eos_token_id: eos,
    torch_dtype: dtype in TORCH_TYPES ? TORCH_TYPES[dtype as SafetensorsDType] : "float32",
  };
}

function safetensorsDType(dtype: QuantizableDType): SafetensorsDType {
  if (!(dtype in TORCH_TYPES)) throw new RangeError(`dtype ${dtype} needs format: "gguf"`);
  return dtype as SafetensorsDType;
}
