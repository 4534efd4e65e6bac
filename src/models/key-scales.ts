/**
 * The range that each column of a key may need, known from the weights alone: what int8 keys are divided by before they
 * are rounded, so that one scale per key suits all its columns.
 *
 * A key is k = W x + b turned by RoPE, and x = g * n with n of root mean square 1 (a norm's output). So column r has a
 * spread of |W_r * g| around b_r, and |b_r| + 3 |W_r * g| covers it; where keys are normed themselves, 3 |weight| does.
 * RoPE mixes the columns of a pair, which therefore share the larger of their two ranges.
 */
import type { Graph, MatrixWeight, Tensor, VectorWeight } from "../graph/graph.js";
import { graphError } from "../graph/graph.js";
import { type OpNode, opNodes } from "../graph/ops.js";

const SIGMAS = 3;
/** Columns that hardly vary need no finer steps than this. */
const LEAST = 1e-2;

/** Rows [first, first + rows) of a weight, row-major. */
export type ReadRows = (weight: MatrixWeight | VectorWeight, first: number, rows: number) => Float32Array;

/** [layers * kvHeads * headDim], the smallest of each head 1. */
export function keyScales(graph: Graph, read: ReadRows): Float32Array {
  const nodes = opNodes(graph);
  const producers = new Map<Tensor, OpNode>(nodes.map((node) => [node.output, node]));
  const layers = nodes.filter((node): node is OpNode<"attention"> => node.op === "attention");
  return Float32Array.from(layers.flatMap((node) => [...layerScales(node, producers, read)]));
}

function layerScales(node: OpNode<"attention">, producers: ReadonlyMap<Tensor, OpNode>, read: ReadRows): Float32Array {
  const { kvHeads, headDim } = node.attrs;
  const { ranges, pairs } = keyRanges(node.inputs[1], headDim, producers, read);
  for (let head = 0; head < kvHeads; head++) {
    const range = ranges.subarray(head * headDim, (head + 1) * headDim);
    for (let i = 0; i < pairs; i++) range[i] = range[i + pairs] = Math.max(range[i], range[i + pairs]);
    const least = Math.max(LEAST, Math.min(...range));
    for (let i = 0; i < headDim; i++) range[i] = Math.max(range[i], least) / least;
  }
  return ranges;
}

/** Range of every column of a layer's keys, before RoPE; RoPE turns columns (i, i + pairs) of a head. */
function keyRanges(
  keys: Tensor,
  headDim: number,
  producers: ReadonlyMap<Tensor, OpNode>,
  read: ReadRows,
): { ranges: Float32Array; pairs: number } {
  let pairs = 0;
  let first = 0;
  for (let at = keys; ; ) {
    const node = producers.get(at);
    switch (node?.op) {
      case "slice":
        first += node.attrs.first;
        break;
      case "rope":
        pairs = node.attrs.frequencies.values.length;
        break;
      case "rmsNorm": {
        const weight = read(node.attrs.weight, 0, node.attrs.weight.rows);
        const width = weight.length;
        return {
          ranges: new Float32Array(keys.columns).map((_, i) => SIGMAS * Math.abs(weight[(first + i) % width])),
          pairs,
        };
      }
      case "linear":
        return { ranges: projectedRanges(node, first, keys.columns, producers, read), pairs };
      default:
        throw graphError(`keys come from ${node?.op ?? "nothing"}, whose range is not known; heads of ${headDim}`);
    }
    at = node.inputs[0]!;
  }
}

function projectedRanges(
  { inputs: [x], attrs: { matrix, bias } }: OpNode<"linear">,
  first: number,
  rows: number,
  producers: ReadonlyMap<Tensor, OpNode>,
  read: ReadRows,
): Float32Array {
  const w = read(matrix, first, rows);
  const b = bias === null ? null : read(bias, first, rows);
  const norm = producers.get(x);
  const gain = norm?.op === "rmsNorm" ? read(norm.attrs.weight, 0, norm.attrs.weight.rows) : null;
  const n = matrix.columns;
  return new Float32Array(rows).map((_, r) => {
    let squares = 0;
    for (let c = 0; c < n; c++) squares += (w[r * n + c] * (gain === null ? 1 : gain[c % gain.length])) ** 2;
    return SIGMAS * Math.sqrt(squares) + Math.abs(b?.[r] ?? 0);
  });
}
