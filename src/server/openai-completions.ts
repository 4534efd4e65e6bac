/** POST /v1/completions. */
import type { FastifyInstance, FastifyReply } from "fastify";
import type { z } from "zod";
import type { GenerateChunk, GenerateRequest, Prompt } from "../core/protocol.js";
import { constraintFields, toOpenAiConstraint } from "./constraints.js";
import type { ServerContext } from "./context.js";
import { abortError, replyError } from "./error-reply.js";
import { cacheNamespace, checkTokenIds, requestIds } from "./generate-request.js";
import {
  answersPerPrompt,
  type CacheReport,
  cacheReport,
  matchedStop,
  openAiSampling,
  requestedModel,
  type StreamUsage,
  streamUsage,
  UsageTally,
  unixSeconds,
} from "./openai-common.js";
import { CompletionLogprobs } from "./openai-logprobs.js";
import { completionSchema, OPENAI_HINTS, REFUSED_COMPLETION } from "./openai-schema.js";
import { describeRoute } from "./openapi.js";
import { newRid, runRequests, streamReply } from "./run-requests.js";
import { schedulingFields } from "./scheduling-fields.js";
import { invalid, parseFields, unsupported } from "./validation.js";

/** OpenAI's default for this route. */
const DEFAULT_MAX_TOKENS = 16;
/** Most likeliest tokens per position; the engine's own limit. */
const MAX_LOGPROBS = 64;

export interface CompletionPlan {
  requests: (GenerateRequest & { rid: string })[];
  /** Id of the reply. */
  id: string;
  n: number;
  model: string;
  stream: boolean;
  usage: StreamUsage;
  cacheReport: CacheReport;
  /** Per prompt: the text that `echo` puts before the answer, "" without echo. */
  echoes: string[];
  echo: boolean;
}

/** @throws SglangError INVALID_REQUEST or UNSUPPORTED naming the field */
export function toCompletionPlan(body: unknown, context: ServerContext): CompletionPlan {
  const given = parseFields(completionSchema, body, { refused: REFUSED_COMPLETION, hints: OPENAI_HINTS });
  const { prompts, isList } = toPrompts(given.prompt, context.engine.model.vocabSize);
  const samplingParams = openAiSampling(context, given, "max_tokens", given.max_tokens ?? DEFAULT_MAX_TOKENS);
  const n = answersPerPrompt(context, samplingParams);
  if ((given.best_of ?? n) !== n)
    throw unsupported("best_of", `it must equal n (${n}), because answers are not ranked, got ${given.best_of}`);
  const echo = given.echo ?? false;
  const top = given.logprobs ?? null;
  if (top !== null && (top < 0 || top > MAX_LOGPROBS))
    throw invalid("logprobs", `logprobs must be an integer from 0 to ${MAX_LOGPROBS}, got ${top}.`);
  const names = requestIds(given.rid, prompts.length, isList);
  const stream = given.stream ?? false;
  const constraint = constraintFields(toOpenAiConstraint(given), given);
  return {
    requests: prompts.map((prompt, i) => ({
      prompt,
      samplingParams,
      rid: names[i],
      stream,
      logprobs: top === null ? undefined : { startLen: echo ? 0 : -1, topNum: top },
      extraKey: cacheNamespace(given.extra_key, given.cache_salt),
      tenant: given.user ?? undefined,
      ...constraint,
      ...schedulingFields(given),
    })),
    id: names.length === 1 ? names[0] : typeof given.rid === "string" ? given.rid : newRid(),
    n,
    model: requestedModel(context, given.model),
    stream,
    usage: streamUsage(given),
    cacheReport: cacheReport(context, given),
    echoes: prompts.map((prompt) => (echo ? promptText(prompt, context) : "")),
    echo,
  };
}

function toPrompts(
  given: z.output<typeof completionSchema>["prompt"],
  vocabSize: number,
): { prompts: Prompt[]; isList: boolean } {
  if (typeof given === "string") return { prompts: [{ text: given }], isList: false };
  if (given.length === 0) throw invalid("prompt", "prompt must not be an empty list.");
  if (typeof given[0] === "number") {
    checkTokenIds("prompt", given as number[], vocabSize);
    return { prompts: [{ inputIds: given as number[] }], isList: false };
  }
  const prompts = (given as (string | number[])[]).map((one, i): Prompt => {
    if (typeof one === "string") return { text: one };
    checkTokenIds(`prompt[${i}]`, one, vocabSize);
    return { inputIds: one };
  });
  return { prompts, isList: true };
}

