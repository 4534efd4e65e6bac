/** Body of /v1/chat/completions -> engine request. */
import { z } from "zod";
import type { GenerateRequest, Prompt, ReasoningRequest, ToolDefinition } from "../core/protocol.js";
import { type ToolDemand, toolConstraint } from "../core/tool-constraint.js";
import { toMessages, toTools } from "./chat-messages.js";
import { constraintFields, refuseBoth, toOpenAiConstraint } from "./constraints.js";
import type { ServerContext } from "./context.js";
import { jsonObject, text } from "./fields.js";
import { cacheNamespace, checkTokenIds } from "./generate-request.js";
import {
  answersPerPrompt,
  type CacheReport,
  cacheReport,
  openAiSampling,
  requestedModel,
  type StreamUsage,
  streamUsage,
} from "./openai-common.js";
import { chatSchema, OPENAI_HINTS, REFUSED_CHAT } from "./openai-schema.js";
import { chatReasoning, effortVariables } from "./reasoning.js";
import { newRid } from "./run-requests.js";
import { schedulingFields } from "./scheduling-fields.js";
import { invalid, parseFields, shown, unsupported } from "./validation.js";

/** Most likeliest tokens per position on this route, OpenAI's limit. */
const MAX_TOP_LOGPROBS = 20;

type ChatBody = z.output<typeof chatSchema>;

export interface ChatPlan {
  request: GenerateRequest & { rid: string };
  n: number;
  model: string;
  stream: boolean;
  usage: StreamUsage;
  cacheReport: CacheReport;
  /** With thinking apart from the answer: whether it is streamed as it comes. null: it is not kept apart. */
  reasoning: { stream: boolean } | null;
  /** Tools whose calls are looked for in the answer; null: the answer is plain text. */
  toolNames: string[] | null;
}

/** @throws SglangError INVALID_REQUEST or UNSUPPORTED naming the field */
export function toChatPlan(body: unknown, context: ServerContext): ChatPlan {
  const given = parseFields(chatSchema, body, { refused: REFUSED_CHAT, hints: OPENAI_HINTS });
  const { tools, demand } = activeTools(given, context);
  const constraint = toOpenAiConstraint(given);
  refuseBoth(constraint, demand);
  const [limitField, limit] =
    typeof given.max_completion_tokens === "number"
      ? ["max_completion_tokens", given.max_completion_tokens]
      : ["max_tokens", given.max_tokens ?? null];
  const samplingParams = openAiSampling(context, given, limitField as string, limit as number | null);
  // Some models mark their tool tags as special tokens; without them the calls could not be found.
  if (tools) samplingParams.skipSpecialTokens ??= false;
  const stream = given.stream ?? false;
  const reasoning = toReasoning(given, context, tools !== null && !demand);
  return {
    request: {
      prompt: toPrompt(given, tools, context),
      samplingParams,
      rid: given.rid ?? newRid(),
      stream,
      logprobs: toLogprobs(given),
      extraKey: cacheNamespace(given.extra_key, given.cache_salt),
      tenant: given.user ?? undefined,
      ...constraintFields(demand ? toolConstraint(demand) : constraint, given),
      ...(reasoning && { reasoning }),
      ...schedulingFields(given),
    },
    n: answersPerPrompt(context, samplingParams),
    model: requestedModel(context, given.model),
    stream,
    usage: streamUsage(given),
    cacheReport: cacheReport(context, given),
    reasoning: reasoning?.separate ? { stream: given.stream_reasoning ?? true } : null,
    toolNames: tools?.map((tool) => tool.function.name) ?? null,
  };
}

