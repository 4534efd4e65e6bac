/** Drives a native plan the way {@link Reference} is driven: by sequences and tokens. Pages come in no particular order. */

import type { ReferenceStep } from "../../src/graph/reference.js";
import type { ModelPlan } from "../../src/models/load.js";
import type { NativeAddon, StepInputs, StepOutputs } from "../../src/native/addon.js";

export class NativeStepper {
  readonly #addon: NativeAddon;
  readonly #model: ModelPlan;
  readonly #pageSize: number;
  readonly #freePages: number[];
  readonly #sequences = new Map<string, { length: number; pages: number[] }>();

  constructor(addon: NativeAddon, model: ModelPlan, { pages, pageSize }: { pages: number; pageSize: number }) {
    this.#addon = addon;
    this.#model = model;
    this.#pageSize = pageSize;
    // 7 is coprime to the page counts used here: a fixed shuffle.
    this.#freePages = Array.from({ length: pages }, (_, i) => (i * 7 + 3) % pages);
  }

  async step({ sequences, rows }: ReferenceStep, byOp = false): Promise<StepOutputs> {
    const tokens: number[] = [];
    const positions: number[] = [];
    const seqStart = [0];
    const kvLength: number[] = [];
    const pageStart = [0];
    const pageTable: number[] = [];
    for (const { key, tokens: added } of sequences) {
      const sequence = this.#sequences.get(key) ?? { length: 0, pages: [] };
      this.#sequences.set(key, sequence);
      for (const token of added) {
        tokens.push(token);
        positions.push(sequence.length++);
      }
      while (sequence.pages.length * this.#pageSize < sequence.length) sequence.pages.push(this.#freePages.pop()!);
      seqStart.push(tokens.length);
      kvLength.push(sequence.length);
      pageTable.push(...sequence.pages);
      pageStart.push(pageTable.length);
    }
    const rowToken = rows ?? seqStart.slice(1).map((end) => end - 1);
    const S = rowToken.length;
    const ints = (values: readonly number[]) => Int32Array.from(values);
    const all = (value: number, n = S) => new Int32Array(n).fill(value);
    const inputs: StepInputs = {
      tokens: ints(tokens),
      positions: ints(positions),
      seqStart: ints(seqStart),
      kvLength: ints(kvLength),
      pageStart: ints(pageStart),
      pageTable: ints(pageTable),
      rowToken: ints(rowToken),
      rowTarget: all(-1),
      rowSlot: all(-1),
      temperature: new Float32Array(S),
      topP: new Float32Array(S).fill(1),
      topK: all(0),
      minP: new Float32Array(S),
      seed: new Uint32Array(2 * S),
      draw: all(0),
      penalties: Float32Array.from({ length: 3 * S }, (_, i) => (i % 3 === 2 ? 1 : 0)),
      seenStart: all(0, S + 1),
      seenIds: ints([]),
      seenCounts: ints([]),
      biasStart: all(0, S + 1),
      biasIds: ints([]),
      biasValues: new Float32Array(0),
      maskIndex: all(-1),
      maskTicket: 0,
      topLogprobs: all(-1),
      wantedStart: all(0, S + 1),
      wantedIds: ints([]),
      returnLogits: true,
      returnHidden: true,
    };
    const { plan } = this.#model;
    return byOp ? this.#addon.runPlanByOp(plan, inputs) : this.#addon.runPlan(plan, inputs);
  }
}
