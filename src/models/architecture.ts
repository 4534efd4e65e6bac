/** What a model file exports: how a config becomes a graph, and what is peculiar about its files. */
import type { Graph } from "../graph/graph.js";
import type { ModelConfig } from "./config.js";

export interface Architecture {
  /** Records the model. @throws SglangError UNSUPPORTED_MODEL for an option of `config` that this architecture lacks. */
  record(config: ModelConfig): Graph;
  /**
   * Order in which a GGUF file holds the rows of tensor `name` (our name): row i of ours is row `order[i]` of the file.
   * null = as they are.
   */
  ggufRowOrder(name: string, config: ModelConfig): Int32Array | null;
}
