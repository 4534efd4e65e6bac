/**
 * Llama and kin: pre-norm decoder, rotary positions, grouped-query attention, gated MLP, no biases unless switched on.
 * Mistral is Llama with a sliding window in every layer.
 */
import { SglangError } from "../core/errors.js";
import { type Graph, recordGraph } from "../graph/graph.js";
import { add, embed } from "../graph/ops.js";
import type { Architecture } from "./architecture.js";
import type { ModelConfig } from "./config.js";
import { gatedMlp, languageHead, norm, rotary, selfAttention } from "./layers.js";

/** Where kin differ. */
export interface DecoderVariant {
  qkvBias: boolean;
  outputBias: boolean;
  mlpBias: boolean;
  /** Positions a token of this layer sees; 0 = all. */
  window(layer: number): number;
}

/** Records the decoder every model of this family is. */
export function recordDecoder(config: ModelConfig, variant: DecoderVariant): Graph {
  const { vocabSize, hiddenSize, layers } = config;
  return recordGraph((g) => {
    const rotation = rotary(g, config);
    let h = embed(g.table("embed_tokens.weight", vocabSize, hiddenSize), g).as("embed_tokens");
    for (let layer = 0; layer < layers; layer++) {
      const name = `layers.${layer}`;
      const normed = norm(h, `${name}.input_layernorm`, config);
      const attended = selfAttention(normed, `${name}.self_attn`, config, {
        layer,
        rotary: rotation,
        qkvBias: variant.qkvBias,
        outputBias: variant.outputBias,
        window: variant.window(layer),
      });
      h = add(h, attended).as(`${name}.attended`);
      h = add(
        h,
        gatedMlp(norm(h, `${name}.post_attention_layernorm`, config), `${name}.mlp`, config, variant.mlpBias),
      ).as(name);
    }
    return languageHead(h, config);
  });
}

export const llama: Architecture = {
  record(config) {
    const { attentionBias, mlpBias, sliding } = config;
    if (sliding !== null)
      throw new SglangError(
        "UNSUPPORTED_MODEL",
        `${config.architecture} has no sliding window, but the config names one of ${sliding.window} positions.`,
        {
          field: "sliding_window",
          found: String(sliding.window),
        },
      );
    return recordDecoder(config, { qkvBias: attentionBias, outputBias: attentionBias, mlpBias, window: () => 0 });
  },
  ggufRowOrder: interleavedPairs,
};

export const mistral: Architecture = {
  record: (config) =>
    recordDecoder(config, {
      qkvBias: false,
      outputBias: false,
      mlpBias: false,
      window: () => config.sliding?.window ?? 0,
    }),
  ggufRowOrder: interleavedPairs,
};

/**
 * llama.cpp rotates neighbouring columns, so its converter stores the rows of q and k (weights and biases) of this family
 * with the two halves of each head interleaved: our row (head, b * half + i) is row (head, 2 * i + b) of the file.
 */
function interleavedPairs(name: string, { heads, kvHeads, headDim }: ModelConfig): Int32Array | null {
  const [, which] = /\.self_attn\.([qk])_proj\.(?:weight|bias)$/.exec(name) ?? [];
  if (which === undefined) return null;
  const half = headDim / 2;
  return Int32Array.from({ length: (which === "q" ? heads : kvHeads) * headDim }, (_, row) => {
    const within = row % headDim;
    return row - within + 2 * (within % half) + Math.floor(within / half);
  });
}
