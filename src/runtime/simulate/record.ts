/** Records a {@link Profile}: a real engine, a workload that shows what steps of every kind cost, a fit. */
import { Engine, type EngineParts } from "../engine.js";
import { type LoadOptions, loadEngineParts } from "../load.js";
import { fitProfile, type Profile } from "./cost-model.js";
import { replay } from "./replay.js";
import type { RunReport } from "./report.js";
import { StepRecorder } from "./step-recorder.js";
import { BLOCK_TOKENS, type TraceRequest } from "./trace.js";

/** Requests that run together. */
const BATCHES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
/** Tokens of their prompts, in turns. */
const PROMPTS = [16, 90, 40, 300];
/** Tokens of their answers. */
const ANSWER = 10;

/** An engine whose steps are recorded. */
export interface RecordedEngine {
  engine: Engine;
  /** What the steps so far show. */
  profile(): Profile;
  /** Forgets the steps so far. */
  restart(): void;
}

export function recordedEngine(parts: EngineParts): RecordedEngine {
  const recorder = new StepRecorder(parts.runner);
  const engine = new Engine({ ...parts, runner: recorder });
  const { kernels, pages, pageSize } = recorder;
  const origin = {
    model: parts.model.servedModelName,
    kernels: { tier: kernels.tier, threads: kernels.threads },
    kvTokens: pages * pageSize,
  };
  return {
    engine,
    profile: () => fitProfile(recorder.samples, origin),
    restart: () => {
      recorder.samples.length = 0;
    },
  };
}

/** Prefills and decodes of many sizes, each batch together, none of it cached. */
export async function calibrate(engine: Engine, onBatch: (requests: number) => void = () => {}): Promise<void> {
  const { maxRunningRequests } = engine.config;
  const longest = Math.min(engine.model.contextLength, engine.stats().maxTotalNumTokens) - ANSWER;
  let count = 0;
  for (const size of BATCHES.filter((batch) => batch <= maxRunningRequests)) {
    onBatch(size);
    const requests = Array.from({ length: size }, (): TraceRequest => {
      const inputLength = Math.min(PROMPTS[count++ % PROMPTS.length], longest);
      return { at: 0, inputLength, outputLength: ANSWER, blocks: [-count] };
    });
    await replay(engine, requests);
    await engine.flushCache({ timeoutSeconds: 10 });
  }
}

/**
 * Loads a model, runs a workload on it, and learns what its steps cost.
 * @param options.trace replayed in real time instead of the built-in workload
 * @returns the profile, and what the trace came to
 */
export async function recordProfile(
  modelSpec: string,
  load: LoadOptions,
  options: { trace?: readonly TraceRequest[]; blockTokens?: number; onBatch?: (requests: number) => void } = {},
): Promise<{ profile: Profile; run: RunReport | null }> {
  const { trace, blockTokens = BLOCK_TOKENS, onBatch } = options;
  const recorded = recordedEngine(await loadEngineParts(modelSpec, load));
  try {
    // The first steps touch weights for the first time.
    await replay(recorded.engine, [{ at: 0, inputLength: 8, outputLength: 4, blocks: [] }]);
    recorded.restart();
    const run = trace ? await replay(recorded.engine, trace, { blockTokens }) : null;
    if (!trace) await calibrate(recorded.engine, onBatch);
    return { profile: recorded.profile(), run };
  } finally {
    await recorded.engine.close();
  }
}
