/**
 * Graph to plan: fuses, decides which tensors share storage, counts lifetimes, and writes the instructions.
 *
 *   graph --emit--> drafts (opcode + operands) --storage--> views and in-place results --planMemory--> words
 *
 * What the executor relies on, and this file guarantees:
 * - Every instruction before `headStart` works on tokens, every one from there on on rows. The head runs once per block
 *   of rows, so tokens it reads stay untouched until the end of the plan, as do `hidden` and `logits`.
 * - An in-place result overwrites a value only when nothing reads the overwritten columns afterwards.
 */
import type { PlanDescription } from "../native/addon.js";
import type { Graph, Tensor, Weight } from "./graph.js";
import { graphError } from "./graph.js";
import { Activation, BUFFER_WORDS, floatWord, INSTRUCTION_WORDS, Opcode } from "./instructions.js";
import { ARENA_ALIGNMENT, type MemoryPlan, planMemory } from "./memory-plan.js";
import { type ActivationName, type OpName, type OpNode, opNodes, printWeight } from "./ops.js";

export interface LowerOptions {
  /** Most tokens in one step. */
  maxTokens: number;
  /** Most rows in one block of the head. */
  maxRows: number;
  /** Ids >= this are never sampled. At most the columns of the logits. */
  vocabSize: number;
  /** Every tensor keeps its own bytes, so that all can be read after a step. For tests and debugging. @default false */
  keepAll?: boolean;
}

/** A plan without handles: what `createPlan` takes once weights are packed and the KV pool exists. */
export interface LoweredPlan extends Omit<PlanDescription, "weights" | "kv" | "cascade" | "numerics"> {
  /** Weights named by instructions, by index. */
  readonly weights: readonly Weight[];
  readonly memory: MemoryPlan;
  /** Buffer of each tensor. A view's buffer lies inside its parent's; with reuse its bytes hold later values too. */
  readonly bufferOf: ReadonlyMap<string, number>;
  /** For printing: operands in words. */
  readonly drafts: readonly Draft[];
}

/** Pages the model's attention layers need; equal in all layers. */
export interface KvShape {
  layers: number;
  kvHeads: number;
  headDim: number;
}

type Operand = { tensor: Tensor } | { weight: Weight | null } | { int: number } | { float: number };
export interface Draft {
  readonly opcode: Opcode;
  readonly operands: readonly Operand[];
  readonly reads: readonly Tensor[];
  readonly writes: readonly Tensor[];
}

const tensor = (t: Tensor): Operand => ({ tensor: t });
const weight = (w: Weight | null): Operand => ({ weight: w });
const int = (x: number): Operand => ({ int: x });
const float = (x: number): Operand => ({ float: x });
/** Rows of a matrix that are packed together (native/src/packed_format.h). */
const PACKED_ROWS = 32;
const ACTIVATIONS: Record<ActivationName, number> = {
  silu: Activation.Silu,
  gelu_tanh: Activation.GeluTanh,
  gelu_erf: Activation.GeluErf,
};

