/**
 * Executes a lowered plan word by word over one arena, as the native executor does: body once, head once per block of
 * rows. Arithmetic is plain; what this proves is that fusion, views, in-place results and shared bytes are sound.
 */
import { BUFFER_WORDS, INSTRUCTION_WORDS, Opcode } from "../../src/graph/instructions.js";
import type { LoweredPlan } from "../../src/graph/lower.js";
import { ARENA_ALIGNMENT } from "../../src/graph/memory-plan.js";
import type { ReadWeight, ReferenceStep } from "../../src/graph/reference.js";

interface Cache {
  k: number[][];
  v: number[][];
}

export class PlanInterpreter {
  readonly #plan: LoweredPlan;
  readonly #read: ReadWeight;
  readonly #arena: Float32Array;
  readonly #sequences = new Map<string, { length: number; layers: Cache[] }>();

  constructor(plan: LoweredPlan, read: ReadWeight) {
    this.#plan = plan;
    this.#read = read;
    this.#arena = new Float32Array(plan.arenaBytes / 4);
  }

  /** One step; logits and hidden of all rows, concatenated over blocks. Bytes of earlier steps are poisoned first. */
  step({ sequences, rows }: ReferenceStep): { logits: number[]; hidden: number[] } {
    const tokens: number[] = [];
    const positions: number[] = [];
    const caches: Cache[][] = [];
    const last: number[] = [];
    for (const { key, tokens: added } of sequences) {
      const sequence = this.#sequences.get(key) ?? { length: 0, layers: [] };
      this.#sequences.set(key, sequence);
      for (const token of added) {
        tokens.push(token);
        positions.push(sequence.length++);
        caches.push(sequence.layers);
      }
      last.push(tokens.length - 1);
    }
    if (tokens.length > this.#plan.maxTokens) throw new RangeError(`${tokens.length} tokens`);
    this.#arena.fill(Number.NaN);
    const context = { tokens, positions, caches, rows: rows ?? last };
    const { headStart, instructions, maxRows } = this.#plan;
    const count = instructions.length / INSTRUCTION_WORDS;
    for (let i = 0; i < headStart; i++) this.#execute(i, { ...context, rows: [] });
    const logits: number[] = [];
    const hidden: number[] = [];
    for (let from = 0; from < context.rows.length; from += maxRows) {
      const block = { ...context, rows: context.rows.slice(from, from + maxRows) };
      for (let i = headStart; i < count; i++) this.#execute(i, block);
      logits.push(...this.#all(this.#plan.logits, block.rows.length));
      hidden.push(...this.#all(this.#plan.hidden, block.rows.length));
    }
    return { logits, hidden };
  }

  #buffer(index: number) {
    const words = this.#plan.buffers.subarray(index * BUFFER_WORDS, (index + 1) * BUFFER_WORDS);
    const [offset, stride, first, columns, extent] = words;
    const base = (offset * ARENA_ALIGNMENT) / 4 + first;
    const capacity = extent === 0 ? this.#plan.maxTokens : this.#plan.maxRows;
    const row = (r: number) => {
      if (r >= capacity) throw new RangeError(`row ${r} of ${capacity}`);
      return this.#arena.subarray(base + r * stride, base + r * stride + columns);
    };
    return { row, columns, extent };
  }

  #all(index: number, rows: number): number[] {
    const { row } = this.#buffer(index);
    return Array.from({ length: rows }, (_, r) => [...row(r)]).flat();
  }

  #execute(
    index: number,
    context: { tokens: number[]; positions: number[]; caches: Cache[][]; rows: readonly number[] },
  ): void {
    const start = index * INSTRUCTION_WORDS;
    const words = this.#plan.instructions.slice(start, start + INSTRUCTION_WORDS);
    const floats = new Float32Array(words.buffer);
    const [opcode, ...a] = words;
    const f = (i: number) => floats[i + 1];
    const { tokens, positions, caches, rows } = context;
    const out = this.#buffer(a[0]);
    const count = out.extent === 0 ? tokens.length : rows.length;
    const weight = (i: number) => this.#read(this.#plan.weights[i]);
    const norm = (to: Float32Array, x: Float32Array, w: Float32Array, eps: number) => {
      const scale = 1 / Math.sqrt(x.reduce((sum, v) => sum + v * v, 0) / x.length + eps);
      to.set(x.map((v, i) => v * scale * w[i]));
    };
    for (let r = 0; r < count; r++) {
      const to = out.row(r);
      const input = (i: number) => this.#buffer(a[i]).row(r);
      switch (opcode) {
        case Opcode.Embed:
          to.set(
            weight(a[1])
              .subarray(tokens[r] * out.columns, (tokens[r] + 1) * out.columns)
              .map((x) => x * f(2)),
          );
          break;
        case Opcode.RmsNorm: {
          const width = out.columns / a[4];
          const w = weight(a[2]);
          for (let g = 0; g < out.columns; g += width)
            norm(to.subarray(g, g + width), input(1).slice(g, g + width), w, f(3));
          break;
        }
        case Opcode.Add:
          to.set(input(1).map((x, i) => x + input(2)[i]));
          break;
        case Opcode.AddRmsNorm:
          to.set(input(2).map((x, i) => x + input(3)[i]));
          norm(input(1), to, weight(a[4]), f(5));
          break;
        case Opcode.Linear:
        case Opcode.Logits:
        case Opcode.GatedLinear: {
          const x = input(1).slice();
          const w = weight(a[2]);
          const bias = a[3] === -1 ? null : weight(a[3]);
          const product = (c: number) =>
            x.reduce((sum, v, i) => sum + v * w[c * x.length + i], bias === null ? 0 : bias[c]);
          if (opcode === Opcode.GatedLinear) {
            if (a[4] !== 0) throw new RangeError("only silu is interpreted");
            to.set(to.map((_, c) => (product(c) / (1 + Math.exp(-product(c)))) * product(out.columns + c)));
          } else to.set(to.map((_, c) => product(c)));
          break;
        }
        case Opcode.Rope: {
          const frequency = weight(a[1]);
          const half = frequency.length;
          for (let head = 0; head < a[2]; head++)
            for (let i = 0; i < half; i++) {
              const at = head * a[3] + i;
              const [x, y] = [to[at], to[at + half]];
              const [cos, sin] = [
                Math.cos(positions[r] * frequency[i]) * f(4),
                Math.sin(positions[r] * frequency[i]) * f(4),
              ];
              to[at] = x * cos - y * sin;
              to[at + half] = y * cos + x * sin;
            }
          break;
        }
        case Opcode.KvWrite: {
          caches[r][a[2]] ??= { k: [], v: [] };
          caches[r][a[2]].k[positions[r]] = [...to];
          caches[r][a[2]].v[positions[r]] = [...input(1)];
          break;
        }
        case Opcode.Attention: {
          const [, , layer, heads, kvHeads, headDim, , window, causal] = a;
          const { k, v } = caches[r][layer];
          const q = input(1);
          const first = window === 0 ? 0 : Math.max(0, positions[r] - window + 1);
          const seen = k
            .slice(0, causal === 1 ? positions[r] + 1 : k.length)
            .map((_, p) => p)
            .slice(first);
          for (let head = 0; head < heads; head++) {
            const kv = Math.floor((head * kvHeads) / heads) * headDim;
            const dims = Array.from({ length: headDim }, (_, i) => i);
            const exp = seen.map((p) =>
              Math.exp(f(6) * dims.reduce((sum, i) => sum + q[head * headDim + i] * k[p][kv + i], 0)),
            );
            const total = exp.reduce((x, y) => x + y, 0);
            for (const i of dims)
              to[head * headDim + i] = seen.reduce((sum, p, j) => sum + (exp[j] / total) * v[p][kv + i], 0);
          }
          break;
        }
        case Opcode.GatedAct: {
          const x = input(1);
          if (a[2] !== 0) throw new RangeError("only silu is interpreted");
          to.set(to.map((_, i) => (x[i] / (1 + Math.exp(-x[i]))) * x[out.columns + i]));
          break;
        }
        case Opcode.TakeRows:
          to.set(this.#buffer(a[1]).row(rows[r]));
          break;
        default:
          throw new RangeError(`opcode ${opcode}`);
      }
    }
  }
}