function promptText(prompt: Prompt, { tokenizer }: ServerContext): string {
  if ("text" in prompt) return prompt.text;
  if (!tokenizer)
    throw unsupported("echo", "this server has no tokenizer to turn token ids into text; give the prompt as text");
  return tokenizer.decode("inputIds" in prompt ? prompt.inputIds : [], { skipSpecialTokens: false });
}

export function registerCompletions(app: FastifyInstance, context: ServerContext): void {
  const schema = describeRoute("openai", "Text completions", completionSchema);
  app.post("/v1/completions", { schema }, async (request, reply) => {
    const plan = toCompletionPlan(request.body, context);
    return plan.stream ? streamCompletion(context, reply, plan) : wholeCompletion(context, reply, plan);
  });
}

/** Turns the chunks of one choice into parts of its text and logprobs. */
class CompletionAnswer {
  readonly #plan: CompletionPlan;
  readonly #logprobs: CompletionLogprobs | null;
  #echo: string;
  finish: GenerateChunk["finishReason"] = null;

  constructor(plan: CompletionPlan, prompt: number) {
    this.#plan = plan;
    this.#echo = plan.echoes[prompt];
    const { logprobs } = plan.requests[prompt];
    this.#logprobs = logprobs ? new CompletionLogprobs(logprobs.topNum ?? 0) : null;
  }

  add(chunk: GenerateChunk): { text: string; logprobs: Record<string, unknown> | null } {
    this.finish = chunk.finishReason;
    const text = this.#echo + chunk.textDelta;
    this.#echo = "";
    return {
      text,
      logprobs: chunk.logprobs && this.#logprobs ? this.#logprobs.part(chunk.logprobs, this.#plan.echo) : null,
    };
  }
}

const newAnswers = (plan: CompletionPlan) =>
  Array.from({ length: plan.requests.length * plan.n }, (_, i) => new CompletionAnswer(plan, Math.floor(i / plan.n)));

async function wholeCompletion(context: ServerContext, reply: FastifyReply, plan: CompletionPlan): Promise<unknown> {
  const created = unixSeconds();
  const tally = new UsageTally(plan.n, plan.cacheReport);
  const answers = newAnswers(plan);
  const texts = answers.map(() => "");
  const parts = answers.map(() => [] as Record<string, unknown>[]);
  await runRequests(context, {
    requests: plan.requests,
    reply,
    onChunk: (i, chunk) => {
      const index = i * plan.n + chunk.index;
      tally.add(index, chunk);
      const { text, logprobs } = answers[index].add(chunk);
      texts[index] += text;
      if (logprobs) parts[index].push(logprobs);
      return undefined;
    },
  });
  const choices = answers.map(({ finish }, index) => {
    const error = replyError(finish);
    if (error) throw error;
    return {
      index,
      text: texts[index],
      logprobs: joinParts(parts[index]),
      finish_reason: finish?.type ?? null,
      matched_stop: matchedStop(finish),
    };
  });
  return { id: plan.id, object: "text_completion", created, model: plan.model, choices, usage: tally.total() };
}

/** Concatenates the lists of several logprob parts. */
function joinParts(parts: Record<string, unknown>[]): Record<string, unknown> | null {
  if (parts.length <= 1) return parts[0] ?? null;
  return Object.fromEntries(
    Object.keys(parts[0]).map((key) => {
      const lists = parts.map((part) => part[key] as unknown[] | null);
      return [key, lists[0] === null ? null : lists.flat()];
    }),
  );
}

async function streamCompletion(context: ServerContext, reply: FastifyReply, plan: CompletionPlan): Promise<void> {
  const created = unixSeconds();
  const tally = new UsageTally(plan.n, plan.cacheReport);
  const answers = newAnswers(plan);
  const event = (choices: unknown[]) => ({
    id: plan.id,
    object: "text_completion",
    created,
    model: plan.model,
    choices,
    usage: plan.usage.continuous ? tally.total() : null,
  });
  await streamReply(context, reply, async (stream) => {
    await runRequests(context, {
      requests: plan.requests,
      reply,
      onChunk: (i, chunk) => {
        const index = i * plan.n + chunk.index;
        const error = abortError(chunk.finishReason);
        if (error) throw error;
        tally.add(index, chunk);
        const { text, logprobs } = answers[index].add(chunk);
        const finish_reason = chunk.finishReason?.type ?? null;
        return stream.send(
          event([{ index, text, logprobs, finish_reason, matched_stop: matchedStop(chunk.finishReason) }]),
        );
      },
    });
    if (plan.usage.last) stream.send({ ...event([]), usage: tally.total() });
  });
}