const lowerings: { [K in OpName]: (node: OpNode<K>, to: Emitter) => void } = {
  embed({ output, attrs }, to) {
    to.emit(Opcode.Embed, [tensor(output), weight(attrs.table), float(attrs.scale)], [], [output]);
  },
  rmsNorm(node, to) {
    const { inputs, output, attrs } = node;
    const [x] = inputs;
    const sum = to.fusableAdd(node);
    if (sum !== null) {
      const [a, b] = sum.inputs;
      to.emit(
        Opcode.AddRmsNorm,
        [tensor(sum.output), tensor(output), tensor(a), tensor(b), weight(attrs.weight), float(attrs.eps)],
        [a, b],
        [sum.output, output],
      );
      return;
    }
    to.tryInPlace(output, x);
    to.emit(
      Opcode.RmsNorm,
      [tensor(output), tensor(x), weight(attrs.weight), float(attrs.eps), int(attrs.groups)],
      [x],
      [output],
    );
  },
  add(node, to) {
    const { inputs, output } = node;
    const [a, b] = inputs;
    to.tryInPlace(output, a);
    if (to.isFused(node)) return; // the norm that follows emits both
    to.emit(Opcode.Add, [tensor(output), tensor(a), tensor(b)], [a, b], [output]);
  },
  linear(node, to) {
    const { inputs, output, attrs } = node;
    const [x] = inputs;
    const gated = to.fusableGate(node);
    if (gated !== null) {
      const activation = int(ACTIVATIONS[gated.attrs.activation]);
      to.emit(
        Opcode.GatedLinear,
        [tensor(gated.output), tensor(x), weight(attrs.matrix), weight(attrs.bias), activation],
        [x],
        [gated.output],
      );
      return;
    }
    const opcode = to.isChosenFrom(output) ? Opcode.Logits : Opcode.Linear;
    to.emit(opcode, [tensor(output), tensor(x), weight(attrs.matrix), weight(attrs.bias)], [x], [output]);
  },
  rope({ inputs: [x], output, attrs }, to) {
    if (!to.tryInPlace(output, x)) throw graphError(`rope rotates ${x} in place, but it is read again later`);
    const { frequencies, heads, headDim, mscale } = attrs;
    to.emit(Opcode.Rope, [tensor(output), weight(frequencies), int(heads), int(headDim), float(mscale)], [x], [output]);
  },
  attention({ inputs: [q, k, v], output, attrs }, to) {
    const { layer, heads, kvHeads, headDim, scale, window, causal } = attrs;
    to.emit(Opcode.KvWrite, [tensor(k), tensor(v), int(layer)], [k, v], []);
    to.emit(
      Opcode.Attention,
      [
        tensor(output),
        tensor(q),
        int(layer),
        int(heads),
        int(kvHeads),
        int(headDim),
        float(scale),
        int(window),
        int(causal ? 1 : 0),
      ],
      [q],
      [output],
    );
  },
  gatedAct(node, to) {
    const { inputs, output, attrs } = node;
    const [x] = inputs;
    if (to.isGated(node)) return; // the product before emitted both
    to.emit(Opcode.GatedAct, [tensor(output), tensor(x), int(ACTIVATIONS[attrs.activation])], [x], [output]);
  },
  takeRows({ inputs: [x], output }, to) {
    to.emit(Opcode.TakeRows, [tensor(output), tensor(x)], [x], [output]);
  },
  slice({ inputs: [x], output, attrs: { first } }, to) {
    to.place(output, x, first);
  },
};

/** Columns [first, first + columns) of the storage of `root`, the tensor that owns the bytes. */
interface Place {
  root: Tensor;
  first: number;
}

/** Collects instructions and decides where values lie. */
class Emitter {
  readonly drafts: Draft[] = [];
  readonly #graph: Graph;
  readonly #nodes: readonly OpNode[];
  readonly #keepAll: boolean;
  readonly #places = new Map<Tensor, Place>();
  /** Of each value (slices resolved): who reads which columns, when. In-place results are values of their own. */
  readonly #reads = new Map<Tensor, { at: number; first: number; columns: number }[]>();
  /** Of each slice: the value it shows. */
  readonly #views = new Map<Tensor, Place>();
  #at = 0;

  constructor(graph: Graph, keepAll: boolean) {
    this.#graph = graph;
    this.#nodes = opNodes(graph);
    this.#keepAll = keepAll;
    const read = (x: Tensor, at: number) => {
      const { root, first } = this.#viewOf(x);
      const reads = this.#reads.get(root) ?? [];
      this.#reads.set(root, [...reads, { at, first, columns: x.columns }]);
    };
    for (const [at, { op, inputs, output, attrs }] of this.#nodes.entries()) {
      if (op === "slice") {
        const { root, first } = this.#viewOf(inputs[0]);
        this.#views.set(output, { root, first: first + attrs.first });
      } else for (const input of inputs) read(input, at);
    }
    const { hidden, logits } = graph.outputs;
    for (const output of [hidden, logits]) if (output !== null) read(output, Number.POSITIVE_INFINITY);
  }

  run(): void {
    for (const [at, node] of this.#nodes.entries()) {
      this.#at = at;
      lowerOne(node, this);
    }
  }

  emit(opcode: Opcode, operands: Operand[], reads: Tensor[], writes: Tensor[]): void {
    this.drafts.push({ opcode, operands, reads, writes });
  }

  /** Where a tensor lies. */
  placeOf(x: Tensor): Place {
    return this.#places.get(x) ?? { root: x, first: 0 };
  }

  /** `x` is columns of `parent`, from `first` on. */
  place(x: Tensor, parent: Tensor, first: number): void {
    const at = this.placeOf(parent);
    this.#places.set(x, { root: at.root, first: at.first + first });
  }

