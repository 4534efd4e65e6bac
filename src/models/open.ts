/** A checkpoint that has been read and checked, with nothing packed yet. No native code is touched here. */
import type { Checkpoint } from "../core/model-files.js";
import type { Graph } from "../graph/graph.js";
import type { ReadWeight } from "../graph/reference.js";
import { type Bindings, bindWeights, readWeight } from "./bind.js";
import type { ModelConfig } from "./config.js";
import { modelConfig } from "./read-config.js";
import { findArchitecture } from "./registry.js";

export interface OpenedModel {
  readonly config: ModelConfig;
  readonly graph: Graph;
  readonly bindings: Bindings;
  /** Learnt numbers; tied weights count once. */
  readonly parameters: number;
  /** Tensors of each type. */
  readonly dtypes: Readonly<Record<string, number>>;
}

/**
 * Reads the config, records the graph and finds every tensor.
 * @throws SglangError UNSUPPORTED_MODEL | MALFORMED_FILE | TENSOR_MISMATCH.
 */
export async function openModel(checkpoint: Checkpoint): Promise<OpenedModel> {
  const config = modelConfig(checkpoint);
  const architecture = await findArchitecture(config.architecture);
  const graph = architecture.record(config);
  const bindings = bindWeights(graph, checkpoint, architecture, config);
  const infos = new Set([...bindings.values()].flat().map(({ info }) => info));
  const dtypes: Record<string, number> = {};
  let parameters = 0;
  for (const { dtype, shape } of infos) {
    dtypes[dtype] = (dtypes[dtype] ?? 0) + 1;
    parameters += shape.reduce((a, b) => a * b, 1);
  }
  return { config, graph, bindings, parameters, dtypes };
}

/** A model's graph and its dequantised weights, for `Reference`. The checkpoint must stay open. */
export async function referenceModel(
  checkpoint: Checkpoint,
): Promise<{ config: ModelConfig; graph: Graph; read: ReadWeight }> {
  const { config, graph, bindings } = await openModel(checkpoint);
  const read: ReadWeight = (weight) =>
    weight.kind === "constant" ? weight.values : readWeight(checkpoint, bindings.get(weight)!);
  return { config, graph, read };
}
