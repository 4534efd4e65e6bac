/**
 * Any OpenAI-compatible API as a backend: OpenAI itself, and the many servers and gateways that speak its chat or its
 * completions route. It declares what that API has; what a server offers beyond it is declared with `capabilities`.
 */
import { SglangError } from "../../core/errors.js";
import type { SamplingParams } from "../../core/sampling-params.js";
import {
  type Backend,
  type BackendCapabilities,
  type BackendDelta,
  type BackendGenerateRequest,
  requireGenerate,
} from "./backend.js";
import { environment } from "./environment.js";
import { HttpClient, type HttpOptions } from "./http.js";
import { OpenAiReader, openAiChat, openAiCompletion, openAiJsonFormat } from "./openai-wire.js";
import { refuseToolsInText } from "./parts.js";
import { openAiSampling } from "./wire-sampling.js";

export interface OpenAiOptions extends HttpOptions {
  model: string;
  /** `chat`: /chat/completions. `completions`: /completions, raw text. @default "chat" */
  api?: "chat" | "completions";
  /** With the version: `https://api.openai.com/v1`. @default the variable OPENAI_BASE_URL, else OpenAI */
  baseUrl?: string;
  /** @default the variable OPENAI_API_KEY, where there is an environment */
  apiKey?: string;
  /** The chat field of `maxNewTokens`. @default "max_completion_tokens" at OpenAI, "max_tokens" elsewhere */
  maxTokensField?: "max_completion_tokens" | "max_tokens";
  /** What this server can do beyond, or short of, OpenAI's API. Sampling parameters beyond it go out under SGLang's names. */
  capabilities?: Partial<BackendCapabilities>;
  /** Fields added to every body: `{ reasoning_effort: "low" }`. */
  extraBody?: Readonly<Record<string, unknown>>;
}

export const OPENAI_URL = "https://api.openai.com/v1";

const SAMPLING: readonly (keyof SamplingParams)[] = [
  "maxNewTokens",
  "stop",
  "temperature",
  "topP",
  "frequencyPenalty",
  "presencePenalty",
  "n",
  "logitBias",
  "seed",
];

const CHAT: BackendCapabilities = {
  text: false,
  chat: true,
  continueTurn: false,
  constraints: ["jsonSchema"],
  sampling: SAMPLING,
  score: false,
  logprobs: true,
  images: true,
  video: false,
  tools: true,
  // OpenAI keeps its models' thinking; servers that show it as reasoning_content are told by `capabilities`.
  reasoning: false,
  prefixHint: false,
};

const COMPLETIONS: BackendCapabilities = {
  ...CHAT,
  text: true,
  chat: false,
  constraints: [],
  images: false,
  tools: false,
};

/** A backend over an OpenAI-compatible API. */
export function openaiBackend(options: OpenAiOptions): Backend {
  return new OpenAiBackend(options);
}

class OpenAiBackend implements Backend {
  readonly name: string;
  readonly model: string;
  readonly capabilities: BackendCapabilities;
  readonly #options: OpenAiOptions;
  readonly #client: HttpClient;
  readonly #maxTokensField: string;

  constructor(options: OpenAiOptions) {
    const { model, api = "chat", apiKey = environment("OPENAI_API_KEY"), maxTokensField } = options;
    const baseUrl = options.baseUrl ?? environment("OPENAI_BASE_URL") ?? OPENAI_URL;
    this.name = `openai(${model})`;
    this.model = model;
    // These three are code of this backend, not of the server: they cannot be declared into being.
    const fixed = { score: false, prefixHint: false, video: false, text: api !== "chat", chat: api === "chat" };
    const known = api === "chat" ? CHAT : COMPLETIONS;
    this.capabilities = { ...known, ...options.capabilities, ...fixed };
    const unknown = this.capabilities.constraints.find((type) => !known.constraints.includes(type));
    if (unknown) {
      throw new SglangError(
        "INVALID_ARGUMENT",
        `OpenAI's ${api} API has no field for a constraint of type ${unknown}: use endpointBackend for SGLang and vLLM servers.`,
        { field: "capabilities.constraints", expected: known.constraints.join(", ") || "none", found: unknown },
      );
    }
    this.#options = options;
    const isOpenAi = baseUrl.startsWith("https://api.openai.com/");
    this.#maxTokensField = maxTokensField ?? (isOpenAi ? "max_completion_tokens" : "max_tokens");
    const headers: Record<string, string> = apiKey ? { authorization: `Bearer ${apiKey}` } : {};
    this.#client = new HttpClient(this.name, baseUrl, headers, options);
  }

  async *generate(request: BackendGenerateRequest): AsyncGenerator<BackendDelta, void, undefined> {
    requireGenerate(this, request);
    refuseToolsInText(this.name, request);
    const { prompt, stream, signal, sampling, constraint } = request;
    const path = prompt.type === "text" ? "/completions" : "/chat/completions";
    const body = {
      model: this.model,
      ...(prompt.type === "text" ? openAiCompletion(request) : openAiChat(request, this.#maxTokensField)),
      ...(prompt.type === "chat" && prompt.continueFinal && { continue_final_message: true }),
      ...(constraint?.type === "jsonSchema" && openAiJsonFormat(constraint)),
      ...openAiSampling(sampling),
      ...this.#options.extraBody,
    };
    const reader = new OpenAiReader(this.#client, path, { answers: sampling.n ?? 1 });
    if (stream) yield* reader.stream(this.#client.events(path, body, signal));
    else yield* reader.whole(await this.#client.json(path, body, signal));
  }
}
