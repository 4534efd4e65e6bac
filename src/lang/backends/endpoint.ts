/**
 * A model server over HTTP as a backend: this package's own, SGLang's, or (`dialect: "vllm"`) vLLM's.
 *
 * Raw text goes to the native /generate, turns to /v1/chat/completions, where the server applies the model's template
 * and `continue_final_message` continues the assistant's turn. Scoring goes by token ids over /generate. The chat route
 * tells cached tokens only when the server was started with --enable-cache-report.
 */
import { SglangError } from "../../core/errors.js";
import type { SamplingParams } from "../../core/sampling-params.js";
import { CapabilityError } from "../errors.js";
import {
  ALL_SAMPLING,
  type Backend,
  type BackendCapabilities,
  type BackendConstraint,
  type BackendDelta,
  type BackendGenerateRequest,
  type BackendPrompt,
  type BackendScoreRequest,
  type BackendScoreResult,
  type BackendUsage,
  type ConstraintType,
  type PromptMessage,
  requireGenerate,
  requireScore,
} from "./backend.js";
import { HttpClient, type HttpOptions } from "./http.js";
import { NativeReader, type NativeReply, nativeInputLogprobs, nativeUsage } from "./native-wire.js";
import { OpenAiReader, openAiChat, openAiJsonFormat, openAiMessages } from "./openai-wire.js";
import { isEmpty, isText, refuseToolsInText, textOf } from "./parts.js";
import { type InputLogprobs, rawPrompt, type ScoringServer, scoreByTokens } from "./scoring.js";
import { vllmBackend } from "./vllm.js";
import { nativeSampling, openAiSampling } from "./wire-sampling.js";

export interface EndpointOptions extends HttpOptions {
  /** Where the server is: `http://127.0.0.1:30000`. */
  baseUrl: string;
  /** `vllm` sends `structured_outputs`, `vllm-guided` the older `guided_*` fields. @default "sglang" */
  dialect?: "sglang" | "vllm" | "vllm-guided";
  /** Name of the model, needed by vLLM; SGLang servers serve one model and take any. @default "default" */
  model?: string;
  apiKey?: string;
  /** The served model reads images (in turns). @default false */
  images?: boolean;
  /** The server was started with a reasoning parser, so that thinking comes apart from the answer. @default false */
  reasoning?: boolean;
  /** Kinds of constraint that this server was started with. @default all that the dialect has a field for */
  constraints?: readonly ConstraintType[];
}

const ENDPOINT_CONSTRAINTS: readonly ConstraintType[] = ["regex", "jsonSchema", "ebnf", "choices"];
/** SGLang's chat route has no field for the spaces. */
const SAMPLING: readonly (keyof SamplingParams)[] = ALL_SAMPLING.filter((key) => key !== "spacesBetweenSpecialTokens");

/** A backend over a model server. A string is its address. */
export function endpointBackend(options: string | EndpointOptions): Backend {
  const given = typeof options === "string" ? { baseUrl: options } : options;
  const { dialect = "sglang", model } = given;
  if (dialect === "sglang") return new SglangEndpoint(given);
  if (model === undefined) {
    throw new SglangError("INVALID_ARGUMENT", `A ${dialect} server is asked by model name: give \`model\`.`, {
      field: "model",
      expected: "the name the server lists at /v1/models",
    });
  }
  return vllmBackend({ ...given, model, fields: dialect === "vllm" ? "structured_outputs" : "guided" });
}

class SglangEndpoint implements Backend, ScoringServer {
  readonly name: string;
  readonly model: string | undefined;
  readonly capabilities: BackendCapabilities;
  readonly #client: HttpClient;

  constructor(options: EndpointOptions) {
    const { baseUrl, apiKey, images = false, reasoning = false, constraints = ENDPOINT_CONSTRAINTS, model } = options;
    this.name = `sglang(${model ?? baseUrl.replace(/^https?:\/\//, "").replace(/\/+$/, "")})`;
    this.model = model;
    this.capabilities = {
      text: true,
      chat: true,
      continueTurn: true,
      constraints,
      sampling: SAMPLING,
      score: true,
      logprobs: true,
      images,
      video: false,
      tools: true,
      reasoning,
      prefixHint: true,
    };
    const headers: Record<string, string> = apiKey ? { authorization: `Bearer ${apiKey}` } : {};
    this.#client = new HttpClient(this.name, baseUrl, headers, options);
  }

