/** Weights of a checkpoint into native memory: matrices packed, tables mapped, vectors uploaded. */
import { DTYPES } from "../core/dtype.js";
import type { Checkpoint } from "../core/model-files.js";
import type { Weight } from "../graph/graph.js";
import type { NativeAddon, NativeFile, NativeRuntime, NativeWeight } from "../native/addon.js";
import { type BoundPart, readWeight } from "./bind.js";
import type { OpenedModel } from "./open.js";

export interface NativeHandles {
  readonly addon: NativeAddon;
  readonly runtime: NativeRuntime;
}
export type OnProgress = (progress: { loadedBytes: number; totalBytes: number }) => void;

/** All weights of the graph, in its order. On failure everything packed so far is freed. */
export async function packWeights(
  checkpoint: Checkpoint,
  { graph, bindings }: OpenedModel,
  { addon, runtime }: NativeHandles,
  onProgress?: OnProgress,
): Promise<Map<Weight, NativeWeight>> {
  const files = new Map<string, NativeFile>();
  const fileOf = (path: string): NativeFile => {
    const file = files.get(path) ?? addon.mapFile(path);
    files.set(path, file);
    return file;
  };
  const pack = async (weight: Weight, parts: readonly BoundPart[]): Promise<NativeWeight> => {
    if (weight.kind === "constant") return addon.uploadVector(weight.values);
    if (weight.kind === "vector") return addon.uploadVector(readWeight(checkpoint, parts));
    const { columns } = weight;
    const sources = parts.map(({ info, rows, order }) => ({
      file: fileOf(info.file),
      offset: info.offset,
      type: DTYPES[info.dtype].ggml,
      rows,
      ...(order === null ? {} : { order }),
    }));
    if (weight.kind === "matrix") return addon.packMatrix(runtime, { columns, sources });
    const [{ file, offset, type, rows }] = sources;
    return addon.mapTable({ file, offset, type, rows, columns });
  };

  const packed = new Map<Weight, NativeWeight>();
  const bytesOf = (parts: readonly BoundPart[]) => parts.reduce((sum, { info }) => sum + info.byteLength, 0);
  const totalBytes = [...bindings.values()].reduce((sum, parts) => sum + bytesOf(parts), 0);
  let loadedBytes = 0;
  try {
    for (const weight of graph.weights) {
      const parts = weight.kind === "constant" ? [] : bindings.get(weight)!;
      packed.set(weight, await pack(weight, parts));
      loadedBytes += bytesOf(parts);
      onProgress?.({ loadedBytes, totalBytes });
    }
    return packed;
  } catch (error) {
    for (const weight of packed.values()) addon.closeWeight(weight);
    throw error;
  } finally {
    // Tables keep what they gather from mapped until they are closed.
    for (const file of files.values()) addon.closeFile(file);
  }
}
