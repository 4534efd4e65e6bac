/**
 * Executes a graph as it was recorded, slowly and plainly: the definition of every op and the truth in tests.
 *
 * Values are f32 arrays, sums are doubles; with numerics "fast" products are those of `rotated.ts`, bit for bit. Each sequence keeps its keys and values in one growing list per layer, so
 * nothing here knows pages, plans or tiers.
 */
import type { Graph, Tensor, Weight } from "./graph.js";
import { graphError } from "./graph.js";
import { type ActivationName, type OpName, type OpNode, opNodes } from "./ops.js";
import { type RoundedRow, rotatedProduct, roundActivations, roundWeights } from "./rotated.js";

/** Tokens to append to each sequence. A key seen for the first time starts a new sequence at position 0. */
export interface ReferenceStep {
  sequences: readonly { key: string; tokens: readonly number[] }[];
  /** Token indices of this step (over all sequences) whose output is wanted. @default the last token of each sequence */
  rows?: readonly number[];
}

export interface ReferenceResult {
  /** Every tensor of the graph by name, row-major. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
  /** [rows, hidden] */
  readonly hidden: Float32Array;
  /** [rows, vocabulary]; null for a model without head. */
  readonly logits: Float32Array | null;
}

/** Values of a weight: its parts stacked, row-major. */
export type ReadWeight = (weight: Weight) => Float32Array;

interface LayerCache {
  k: Float32Array[]; // by position, [kvHeads * headDim]
  v: Float32Array[];
}
interface Context {
  tokens: number[];
  positions: number[];
  /** Cache of the sequence each token belongs to, by layer. */
  caches: Map<number, LayerCache>[];
  rows: readonly number[];
  weight: ReadWeight;
  /** Rows of a matrix as numerics "fast" has them; null with others. */
  rounded: ((matrix: Weight & { columns: number }) => readonly RoundedRow[]) | null;
  value(tensor: Tensor): Float32Array;
}

export class Reference {
  readonly #graph: Graph;
  readonly #read: ReadWeight;
  readonly #fast: boolean;
  readonly #rounded = new Map<Weight, readonly RoundedRow[]>();
  readonly #weights = new Map<Weight, Float32Array>();
  readonly #sequences = new Map<string, { length: number; layers: Map<number, LayerCache> }>();

  constructor(graph: Graph, read: ReadWeight, numerics: "f32" | "fast" = "f32") {
    this.#graph = graph;
    this.#read = read;
    this.#fast = numerics === "fast";
  }

