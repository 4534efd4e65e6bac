/**
 * A language model of the Vercel AI SDK as a backend, so that every provider that has one works. Only the shape of the
 * model counts (specification v2, v3 and v4); the SDK itself is not needed.
 */
import type { ToolCall } from "../../core/protocol.js";
import type { SamplingParams } from "../../core/sampling-params.js";
import { BackendError } from "../errors.js";
import {
  type Backend,
  type BackendCapabilities,
  type BackendDelta,
  type BackendFinish,
  type BackendGenerateRequest,
  type BackendUsage,
  type ConstraintType,
  type ImagePart,
  type PromptMessage,
  requireGenerate,
} from "./backend.js";
import { codeOf, DEFAULT_TIMEOUT_MS } from "./http.js";
import { refuseToolsInText, textOf } from "./parts.js";
import { type Retries, retrying } from "./retrying.js";
import { Watch } from "./watch.js";

/** What is used of a `LanguageModel` object: `openai("gpt-...")`, `google("...")` and so on. */
export interface AiSdkModel {
  readonly specificationVersion: string;
  readonly provider: string;
  readonly modelId: string;
  // Method syntax, so that methods which take the SDK's narrower options fit.
  doGenerate(options: AiSdkCall): PromiseLike<AiSdkResult>;
  doStream(options: AiSdkCall): PromiseLike<{ stream: ReadableStream<AiSdkPart> }>;
}

/** The call options that are sent: what all three specifications share. The SDK's own types are narrower. */
export interface AiSdkCall {
  prompt: unknown[];
  maxOutputTokens?: number;
  temperature?: number;
  stopSequences?: string[];
  topP?: number;
  topK?: number;
  presencePenalty?: number;
  frequencyPenalty?: number;
  responseFormat?: { type: string; schema?: unknown; name?: string };
  seed?: number;
  tools?: { type: string; name: string }[];
  toolChoice?: { type: string; toolName?: string };
  abortSignal?: AbortSignal;
  headers?: Record<string, string | undefined>;
}

interface AiSdkContent {
  type: string;
  text?: unknown;
  toolCallId?: string;
  toolName?: string;
  input?: unknown;
  providerExecuted?: boolean;
}
/** v2: a text. v3 and v4: the SDK's word and the provider's. */
type AiSdkFinish = string | { unified: string };
interface AiSdkUsage {
  inputTokens?: number | { total?: number; cacheRead?: number };
  outputTokens?: number | { total?: number };
  /** v2. */
  cachedInputTokens?: number;
}
interface AiSdkWarning {
  type: string;
  feature?: unknown;
  setting?: unknown;
  details?: string;
}
export interface AiSdkResult {
  content: readonly AiSdkContent[];
  finishReason: AiSdkFinish;
  usage: AiSdkUsage;
  warnings: readonly AiSdkWarning[];
}
export interface AiSdkPart extends Omit<AiSdkContent, "text"> {
  delta?: unknown;
  finishReason?: AiSdkFinish;
  usage?: AiSdkUsage;
  warnings?: readonly AiSdkWarning[];
  error?: unknown;
}

export interface AiSdkOptions extends Retries {
  /** Headers that providers over HTTP add to every call. */
  headers?: Readonly<Record<string, string>>;
  /** Longest silence, milliseconds. @default 300000 */
  timeoutMs?: number;
  /** The model reads images. @default true: providers refuse what they cannot take */
  images?: boolean;
  /** Kinds of constraint that the model enforces; `[]` for models that only try to follow a schema. @default ["jsonSchema"] */
  constraints?: readonly Extract<ConstraintType, "jsonSchema">[];
}

const VERSIONS = ["v2", "v3", "v4"];
const SAMPLING: readonly (keyof SamplingParams)[] = [
  "maxNewTokens",
  "stop",
  "temperature",
  "topP",
  "topK",
  "presencePenalty",
  "frequencyPenalty",
  "seed",
];
const FINISH: Readonly<Record<string, BackendFinish>> = {
  stop: "stop",
  length: "length",
  "content-filter": "contentFilter",
  "tool-calls": "toolCalls",
  other: "stop",
  unknown: "stop",
};

/** @throws BackendError UNSUPPORTED for a model of another specification */
export function aiSdkBackend(model: AiSdkModel, options: AiSdkOptions = {}): Backend {
  return new AiSdkBackend(model, options);
}

class AiSdkBackend implements Backend {
  readonly name: string;
  readonly model: string;
  readonly capabilities: BackendCapabilities;
  readonly #model: AiSdkModel;
  readonly #options: AiSdkOptions;

