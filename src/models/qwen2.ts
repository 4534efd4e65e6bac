/** Qwen2 and Qwen2.5: Llama with biases on q, k and v, and (rarely switched on) a sliding window in its last layers. */
import { SglangError } from "../core/errors.js";
import type { Architecture } from "./architecture.js";
import type { ModelConfig } from "./config.js";
import { recordDecoder } from "./llama.js";

export const qwen2: Architecture = {
  record: (config) =>
    recordDecoder(config, {
      qkvBias: true,
      outputBias: false,
      mlpBias: false,
      window: (layer) => windowOf(layer, config),
    }),
  ggufRowOrder: () => null,
};

function windowOf(layer: number, { sliding, contextLength }: ModelConfig): number {
  if (sliding === null || sliding.window >= contextLength) return 0;
  const { layerTypes, maxWindowLayers, window } = sliding;
  if (layerTypes !== null) return layerTypes[layer] === "sliding_attention" ? window : 0;
  if (maxWindowLayers === null)
    throw new SglangError(
      "UNSUPPORTED_MODEL",
      `The config names a sliding window of ${window} positions but not which layers have it.`,
      {
        field: "max_window_layers",
      },
    );
  return layer >= maxWindowLayers ? window : 0;
}
