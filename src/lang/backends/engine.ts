/**
 * The engine in this process as a backend. Chat turns go through the model's own template, text after the beginning of
 * the assistant's turn continues that turn, and everything that shares a prefix finds it in the engine's prefix cache.
 */
import { SglangError } from "../../core/errors.js";
import type {
  ChatMessage,
  Constraint,
  EngineApi,
  GenerateChunk,
  GenerateRequest,
  Prompt,
  TokenLogprob,
  ToolDefinition,
  Usage,
} from "../../core/protocol.js";
import type { ReasoningFormat } from "../../core/reasoning.js";
import { ToolCallParser } from "../../core/tool-calls.js";
import { type ToolDemand, toolConstraint } from "../../core/tool-constraint.js";
import { BackendError, CapabilityError } from "../errors.js";
import { healedStart } from "../token-healing.js";
import {
  ALL_SAMPLING,
  type Backend,
  type BackendCapabilities,
  type BackendConstraint,
  type BackendDelta,
  type BackendFinish,
  type BackendGenerateRequest,
  type BackendPrompt,
  type BackendScore,
  type BackendScoreRequest,
  type BackendScoreResult,
  type BackendTokenLogprob,
  type PromptMessage,
  requireGenerate,
  requireScore,
} from "./backend.js";
import { isEmpty, newCallId, refuseToolsInText, textOf, withContinuation } from "./parts.js";
import { nothingBefore } from "./scoring.js";
import { addUsage, UsageSum } from "./usage.js";

/** Finds tool calls in text that comes in pieces; what is not a call is given back as text. */
export interface ToolParser {
  push(text: string): ToolParserEvent[];
  /** The end of the answer. */
  flush(): ToolParserEvent[];
}
export type ToolParserEvent = { type: "text"; text: string } | { type: "call"; name: string; arguments: string };

export interface EngineBackendOptions {
  /**
   * Makes the parser of one answer, for the tools it was offered; null: the backend takes no tools.
   * @default the one for `<tool_call>` blocks, as Qwen and Hermes models write them
   */
  toolParser?: ((toolNames: readonly string[]) => ToolParser) | null;
  /** Prefix-cache namespace of everything that goes through this backend. */
  extraKey?: string;
}

/** An engine; `tokenizer` is there when it runs in this process and not behind a proxy. */
export type EngineLike = EngineApi & { readonly tokenizer?: { encode(text: string, special?: boolean): number[] } };

/** A backend over an engine that stays the caller's: closing the backend leaves it open. */
export function engineBackend(engine: EngineLike, options: EngineBackendOptions = {}): Backend {
  return new EngineBackend(engine, options);
}

class EngineBackend implements Backend {
  readonly name: string;
  readonly model: string;
  readonly capabilities: BackendCapabilities;
  readonly countTokens?: (text: string) => number;
  readonly #engine: EngineLike;
  readonly #toolParser: ((toolNames: readonly string[]) => ToolParser) | null;
  /** It is known how calls are written. */
  readonly #enforcesCalls: boolean;
  readonly #extraKey: string | undefined;

  constructor(engine: EngineLike, options: EngineBackendOptions) {
    const { servedModelName, isGeneration, hasChatTemplate } = engine.model;
    this.#engine = engine;
    const { toolParser = (names) => new ToolCallParser(names), extraKey } = options;
    this.#toolParser = toolParser;
    this.#enforcesCalls = options.toolParser === undefined;
    this.#extraKey = extraKey;
    this.name = `engine(${servedModelName})`;
    this.model = servedModelName;
    this.capabilities = {
      text: isGeneration,
      chat: isGeneration && hasChatTemplate,
      continueTurn: hasChatTemplate,
      constraints: isGeneration ? ["regex", "jsonSchema", "ebnf", "choices"] : [],
      sampling: ALL_SAMPLING,
      score: isGeneration,
      logprobs: true,
      images: false,
      video: false,
      tools: isGeneration && hasChatTemplate && toolParser !== null,
      reasoning: isGeneration,
      prefixHint: isGeneration,
    };
    const { tokenizer } = engine;
    if (tokenizer) this.countTokens = (text) => tokenizer.encode(text, false).length;
  }

