/**
 * What a model is before it is a plan: tensors, the nodes that produce them, and the weights they read.
 *
 * A graph is recorded once by running a model function; every op appends one node and returns its one output, so the
 * list of nodes is in execution order and every tensor is written exactly once. Nothing here knows memory or kernels:
 * `lower.ts` turns a graph into a plan, `reference.ts` executes it as it stands, `ops.ts` holds the vocabulary.
 */
import { SglangError } from "../core/errors.js";

/** How many rows a tensor has: one per token of the step, or one per row whose output is wanted. */
export type Extent = "tokens" | "rows";

/** One tensor of a file: part of a {@link Weight}. `name` is ours (models/weight-names). */
export interface WeightPart {
  readonly name: string;
  readonly rows: number;
}

/** A matrix for `linear`: its parts stacked by rows, [rows, columns]. */
export interface MatrixWeight {
  readonly kind: "matrix";
  readonly name: string;
  readonly parts: readonly WeightPart[];
  readonly rows: number;
  readonly columns: number;
}
/** Rows gathered by token id, [rows, columns]. */
export interface TableWeight {
  readonly kind: "table";
  readonly name: string;
  readonly parts: readonly [WeightPart];
  readonly rows: number;
  readonly columns: number;
}
/** A norm's weight or a bias: its parts one after the other, [rows]. */
export interface VectorWeight {
  readonly kind: "vector";
  readonly name: string;
  readonly parts: readonly WeightPart[];
  readonly rows: number;
}
/** Numbers that follow from the config, not from a file. */
export interface ConstantWeight {
  readonly kind: "constant";
  readonly name: string;
  readonly values: Float32Array;
}
export type Weight = MatrixWeight | TableWeight | VectorWeight | ConstantWeight;

/** A value of the graph, [extent, columns] f32. */
export class Tensor {
  /** For printing and for the reference's results; unique in the graph. */
  name: string;

  constructor(
    readonly graph: Graph,
    readonly id: number,
    readonly extent: Extent,
    readonly columns: number,
  ) {
    this.name = `t${id}`;
  }

  /** Names this tensor. @throws SglangError when the name is taken. */
  as(name: string): this {
    this.graph.rename(this, name);
    return this;
  }

  /** `name [extent, columns]` */
  toString(): string {
    return `${this.name} [${this.extent}, ${this.columns}]`;
  }
}

/** One application of an op. `ops.ts` narrows `op` and `attrs`. */
export interface Node<Name extends string = string, Attrs = unknown> {
  readonly op: Name;
  readonly inputs: readonly Tensor[];
  readonly attrs: Attrs;
  readonly output: Tensor;
}

/** What the plan must leave behind: the last hidden state and, unless the model has no head, the logits. Both [rows, ...]. */
export interface GraphOutputs {
  readonly hidden: Tensor;
  readonly logits: Tensor | null;
}

export class Graph {
  readonly #nodes: Node[] = [];
  readonly #weights = new Map<string, Weight>();
  readonly #names = new Map<string, Tensor>();
  #outputs: GraphOutputs | null = null;
  #ids = 0;

  /** In execution order. */
  get nodes(): readonly Node[] {
    return this.#nodes;
  }

  /** Each weight once, in order of declaration. */
  get weights(): readonly Weight[] {
    return [...this.#weights.values()];
  }

  get outputs(): GraphOutputs {
    if (this.#outputs === null) throw graphError("the graph is still being recorded and has no outputs yet");
    return this.#outputs;
  }

  /** A matrix of stacked parts, e.g. q, k and v in one. The same name twice is the same weight. */
  matrix(name: string, parts: readonly WeightPart[], columns: number): MatrixWeight {
    return this.#declare({ kind: "matrix", name, parts, rows: totalRows(parts), columns });
  }
  /** A table of `rows` rows gathered by id. */
  table(name: string, rows: number, columns: number): TableWeight {
    return this.#declare({ kind: "table", name, parts: [{ name, rows }], rows, columns });
  }
  /** A vector of concatenated parts. */
  vector(name: string, parts: readonly WeightPart[]): VectorWeight {
    return this.#declare({ kind: "vector", name, parts, rows: totalRows(parts) });
  }
  /** Numbers computed from the config. */
  constant(name: string, values: Float32Array): ConstantWeight {
    return this.#declare({ kind: "constant", name, values });
  }

  /** Adds a node; only ops call this. */
  append(op: string, inputs: readonly Tensor[], attrs: unknown, extent: Extent, columns: number): Tensor {
    for (const input of inputs)
      if (input.graph !== this) throw graphError(`${op} reads ${input.name}, which belongs to another graph`);
    if (this.#outputs !== null) throw graphError(`${op} comes after the graph was finished`);
    const output = new Tensor(this, this.#ids++, extent, columns);
    this.#names.set(output.name, output);
    this.#nodes.push({ op, inputs, attrs, output });
    return output;
  }

  rename(tensor: Tensor, name: string): void {
    if (this.#names.has(name)) throw graphError(`two tensors are named ${name}`);
    this.#names.delete(tensor.name);
    tensor.name = name;
    this.#names.set(name, tensor);
  }

  /** @throws SglangError when no tensor has that name. */
  tensor(name: string): Tensor {
    const found = this.#names.get(name);
    if (found === undefined) throw graphError(`no tensor is named ${name}`);
    return found;
  }

  finish(outputs: GraphOutputs): void {
    for (const output of [outputs.hidden, outputs.logits])
      if (output !== null && output.extent !== "rows") throw graphError(`output ${output} must have extent rows`);
    this.#outputs = outputs;
  }

  #declare<W extends Weight>(weight: W): W {
    // A table and a matrix may share a file tensor (tied embeddings): they are two weights.
    const key = `${weight.kind} ${weight.name}`;
    const known = this.#weights.get(key);
    if (known === undefined) {
      this.#weights.set(key, weight);
      return weight;
    }
    if (weight.kind === "constant" || JSON.stringify(known) !== JSON.stringify(weight))
      throw graphError(`weight ${key} is declared twice, differently`);
    return known as W;
  }
}

/** Runs `model` once and keeps what it did. */
export function recordGraph(model: (g: Graph) => GraphOutputs): Graph {
  const graph = new Graph();
  graph.finish(model(graph));
  return graph;
}

/** A model function used the vocabulary wrongly: shapes that do not fit, names used twice. */
export function graphError(sentence: string): SglangError {
  return new SglangError("UNSUPPORTED_MODEL", `The model graph is not valid: ${sentence}.`);
}

function totalRows(parts: readonly WeightPart[]): number {
  return parts.reduce((sum, part) => sum + part.rows, 0);
}
