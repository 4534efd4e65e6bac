/** A {@link ModelRunner} that times every step of the one it wraps. */
import type { StepInputs, StepOutputs } from "../../native/addon.js";
import type { ModelRunner } from "../model-runner.js";
import type { StepSample } from "./cost-model.js";
import { stepFeatures } from "./step-features.js";

/** A longer pause between two steps is idleness, not the scheduler at work. Milliseconds. */
const IDLE_MS = 20;

export class StepRecorder implements ModelRunner {
  readonly samples: StepSample[] = [];
  readonly #runner: ModelRunner;
  /** End of the last step, on performance.now's clock. */
  #lastEnd = Number.NEGATIVE_INFINITY;

  constructor(runner: ModelRunner) {
    this.#runner = runner;
  }

  get vocabSize(): number {
    return this.#runner.vocabSize;
  }
  get maxTokens(): number {
    return this.#runner.maxTokens;
  }
  get pages(): number {
    return this.#runner.pages;
  }
  get pageSize(): number {
    return this.#runner.pageSize;
  }
  get kernels(): ModelRunner["kernels"] {
    return this.#runner.kernels;
  }
  get memory(): ModelRunner["memory"] {
    return this.#runner.memory;
  }

  async forward(inputs: StepInputs): Promise<StepOutputs> {
    const features = stepFeatures(inputs);
    const outputs = await this.#runner.forward(inputs);
    // Native clocks: when JavaScript hears of a step's end depends on what else it does.
    const start = outputs.startNs / 1e6;
    const gap = start - this.#lastEnd;
    this.#lastEnd = outputs.endNs / 1e6;
    this.samples.push({ ...features, ms: this.#lastEnd - start, gapMs: gap < IDLE_MS ? Math.max(0, gap) : null });
    return outputs;
  }

  setMask(index: number, mask: Uint32Array): void {
    this.#runner.setMask(index, mask);
  }

  supplyMasks(ticket: number, masks: Int32Array): boolean {
    return this.#runner.supplyMasks(ticket, masks);
  }

  close(): Promise<void> {
    return this.#runner.close();
  }
}