  async *generate(request: BackendGenerateRequest): AsyncGenerator<BackendDelta, void, undefined> {
    requireGenerate(this, request);
    refuseToolsInText(this.name, request);
    const { sampling, constraint, reasoning, logprobs, stream, signal, toolChoice = "auto" } = request;
    const tools = toolChoice === "none" ? [] : (request.tools ?? []);
    const names = tools.map((tool) => tool.function.name);
    const demand = this.#demand(request, tools);
    const held = demand ? toolConstraint(demand) : constraint && toConstraint(constraint);
    const answers = Array.from(
      { length: sampling.n ?? this.#engine.model.preferredSamplingParams.n ?? 1 },
      () => new Answer(names.length > 0 ? (this.#toolParser?.(names) ?? null) : null),
    );
    const usages = new UsageSum();
    const chunks = this.#chunks({
      prompt: toPrompt(request.prompt, tools),
      // Some models mark their tool tags as special tokens; without them the calls could not be found.
      samplingParams: { ...(names.length > 0 && { skipSpecialTokens: false }), ...sampling },
      ...(held && { constraint: held }),
      ...(reasoning && { reasoning: { format: forRequest(reasoning, names.length > 0 && !held) } }),
      ...(logprobs && { logprobs: { startLen: -1, topNum: logprobs.top } }),
      stream,
      signal,
    });
    for await (const chunk of chunks) {
      usages.set(chunk.index, chunk.usage);
      yield { ...answers[chunk.index].delta(chunk), ...(chunk.finishReason && { usage: usages.total() }) };
    }
  }

  async score(request: BackendScoreRequest): Promise<BackendScoreResult> {
    requireScore(this, request);
    const { prompt, continuations, unconditional } = request;
    const stop = new AbortController();
    const signal = AbortSignal.any([request.signal, stop.signal]);
    try {
      const prefix = await this.#prefill(toPrompt(prompt), signal);
      const usages: Usage[] = [prefix.usage];
      const scores = await Promise.all(
        continuations.map((continuation) =>
          this.#scoreOne(toPrompt(withContinuation(prompt, continuation)), {
            promptIds: prefix.ids,
            unconditional,
            signal,
            usages,
          }),
        ),
      );
      return { scores, usage: usages.reduce(addUsage) };
    } catch (error) {
      // One failure makes the others pointless.
      stop.abort();
      throw error;
    }
  }

  async prefixHint(prompt: BackendPrompt, signal: AbortSignal): Promise<void> {
    requireGenerate(this, { prompt, sampling: {}, stream: false, signal });
    if (isEmpty(prompt)) return;
    await this.#prefill(toPrompt(prompt), signal);
  }

  flushCache(): Promise<boolean> {
    return this.#engine.flushCache();
  }

  async #scoreOne(prompt: Prompt, { promptIds, unconditional, signal, usages }: ScoreContext): Promise<BackendScore> {
    // Two positions before the prompt's end suffice nearly always: a continuation merges with its last token at most.
    let start = Math.max(promptIds.length - 2, 0);
    let full = await this.#prefill(prompt, signal, start).catch((error: unknown) => {
      if (!SglangError.isInstance(error) || error.details.field !== "logprob_start_len") throw error;
      // The continuation made the prompt's tokens fewer than `start`.
      start = 0;
      return this.#prefill(prompt, signal, start);
    });
    usages.push(full.usage);
    const seam = healedStart(promptIds, full.ids);
    if (seam < start) {
      start = seam;
      full = await this.#prefill(prompt, signal, start);
      usages.push(full.usage);
    }
    const tokens = full.input.slice(seam - start).map(([logprob, id, text]): BackendTokenLogprob => {
      if (logprob !== null) return [logprob, id, text];
      throw nothingBefore(this.name, text);
    });
    if (!unconditional) return { tokens };
    const alone = await this.#prefill({ inputIds: full.ids.slice(seam) }, signal, 0);
    usages.push(alone.usage);
    return { tokens, unconditional: alone.input.map(([logprob]) => logprob) };
  }

  /** What calls are held to; null: the model may call as it likes. */
  #demand(
    { toolChoice = "auto", constraint }: BackendGenerateRequest,
    tools: readonly ToolDefinition[],
  ): ToolDemand | null {
    const required = toolChoice !== "auto" && toolChoice !== "none";
    if (!required && !tools.some((tool) => tool.function.strict)) return null;
    const refuse = (why: string) => new CapabilityError(this.name, "tools", why);
    if (!this.#enforcesCalls)
      throw refuse("it does not know how calls for its toolParser are written; leave out strict and toolChoice.");
    if (constraint) throw refuse("an answer cannot be held to tool calls and to another constraint at once.");
    const named = typeof toolChoice === "object" ? toolChoice.name : null;
    const held = tools.filter((tool) => named === null || tool.function.name === named);
    if (held.length === 0) {
      const names = tools.map((tool) => tool.function.name).join(", ") || "none";
      throw refuse(
        `toolChoice asks for ${named === null ? "a call" : JSON.stringify(named)}, and its tools are ${names}.`,
      );
    }
    return {
      tools: held.map(({ function: { name, parameters, strict = false } }) => ({ name, parameters, strict })),
      required,
      single: named !== null,
    };
  }

  /** Computes (and caches) a prompt without an answer. `startLen`: first position whose logprob is wanted. */
  async #prefill(
    prompt: Prompt,
    signal: AbortSignal,
    startLen?: number,
  ): Promise<{ ids: readonly number[]; input: readonly TokenLogprob[]; usage: Usage }> {
    const chunks = this.#chunks({
      prompt,
      samplingParams: { maxNewTokens: 0, n: 1 },
      ...(startLen !== undefined && { logprobs: { startLen } }),
      stream: false,
      signal,
    });
    for await (const { promptTokenIds = [], logprobs, usage } of chunks)
      return { ids: promptTokenIds, input: logprobs?.input ?? [], usage };
    throw new BackendError("ENGINE_FAILED", `${this.name} ended a request without an answer.`, { backend: this.name });
  }

  /** @throws BackendError; `signal.reason` when aborted */
  async *#chunks(request: GenerateRequest & { signal: AbortSignal }): AsyncGenerator<GenerateChunk, void, undefined> {
    const { signal } = request;
    const extraKey = this.#extraKey;
    signal.throwIfAborted();
    try {
      for await (const chunk of this.#engine.generate({ ...request, ...(extraKey !== undefined && { extraKey }) })) {
        if (chunk.finishReason?.type === "abort") throw abortError(chunk.finishReason, this.name);
        yield chunk;
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (error instanceof BackendError || !SglangError.isInstance(error)) throw error;
      throw new BackendError(
        error.code,
        error.message,
        { backend: this.name, retryable: error.code === "QUEUE_FULL", details: error.details },
        { cause: error },
      );
    }
  }
}

