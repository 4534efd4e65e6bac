/**
 * The bodies of OpenAI's two generation routes, as OpenAI, SGLang, vLLM and many others speak them: prompts to messages,
 * replies and stream events to deltas. Reads nothing that the reply does not say.
 */
import type { ToolCall } from "../../core/protocol.js";
import type { BackendError } from "../errors.js";
import type {
  BackendConstraint,
  BackendDelta,
  BackendFinish,
  BackendGenerateRequest,
  BackendTokenLogprob,
  BackendUsage,
  PromptMessage,
} from "./backend.js";
import type { HttpClient } from "./http.js";
import { imageUrl, isText, newCallId, textOf } from "./parts.js";
import type { SseEvent } from "./sse.js";

/** OpenAI's `messages`. Content without images is a plain string, which every server takes. */
export function openAiMessages(messages: readonly PromptMessage[]): Record<string, unknown>[] {
  return messages.map(({ role, content, toolCalls, toolCallId, name }) => ({
    role,
    content: toolCalls && content.length === 0 ? null : isText(content) ? textOf(content) : openAiParts(content),
    ...(toolCalls && {
      tool_calls: toolCalls.map(({ id, function: called }) => ({ id, type: "function", function: called })),
    }),
    ...(toolCallId !== undefined && { tool_call_id: toolCallId }),
    // On tool messages the name is the tool's, which the id says already.
    ...(name !== undefined && role !== "tool" && { name }),
  }));
}

function openAiParts(content: PromptMessage["content"]): Record<string, unknown>[] {
  return content.map((part) => {
    if (part.type === "text") return { type: "text", text: part.text };
    if (part.type === "image") return { type: "image_url", image_url: { url: imageUrl(part) } };
    throw new TypeError("A video part came to a backend that declares no video.");
  });
}

/** A chat body but for model, sampling (other than its limit), constraint, and a turn to continue. */
export function openAiChat(request: BackendGenerateRequest, maxTokensField: string): Record<string, unknown> {
  const { prompt, sampling, logprobs, stream } = request;
  const { maxNewTokens } = sampling;
  return {
    messages: prompt.type === "chat" ? openAiMessages(prompt.messages) : [],
    // Absent means "until the context is full" on this route; null is not understood everywhere.
    ...(typeof maxNewTokens === "number" && { [maxTokensField]: maxNewTokens }),
    ...(logprobs && { logprobs: true, ...(logprobs.top > 0 && { top_logprobs: logprobs.top }) }),
    ...openAiTools(request),
    ...(stream && STREAM),
  };
}

/** A completions body but for model, sampling (other than its limit), and constraint. */
export function openAiCompletion({
  prompt,
  sampling,
  logprobs,
  stream,
}: BackendGenerateRequest): Record<string, unknown> {
  return {
    prompt: prompt.type === "text" ? textOf(prompt.parts) : "",
    ...(sampling.maxNewTokens !== undefined && { max_tokens: sampling.maxNewTokens }),
    ...(logprobs && { logprobs: logprobs.top }),
    ...(stream && STREAM),
  };
}

const STREAM = { stream: true, stream_options: { include_usage: true } };

/** `tools` and `tool_choice`; nothing when there are no tools. */
function openAiTools({ tools = [], toolChoice }: BackendGenerateRequest): Record<string, unknown> {
  if (tools.length === 0) return {};
  const choice =
    typeof toolChoice === "object" ? { type: "function", function: { name: toolChoice.name } } : toolChoice;
  return { tools, ...(choice !== undefined && { tool_choice: choice }) };
}

/** `response_format` of a JSON Schema. */
export function openAiJsonFormat({ schema, name = "answer" }: JsonSchemaConstraint): Record<string, unknown> {
  return { response_format: { type: "json_schema", json_schema: { name, schema, strict: true } } };
}

type JsonSchemaConstraint = Extract<BackendConstraint, { type: "jsonSchema" }>;