  /** Appends the step's tokens to their sequences and computes every tensor of the graph for them. */
  step({ sequences, rows }: ReferenceStep): ReferenceResult {
    const tokens: number[] = [];
    const positions: number[] = [];
    const caches: Context["caches"] = [];
    const last: number[] = [];
    for (const { key, tokens: added } of sequences) {
      const sequence = this.#sequences.get(key) ?? { length: 0, layers: new Map() };
      this.#sequences.set(key, sequence);
      for (const token of added) {
        tokens.push(token);
        positions.push(sequence.length++);
        caches.push(sequence.layers);
      }
      last.push(tokens.length - 1);
    }
    const values = new Map<Tensor, Float32Array>();
    const context: Context = {
      tokens,
      positions,
      caches,
      rows: rows ?? last,
      weight: (weight) => this.#weight(weight),
      rounded: this.#fast ? (matrix) => this.#roundedRows(matrix) : null,
      value: (tensor) => values.get(tensor)!,
    };
    for (const node of opNodes(this.#graph)) values.set(node.output, run(node, context));
    const { hidden, logits } = this.#graph.outputs;
    return {
      tensors: new Map([...values].map(([tensor, value]) => [tensor.name, value])),
      hidden: context.value(hidden),
      logits: logits === null ? null : context.value(logits),
    };
  }

  /** Ends a sequence; its key may be used anew. */
  forget(key: string): void {
    this.#sequences.delete(key);
  }

  #roundedRows(matrix: Weight & { columns: number }): readonly RoundedRow[] {
    let rows = this.#rounded.get(matrix);
    if (rows === undefined) {
      rows = rowsOf(this.#weight(matrix), matrix.columns).map(roundWeights);
      this.#rounded.set(matrix, rows);
    }
    return rows;
  }

  #weight(weight: Weight): Float32Array {
    let values = this.#weights.get(weight);
    if (values === undefined) {
      values = weight.kind === "constant" ? weight.values : this.#read(weight);
      this.#weights.set(weight, values);
    }
    return values;
  }
}

const reference: { [K in OpName]: (node: OpNode<K>, context: Context) => Float32Array } = {
  embed({ attrs: { table, scale } }, { tokens, weight }) {
    const rows = weight(table);
    return fill(tokens.length, table.columns, (t, c) => rows[tokens[t] * table.columns + c] * scale);
  },

  rmsNorm({ inputs: [x], attrs: { weight: w, eps, groups } }, { value, weight }) {
    const input = value(x);
    const scale = weight(w);
    const width = x.columns / groups;
    const out = new Float32Array(input.length);
    for (let start = 0; start < input.length; start += width) {
      let squares = 0;
      for (let i = 0; i < width; i++) squares += input[start + i] ** 2;
      const norm = 1 / Math.sqrt(squares / width + eps);
      for (let i = 0; i < width; i++) out[start + i] = input[start + i] * norm * scale[i];
    }
    return out;
  },

  add({ inputs: [a, b] }, { value }) {
    const right = value(b);
    return value(a).map((left, i) => left + right[i]);
  },

  linear({ inputs: [x], output, attrs: { matrix, bias } }, { value, weight, rounded }) {
    const input = value(x);
    const added = bias === null ? null : weight(bias);
    if (rounded !== null) {
      const w = rounded(matrix);
      // The head's input has twice the bits.
      const rows = rowsOf(input, matrix.columns).map((row) => roundActivations(row, output.extent === "rows" ? 2 : 1));
      return fill(
        rows.length,
        matrix.rows,
        (row, c) => rotatedProduct(rows[row], w[c]) + (added === null ? 0 : added[c]),
      );
    }
    const w = weight(matrix);
    const n = matrix.columns;
    return fill(input.length / n, matrix.rows, (row, column) => {
      let sum = 0;
      for (let i = row * n, j = column * n, end = i + n; i < end; i++, j++) sum += input[i] * w[j];
      return sum + (added === null ? 0 : added[column]);
    });
  },

  rope({ inputs: [x], attrs: { frequencies, heads, headDim, mscale } }, { value, positions, weight }) {
    const out = value(x).slice();
    const frequency = weight(frequencies);
    const half = frequency.length;
    for (const [t, position] of positions.entries())
      for (let head = 0; head < heads; head++)
        for (let i = 0; i < half; i++) {
          const at = t * x.columns + head * headDim + i;
          const cos = Math.cos(position * frequency[i]) * mscale;
          const sin = Math.sin(position * frequency[i]) * mscale;
          const [a, b] = [out[at], out[at + half]];
          out[at] = a * cos - b * sin;
          out[at + half] = b * cos + a * sin;
        }
    return out;
  },

  attention({ inputs: [q, k, v], attrs }, { value, positions, caches }) {
    const { layer, heads, kvHeads, headDim, scale, window, causal } = attrs;
    const [queries, keys, values] = [value(q), value(k), value(v)];
    const cacheOf = (t: number): LayerCache => {
      const found = caches[t].get(layer) ?? { k: [], v: [] };
      caches[t].set(layer, found);
      return found;
    };
    for (const [t, position] of positions.entries()) {
      cacheOf(t).k[position] = keys.slice(t * k.columns, (t + 1) * k.columns);
      cacheOf(t).v[position] = values.slice(t * v.columns, (t + 1) * v.columns);
    }
    const out = new Float32Array(queries.length);
    for (const [t, position] of positions.entries()) {
      const cache = cacheOf(t);
      const first = window === 0 ? 0 : Math.max(0, position - window + 1);
      const last = causal ? position : cache.k.length - 1;
      for (let head = 0; head < heads; head++) {
        const at = t * q.columns + head * headDim;
        const kvAt = Math.floor(head / (heads / kvHeads)) * headDim;
        const scores: number[] = [];
        for (let p = first; p <= last; p++) {
          let dot = 0;
          for (let i = 0; i < headDim; i++) dot += queries[at + i] * cache.k[p][kvAt + i];
          scores.push(dot * scale);
        }
        const highest = scores.reduce((a, b) => Math.max(a, b));
        const weights = scores.map((score) => Math.exp(score - highest));
        const total = weights.reduce((a, b) => a + b);
        for (let i = 0; i < headDim; i++) {
          let sum = 0;
          for (let p = first; p <= last; p++) sum += weights[p - first] * cache.v[p][kvAt + i];
          out[at + i] = sum / total;
        }
      }
    }
    return out;
  },

  gatedAct({ inputs: [x], attrs: { activation }, output }, { value }) {
    const input = value(x);
    const n = output.columns;
    const act = activations[activation];
    return fill(input.length / x.columns, n, (row, c) => act(input[row * 2 * n + c]) * input[row * 2 * n + n + c]);
  },

  takeRows({ inputs: [x] }, { value, rows }) {
    const input = value(x);
    return fill(rows.length, x.columns, (row, c) => input[rows[row] * x.columns + c]);
  },

  slice({ inputs: [x], attrs: { first, columns } }, { value }) {
    const input = value(x);
    return fill(input.length / x.columns, columns, (row, c) => input[row * x.columns + first + c]);
  },
};

function run<K extends OpName>(node: OpNode<K>, context: Context): Float32Array {
  const value = reference[node.op as K](node, context);
  const rows = node.output.extent === "tokens" ? context.tokens.length : context.rows.length;
  if (value.length !== rows * node.output.columns)
    throw graphError(`${node.op} gave ${value.length} values for ${node.output}`);
  return value;
}

function rowsOf(values: Float32Array, columns: number): Float32Array[] {
  return Array.from({ length: values.length / columns }, (_, r) => values.subarray(r * columns, (r + 1) * columns));
}

function fill(rows: number, columns: number, at: (row: number, column: number) => number): Float32Array {
  const out = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) for (let c = 0; c < columns; c++) out[row * columns + c] = at(row, c);
  return out;
}

const activations: Record<ActivationName, (x: number) => number> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu_tanh: (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  gelu_erf: (x) => 0.5 * x * (1 + erf(x / Math.SQRT2)),
};

/** Error function from its power series; beyond |x| = 4 it is 1 in f32. */
function erf(x: number): number {
  if (Math.abs(x) > 4) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17; n++) {
    term *= -(x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