  constructor(model: AiSdkModel, options: AiSdkOptions) {
    this.name = `ai-sdk(${model.provider}:${model.modelId})`;
    this.model = model.modelId;
    this.#model = model;
    this.#options = options;
    if (!VERSIONS.includes(model.specificationVersion)) {
      const message = `${this.name} follows specification ${model.specificationVersion}; give a model of ${VERSIONS.join(", ")}.`;
      throw new BackendError("UNSUPPORTED", message, { backend: this.name });
    }
    this.capabilities = {
      text: false,
      chat: true,
      continueTurn: false,
      constraints: options.constraints ?? ["jsonSchema"],
      sampling: SAMPLING,
      score: false,
      logprobs: false,
      images: options.images ?? true,
      video: false,
      tools: true,
      reasoning: true,
      prefixHint: false,
    };
  }

  async *generate(request: BackendGenerateRequest): AsyncGenerator<BackendDelta, void, undefined> {
    requireGenerate(this, request);
    refuseToolsInText(this.name, request);
    if (request.stream) yield* this.#stream(request);
    else yield await retrying(this.#options, request.signal, () => this.#whole(request));
  }

  async #whole(request: BackendGenerateRequest): Promise<BackendDelta> {
    return this.#watched(request.signal, async (watch) => {
      watch.start();
      const result = await raced(this.#model.doGenerate(this.#call(request, watch.signal)), watch.signal);
      this.#checkWarnings(result.warnings);
      const texts = (type: string) =>
        result.content.map((part) => (part.type === type && typeof part.text === "string" ? part.text : "")).join("");
      const toolCalls = result.content.filter(isToolCall).map(toToolCall);
      const reasoning = texts("reasoning");
      return {
        index: 0,
        text: texts("text"),
        ...(reasoning && { reasoning }),
        ...(toolCalls.length > 0 && { toolCalls }),
        finish: this.#finish(result.finishReason, toolCalls.length > 0),
        usage: toUsage(result.usage),
      };
    });
  }

  async *#stream(request: BackendGenerateRequest): AsyncGenerator<BackendDelta, void, undefined> {
    const { signal } = request;
    const { watch, reader } = await retrying(this.#options, signal, () => this.#begin(request));
    let ended = false;
    let hasCalls = false;
    try {
      for (;;) {
        watch.start();
        const { done, value } = await this.#guarded(signal, watch, () => raced(reader.read(), watch.signal));
        watch.pause();
        ended = done;
        if (done) break;
        const delta = this.#read(value, hasCalls);
        hasCalls ||= delta?.toolCalls !== undefined;
        if (delta) yield delta;
        if (delta?.finish) return;
      }
      throw this.#error("ended its stream before the answer was complete");
    } finally {
      watch.end();
      // A provider that cannot be stopped any more has nothing to say to us.
      if (!ended) void reader.cancel().catch(() => {});
    }
  }

  async #begin(request: BackendGenerateRequest) {
    const watch = new Watch(this.#timeoutMs, request.signal);
    watch.start();
    try {
      const call = this.#call(request, watch.signal);
      const work = () => raced(this.#model.doStream(call), watch.signal);
      const { stream } = await this.#guarded(request.signal, watch, work);
      return { watch, reader: stream.getReader() };
    } catch (error) {
      watch.end();
      throw error;
    }
  }

  #read(part: AiSdkPart, hasCalls: boolean): BackendDelta | undefined {
    const { type, delta, warnings, finishReason, usage, error } = part;
    if (type === "error") throw this.#describe(error);
    if (type === "stream-start") this.#checkWarnings(warnings ?? []);
    if (type === "text-delta" && delta) return { index: 0, text: String(delta) };
    if (type === "reasoning-delta" && delta) return { index: 0, text: "", reasoning: String(delta) };
    if (isToolCall(part)) return { index: 0, text: "", toolCalls: [toToolCall(part)] };
    if (type === "finish")
      return {
        index: 0,
        text: "",
        finish: this.#finish(finishReason ?? "unknown", hasCalls),
        usage: toUsage(usage ?? {}),
      };
    return undefined;
  }

  #call({ prompt, sampling, constraint, tools = [], toolChoice }: BackendGenerateRequest, abortSignal: AbortSignal) {
    const { maxNewTokens, stop, temperature, topP, topK, presencePenalty, frequencyPenalty, seed } = sampling;
    const call: AiSdkCall = {
      prompt: prompt.type === "chat" ? toPrompt(prompt.messages, this.#model.specificationVersion) : [],
      ...(typeof maxNewTokens === "number" && { maxOutputTokens: maxNewTokens }),
      ...(temperature !== undefined && { temperature }),
      ...(stop && stop.length > 0 && { stopSequences: stop }),
      ...(topP !== undefined && { topP }),
      ...(topK !== undefined && topK !== -1 && { topK }),
      ...(presencePenalty !== undefined && { presencePenalty }),
      ...(frequencyPenalty !== undefined && { frequencyPenalty }),
      ...(typeof seed === "number" && { seed }),
      ...(this.#options.headers && { headers: this.#options.headers }),
      abortSignal,
    };
    if (constraint?.type === "jsonSchema") {
      const { schema, name } = constraint;
      call.responseFormat = { type: "json", schema, ...(name !== undefined && { name }) };
    }
    if (tools.length > 0) {
      call.tools = tools.map(({ function: { name, description, parameters } }) => ({
        type: "function",
        name,
        ...(description !== undefined && { description }),
        inputSchema: parameters ?? { type: "object", properties: {} },
      }));
      if (typeof toolChoice === "object") call.toolChoice = { type: "tool", toolName: toolChoice.name };
      else if (toolChoice) call.toolChoice = { type: toolChoice };
    }
    return call;
  }

  /** What a provider says it ignored was asked for by the program, so it is an error here. */
  #checkWarnings(warnings: readonly AiSdkWarning[]): void {
    const ignored = warnings.find(({ type }) => type.startsWith("unsupported"));
    if (!ignored) return;
    const { feature, setting, details, type } = ignored;
    const what = [feature ?? setting ?? type.replace("unsupported-", ""), details].filter(Boolean).join(": ");
    throw new BackendError("UNSUPPORTED", `${this.name} does not support ${what}; leave it out.`, {
      backend: this.name,
    });
  }

  /** Some providers say "stop" where a call was forced. */
  #finish(reason: AiSdkFinish, hasCalls: boolean): BackendFinish {
    const word = typeof reason === "string" ? reason : reason.unified;
    const finish = FINISH[word];
    if (finish) return finish === "stop" && hasCalls ? "toolCalls" : finish;
    throw this.#error(`ended the answer with the finish reason ${word}`);
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  async #watched<T>(signal: AbortSignal, call: (watch: Watch) => Promise<T>): Promise<T> {
    const watch = new Watch(this.#timeoutMs, signal);
    try {
      return await this.#guarded(signal, watch, () => call(watch));
    } finally {
      watch.end();
    }
  }

  async #guarded<T>(signal: AbortSignal, watch: Watch, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!watch.expired) throw this.#describe(error);
      throw this.#error(`sent nothing for ${this.#timeoutMs} ms; give more with timeoutMs`, true, error);
    }
  }

  /** Errors of providers over HTTP carry `statusCode` and `isRetryable`. */
  #describe(error: unknown): BackendError {
    if (error instanceof BackendError) return error;
    const { message, statusCode, isRetryable } = (error ?? {}) as {
      message?: string;
      statusCode?: number;
      isRetryable?: boolean;
    };
    const code = codeOf(statusCode ?? 500);
    return new BackendError(
      code,
      `${this.name} failed: ${message ?? String(error)}`,
      { backend: this.name, httpStatus: statusCode, retryable: isRetryable ?? false },
      { cause: error },
    );
  }

  #error(what: string, retryable = false, cause?: unknown): BackendError {
    return new BackendError("ENGINE_FAILED", `${this.name} ${what}.`, { backend: this.name, retryable }, { cause });
  }
}