/** What is read of a reply. Servers add much more; absent and null are the same. */
interface WireReply {
  choices?: WireChoice[] | null;
  usage?: WireUsage | null;
  error?: { message?: string; code?: unknown } | string | null;
}
interface WireChoice {
  index?: number;
  /** Completions. */
  text?: string | null;
  /** Chat: `delta` in streams, `message` in whole replies. */
  delta?: WireMessage | null;
  message?: WireMessage | null;
  finish_reason?: string | null;
  matched_stop?: string | number | null;
  stop_reason?: string | number | null;
  logprobs?: WireLogprobs | null;
}
interface WireMessage {
  content?: string | null;
  refusal?: string | null;
  reasoning_content?: string | null;
  reasoning?: string | null;
  tool_calls?: WireToolCall[] | null;
}
interface WireToolCall {
  index?: number;
  id?: string | null;
  function?: { name?: string | null; arguments?: string | null } | null;
}
interface WireTop {
  token: string;
  logprob: number;
}
interface WireLogprobs {
  content?: (WireTop & { top_logprobs?: WireTop[] | null })[] | null;
  tokens?: string[] | null;
  token_logprobs?: (number | null)[] | null;
  top_logprobs?: (Record<string, number> | null)[] | null;
}
export interface WireUsage {
  prompt_tokens?: number | null;
  completion_tokens?: number | null;
  prompt_tokens_details?: { cached_tokens?: number | null } | null;
  completion_tokens_details?: { reasoning_tokens?: number | null } | null;
}

const FINISH: Readonly<Record<string, BackendFinish>> = {
  stop: "stop",
  length: "length",
  tool_calls: "toolCalls",
  function_call: "toolCalls",
  content_filter: "contentFilter",
};

/** Reads the replies of one request. One per request: it keeps what is not complete yet. */
export class OpenAiReader {
  readonly #client: HttpClient;
  readonly #path: string;
  readonly #answers: readonly AnswerState[];
  #usage: BackendUsage | undefined;
  /** The last answer's end waits for the usage, which comes after it. */
  #held: BackendDelta | undefined;

  /**
   * @param answers how many answers were asked for
   * @param apart the server was asked to keep reasoning apart. @default false: it may do so by itself
   */
  constructor(client: HttpClient, path: string, { answers, apart = false }: { answers: number; apart?: boolean }) {
    this.#client = client;
    this.#path = path;
    this.#answers = Array.from({ length: answers }, () => new AnswerState(apart));
  }

  /** @throws BackendError when the reply reports an error, or lacks an answer */
  *whole(reply: unknown): Generator<BackendDelta, void, undefined> {
    yield* this.#deltas(reply as WireReply);
    yield* this.#end();
  }

  /** @throws BackendError when an event reports an error, or the stream ends before the answers do */
  async *stream(events: AsyncIterable<SseEvent>): AsyncGenerator<BackendDelta, void, undefined> {
    for await (const { data } of events) {
      if (data === "[DONE]") break;
      yield* this.#deltas(this.#parse(data));
    }
    yield* this.#end();
  }

  #parse(data: string): WireReply {
    try {
      return JSON.parse(data) as WireReply;
    } catch (cause) {
      throw this.#error(`an event that is not JSON: ${data.slice(0, 200)}`, { cause });
    }
  }

  *#deltas(reply: WireReply): Generator<BackendDelta, void, undefined> {
    if (reply.error) {
      const { message, code } =
        typeof reply.error === "string" ? { message: reply.error, code: undefined } : reply.error;
      throw this.#client.reportedError(
        this.#path,
        message ?? "no reason given",
        typeof code === "number" ? code : undefined,
      );
    }
    if (reply.usage) this.#usage = toUsage(reply.usage);
    for (const choice of reply.choices ?? []) {
      const index = choice.index ?? 0;
      const answer = this.#answers[index];
      if (!answer) throw this.#error(`answer ${index} where ${this.#answers.length} were asked for`);
      const delta = answer.read(index, choice);
      if (typeof delta.text !== "string") throw this.#error("content that is not a text");
      if (choice.finish_reason) {
        if (answer.finished) continue;
        answer.finished = true;
        const finish = this.#finish(choice.finish_reason);
        // OpenAI says "stop" where the call was forced by tool_choice.
        delta.finish = finish === "stop" && answer.hasCalls ? "toolCalls" : finish;
        // vLLM's name for it is stop_reason.
        const matched = choice.matched_stop ?? choice.stop_reason;
        if (matched !== null && matched !== undefined) delta.matched = matched;
        if (this.#answers.every(({ finished }) => finished)) {
          this.#held = delta;
          continue;
        }
      }
      if (delta.finish || hasNews(delta)) yield delta;
    }
  }

  *#end(): Generator<BackendDelta, void, undefined> {
    const missing = this.#answers.findIndex(({ finished }) => !finished);
    if (missing >= 0 || !this.#held) throw this.#error(`a reply that ends before answer ${missing} is complete`);
    yield { ...this.#held, usage: this.#usage ?? { promptTokens: 0, completionTokens: 0, cachedTokens: 0 } };
  }

  #finish(reason: string): BackendFinish {
    const finish = FINISH[reason];
    if (finish) return finish;
    if (reason === "abort" || reason === "error")
      throw this.#client.reportedError(this.#path, `the server ended the answer with finish_reason ${reason}`);
    throw this.#error(`the unknown finish_reason ${JSON.stringify(reason)}`);
  }

  #error(what: string, options?: ErrorOptions): BackendError {
    return this.#client.protocolError(this.#path, what, options);
  }
}