  /** Puts `output` where `input` lies when no later node reads those columns of it. */
  tryInPlace(output: Tensor, input: Tensor): boolean {
    const { root, first } = this.#viewOf(input);
    const end = first + input.columns;
    // This very node may read exactly the columns it overwrites, but no others of the same value.
    const isInTheWay = (read: { at: number; first: number; columns: number }) =>
      read.first < end &&
      first < read.first + read.columns &&
      (read.at > this.#at || (read.at === this.#at && (read.first !== first || read.columns !== input.columns)));
    const readElsewhere = this.#reads.get(root)?.some(isInTheWay);
    const mayOverwrite = !readElsewhere && (!this.#keepAll || this.#nodes[this.#at].op === "rope");
    if (mayOverwrite) this.place(output, input, 0);
    return mayOverwrite;
  }

  #viewOf(x: Tensor): Place {
    return this.#views.get(x) ?? { root: x, first: 0 };
  }

  /** The add right before this norm, when one instruction can do both. */
  fusableAdd(norm: OpNode<"rmsNorm">): OpNode<"add"> | null {
    const before = this.#nodes[this.#nodes.indexOf(norm) - 1];
    const fits = before?.op === "add" && before.output === norm.inputs[0] && norm.attrs.groups === 1;
    return fits ? before : null;
  }

  /** The gated activation right after this product, when it alone reads it and halves of the matrix are packed apart. */
  fusableGate(product: OpNode<"linear">): OpNode<"gatedAct"> | null {
    const next = this.#nodes[this.#nodes.indexOf(product) + 1];
    const { parts, rows } = product.attrs.matrix;
    const isPaired = (parts.length === 2 && parts[0].rows === parts[1].rows) || rows % (2 * PACKED_ROWS) === 0;
    const fits = next?.op === "gatedAct" && next.inputs[0] === product.output && isPaired && !this.#keepAll;
    return fits && this.#reads.get(product.output)?.length === 1 ? next : null;
  }

  /** Whether the node right before this activation is a product that does it. */
  isGated(gate: OpNode<"gatedAct">): boolean {
    const before = this.#nodes[this.#nodes.indexOf(gate) - 1];
    return before?.op === "linear" && this.fusableGate(before) === gate;
  }

  /** Whether only the sampler reads this: logits of the last node, which may stay unwritten. */
  isChosenFrom(x: Tensor): boolean {
    const isOutput = x === this.#graph.outputs.logits && x !== this.#graph.outputs.hidden;
    return isOutput && !this.#keepAll && this.#reads.get(x)?.length === 1;
  }

  /** Whether the node right after this add is a norm that will do it. */
  isFused(add: OpNode<"add">): boolean {
    const next = this.#nodes[this.#nodes.indexOf(add) + 1];
    return next?.op === "rmsNorm" && this.fusableAdd(next) === add;
  }
}

function lowerOne<K extends OpName>(node: OpNode<K>, to: Emitter): void {
  lowerings[node.op as K](node, to);
}

/** Turns a graph into instructions, buffers and an arena layout. */
export function lower(graph: Graph, options: LowerOptions): LoweredPlan {
  const { maxTokens, maxRows, vocabSize, keepAll = false } = options;
  const emitter = new Emitter(graph, keepAll);
  emitter.run();
  const { drafts } = emitter;
  const headStart = findHead(drafts);

  const { hidden, logits } = graph.outputs;
  if (logits !== null && vocabSize > logits.columns)
    throw graphError(`the vocabulary of ${vocabSize} is larger than the ${logits.columns} logits`);

  // Lifetime of each storage, from the instructions that touch it.
  const END = drafts.length;
  const lives = new Map<Tensor, { first: number; last: number }>();
  const touch = (x: Tensor, at: number) => {
    const { root } = emitter.placeOf(x);
    const life = lives.get(root) ?? { first: keepAll ? 0 : at, last: keepAll ? END : at };
    life.last = Math.max(life.last, at);
    lives.set(root, life);
  };
  for (const [at, { reads, writes }] of drafts.entries()) {
    for (const x of reads) touch(x, at >= headStart && x.extent === "tokens" ? END : at);
    for (const x of writes) touch(x, at);
  }
  for (const output of [hidden, logits]) if (output !== null) touch(output, END);

  const roots = [...lives.keys()];
  const stride = (root: Tensor) => Math.ceil(root.columns / FLOATS_PER_LINE) * FLOATS_PER_LINE;
  const memory = planMemory(
    roots.map((root) => ({
      name: String(root),
      bytes: stride(root) * 4 * (root.extent === "tokens" ? maxTokens : maxRows),
      ...lives.get(root)!,
    })),
  );

  // One buffer per place and width, in order of the graph.
  const buffers: number[] = [];
  const known = new Map<string, number>();
  const bufferOf = new Map<string, number>();
  for (const { output } of graph.nodes) {
    const { root, first } = emitter.placeOf(output);
    if (!lives.has(root)) continue; // computed and never read: a slice nobody uses
    const offset = memory.offsets[roots.indexOf(root)];
    const words = [offset / ARENA_ALIGNMENT, stride(root), first, output.columns, output.extent === "tokens" ? 0 : 1];
    const key = `${root.id} ${words.join(" ")}`;
    const index = known.get(key) ?? buffers.length / BUFFER_WORDS;
    if (!known.has(key)) {
      known.set(key, index);
      buffers.push(...words);
    }
    bufferOf.set(output.name, index);
  }

  const weights: Weight[] = [];
  const weightIndex = (w: Weight | null) => {
    if (w === null) return -1;
    if (!weights.includes(w)) weights.push(w);
    return weights.indexOf(w);
  };
  const word = (operand: Operand): number => {
    if ("tensor" in operand) return bufferOf.get(operand.tensor.name)!;
    if ("weight" in operand) return weightIndex(operand.weight);
    return "int" in operand ? operand.int : floatWord(operand.float);
  };
  const instructions = new Int32Array(drafts.length * INSTRUCTION_WORDS);
  for (const [i, { opcode, operands }] of drafts.entries())
    instructions.set([opcode, ...operands.map(word)], i * INSTRUCTION_WORDS);

  return {
    instructions,
    headStart,
    buffers: Int32Array.from(buffers),
    weights,
    arenaBytes: memory.arenaBytes,
    maxTokens,
    maxRows,
    logits: logits === null ? -1 : bufferOf.get(logits.name)!,
    hidden: bufferOf.get(hidden.name)!,
    vocabSize,
    memory,
    bufferOf,
    drafts,
  };
}

/** Rows of a buffer begin on a cache line. */
const FLOATS_PER_LINE = ARENA_ALIGNMENT / 4;

function findHead(drafts: readonly Draft[]): number {
  const onRows = ({ writes }: Draft) => writes.some((x) => x.extent === "rows");
  const first = drafts.findIndex(onRows);
  const headStart = first === -1 ? drafts.length : first;
  const late = drafts.slice(headStart).find((draft) => !onRows(draft));
  if (late !== undefined) throw graphError(`${late.writes[0] ?? late.reads[0]} works on tokens after the head began`);
  return headStart;
}

/** Layers and shape of the KV pool. @throws SglangError when layers differ: one pool has pages of one shape. */
export function kvShape(graph: Graph): KvShape {
  const layers = opNodes(graph).filter((node) => node.op === "attention");
  if (layers.length === 0) throw graphError("no layer attends");
  const [{ attrs: first }] = layers;
  for (const [i, { attrs }] of layers.entries()) {
    if (attrs.layer !== i) throw graphError(`attention layer ${attrs.layer} comes as number ${i}`);
    if (attrs.kvHeads !== first.kvHeads || attrs.headDim !== first.headDim)
      throw graphError(
        `layer ${i} has ${attrs.kvHeads} kv heads of ${attrs.headDim}, layer 0 ${first.kvHeads} of ${first.headDim}`,
      );
  }
  return { layers: layers.length, kvHeads: first.kvHeads, headDim: first.headDim };
}

/** One line per instruction, the body and the head under their own headings. */
export function printPlan(plan: LoweredPlan): string {
  const names = Object.keys(Opcode);
  const show = (operand: Operand): string => {
    if ("tensor" in operand) return `${operand.tensor.name}@${plan.bufferOf.get(operand.tensor.name)}`;
    if ("weight" in operand) return operand.weight === null ? "-" : `{${printWeight(operand.weight)}}`;
    return String("int" in operand ? operand.int : operand.float);
  };
  const lines = plan.drafts.map(({ opcode, operands }, i) => `${i} ${names[opcode]} ${operands.map(show).join(" ")}`);
  return [
    `body: ${plan.headStart} instructions over at most ${plan.maxTokens} tokens`,
    ...lines.slice(0, plan.headStart),
    `head: ${lines.length - plan.headStart} instructions over at most ${plan.maxRows} rows`,
    ...lines.slice(plan.headStart),
    `hidden @${plan.hidden}, logits @${plan.logits}, ${plan.weights.length} weights, arena ${plan.arenaBytes} bytes`,
  ].join("\n");
}
