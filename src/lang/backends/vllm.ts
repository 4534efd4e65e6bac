/**
 * vLLM's server as a backend. It has no native route: raw text goes to /v1/completions and turns to
 * /v1/chat/completions, with vLLM's fields beside OpenAI's. Scoring reads `prompt_logprobs`.
 */
import type { SamplingParams } from "../../core/sampling-params.js";
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
import { OpenAiReader, openAiChat, openAiCompletion, openAiMessages, toUsage, type WireUsage } from "./openai-wire.js";
import { isEmpty, refuseToolsInText } from "./parts.js";
import { type InputLogprobs, rawPrompt, type ScoringServer, scoreByTokens } from "./scoring.js";
import { openAiSampling } from "./wire-sampling.js";

export interface VllmOptions extends HttpOptions {
  baseUrl: string;
  model: string;
  /** How constraints are spelled: `structured_outputs: {...}`, or the older `guided_json` and its kin. */
  fields: "structured_outputs" | "guided";
  apiKey?: string;
  images?: boolean;
  reasoning?: boolean;
  constraints?: readonly ConstraintType[];
}

const CONSTRAINTS: readonly ConstraintType[] = ["regex", "jsonSchema", "ebnf", "choices"];
const SAMPLING: readonly (keyof SamplingParams)[] = ALL_SAMPLING.filter((key) => key !== "stopRegex");
/** vLLM's words that are not SGLang's. */
const NAMES = { noStopTrim: "include_stop_str_in_output" } as const;
const COMPLETIONS = "/v1/completions";
const CHAT = "/v1/chat/completions";

export function vllmBackend(options: VllmOptions): Backend {
  return new VllmEndpoint(options);
}

class VllmEndpoint implements Backend, ScoringServer {
  readonly name: string;
  readonly model: string;
  readonly capabilities: BackendCapabilities;
  readonly #client: HttpClient;
  readonly #fields: VllmOptions["fields"];

  constructor(options: VllmOptions) {
    const { baseUrl, apiKey, model, images = false, reasoning = false, constraints = CONSTRAINTS, fields } = options;
    this.name = `vllm(${model})`;
    this.model = model;
    this.#fields = fields;
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
    const { prompt, sampling, stream, signal, constraint } = request;
    const path = prompt.type === "text" ? COMPLETIONS : CHAT;
    const apart = path === CHAT && request.reasoning !== undefined && this.capabilities.reasoning;
    const body = {
      model: this.model,
      ...(prompt.type === "text" ? openAiCompletion(request) : openAiChat(request, "max_completion_tokens")),
      ...(prompt.type === "chat" &&
        prompt.continueFinal && { continue_final_message: true, add_generation_prompt: false }),
      ...openAiSampling(sampling, NAMES),
      ...(constraint && this.#constraint(constraint)),
    };
    const reader = new OpenAiReader(this.#client, path, { answers: sampling.n ?? 1, apart });
    if (stream) yield* reader.stream(this.#client.events(path, body, signal));
    else yield* reader.whole(await this.#client.json(path, body, signal));
  }

  score(request: BackendScoreRequest): Promise<BackendScoreResult> {
    requireScore(this, request);
    return scoreByTokens(this, request);
  }

  async prefixHint(prompt: BackendPrompt, signal: AbortSignal): Promise<void> {
    requireGenerate(this, { prompt, sampling: {}, stream: false, signal });
    if (isEmpty(prompt)) return;
    const { text, special } = await rawPrompt(this, prompt, signal);
    const [ids] = await this.tokenize([text], special, signal);
    await this.prefill(ids, signal);
  }

  tokenize(texts: readonly string[], special: boolean, signal: AbortSignal): Promise<number[][]> {
    return Promise.all(texts.map((prompt) => this.#tokens({ prompt, add_special_tokens: special }, signal)));
  }

  async render(messages: readonly PromptMessage[], signal: AbortSignal): Promise<string> {
    const tokens = await this.#tokens({ messages: openAiMessages(messages), add_generation_prompt: true }, signal);
    const { prompt } = (await this.#client.json("/detokenize", { model: this.model, tokens }, signal)) as Detokenized;
    if (typeof prompt === "string") return prompt;
    throw this.protocolError("no text for the tokens of a chat");
  }

  async prefill(ids: readonly number[], signal: AbortSignal): Promise<BackendUsage> {
    // One token is the least that vLLM answers.
    const body = { model: this.model, prompt: ids, max_tokens: 1, temperature: 0 };
    const { usage } = (await this.#client.json(COMPLETIONS, body, signal)) as Reply;
    return { ...toUsage(usage ?? {}), completionTokens: 0 };
  }

  async inputLogprobs(
    items: readonly { ids: readonly number[]; start: number }[],
    signal: AbortSignal,
  ): Promise<InputLogprobs[]> {
    const prompts = items.map(({ ids }) => ids);
    const body = { model: this.model, prompt: prompts, max_tokens: 1, temperature: 0, prompt_logprobs: 0 };
    const { choices = [], usage } = (await this.#client.json(COMPLETIONS, body, signal)) as Reply;
    return items.map(({ ids }, i) => {
      const positions = choices.find(({ index }) => index === i)?.prompt_logprobs;
      if (positions?.length !== ids.length)
        throw this.protocolError(`${positions?.length ?? 0} prompt_logprobs where ${ids.length} were asked for`);
      const tokens = ids.map((id, at) => {
        const entry = positions[at]?.[String(id)];
        return [entry?.logprob ?? null, id, entry?.decoded_token ?? ""] as const;
      });
      // The reply has one usage for all.
      const counted = i === 0 ? { ...toUsage(usage ?? {}), completionTokens: 0 } : NOTHING;
      return { tokens, usage: counted };
    });
  }

  protocolError(what: string) {
    return this.#client.protocolError(COMPLETIONS, what);
  }

  async #tokens(body: Record<string, unknown>, signal: AbortSignal): Promise<number[]> {
    const { tokens } = (await this.#client.json("/tokenize", { model: this.model, ...body }, signal)) as {
      tokens?: number[];
    };
    if (tokens) return tokens;
    throw this.#client.protocolError("/tokenize", "no tokens");
  }

  #constraint(constraint: BackendConstraint): Record<string, unknown> {
    const [name, value] = spelled(constraint);
    return this.#fields === "guided" ? { [`guided_${name}`]: value } : { structured_outputs: { [name]: value } };
  }
}

const NOTHING: BackendUsage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };

interface Detokenized {
  prompt?: string;
}
interface Reply {
  choices?: {
    index: number;
    prompt_logprobs?: (Record<string, { logprob: number; decoded_token?: string | null }> | null)[];
  }[];
  usage?: WireUsage;
}

function spelled(constraint: BackendConstraint): [name: string, value: unknown] {
  if (constraint.type === "jsonSchema") return ["json", constraint.schema];
  if (constraint.type === "regex") return ["regex", constraint.pattern];
  if (constraint.type === "ebnf") return ["grammar", constraint.grammar];
  return ["choice", constraint.choices];
}
