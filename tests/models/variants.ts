/** Tiny models that between them use every option of the architectures. */
import type { TinyModelOptions } from "../../src/testing/index.js";

const YARN = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32 };
const LLAMA3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 32,
};

export const VARIANTS: Readonly<Record<string, TinyModelOptions>> = {
  llama: {},
  "llama-linear-rope": { ropeScaling: { rope_type: "linear", factor: 4 } },
  "llama-old-rope-key": { ropeScaling: { type: "linear", factor: 2 } },
  "llama-llama3-rope": { theta: 500_000, ropeScaling: LLAMA3 },
  "llama-yarn-rope": { ropeScaling: YARN },
  "llama-yarn-rope-all-keys": {
    ropeScaling: { ...YARN, attention_factor: 1.3, beta_fast: 16, beta_slow: 2, truncate: false },
  },
  "llama-yarn-rope-mscale": { ropeScaling: { ...YARN, mscale: 0.7, mscale_all_dim: 1.1 } },
  "llama-tied-without-groups": { tie: true, kvHeads: 4 },
  "llama-biases-wide-heads-one-kv-head": { attentionBias: true, mlpBias: true, headDim: 24, kvHeads: 1 },
  "mistral-window": { architecture: "mistral", slidingWindow: 7 },
  qwen2: { architecture: "qwen2", theta: 1_000_000 },
  "qwen2-tied": { architecture: "qwen2", tie: true },
  "qwen2-window-in-last-layers": { architecture: "qwen2", slidingWindow: 5, maxWindowLayers: 1, layers: 3 },
};

/** Seed of all of them. */
export const SEED = 3;
/** A prompt of n tokens that all tiny vocabularies have. */
export const promptOf = (n: number, start = 11) => Array.from({ length: n }, (_, i) => (i * 37 + start) % 300);
