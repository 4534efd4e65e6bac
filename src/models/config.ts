/** What a model is, whatever the file format: the one shape that model files compute with. Read by `read-config.ts`. */
import type { ActivationName } from "../graph/ops.js";
import type { RopeScaling } from "./rope.js";

export interface ModelConfig {
  /** The registry's key: config.json's `architectures[0]`, or GGUF's `general.architecture`. */
  readonly architecture: string;
  /** "llama" | "mistral" | "qwen2" ...: config.json's `model_type`, or GGUF's `general.architecture`. */
  readonly modelType: string;
  /** Rows of the embedding; may be more than the tokenizer has ids. */
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly normEps: number;
  readonly activation: ActivationName;
  readonly rope: { readonly theta: number; readonly scaling: RopeScaling };
  /** Positions the model was made for. */
  readonly contextLength: number;
  /** The head reads the embedding's rows. */
  readonly tieWordEmbeddings: boolean;
  /** Llama's switches; architectures with fixed biases ignore them. */
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
  /** What the file says of sliding windows; the architecture says which layers have one. null = nothing. */
  readonly sliding: SlidingConfig | null;
  /** Type the weights were saved in, as the file says; null when it doesn't. For display. */
  readonly dtype: string | null;
}

export interface SlidingConfig {
  /** Positions a token sees, itself included. */
  readonly window: number;
  /** Qwen2: layers from this one on have the window. */
  readonly maxWindowLayers: number | null;
  /** One entry per layer; wins over maxWindowLayers. */
  readonly layerTypes: readonly ("full_attention" | "sliding_attention")[] | null;
}
