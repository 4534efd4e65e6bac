/** Bodies of the OpenAI-compatible generation routes: what is taken, and what is known but refused. */

import { z } from "zod";
import { openAiConstraintShape, REFUSED_CONSTRAINT } from "./constraints.js";
import {
  field,
  flag,
  integer,
  jsonObject,
  type Kind,
  list,
  listOfAny,
  OBJECT,
  TEXT,
  text,
  textOrTokens,
  tokenIds,
} from "./fields.js";
import { REFUSED_COMMON, rid, rids } from "./generate-request.js";
import { commonSamplingShape } from "./sampling.js";
import { schedulingShape } from "./scheduling-fields.js";
import type { RefusedFields } from "./validation.js";

const CONSOLE = "stored completions are a service of OpenAI's platform";
const off = [false];

const streamOptions = z.strictObject(
  { include_usage: flag().nullish(), continuous_usage_stats: flag().nullish() },
  { error: "an object with include_usage and continuous_usage_stats" },
);

const sharedShape = {
  model: text().nullish(),
  seed: integer().nullish(),
  stream: flag().nullish(),
  stream_options: streamOptions.nullish(),
  /** The tenant whose share of the engine the request takes, with --enable-tenant-fairness. The header x-tenant wins. */
  user: text().nullish(),
  min_tokens: integer().nullish(),
  extra_key: text().nullish(),
  cache_salt: text().nullish(),
  return_cached_tokens_details: flag().nullish(),
  ...schedulingShape,
  ...commonSamplingShape,
  ...openAiConstraintShape,
};

export const messageSchema = z.object({
  role: text(),
  content: field("a text or a list of content parts", TEXT, list(OBJECT)).nullish(),
  name: text().nullish(),
  tool_calls: listOfAny("a list of tool calls").nullish(),
  tool_call_id: text().nullish(),
  reasoning_content: text().nullish(),
});

/** What an assistant message of a reply carries when a client sends it back. */
export const REFUSED_MESSAGE: RefusedFields = {
  refusal: { reason: "only texts and tool calls are part of a conversation", harmless: [""] },
  annotations: { reason: "only texts and tool calls are part of a conversation", harmless: [[]] },
  audio: { reason: "audio is not part of this version" },
  function_call: { reason: "use tool_calls" },
  parsed: { reason: "only texts and tool calls are part of a conversation" },
};

const EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];
const EFFORT: Kind<string | number> = {
  is: (value): value is string | number =>
    typeof value === "number" ? value >= 0 && value <= 0.99 : EFFORTS.includes(value as string),
  schema: { anyOf: [{ enum: EFFORTS }, { type: "number", minimum: 0, maximum: 0.99 }] },
};

export const chatSchema = z.object({
  messages: listOfAny("a list of messages").nullish(),
  max_tokens: integer("an integer >= 0, or null").nullish(),
  max_completion_tokens: integer("an integer >= 0, or null").nullish(),
  logprobs: flag().nullish(),
  top_logprobs: integer().nullish(),
  tools: listOfAny("a list of tools").nullish(),
  tool_choice: field('"none", "auto", "required" or a function by name', TEXT, OBJECT).nullish(),
  parallel_tool_calls: flag().nullish(),
  continue_final_message: flag().nullish(),
  chat_template_kwargs: jsonObject().nullish(),
  separate_reasoning: flag().nullish(),
  stream_reasoning: flag().nullish(),
  reasoning_effort: field(`one of ${EFFORTS.join(", ")}, or a number from 0 to 0.99`, EFFORT).nullish(),
  input_ids: tokenIds().nullish(),
  rid: rid().nullish(),
  ...sharedShape,
});

export const completionSchema = z.object({
  prompt: textOrTokens(),
  max_tokens: integer("an integer >= 0").nullish(),
  logprobs: integer().nullish(),
  echo: flag().nullish(),
  best_of: integer().nullish(),
  rid: rids().nullish(),
  ...sharedShape,
});

const REFUSED_OPENAI: RefusedFields = {
  ...REFUSED_COMMON,
  session_params: { reason: "sessions are a feature of /generate", harmless: [{}] },
  ...REFUSED_CONSTRAINT,
  custom_params: { reason: "there are no custom logit processors", harmless: [{}] },
  return_prompt_token_ids: { reason: "use /generate, which returns token ids", harmless: off },
  return_token_ids: { reason: "use /generate, which returns token ids", harmless: off },
  return_meta_info: { reason: "use /generate, which returns meta_info", harmless: off },
  store: { reason: CONSOLE, harmless: off },
  metadata: { reason: CONSOLE, harmless: [{}] },
  service_tier: { reason: "there is one tier", harmless: ["auto", "default"] },
  safety_identifier: { reason: CONSOLE },
  prompt_cache_key: { reason: "use cache_salt or extra_key" },
  prompt_cache_retention: { reason: "the prefix cache evicts by itself" },
};

export const REFUSED_CHAT: RefusedFields = {
  ...REFUSED_OPENAI,
  functions: { reason: "use tools" },
  function_call: { reason: "use tool_choice" },
  modalities: { reason: "only text is generated", harmless: [["text"], []] },
  audio: { reason: "audio is not part of this version" },
  prediction: { reason: "predicted outputs are not part of this version" },
  verbosity: { reason: "models served here have no such control", harmless: ["medium"] },
  web_search_options: { reason: "there is no web search" },
  reasoning: { reason: "give reasoning_effort" },
  mm_processor_kwargs: { reason: "images, audio and video are not part of this version", harmless: [{}] },
};

export const REFUSED_COMPLETION: RefusedFields = {
  ...REFUSED_OPENAI,
  suffix: { reason: "fill-in-the-middle is not part of this version", harmless: [""] },
};

export const OPENAI_HINTS = {
  max_new_tokens: "max_tokens",
  min_new_tokens: "min_tokens",
  sampling_seed: "seed",
  sampling_params: "temperature, top_p and so on at the top level",
  text: "prompt",
};
