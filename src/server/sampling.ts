/** Sampling parameters on the wire -> {@link SamplingParams}: names, list-or-text values, and checks under wire names. */

import { z } from "zod";
import { SglangError } from "../core/errors.js";
import { resolveSamplingParams, type SamplingParams } from "../core/sampling-params.js";
import { constraintShape } from "./constraints.js";
import type { ServerContext } from "./context.js";
import { field, flag, integer, type Kind, list, number, OBJECT, oneOrMany, TEXT, tokenIds } from "./fields.js";
import { invalid, type RefusedFields } from "./validation.js";

const BIAS: Kind<Record<string, number>> = {
  is: (value): value is Record<string, number> =>
    OBJECT.is(value) && Object.entries(value).every(([id, bias]) => /^\d+$/.test(id) && typeof bias === "number"),
  schema: { type: "object", additionalProperties: { type: "number" } },
};

/** Fields that /generate's sampling_params and the OpenAI routes spell alike. */
export const commonSamplingShape = {
  temperature: number().nullish(),
  top_p: number().nullish(),
  top_k: integer().nullish(),
  min_p: number().nullish(),
  frequency_penalty: number().nullish(),
  presence_penalty: number().nullish(),
  repetition_penalty: number().nullish(),
  n: integer().nullish(),
  stop: oneOrMany().nullish(),
  stop_token_ids: tokenIds().nullish(),
  stop_regex: field("a regular expression or a list of them", TEXT, list(TEXT)).nullish(),
  ignore_eos: flag().nullish(),
  skip_special_tokens: flag().nullish(),
  spaces_between_special_tokens: flag().nullish(),
  no_stop_trim: flag().nullish(),
  logit_bias: field("an object of numbers whose keys are token ids", BIAS).nullish(),
};
type CommonSampling = z.output<z.ZodObject<typeof commonSamplingShape>>;

/** SGLang's `sampling_params` dict. */
export const samplingParamsSchema = z.object({
  max_new_tokens: integer("an integer >= 0, or null").nullish(),
  min_new_tokens: integer().nullish(),
  sampling_seed: integer().nullish(),
  ...commonSamplingShape,
  ...constraintShape,
});

export const SAMPLING_HINTS = { max_tokens: "max_new_tokens", min_tokens: "min_new_tokens", seed: "sampling_seed" };

export const REFUSED_SAMPLING: RefusedFields = {
  stream_interval: { reason: "the interval is set for the whole server with --stream-interval", harmless: [1] },
  custom_params: { reason: "there are no custom logit processors", harmless: [{}] },
  beam_width: { reason: "beam search is not part of this version", harmless: [1] },
};

const asList = (value: string | string[] | null | undefined) =>
  typeof value === "string" ? [value] : (value ?? undefined);

/** The fields both APIs share; null means the default. */
export function commonSampling(given: CommonSampling): Partial<SamplingParams> {
  const params: Partial<SamplingParams> = {
    temperature: given.temperature ?? undefined,
    topP: given.top_p ?? undefined,
    topK: given.top_k ?? undefined,
    minP: given.min_p ?? undefined,
    frequencyPenalty: given.frequency_penalty ?? undefined,
    presencePenalty: given.presence_penalty ?? undefined,
    repetitionPenalty: given.repetition_penalty ?? undefined,
    n: given.n ?? undefined,
    stop: asList(given.stop),
    stopTokenIds: given.stop_token_ids ?? undefined,
    stopRegex: asList(given.stop_regex),
    ignoreEos: given.ignore_eos ?? undefined,
    skipSpecialTokens: given.skip_special_tokens ?? undefined,
    spacesBetweenSpecialTokens: given.spaces_between_special_tokens ?? undefined,
    noStopTrim: given.no_stop_trim ?? undefined,
    logitBias: given.logit_bias
      ? Object.fromEntries(Object.entries(given.logit_bias).map(([id, bias]) => [Number(id), bias]))
      : undefined,
  };
  return dropUndefined(params);
}

/** /generate's dict, checked in shape. `max_new_tokens: null` means until the context is full. */
export function nativeSampling(given: z.output<typeof samplingParamsSchema>): Partial<SamplingParams> {
  return dropUndefined({
    ...commonSampling(given),
    maxNewTokens: given.max_new_tokens,
    minNewTokens: given.min_new_tokens ?? undefined,
    seed: given.sampling_seed ?? undefined,
  });
}

/**
 * Checks ranges now, so that errors carry the caller's names and come before anything is queued.
 * @param names wire names that differ on this route: `max_new_tokens` -> `max_tokens`
 * @throws SglangError INVALID_REQUEST
 */
export function checkSampling(
  context: ServerContext,
  params: Partial<SamplingParams>,
  options: { prefix?: string; names?: Readonly<Record<string, string>> } = {},
): void {
  const { vocabSize, preferredSamplingParams: defaults } = context.engine.model;
  const { prefix, names = {} } = options;
  try {
    resolveSamplingParams(params, { vocabSize, defaults, prefix });
  } catch (error) {
    if (!SglangError.isInstance(error)) throw error;
    let { message } = error;
    let field = error.details.field ?? "";
    for (const [from, to] of Object.entries(names)) {
      message = message.replaceAll(from, to);
      field = field.replaceAll(from, to);
    }
    throw invalid(field, message);
  }
}

function dropUndefined<T extends object>(params: T): T {
  return Object.fromEntries(Object.entries(params).filter(([, value]) => value !== undefined)) as T;
}