interface ScoreContext {
  promptIds: readonly number[];
  unconditional: boolean;
  signal: AbortSignal;
  usages: Usage[];
}

/** One answer: chunks of the engine in, deltas out. */
class Answer {
  readonly #parser: ToolParser | null;
  #calls = 0;

  constructor(parser: ToolParser | null) {
    this.#parser = parser;
  }

  delta(chunk: GenerateChunk): BackendDelta {
    const { index, textDelta, reasoningDelta, tokenIdsDelta, finishReason, logprobs } = chunk;
    const delta: BackendDelta = { index, text: textDelta, tokenIds: tokenIdsDelta };
    if (reasoningDelta !== undefined) delta.reasoning = reasoningDelta;
    if (logprobs) {
      delta.logprobs = logprobs.output.map(generated);
      if (logprobs.outputTop.length > 0) delta.topLogprobs = logprobs.outputTop.map((list) => list.map(generated));
    }
    if (this.#parser) this.#parse(this.#parser, delta, finishReason !== null);
    if (finishReason)
      delta.finish = this.#calls > 0 && finishReason.type === "stop" ? "toolCalls" : finish(finishReason);
    if (finishReason?.type === "stop") delta.matched = finishReason.matched;
    return delta;
  }

  #parse(parser: ToolParser, delta: BackendDelta, ended: boolean): void {
    const events = parser.push(delta.text);
    if (ended) events.push(...parser.flush());
    delta.text = events.map((event) => (event.type === "text" ? event.text : "")).join("");
    const calls = events.filter((event) => event.type === "call");
    if (calls.length === 0) return;
    this.#calls += calls.length;
    delta.toolCalls = calls.map(({ name, arguments: args }) => ({
      id: newCallId(),
      type: "function",
      function: { name, arguments: args },
    }));
  }
}

/** The token that was sampled has a logprob: only the first of a prompt has none. */
const generated = ([logprob, id, text]: TokenLogprob): BackendTokenLogprob => [logprob as number, id, text];

const finish = ({ type }: { type: string }): BackendFinish => (type === "length" ? "length" : "stop");

function abortError({ message, statusCode }: { message: string; statusCode?: number }, backend: string): BackendError {
  const code = statusCode === 503 ? "QUEUE_FULL" : statusCode && statusCode < 500 ? "INVALID_REQUEST" : "ENGINE_FAILED";
  return new BackendError(code, `${backend} gave up on a request: ${message}`, {
    backend,
    retryable: statusCode === 503,
  });
}

/** Where calls are not looked for, or a constraint sees to the end of the thinking, nothing else ends it. */
function forRequest({ interrupt, ...format }: ReasoningFormat, calling: boolean): ReasoningFormat {
  return calling && interrupt !== undefined ? { ...format, interrupt } : format;
}

function toConstraint(constraint: BackendConstraint): Constraint {
  return constraint.type === "jsonSchema" ? { type: "jsonSchema", schema: constraint.schema } : constraint;
}

function toPrompt(prompt: BackendPrompt, tools: BackendGenerateRequest["tools"] = []): Prompt {
  if (prompt.type === "text") return { text: textOf(prompt.parts) };
  return {
    messages: prompt.messages.map(toMessage),
    ...(tools.length > 0 && { tools: tools.map(shown) }),
    ...(prompt.continueFinal && { continueFinalMessage: true }),
  };
}

/** `strict` is no part of what a template shows the model. */
function shown({ type, function: { strict: _, ...described } }: ToolDefinition): ToolDefinition {
  return { type, function: described };
}

function toMessage({ role, content, toolCalls, toolCallId, name }: PromptMessage): ChatMessage {
  return {
    role,
    content: textOf(content),
    ...(toolCalls && { tool_calls: [...toolCalls] }),
    ...(toolCallId !== undefined && { tool_call_id: toolCallId }),
    ...(name !== undefined && { name }),
  };
}