function toPrompt(given: ChatBody, tools: ToolDefinition[] | null, context: ServerContext): Prompt {
  if (given.input_ids) {
    checkTokenIds("input_ids", given.input_ids, context.engine.model.vocabSize);
    return { inputIds: given.input_ids };
  }
  if (!given.messages) throw invalid("messages", "messages is required: a list of messages.");
  const messages = toMessages(given.messages);
  const continueFinalMessage = given.continue_final_message ?? false;
  if (continueFinalMessage && messages.at(-1)?.role !== "assistant")
    throw invalid("continue_final_message", "continue_final_message needs the last message to be of the assistant.");
  const chatTemplateKwargs = { ...effortVariables(given.reasoning_effort), ...given.chat_template_kwargs };
  return {
    messages,
    ...(tools && { tools }),
    ...(continueFinalMessage && { continueFinalMessage }),
    ...(Object.keys(chatTemplateKwargs).length > 0 && { chatTemplateKwargs }),
  };
}

/** @throws SglangError UNSUPPORTED for reasoning_effort where the model is not known to think */
function toReasoning(given: ChatBody, context: ServerContext, calling: boolean): ReasoningRequest | undefined {
  const reasoning = chatReasoning(context, { separate: given.separate_reasoning ?? true, calling });
  if (!reasoning && (given.reasoning_effort ?? "none") !== "none") {
    throw unsupported(
      "reasoning_effort",
      "this server was not told how its model marks its thinking; start it with --reasoning-parser, or set the template's own variable with chat_template_kwargs",
    );
  }
  return reasoning;
}

function toLogprobs(given: ChatBody): GenerateRequest["logprobs"] {
  const top = given.top_logprobs ?? 0;
  if (top < 0 || top > MAX_TOP_LOGPROBS)
    throw invalid("top_logprobs", `top_logprobs must be an integer from 0 to ${MAX_TOP_LOGPROBS}, got ${top}.`);
  if (given.logprobs) return { startLen: -1, topNum: top };
  if (top > 0) throw invalid("top_logprobs", "top_logprobs needs logprobs to be true.");
  return undefined;
}

/** The tools the model is told of, and what its calls are held to: nothing when it may call as it likes. */
function activeTools(
  given: ChatBody,
  context: ServerContext,
): { tools: ToolDefinition[] | null; demand: ToolDemand | null } {
  const { tools, strict } = toTools(given.tools ?? []);
  const choice = given.tool_choice ?? (tools.length > 0 ? "auto" : "none");
  const named = typeof choice === "object" ? namedTool(choice, tools) : null;
  if (!named && choice !== "none" && choice !== "auto" && choice !== "required")
    throw invalid(
      "tool_choice",
      `tool_choice must be "none", "auto", "required" or {"type": "function", "function": {"name": ...}}, got ${shown(choice)}.`,
    );
  if (choice === "required" && tools.length === 0)
    throw invalid("tool_choice", 'tool_choice "required" needs at least one tool in tools.');
  if (tools.length === 0 || choice === "none") return { tools: null, demand: null };
  const { modelType, architecture } = context.engine.model;
  const parser =
    context.config.toolCallParser ?? (/^qwen/i.test(modelType) || /^qwen/i.test(architecture) ? "qwen25" : null);
  if (parser === null) {
    throw unsupported(
      "tools",
      `how ${modelType} models write tool calls is not known; start the server with --tool-call-parser, or send tool_choice "none"`,
    );
  }
  const required = choice === "required" || named !== null;
  const single = given.parallel_tool_calls === false || named !== null;
  const held = (named ? [named] : tools).map(({ function: { name, parameters } }) => ({
    name,
    parameters,
    strict: strict.has(name),
  }));
  return { tools, demand: required || single || strict.size > 0 ? { tools: held, required, single } : null };
}

function namedTool(choice: Record<string, unknown>, tools: readonly ToolDefinition[]): ToolDefinition {
  const { function: given } = parseFields(z.object({ type: z.literal("function"), function: jsonObject() }), choice, {
    prefix: "tool_choice",
  });
  const { name } = parseFields(z.object({ name: text() }), given, { prefix: "tool_choice.function" });
  const found = tools.find((tool) => tool.function.name === name);
  if (found) return found;
  const names = tools.map((tool) => JSON.stringify(tool.function.name)).join(", ") || "none";
  throw invalid(
    "tool_choice.function.name",
    `tool_choice.function.name must be one of the tools (${names}), got ${shown(name)}.`,
  );
}
