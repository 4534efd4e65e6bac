/**
 * Finds the file tensor of every weight part a graph names, and checks shapes before anything is packed.
 *
 * Nothing is ignored quietly: a missing tensor, another shape, and a tensor no weight reads are errors.
 */
import { SglangError } from "../core/errors.js";
import type { Checkpoint, TensorInfo } from "../core/model-files.js";
import type { ConstantWeight, Graph, Weight, WeightPart } from "../graph/graph.js";
import type { Architecture } from "./architecture.js";
import type { ModelConfig } from "./config.js";
import { isRedundant, ourName } from "./weight-names.js";

/** A part and where it lies. */
export interface BoundPart {
  readonly info: TensorInfo;
  readonly rows: number;
  /** Row i of the part is row order[i] of the file; null = as they are. */
  readonly order: Int32Array | null;
}
export type FileWeight = Exclude<Weight, ConstantWeight>;
/** The parts of every weight that comes from a file. */
export type Bindings = ReadonlyMap<FileWeight, readonly BoundPart[]>;

const MAX_NAMED = 5;

/** @throws SglangError TENSOR_MISMATCH naming the tensor, what was expected and what is there. */
export function bindWeights(
  graph: Graph,
  checkpoint: Checkpoint,
  architecture: Architecture,
  config: ModelConfig,
): Bindings {
  const { format, path } = checkpoint;
  const byOurName = new Map<string, TensorInfo>();
  for (const info of checkpoint.tensors.values()) {
    const name = ourName(format, info.name);
    if (name !== null) byOurName.set(name, info);
  }
  const used = new Set<TensorInfo>();
  const find = (part: WeightPart, columns: number | null): BoundPart => {
    const expected = columns === null ? [part.rows] : [part.rows, columns];
    const info = byOurName.get(part.name);
    if (info === undefined) throw mismatch(path, part.name, shape(expected), "nothing");
    const { rows } = part;
    if (shape(info.shape) !== shape(expected)) throw mismatch(info.file, info.name, shape(expected), shape(info.shape));
    used.add(info);
    return { info, rows, order: format === "gguf" ? architecture.ggufRowOrder(part.name, config) : null };
  };
  const bindings = new Map<FileWeight, readonly BoundPart[]>();
  for (const weight of graph.weights) {
    if (weight.kind === "constant") continue;
    const columns = weight.kind === "vector" ? null : weight.columns;
    bindings.set(
      weight,
      weight.parts.map((part) => find(part, columns)),
    );
  }

  // With tied embeddings a copy of the head may lie in the file; it is the same numbers.
  const mayStay = ({ name }: TensorInfo) =>
    isRedundant(format, name) || (config.tieWordEmbeddings && ourName(format, name) === "lm_head.weight");
  const unread = [...checkpoint.tensors.values()].filter((info) => !used.has(info) && !mayStay(info));
  if (unread.length > 0) {
    const names = unread.slice(0, MAX_NAMED).map((info) => info.name);
    const more = unread.length > MAX_NAMED ? ` and ${unread.length - MAX_NAMED} more` : "";
    throw new SglangError(
      "TENSOR_MISMATCH",
      `${path} has tensors that ${config.architecture} with this config does not read: ${names.join(", ")}${more}.`,
      { file: path, tensor: names[0], expected: "no such tensor", found: shape(unread[0].shape) },
    );
  }
  return bindings;
}

/** Values of a weight in our order, [rows, columns] or [rows]: what the reference computes with. */
export function readWeight(checkpoint: Checkpoint, parts: readonly BoundPart[]): Float32Array {
  const values = parts.map(({ info, rows, order }) => reorder(checkpoint.readFloat32(info.name), rows, order));
  const out = new Float32Array(values.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of values) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Rows [first, first + rows) of a weight, row-major; reads only the parts that hold them. */
export function readRows(
  checkpoint: Checkpoint,
  weight: FileWeight,
  parts: readonly BoundPart[],
  first: number,
  rows: number,
): Float32Array {
  const width = weight.kind === "vector" ? 1 : weight.columns;
  const starts = parts.map((_, i) => parts.slice(0, i).reduce((sum, part) => sum + part.rows, 0));
  const holds = (i: number) => starts[i] < first + rows && first < starts[i] + parts[i].rows;
  const values = readWeight(
    checkpoint,
    parts.filter((_, i) => holds(i)),
  );
  const offset = first - starts[starts.findIndex((_, i) => holds(i))];
  return values.subarray(offset * width, (offset + rows) * width);
}

function reorder(values: Float32Array, rows: number, order: Int32Array | null): Float32Array {
  if (order === null) return values;
  const width = values.length / rows;
  const out = new Float32Array(values.length);
  for (const [row, from] of order.entries()) out.set(values.subarray(from * width, (from + 1) * width), row * width);
  return out;
}

const shape = (dims: readonly number[]) => `[${dims.join(", ")}]`;

function mismatch(file: string, tensor: string, expected: string, found: string): SglangError {
  const arrived = found === "nothing" ? "is not there" : `has shape ${found}`;
  return new SglangError("TENSOR_MISMATCH", `Tensor ${tensor} in ${file} must have shape ${expected} but ${arrived}.`, {
    file,
    tensor,
    expected,
    found,
  });
}