/** The result, or the signal's reason: not every provider listens to its signal. */
async function raced<T>(work: PromiseLike<T>, signal: AbortSignal): Promise<T> {
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

/** Calls of tools that the provider ran itself are over already. */
const isToolCall = ({ type, providerExecuted }: AiSdkContent) => type === "tool-call" && providerExecuted !== true;

function toToolCall({ toolCallId = "", toolName = "", input }: AiSdkContent): ToolCall {
  const args = typeof input === "string" ? input : JSON.stringify(input ?? {});
  return { id: toolCallId, type: "function", function: { name: toolName, arguments: args === "" ? "{}" : args } };
}

function toUsage({ inputTokens, outputTokens, cachedInputTokens }: AiSdkUsage): BackendUsage {
  const detailed = typeof inputTokens === "object" ? inputTokens : { total: inputTokens, cacheRead: cachedInputTokens };
  return {
    promptTokens: detailed.total ?? 0,
    completionTokens: (typeof outputTokens === "object" ? outputTokens.total : outputTokens) ?? 0,
    cachedTokens: detailed.cacheRead ?? 0,
  };
}

function toPrompt(messages: readonly PromptMessage[], version: string): Record<string, unknown>[] {
  return messages.map(({ role, content, toolCalls = [], toolCallId, name = "" }) => {
    if (role === "system") return { role, content: textOf(content) };
    if (role === "tool") {
      const output = { type: "text", value: textOf(content) };
      return { role, content: [{ type: "tool-result", toolCallId, toolName: name, output }] };
    }
    const parts = content.map((part) =>
      part.type === "text" ? { type: "text", text: part.text } : toFile(part as ImagePart, version),
    );
    const calls = toolCalls.map(({ id, function: called }) => ({
      type: "tool-call",
      toolCallId: id,
      toolName: called.name,
      input: JSON.parse(called.arguments as string) as unknown,
    }));
    return { role, content: [...parts, ...calls] };
  });
}

function toFile({ data, url, mediaType = "image/*" }: ImagePart, version: string): Record<string, unknown> {
  const source = data ?? new URL(url as string);
  if (version !== "v4") return { type: "file", mediaType, data: source };
  return { type: "file", mediaType, data: data ? { type: "data", data } : { type: "url", url: source } };
}
