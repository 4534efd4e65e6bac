/**
 * The op vocabulary: one entry per op (shape rule with its checks, weights, printed attributes) and the function that
 * models call. `reference.ts` holds the meaning of each op and `lower.ts` its instructions, as tables with the same
 * keys: an op without an entry in all three does not compile.
 *
 * To add an op: its attributes in {@link OpAttributes}, its entry in {@link ops}, its function at the end, one case in
 * `reference.ts`, one in `lower.ts`.
 */
import type {
  ConstantWeight,
  Extent,
  Graph,
  MatrixWeight,
  Node,
  TableWeight,
  Tensor,
  VectorWeight,
  Weight,
} from "./graph.js";
import { graphError } from "./graph.js";

export type ActivationName = "silu" | "gelu_tanh" | "gelu_erf";

/** Attributes of every op; tensors are inputs, everything else is here. */
export interface OpAttributes {
  /** out[t] = table[token[t]] * scale. No inputs. */
  embed: { table: TableWeight; scale: number };
  /** Per group of columns / groups columns: x * rsqrt(mean(x^2) + eps) * weight, weight [columns / groups]. */
  rmsNorm: { weight: VectorWeight; eps: number; groups: number };
  /** a + b. */
  add: Record<string, never>;
  /** x W^T + bias, W [rows, columns of x]. */
  linear: { matrix: MatrixWeight; bias: VectorWeight | null };
  /** Rotates pairs (i, i + n) of each head by position * frequencies[i], n = their number; cos and sin times mscale. */
  rope: { frequencies: ConstantWeight; heads: number; headDim: number; mscale: number };
  /** Keeps k and v as this layer's cache for these positions, then attends q to all positions of its sequence. */
  attention: AttentionAttributes;
  /** act(x[:, :n]) * x[:, n:], n = half the columns. */
  gatedAct: { activation: ActivationName };
  /** The rows whose output is wanted: tokens to rows. */
  takeRows: Record<string, never>;
  /** Columns [first, first + columns) of x: a view, never a copy. */
  slice: { first: number; columns: number };
}

export interface AttentionAttributes {
  layer: number;
  heads: number;
  /** Head h reads kv head floor(h / (heads / kvHeads)). */
  kvHeads: number;
  headDim: number;
  scale: number;
  /** A position sees the last `window` positions, itself included; 0 = all. */
  window: number;
  causal: boolean;
}

export type OpName = keyof OpAttributes;
export type OpNode<K extends OpName = OpName> = { [N in K]: Node<N, OpAttributes[N]> }[K];

interface OpEntry<Attrs> {
  readonly inputs: number;
  /** Checks inputs against attributes. @returns the shape of the output. */
  shape(inputs: readonly Tensor[], attrs: Attrs): { extent: Extent; columns: number };
  weights(attrs: Attrs): readonly Weight[];
  /** Attributes for {@link printGraph}, without weights. */
  print(attrs: Attrs): string;
}

const sameShape = ([x]: readonly Tensor[]) => ({ extent: x.extent, columns: x.columns });
const none = () => [];
const silent = () => "";

export const ops: { readonly [K in OpName]: OpEntry<OpAttributes[K]> } = {
  embed: {
    inputs: 0,
    shape: (_inputs, { table }) => ({ extent: "tokens", columns: table.columns }),
    weights: ({ table }) => [table],
    print: ({ scale }) => (scale === 1 ? "" : `scale ${scale}`),
  },
  rmsNorm: {
    inputs: 1,
    shape(inputs, { weight, groups }) {
      const [x] = inputs;
      check(
        weight.rows * groups === x.columns,
        `rmsNorm of ${x} in ${groups} groups needs a weight of ${x.columns / groups}, got ${weight.rows}`,
      );
      return sameShape(inputs);
    },
    weights: ({ weight }) => [weight],
    print: ({ eps, groups }) => (groups === 1 ? `eps ${eps}` : `eps ${eps}, groups ${groups}`),
  },
  add: {
    inputs: 2,
    shape(inputs) {
      const [a, b] = inputs;
      check(a.columns === b.columns && a.extent === b.extent, `add of ${a} and ${b}: the shapes differ`);
      return sameShape(inputs);
    },
    weights: none,
    print: silent,
  },
  linear: {
    inputs: 1,
    shape([x], { matrix, bias }) {
      check(matrix.columns === x.columns, `linear of ${x}: ${matrix.name} has ${matrix.columns} columns`);
      check(
        bias === null || bias.rows === matrix.rows,
        `linear: bias ${bias?.name} has ${bias?.rows} values for ${matrix.rows} rows`,
      );
      return { extent: x.extent, columns: matrix.rows };
    },
    weights: ({ matrix, bias }) => (bias === null ? [matrix] : [matrix, bias]),
    print: silent,
  },
  rope: {
    inputs: 1,
    shape(inputs, { heads, headDim, frequencies }) {
      const [x] = inputs;
      check(x.extent === "tokens" && x.columns === heads * headDim, `rope of ${x} with ${heads} heads of ${headDim}`);
      check(
        2 * frequencies.values.length <= headDim,
        `rope rotates ${2 * frequencies.values.length} of ${headDim} columns`,
      );
      return sameShape(inputs);
    },
    weights: ({ frequencies }) => [frequencies],
    print: ({ heads, headDim, mscale }) => `${heads} heads x ${headDim}${mscale === 1 ? "" : `, mscale ${mscale}`}`,
  },
  attention: {
    inputs: 3,
    shape([q, k, v], { heads, kvHeads, headDim, window }) {
      check(heads % kvHeads === 0, `attention: ${heads} heads are not a multiple of ${kvHeads} kv heads`);
      check(
        q.extent === "tokens" && q.columns === heads * headDim,
        `attention: q is ${q}, not ${heads} heads of ${headDim}`,
      );
      for (const x of [k, v])
        check(
          x.extent === "tokens" && x.columns === kvHeads * headDim,
          `attention: ${x} is not ${kvHeads} heads of ${headDim}`,
        );
      check(Number.isInteger(window) && window >= 0, `attention: window ${window}`);
      return { extent: "tokens", columns: q.columns };
    },
    weights: none,
    print: ({ layer, heads, kvHeads, headDim, window, causal }) =>
      `layer ${layer}, ${heads}/${kvHeads} heads x ${headDim}${window === 0 ? "" : `, window ${window}`}${causal ? "" : ", not causal"}`,
  },
  gatedAct: {
    inputs: 1,
    shape([x]) {
      check(x.columns % 2 === 0, `gatedAct of ${x}: gate and up must be equally wide`);
      return { extent: x.extent, columns: x.columns / 2 };
    },
    weights: none,
    print: ({ activation }) => activation,
  },
  takeRows: {
    inputs: 1,
    shape([x]) {
      check(x.extent === "tokens", `takeRows of ${x}: only tokens can be taken`);
      return { extent: "rows", columns: x.columns };
    },
    weights: none,
    print: silent,
  },
  slice: {
    inputs: 1,
    shape([x], { first, columns }) {
      check(
        first >= 0 && columns >= 1 && first + columns <= x.columns,
        `columns [${first}, ${first + columns}) of ${x}`,
      );
      return { extent: x.extent, columns };
    },
    weights: none,
    print: ({ first, columns }) => `${first}..${first + columns}`,
  },
};

