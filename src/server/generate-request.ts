/** Body of /generate -> engine requests. Field names and rules are SGLang's `GenerateReqInput`. */

import { z } from "zod";
import type { Constraint, GenerateRequest, JumpForward, LogprobRequest, Prompt } from "../core/protocol.js";
import type { SamplingParams } from "../core/sampling-params.js";
import { constraintFields, toConstraint } from "./constraints.js";
import type { ServerContext } from "./context.js";
import { FLAG, field, flag, INTEGER, type Kind, list, nullable, OBJECT, oneOrMany, TOKEN } from "./fields.js";
import { nativeReasoning } from "./reasoning.js";
import { newRid } from "./run-requests.js";
import { checkSampling, nativeSampling, REFUSED_SAMPLING, SAMPLING_HINTS, samplingParamsSchema } from "./sampling.js";
import { schedulingFields, schedulingShape } from "./scheduling-fields.js";
import { toSession } from "./sessions.js";
import { invalid, parseFields, type RefusedFields } from "./validation.js";

/** Most characters of a request id. */
const MAX_RID = 256;
/** Most likeliest tokens per position; the engine's own limit. */
const MAX_TOP = 64;

const RID: Kind<string> = {
  is: (value): value is string => typeof value === "string" && value.length > 0 && value.length <= MAX_RID,
  schema: { type: "string", minLength: 1, maxLength: MAX_RID },
};
export const rid = () => field(`a text of 1 to ${MAX_RID} characters`, RID);
export const rids = () => field(`a text of 1 to ${MAX_RID} characters, or a list of them`, RID, list(RID));

export const generateSchema = z.object({
  text: oneOrMany().nullish(),
  input_ids: field("a list of token ids or a list of such lists", list(TOKEN), list(list(TOKEN))).nullish(),
  sampling_params: field("an object or a list of objects", OBJECT, list(OBJECT)).nullish(),
  rid: rids().nullish(),
  return_logprob: field("true, false, or a list of them", FLAG, list(FLAG)).nullish(),
  logprob_start_len: field("an integer >= -1 or a list of them", INTEGER, list(INTEGER)).nullish(),
  top_logprobs_num: field("an integer or a list of them", INTEGER, list(INTEGER)).nullish(),
  token_ids_logprob: field(
    "a list of token ids or a list of such lists",
    list(TOKEN),
    list(nullable(list(TOKEN))),
  ).nullish(),
  return_text_in_logprobs: flag().nullish(),
  return_prompt_token_ids: flag().nullish(),
  stream: flag().nullish(),
  extra_key: oneOrMany().nullish(),
  cache_salt: oneOrMany().nullish(),
  log_metrics: flag().nullish(),
  no_logs: flag().nullish(),
  require_reasoning: flag().nullish(),
  session_params: field("an object or a list of objects", OBJECT, list(OBJECT)).nullish(),
  ...schedulingShape,
});

const MULTIMODAL = "images, audio and video are not part of this version";
const CLUSTER = "it steers disaggregated or data-parallel serving, and this server is one engine";
const LABELS = "request labels are not part of this version";
const INTERNALS = "the engine does not report this";
const off = [false];

/** Shared by /generate and the OpenAI routes. */
export const REFUSED_COMMON: RefusedFields = {
  session_id: { reason: "name the session in session_params.id" },
  lora_path: { reason: "LoRA serving is not part of this version", harmless: ["", [], [null]] },
  custom_logit_processor: { reason: "custom logit processors are Python code" },
  routing_key: { reason: LABELS },
  conversation_id: { reason: LABELS },
  custom_labels: { reason: LABELS, harmless: [{}] },
  bootstrap_host: { reason: CLUSTER },
  bootstrap_port: { reason: CLUSTER },
  bootstrap_room: { reason: CLUSTER },
  bootstrap_pair_key: { reason: CLUSTER },
  decode_tp_size: { reason: CLUSTER },
  routed_dp_rank: { reason: CLUSTER, harmless: [0] },
  data_parallel_rank: { reason: CLUSTER, harmless: [0] },
  disagg_prefill_dp_rank: { reason: CLUSTER, harmless: [0] },
  kv_router_hint: { reason: CLUSTER },
  encoder_urls: { reason: CLUSTER, harmless: [[]] },
  return_hidden_states: { reason: INTERNALS, harmless: off },
  return_routed_experts: { reason: INTERNALS, harmless: off },
  routed_experts_start_len: { reason: INTERNALS, harmless: [0] },
};

