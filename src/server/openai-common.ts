/** What chat and text completions share: sampling, usage, finish reasons, model names. */
import type { z } from "zod";
import type { FinishReason, GenerateChunk } from "../core/protocol.js";
import type { SamplingParams } from "../core/sampling-params.js";
import type { ServerContext } from "./context.js";
import type { completionSchema } from "./openai-schema.js";
import { checkSampling, commonSampling } from "./sampling.js";
import { invalid, unsupported } from "./validation.js";

type SharedFields = Omit<
  z.output<typeof completionSchema>,
  "prompt" | "max_tokens" | "logprobs" | "echo" | "best_of" | "rid"
>;

/** Sampling of an OpenAI body. `limit` is the value of the field called `limitField`; null = until the context is full. */
export function openAiSampling(
  context: ServerContext,
  given: SharedFields,
  limitField: string,
  limit: number | null,
): Partial<SamplingParams> {
  const params: Partial<SamplingParams> = { ...commonSampling(given), maxNewTokens: limit };
  if (typeof given.min_tokens === "number") params.minNewTokens = given.min_tokens;
  if (typeof given.seed === "number") params.seed = given.seed;
  checkSampling(context, params, {
    names: { max_new_tokens: limitField, min_new_tokens: "min_tokens", sampling_seed: "seed" },
  });
  return params;
}

/** Answers per prompt. */
export function answersPerPrompt(context: ServerContext, params: Partial<SamplingParams>): number {
  return params.n ?? context.engine.model.preferredSamplingParams.n ?? 1;
}

/**
 * The name a reply reports: the one that was asked for, as SGLang does.
 * @throws SglangError UNSUPPORTED for `model:adapter`, which would select a LoRA adapter
 */
export function requestedModel(context: ServerContext, model: string | null | undefined): string {
  const name = model ?? "default";
  if (name.startsWith(`${context.modelName}:`)) {
    throw unsupported(
      "model",
      `${JSON.stringify(name)} names a LoRA adapter, and LoRA serving is not part of this version`,
    );
  }
  return name;
}

export interface StreamUsage {
  /** A last chunk with usage and no choices. */
  last: boolean;
  /** Usage on every chunk. */
  continuous: boolean;
}

/** @throws SglangError INVALID_REQUEST when stream_options come without stream */
export function streamUsage(given: Pick<SharedFields, "stream" | "stream_options">): StreamUsage {
  const options = given.stream_options ?? {};
  if (given.stream_options && !given.stream) throw invalid("stream_options", "stream_options needs stream to be true.");
  return { last: options.include_usage ?? false, continuous: options.continuous_usage_stats ?? false };
}

/** What usage says of cached prompt tokens. */
export type CacheReport = "none" | "total" | "details";

/** By source for a body that asks for it, a total when the server was started to report it. */
export function cacheReport(
  context: ServerContext,
  given: Pick<SharedFields, "return_cached_tokens_details">,
): CacheReport {
  if (given.return_cached_tokens_details) return "details";
  return context.config.enableCacheReport ? "total" : "none";
}

/** Adds up the usage of all answers: a prompt counts once, however many answers it has. */
export class UsageTally {
  readonly #answers: number;
  readonly #cacheReport: CacheReport;
  readonly #byAnswer = new Map<number, GenerateChunk["usage"]>();

  constructor(answersPerPrompt: number, cacheReport: CacheReport) {
    this.#answers = answersPerPrompt;
    this.#cacheReport = cacheReport;
  }

  add(index: number, chunk: GenerateChunk): void {
    this.#byAnswer.set(index, chunk.usage);
  }

  total(): Record<string, unknown> {
    let prompt = 0;
    let completion = 0;
    let cached = 0;
    let reasoning: number | undefined;
    const bySource = { device: 0, host: 0, storage: 0 };
    const counted = new Set<number>();
    for (const [index, usage] of this.#byAnswer) {
      completion += usage.completionTokens;
      if (usage.reasoningTokens !== undefined) reasoning = (reasoning ?? 0) + usage.reasoningTokens;
      const promptIndex = Math.floor(index / this.#answers);
      if (counted.has(promptIndex)) continue;
      counted.add(promptIndex);
      const first = this.#byAnswer.get(promptIndex * this.#answers) ?? usage;
      prompt += first.promptTokens;
      cached += first.cachedTokens;
      const { device, host, storage } = first.cachedTokensDetails ?? {
        device: first.cachedTokens,
        host: 0,
        storage: 0,
      };
      bySource.device += device;
      bySource.host += host;
      bySource.storage += storage;
    }
    return {
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: prompt + completion,
      reasoning_tokens: reasoning ?? 0,
      // OpenAI's place for it.
      ...(reasoning !== undefined && { completion_tokens_details: { reasoning_tokens: reasoning } }),
      prompt_tokens_details:
        this.#cacheReport === "none"
          ? null
          : { cached_tokens: cached, ...(this.#cacheReport === "details" && { cached_tokens_details: bySource }) },
    };
  }
}

/** What ended the answer, beside its finish reason: the stop text or token id. */
export function matchedStop(reason: FinishReason | null): number | string | null {
  return reason?.type === "stop" ? reason.matched : null;
}

export const unixSeconds = () => Math.floor(Date.now() / 1000);
