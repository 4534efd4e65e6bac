/** A trace against a real engine, in real time: what a simulation's prediction is compared with. */
import { setTimeout as sleep } from "node:timers/promises";
import { SglangError } from "../../core/errors.js";
import type { EngineApi, GenerateChunk } from "../../core/protocol.js";
import { type RequestTimes, type RunReport, report } from "./report.js";
import { BLOCK_TOKENS, promptTokens, type TraceRequest } from "./trace.js";

/** Requests arrive when the trace says; nothing is sampled early or late to suit the engine. */
export async function replay(
  engine: EngineApi,
  trace: readonly TraceRequest[],
  { blockTokens = BLOCK_TOKENS, vocabSize = engine.model.vocabSize }: { blockTokens?: number; vocabSize?: number } = {},
): Promise<RunReport> {
  const started = performance.now();
  const times: RequestTimes[] = [];
  let refused = 0;
  const run = async (one: TraceRequest, index: number) => {
    const prompt = { inputIds: promptTokens(one, index, vocabSize, blockTokens) };
    await sleep(Math.max(0, one.at - (performance.now() - started)));
    const arrived = performance.now() - started;
    let firstToken = Number.NaN;
    let last: GenerateChunk | null = null;
    try {
      const samplingParams = { temperature: 0, ignoreEos: true, maxNewTokens: one.outputLength };
      const { priority, tenant } = one;
      for await (const chunk of engine.generate({ prompt, samplingParams, priority, tenant })) {
        if (Number.isNaN(firstToken) && chunk.tokenIdsDelta.length > 0) firstToken = performance.now() - started;
        last = chunk;
      }
    } catch (error) {
      if (!SglangError.isInstance(error) || !["QUEUE_FULL", "CONTEXT_TOO_LONG"].includes(error.code)) throw error;
    }
    if (last?.finishReason?.type !== "length") {
      refused++;
      return;
    }
    times.push({
      arrived,
      firstToken,
      finished: performance.now() - started,
      inputTokens: last.usage.promptTokens,
      outputTokens: last.usage.completionTokens,
      cachedTokens: last.usage.cachedTokens,
      retractions: last.timing.retractions,
      tenant: one.tenant ?? "",
    });
  };
  await Promise.all(trace.map(run));
  return report(times, refused);
}