const REFUSED: RefusedFields = {
  ...REFUSED_COMMON,
  input_embeds: { reason: "prompts are text or token ids" },
  image_data: { reason: MULTIMODAL, harmless: [[]] },
  video_data: { reason: MULTIMODAL, harmless: [[]] },
  audio_data: { reason: MULTIMODAL, harmless: [[]] },
  modalities: { reason: MULTIMODAL, harmless: [[], ["text"]] },
  mm_hashes: { reason: MULTIMODAL },
  mm_content_hashes: { reason: MULTIMODAL },
  video_config: { reason: MULTIMODAL },
  images_config: { reason: MULTIMODAL },
  use_audio_in_video: { reason: MULTIMODAL, harmless: off },
  max_dynamic_patch: { reason: MULTIMODAL },
  min_dynamic_patch: { reason: MULTIMODAL },
  return_flat_raw_top_logprobs: { reason: INTERNALS, harmless: off },
  return_flat_raw_top_logprobs_b64: { reason: INTERNALS, harmless: off },
  return_sampling_mask: { reason: INTERNALS, harmless: off },
  return_entropy: { reason: INTERNALS, harmless: off },
  return_indexer_topk: { reason: INTERNALS, harmless: off },
  max_thinking_tokens: { reason: "thinking is bounded by max_new_tokens alone" },
  background: { reason: "a request always ends with its connection", harmless: off },
  external_trace_header: { reason: "tracing is not part of this version" },
  received_time: { reason: "times are taken by the engine" },
};

const HINTS = {
  prompt: "text",
  messages: "text (or the route /v1/chat/completions)",
  max_new_tokens: "sampling_params.max_new_tokens",
  temperature: "sampling_params.temperature",
};

/** A /generate body, ready to run. */
export interface NativePlan {
  requests: (GenerateRequest & { rid: string })[];
  /** Answers per request. */
  n: number;
  /** true: the reply is a list (a list came in, or n > 1). */
  batch: boolean;
  stream: boolean;
  textInLogprobs: boolean;
  returnPromptTokenIds: boolean;
  logMetrics: boolean;
  logRequest: boolean;
}

/** @throws SglangError INVALID_REQUEST or UNSUPPORTED naming the field */
export function toNativePlan(body: unknown, context: ServerContext): NativePlan {
  const given = parseFields(generateSchema, body, { refused: REFUSED, hints: HINTS });
  const { prompts, isList } = toPrompts(given.text, given.input_ids, context.engine.model.vocabSize);
  const size = prompts.length;
  const each = <T>(field: string, value: T | T[] | null | undefined) => perItem(field, value, size, isList);

  const sampling = each("sampling_params", given.sampling_params).map((params, i) =>
    toSampling(
      params ?? {},
      Array.isArray(given.sampling_params) ? `sampling_params[${i}]` : "sampling_params",
      context,
    ),
  );
  const answers = sampling.map(({ samplingParams }) => samplingParams.n);
  const n = answers[0] ?? context.engine.model.preferredSamplingParams.n ?? 1;
  const odd = answers.findIndex((count) => (count ?? n) !== n);
  if (odd >= 0) {
    throw invalid(
      `sampling_params[${odd}].n`,
      `sampling_params[${odd}].n must be the same for every item of a batch, got ${answers[odd]} and ${n}.`,
    );
  }
  const stream = given.stream ?? false;
  const wanted = each("return_logprob", given.return_logprob);
  const starts = each("logprob_start_len", given.logprob_start_len);
  const tops = each("top_logprobs_num", given.top_logprobs_num);
  const ids = tokenIdLists(given.token_ids_logprob, size, isList);
  const extraKeys = each("extra_key", given.extra_key);
  const salts = each("cache_salt", given.cache_salt);
  const names = requestIds(given.rid, size, isList);
  const scheduling = schedulingFields(given);
  const reasoning = nativeReasoning(context, given.require_reasoning);
  const sessions = each("session_params", given.session_params).map((params, i) =>
    toSession(params, Array.isArray(given.session_params) ? `session_params[${i}]` : "session_params"),
  );
  const { vocabSize } = context.engine.model;
  return {
    requests: prompts.map((prompt, i) => ({
      prompt,
      ...sampling[i],
      rid: names[i],
      stream,
      logprobs: wanted[i] ? toLogprobs(starts[i], tops[i], ids[i], vocabSize) : undefined,
      extraKey: cacheNamespace(extraKeys[i], salts[i]),
      session: sessions[i],
      ...(reasoning && { reasoning }),
      ...scheduling,
    })),
    n,
    batch: isList || n > 1,
    stream,
    textInLogprobs: given.return_text_in_logprobs ?? false,
    returnPromptTokenIds: given.return_prompt_token_ids ?? false,
    logMetrics: given.log_metrics ?? true,
    logRequest: !(given.no_logs ?? false),
  };
}