  async *generate(request: BackendGenerateRequest): AsyncGenerator<BackendDelta, void, undefined> {
    requireGenerate(this, request);
    refuseToolsInText(this.name, request);
    if (request.prompt.type === "chat") return yield* this.#chat(request);
    const { sampling, stream, signal } = request;
    const body = this.#nativeBody(request, request.prompt);
    const reader = new NativeReader(this.#client, sampling.n ?? 1);
    if (stream) yield* reader.stream(this.#client.events(NATIVE, body, signal));
    else yield* reader.whole(await this.#client.json(NATIVE, body, signal));
  }

  async score(request: BackendScoreRequest): Promise<BackendScoreResult> {
    requireScore(this, request);
    this.#refuseImages(request.prompt);
    return scoreByTokens(this, request);
  }

  async prefixHint(prompt: BackendPrompt, signal: AbortSignal): Promise<void> {
    requireGenerate(this, { prompt, sampling: {}, stream: false, signal });
    if (isEmpty(prompt)) return;
    if (prompt.type === "text") {
      this.#refuseImages(prompt);
      await this.#client.json(NATIVE, { text: textOf(prompt.parts), sampling_params: NO_ANSWER }, signal);
      return;
    }
    // The chat route has no way to ask for no answer at all, so the turns go by token ids. Images have none.
    if (prompt.messages.every(({ content }) => isText(content))) {
      const { text, special } = await rawPrompt(this, prompt, signal);
      const [ids] = await this.tokenize([text], special, signal);
      await this.prefill(ids, signal);
    }
  }

  flushCache(): Promise<boolean> {
    return this.#client.succeeds("/flush_cache");
  }

  async tokenize(texts: readonly string[], special: boolean, signal: AbortSignal): Promise<number[][]> {
    const reply = await this.#client.json("/v1/tokenize", { prompt: texts, add_special_tokens: special }, signal);
    const { tokens } = reply as { tokens?: number[][] };
    if (tokens?.length === texts.length) return tokens;
    throw this.protocolError(`tokens of ${tokens?.length ?? 0} texts where ${texts.length} were asked for`);
  }

  async render(messages: readonly PromptMessage[], signal: AbortSignal): Promise<string> {
    const turns = (await this.#client.json("/v1/tokenize", { messages: openAiMessages(messages) }, signal)) as Tokens;
    const body = { tokens: turns.tokens, skip_special_tokens: false };
    const { text } = (await this.#client.json("/v1/detokenize", body, signal)) as { text?: string };
    if (typeof text === "string") return text;
    throw this.protocolError("no text for the tokens of a chat");
  }

  async prefill(ids: readonly number[], signal: AbortSignal): Promise<BackendUsage> {
    const reply = await this.#client.json(NATIVE, { input_ids: ids, sampling_params: NO_ANSWER }, signal);
    return nativeUsage(reply as NativeReply);
  }

  async inputLogprobs(
    items: readonly { ids: readonly number[]; start: number }[],
    signal: AbortSignal,
  ): Promise<InputLogprobs[]> {
    const body = {
      input_ids: items.map(({ ids }) => ids),
      sampling_params: NO_ANSWER,
      return_logprob: true,
      // Servers differ in whether the first position they report has a logprob, so two more are asked for.
      logprob_start_len: items.map(({ start }) => Math.max(start - 2, 0)),
      return_text_in_logprobs: true,
    };
    const replies = await this.#client.json(NATIVE, body, signal);
    if (Array.isArray(replies) && replies.length === items.length) return replies.map(nativeInputLogprobs);
    throw this.protocolError(`something else than a list of ${items.length} answers`);
  }

  protocolError(what: string) {
    return this.#client.protocolError(NATIVE, what);
  }

  async *#chat(request: BackendGenerateRequest): AsyncGenerator<BackendDelta, void, undefined> {
    const { prompt, sampling, stream, signal, constraint } = request;
    const apart = request.reasoning !== undefined && this.capabilities.reasoning;
    const body = {
      model: this.model ?? "default",
      ...openAiChat(request, "max_tokens"),
      ...(prompt.type === "chat" && prompt.continueFinal && { continue_final_message: true }),
      ...openAiSampling(sampling),
      ...(apart && { separate_reasoning: true }),
      ...(constraint?.type === "jsonSchema" ? openAiJsonFormat(constraint) : constraint && textConstraint(constraint)),
    };
    const reader = new OpenAiReader(this.#client, CHAT, { answers: sampling.n ?? 1, apart });
    if (stream) yield* reader.stream(this.#client.events(CHAT, body, signal));
    else yield* reader.whole(await this.#client.json(CHAT, body, signal));
  }

  #nativeBody(request: BackendGenerateRequest, prompt: BackendPrompt & { type: "text" }): Record<string, unknown> {
    this.#refuseImages(prompt);
    const { sampling, constraint, logprobs, stream } = request;
    return {
      text: textOf(prompt.parts),
      sampling_params: {
        ...nativeSampling(sampling),
        ...(constraint?.type === "jsonSchema"
          ? { json_schema: JSON.stringify(constraint.schema) }
          : constraint && textConstraint(constraint)),
      },
      // Only this route needs to be told, and only for where the constraint begins: the text keeps the thinking.
      ...(constraint && request.reasoning && { require_reasoning: true }),
      ...(logprobs && { return_logprob: true, top_logprobs_num: logprobs.top, return_text_in_logprobs: true }),
      stream,
    };
  }

  #refuseImages(prompt: BackendPrompt): void {
    const parts = prompt.type === "text" ? prompt.parts : prompt.messages.flatMap(({ content }) => content);
    if (isText(parts)) return;
    const where = prompt.type === "text" ? "raw text; put the image into s.user" : "what select compares";
    throw new CapabilityError(this.name, "images", `this server takes none in ${where}.`);
  }
}

const NATIVE = "/generate";
const CHAT = "/v1/chat/completions";
/** Computes and caches the prompt, and answers nothing. */
const NO_ANSWER = { max_new_tokens: 0, temperature: 0 };

interface Tokens {
  tokens?: number[];
}

/** Constraints that both routes spell alike. */
function textConstraint(constraint: Exclude<BackendConstraint, { type: "jsonSchema" }>): Record<string, unknown> {
  if (constraint.type === "ebnf") return { ebnf: constraint.grammar };
  if (constraint.type === "regex") return { regex: constraint.pattern };
  return { regex: `(${constraint.choices.map(escapeRegex).join("|")})` };
}

/** Syntax characters only: other escapes mean different things to different engines. */
const escapeRegex = (text: string) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
