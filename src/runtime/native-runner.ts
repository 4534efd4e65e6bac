/** The {@link ModelRunner} over the native addon: one plan, its KV pool, the weights and the thread pool. */
import type { EngineStats } from "../core/protocol.js";
import type { LoadedWeights, ModelPlan, NativeHandles } from "../models/load.js";
import type { StepInputs, StepOutputs } from "../native/addon.js";
import type { PageStore } from "./kv-tier.js";
import type { ModelRunner } from "./model-runner.js";
import { NativePageStore } from "./page-store.js";

export interface NativeRunnerOptions {
  vocabSize: number;
  maxTokens: number;
  pages: number;
  pageSize: number;
  /** Run instruction by instruction (--disable-cuda-graph). */
  byOp: boolean;
}

export class NativeRunner implements ModelRunner {
  readonly vocabSize: number;
  readonly maxTokens: number;
  readonly pages: number;
  readonly pageSize: number;
  readonly kernels: EngineStats["kernels"];
  readonly memory: ModelRunner["memory"];
  readonly #native: NativeHandles;
  readonly #weights: LoadedWeights;
  readonly #plan: ModelPlan;
  readonly #byOp: boolean;
  readonly pageStore: PageStore;
  #running: Promise<unknown> = Promise.resolve();

  /** Takes the runtime, weights and plan over: `close` frees them. */
  constructor(native: NativeHandles, weights: LoadedWeights, plan: ModelPlan, options: NativeRunnerOptions) {
    this.#native = native;
    this.#weights = weights;
    this.#plan = plan;
    this.#byOp = options.byOp;
    this.vocabSize = options.vocabSize;
    this.maxTokens = options.maxTokens;
    this.pages = options.pages;
    this.pageSize = options.pageSize;
    this.pageStore = new NativePageStore(native, plan.kv);
    this.kernels = native.addon.runtimeInfo(native.runtime);
    this.memory = { weightsBytes: weights.weightBytes, kvBytes: plan.kvBytes, arenaBytes: plan.lowered.arenaBytes };
  }

  forward(inputs: StepInputs): Promise<StepOutputs> {
    const { addon } = this.#native;
    const step = this.#byOp ? addon.runPlanByOp(this.#plan.plan, inputs) : addon.runPlan(this.#plan.plan, inputs);
    this.#running = step.catch(() => {});
    return step;
  }

  setMask(index: number, mask: Uint32Array): void {
    this.#native.addon.setMask(this.#plan.plan, index, mask);
  }

  supplyMasks(ticket: number, masks: Int32Array): boolean {
    return this.#native.addon.supplyMasks(this.#plan.plan, ticket, masks);
  }

  async close(): Promise<void> {
    await this.#running;
    this.#weights.close();
    this.#native.addon.closeRuntime(this.#native.runtime);
  }
}