function check(holds: boolean, sentence: string): void {
  if (!holds) throw graphError(sentence);
}

function apply<K extends OpName>(graph: Graph, op: K, inputs: readonly Tensor[], attrs: OpAttributes[K]): Tensor {
  const { extent, columns } = ops[op].shape(inputs, attrs);
  return graph.append(op, inputs, attrs, extent, columns);
}

/** The graph's nodes with their op's own attributes. Sound because only {@link apply} appends nodes. */
export function opNodes(graph: Graph): readonly OpNode[] {
  return graph.nodes as readonly OpNode[];
}

/** One line per node: `%name [tokens, 960] = linear(x; weight 960x576)`. */
export function printGraph(graph: Graph): string {
  const line = <K extends OpName>({ op, inputs, attrs, output }: Node<K, OpAttributes[K]>) => {
    const weights = ops[op].weights(attrs).map(printWeight);
    const parts = [inputs.map((x) => x.name).join(", "), ...weights, ops[op].print(attrs)];
    return `${output} = ${op}(${parts.filter((part) => part !== "").join("; ")})`;
  };
  const { hidden, logits } = graph.outputs;
  return [
    ...opNodes(graph).map((node) => line(node)),
    `hidden = ${hidden.name}`,
    `logits = ${logits?.name ?? "none"}`,
  ].join("\n");
}

/** `name rows x columns`, or `name length`. */
export function printWeight(weight: Weight): string {
  if (weight.kind === "constant") return `${weight.name} ${weight.values.length}`;
  return weight.kind === "vector" ? `${weight.name} ${weight.rows}` : `${weight.name} ${weight.rows}x${weight.columns}`;
}

// ---- the functions models call; each returns its output tensor

/** Rows of `table` for the step's tokens, [tokens, table.columns]. */
export function embed(table: TableWeight, graph: Graph, scale = 1): Tensor {
  return apply(graph, "embed", [], { table, scale });
}
/** Root-mean-square norm of each row, or of each of `groups` equal parts of it. */
export function rmsNorm(x: Tensor, weight: VectorWeight, eps: number, groups = 1): Tensor {
  return apply(x.graph, "rmsNorm", [x], { weight, eps, groups });
}
export function add(a: Tensor, b: Tensor): Tensor {
  return apply(a.graph, "add", [a, b], {});
}
/** x W^T + bias, [extent, matrix.rows]. */
export function linear(x: Tensor, matrix: MatrixWeight, bias: VectorWeight | null = null): Tensor {
  return apply(x.graph, "linear", [x], { matrix, bias });
}
/** Rotary positions, in NEOX order (pairs (i, i + n)). */
export function rope(x: Tensor, attrs: OpAttributes["rope"]): Tensor {
  return apply(x.graph, "rope", [x], attrs);
}
export function attention(q: Tensor, k: Tensor, v: Tensor, attrs: AttentionAttributes): Tensor {
  return apply(q.graph, "attention", [q, k, v], attrs);
}
export function gatedAct(x: Tensor, activation: ActivationName): Tensor {
  return apply(x.graph, "gatedAct", [x], { activation });
}
export function takeRows(x: Tensor): Tensor {
  return apply(x.graph, "takeRows", [x], {});
}
export function slice(x: Tensor, first: number, columns: number): Tensor {
  return apply(x.graph, "slice", [x], { first, columns });
}
