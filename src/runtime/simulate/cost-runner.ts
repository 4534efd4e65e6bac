/**
 * A {@link ModelRunner} without a model: steps take the time that a {@link CostModel} says, on a clock that jumps.
 *
 * Steps run one after the other, as native code runs them. A step begins `gapMs` after it was launched, or when the one
 * before ends if that is later: so an overlapped loop hides the gap, and a plain one does not.
 */
import type { StepInputs, StepOutputs } from "../../native/addon.js";
import type { ModelRunner } from "../model-runner.js";
import type { CostModel } from "./cost-model.js";
import { stepFeatures } from "./step-features.js";

export interface CostRunnerOptions {
  pages: number;
  pageSize: number;
  maxTokens: number;
  maxRows: number;
  gapMs: number;
  /** Called when the clock has moved, before the results of the step that ends then are known. */
  onTime?: (now: number) => void;
}

/** Ids of simulated tokens. Nothing depends on them but the penalties of requests, which traces do not have. */
const VOCAB = 1 << 15;

export class CostRunner implements ModelRunner {
  readonly vocabSize = VOCAB;
  readonly maxTokens: number;
  readonly pages: number;
  readonly pageSize: number;
  readonly kernels = { tier: "simulated", reason: "a cost model takes the place of kernels", threads: 0 };
  readonly memory = { weightsBytes: 0, kvBytes: 0, arenaBytes: 0 };
  /** Milliseconds that native threads would have been busy. */
  busyMs = 0;
  readonly #cost: CostModel;
  readonly #gapMs: number;
  readonly #onTime: (now: number) => void;
  readonly #outputs: StepOutputs;
  #now = 0;
  #free = 0;

  constructor(cost: CostModel, options: CostRunnerOptions) {
    this.#cost = cost;
    this.#gapMs = options.gapMs;
    this.#onTime = options.onTime ?? (() => {});
    this.pages = options.pages;
    this.pageSize = options.pageSize;
    this.maxTokens = options.maxTokens;
    // The same for every step: traces ask for no logprobs, and the ids do not matter.
    this.#outputs = {
      ids: new Int32Array(options.maxRows),
      logprobs: new Float32Array(options.maxRows),
      topIds: new Int32Array(),
      topLogprobs: new Float32Array(),
      wantedLogprobs: new Float32Array(),
      logits: null,
      hidden: null,
      startNs: 0,
      endNs: 0,
      maskWaitNs: 0,
      sampleNs: 0,
    };
  }

  /** Milliseconds of virtual time. */
  readonly now = (): number => this.#now;

  /** Moves the clock of an idle runner. */
  advanceTo(time: number): void {
    this.#now = Math.max(this.#now, time);
  }

  forward(inputs: StepInputs): Promise<StepOutputs> {
    const ms = this.#cost.milliseconds(stepFeatures(inputs));
    const end = Math.max(this.#now + this.#gapMs, this.#free) + ms;
    this.#free = end;
    this.busyMs += ms;
    // One turn of the event loop per step: what the scheduler does about one step is done before the next one ends.
    return new Promise((resolve) =>
      setImmediate(() => {
        this.advanceTo(end);
        this.#onTime(this.#now);
        resolve(this.#outputs);
      }),
    );
  }

  setMask(): void {
    throw new Error("A simulated request has no constraint.");
  }

  supplyMasks(): boolean {
    throw new Error("A simulated request has no constraint.");
  }

  async close(): Promise<void> {}
}