/** What of one answer is not complete yet. */
class AnswerState {
  finished = false;
  /** Calls by their place; servers send the name first and the arguments in pieces. */
  readonly #calls: { id: string; name: string; arguments: string }[] = [];
  /** Calls that were handed on. */
  #done = 0;

  readonly #apart: boolean;

  constructor(apart: boolean) {
    this.#apart = apart;
  }

  get hasCalls(): boolean {
    return this.#calls.length > 0;
  }

  read(index: number, choice: WireChoice): BackendDelta {
    const message = choice.delta ?? choice.message ?? {};
    const delta: BackendDelta = { index, text: choice.text ?? message.content ?? message.refusal ?? "" };
    const reasoning = message.reasoning_content ?? message.reasoning;
    if (reasoning || this.#apart) delta.reasoning = reasoning ?? "";
    if (choice.logprobs) addLogprobs(delta, choice.logprobs);
    for (const [i, call] of (message.tool_calls ?? []).entries()) this.#piece(call.index ?? i, call);
    // A call is complete when the next has begun, or the answer has ended.
    const complete = choice.finish_reason ? this.#calls.length : this.#calls.length - 1;
    if (complete > this.#done) {
      delta.toolCalls = this.#calls.slice(this.#done, complete).map(toToolCall);
      this.#done = complete;
    }
    return delta;
  }

  #piece(at: number, { id, function: called }: WireToolCall): void {
    this.#calls[at] ??= { id: "", name: "", arguments: "" };
    const call = this.#calls[at];
    call.id ||= id ?? "";
    call.name ||= called?.name ?? "";
    call.arguments += called?.arguments ?? "";
  }
}

function toToolCall({ id, name, arguments: args }: { id: string; name: string; arguments: string }): ToolCall {
  return {
    id: id || newCallId(),
    type: "function",
    function: { name, arguments: args === "" ? "{}" : args },
  };
}

function hasNews({ text, reasoning, logprobs, toolCalls }: BackendDelta): boolean {
  return text !== "" || Boolean(reasoning) || (logprobs?.length ?? 0) > 0 || toolCalls !== undefined;
}

function addLogprobs(delta: BackendDelta, { content, tokens, token_logprobs, top_logprobs }: WireLogprobs): void {
  const item = ({ logprob, token }: WireTop): BackendTokenLogprob => [logprob, -1, token];
  if (content) {
    delta.logprobs = content.map(item);
    if (content.some((entry) => entry.top_logprobs?.length))
      delta.topLogprobs = content.map((entry) => (entry.top_logprobs ?? []).map(item));
  } else if (tokens && token_logprobs) {
    delta.logprobs = tokens.map((token, i) => item({ token, logprob: token_logprobs[i] ?? 0 }));
    if (top_logprobs)
      delta.topLogprobs = top_logprobs.map((top) =>
        Object.entries(top ?? {}).map(([token, logprob]) => item({ token, logprob })),
      );
  }
}

export function toUsage(usage: WireUsage): BackendUsage {
  const { prompt_tokens, completion_tokens, prompt_tokens_details, completion_tokens_details } = usage;
  const reasoningTokens = completion_tokens_details?.reasoning_tokens;
  return {
    promptTokens: prompt_tokens ?? 0,
    completionTokens: completion_tokens ?? 0,
    cachedTokens: prompt_tokens_details?.cached_tokens ?? 0,
    ...(typeof reasoningTokens === "number" && { reasoningTokens }),
  };
}