/** Exactly one of text and token ids, single or a list. */
export function toPrompts(
  text: string | string[] | null | undefined,
  inputIds: number[] | number[][] | null | undefined,
  vocabSize: number,
): { prompts: Prompt[]; isList: boolean } {
  if ((text ?? null) !== null && (inputIds ?? null) !== null)
    throw invalid("input_ids", "Give either text or input_ids, not both.");
  if (typeof text === "string") return { prompts: [{ text }], isList: false };
  if (text) {
    if (text.length === 0) throw invalid("text", "text must not be an empty list.");
    return { prompts: text.map((one) => ({ text: one })), isList: true };
  }
  if (!inputIds) throw invalid("text", "text is required: a text or a list of texts (or give input_ids).");
  if (inputIds.length === 0) throw invalid("input_ids", "input_ids must not be an empty list.");
  const isList = Array.isArray(inputIds[0]);
  const lists = (isList ? inputIds : [inputIds]) as number[][];
  lists.forEach((ids, i) => {
    checkTokenIds(isList ? `input_ids[${i}]` : "input_ids", ids, vocabSize);
  });
  return { prompts: lists.map((ids) => ({ inputIds: ids })), isList };
}

/** @throws SglangError INVALID_REQUEST for an empty list or an id outside the vocabulary */
export function checkTokenIds(field: string, ids: readonly number[], vocabSize: number): void {
  if (ids.length === 0) throw invalid(field, `${field} must not be an empty list.`);
  const wrong = ids.findIndex((id) => id >= vocabSize);
  if (wrong >= 0) {
    throw invalid(
      `${field}[${wrong}]`,
      `${field}[${wrong}] must be a token id in [0, ${vocabSize}), got ${ids[wrong]}.`,
    );
  }
}

/** One value per prompt: a list as given, a single value for all. */
export function perItem<T>(
  field: string,
  value: T | T[] | null | undefined,
  size: number,
  isList: boolean,
): (T | undefined)[] {
  if (!Array.isArray(value)) return Array.from({ length: size }, () => value ?? undefined);
  if (!isList && value.length !== 1)
    throw invalid(field, `${field} must be a single value for a single prompt, got a list.`);
  if (value.length !== size)
    throw invalid(field, `${field} must have one entry per prompt (${size}), got ${value.length}.`);
  return value;
}

/** Ids of the requests; one text for a batch becomes a prefix. */
export function requestIds(given: string | string[] | null | undefined, size: number, isList: boolean): string[] {
  if (typeof given === "string" && isList) return Array.from({ length: size }, (_, i) => `${given}_${i}`);
  return perItem("rid", given, size, isList).map((rid) => rid ?? newRid());
}

/** Two fields, one namespace: never the same for different pairs, nor that of a key the server itself uses. */
export function cacheNamespace(
  extraKey: string | null | undefined,
  salt: string | null | undefined,
): string | undefined {
  return extraKey || salt ? JSON.stringify([salt || null, extraKey || null]) : undefined;
}

/** What SGLang puts into sampling_params: how to sample, and what the answer must look like. */
function toSampling(
  params: Record<string, unknown>,
  prefix: string,
  context: ServerContext,
): {
  samplingParams: Partial<SamplingParams>;
  constraint?: Constraint;
  closeOnBudget?: boolean;
  jumpForward?: JumpForward;
} {
  const given = parseFields(samplingParamsSchema, params, { prefix, refused: REFUSED_SAMPLING, hints: SAMPLING_HINTS });
  const samplingParams = nativeSampling(given);
  checkSampling(context, samplingParams, { prefix: `${prefix}.` });
  return { samplingParams, ...constraintFields(toConstraint(given, prefix), given) };
}

function tokenIdLists(
  given: (number | number[] | null)[] | null | undefined,
  size: number,
  isList: boolean,
): (number[] | undefined)[] {
  if (!given || given.length === 0) return Array.from({ length: size }, () => undefined);
  if (given.every((entry) => typeof entry === "number")) return Array.from({ length: size }, () => given as number[]);
  return perItem("token_ids_logprob", given as (number[] | null)[], size, isList).map((entry) => entry ?? undefined);
}

function toLogprobs(
  start: number | undefined,
  top: number | undefined,
  ids: number[] | undefined,
  vocabSize: number,
): LogprobRequest {
  if (start !== undefined && start < -1)
    throw invalid("logprob_start_len", `logprob_start_len must be an integer >= -1, got ${start}.`);
  if (top !== undefined && (top < 0 || top > MAX_TOP))
    throw invalid("top_logprobs_num", `top_logprobs_num must be an integer from 0 to ${MAX_TOP}, got ${top}.`);
  if (ids && ids.length > 0) checkTokenIds("token_ids_logprob", ids, vocabSize);
  return { startLen: start ?? -1, topNum: top ?? 0, tokenIds: ids };
}
