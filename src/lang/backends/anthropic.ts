/** Anthropic's messages API as a backend. */
import { SglangError } from "../../core/errors.js";
import type { SamplingParams } from "../../core/sampling-params.js";
import { AnthropicReader } from "./anthropic-wire.js";
import {
  type Backend,
  type BackendCapabilities,
  type BackendDelta,
  type BackendGenerateRequest,
  type ConstraintType,
  type PromptMessage,
  requireGenerate,
} from "./backend.js";
import { environment } from "./environment.js";
import { HttpClient, type HttpOptions } from "./http.js";
import { base64, refuseToolsInText, textOf } from "./parts.js";

export interface AnthropicOptions extends HttpOptions {
  model: string;
  /** @default the variable ANTHROPIC_BASE_URL, else https://api.anthropic.com */
  baseUrl?: string;
  /** @default the variable ANTHROPIC_API_KEY, where there is an environment */
  apiKey?: string;
  /** The API needs a limit on every request: this one when the program sets none. @default 4096 */
  maxTokens?: number;
  /** What this model does differently: `{ continueTurn: true }` for models that take a beginning of their answer. */
  capabilities?: Partial<BackendCapabilities>;
  /** Fields added to every body: `{ thinking: { type: "adaptive" } }`. */
  extraBody?: Readonly<Record<string, unknown>>;
}

const VERSION = "2023-06-01";
const DEFAULT_MAX_TOKENS = 4096;
const PATH = "/v1/messages";
const CONSTRAINTS: readonly ConstraintType[] = ["jsonSchema"];
/** Newer models answer 400 to `temperature`, `top_p` and `top_k`. */
const SAMPLING: readonly (keyof SamplingParams)[] = ["maxNewTokens", "stop", "temperature", "topP", "topK"];

/** A backend over Anthropic's messages API. */
export function anthropicBackend(options: AnthropicOptions): Backend {
  return new AnthropicBackend(options);
}

class AnthropicBackend implements Backend {
  readonly name: string;
  readonly model: string;
  readonly capabilities: BackendCapabilities;
  readonly #options: AnthropicOptions;
  readonly #client: HttpClient;

  constructor(options: AnthropicOptions) {
    const { model, apiKey = environment("ANTHROPIC_API_KEY") } = options;
    this.name = `anthropic(${model})`;
    this.model = model;
    this.#options = options;
    this.capabilities = {
      text: false,
      chat: true,
      continueTurn: false,
      constraints: CONSTRAINTS,
      sampling: SAMPLING,
      images: true,
      tools: true,
      reasoning: true,
      ...options.capabilities,
      // The API has none of these.
      score: false,
      logprobs: false,
      video: false,
      prefixHint: false,
    };
    const { constraints, sampling, text } = this.capabilities;
    const unknown = text
      ? "text"
      : (constraints.find((type) => !CONSTRAINTS.includes(type)) ?? sampling.find((key) => !SAMPLING.includes(key)));
    if (unknown) {
      throw new SglangError("INVALID_ARGUMENT", `Anthropic's messages API has no field for ${unknown}: leave it out.`, {
        field: "capabilities",
        found: unknown,
      });
    }
    const baseUrl = options.baseUrl ?? environment("ANTHROPIC_BASE_URL") ?? "https://api.anthropic.com";
    const headers: Record<string, string> = { "anthropic-version": VERSION, ...(apiKey && { "x-api-key": apiKey }) };
    this.#client = new HttpClient(this.name, baseUrl, headers, options);
  }

  async *generate(request: BackendGenerateRequest): AsyncGenerator<BackendDelta, void, undefined> {
    requireGenerate(this, request);
    refuseToolsInText(this.name, request);
    const { stream, signal } = request;
    const body = this.#body(request);
    const reader = new AnthropicReader(this.#client, PATH);
    if (stream) yield* reader.stream(this.#client.events(PATH, body, signal));
    else yield reader.whole(await this.#client.json(PATH, body, signal));
  }

  #body(request: BackendGenerateRequest): Record<string, unknown> {
    const { prompt, sampling, constraint, stream } = request;
    const messages = prompt.type === "chat" ? prompt.messages : [];
    // The system prompt has its own field; a system message later on is passed as one, which newer models take.
    const turns = messages.findIndex(({ role }) => role !== "system");
    const system = messages.slice(0, turns < 0 ? messages.length : turns).map(({ content }) => textOf(content));
    const { maxTokens = DEFAULT_MAX_TOKENS, extraBody } = this.#options;
    const { temperature, topP, topK, stop } = sampling;
    return {
      model: this.model,
      max_tokens: sampling.maxNewTokens ?? maxTokens,
      ...(system.length > 0 && { system: system.join("\n\n") }),
      messages: turns < 0 ? [] : toMessages(messages.slice(turns)),
      ...(temperature !== undefined && { temperature }),
      ...(topP !== undefined && { top_p: topP }),
      ...(topK !== undefined && topK !== -1 && { top_k: topK }),
      ...(stop && stop.length > 0 && { stop_sequences: stop }),
      ...toolFields(request),
      ...(constraint?.type === "jsonSchema" && {
        output_config: { format: { type: "json_schema", schema: constraint.schema } },
      }),
      ...(stream && { stream: true }),
      ...extraBody,
    };
  }
}

/** Results of tools are content of the user's turn; those of one round share a turn. */
function toMessages(messages: readonly PromptMessage[]): Record<string, unknown>[] {
  const out: { role: string; content: Record<string, unknown>[] }[] = [];
  for (const { role, content, toolCalls = [], toolCallId } of messages) {
    const blocks = toBlocks(content);
    if (role !== "tool") {
      for (const { id, function: called } of toolCalls)
        blocks.push({ type: "tool_use", id, name: called.name, input: JSON.parse(called.arguments as string) });
      out.push({ role, content: blocks });
      continue;
    }
    const result = { type: "tool_result", tool_use_id: toolCallId, content: blocks };
    const last = out.at(-1);
    if (last?.role === "user" && last.content.every(({ type }) => type === "tool_result")) last.content.push(result);
    else out.push({ role: "user", content: [result] });
  }
  return out;
}

function toBlocks(content: PromptMessage["content"]): Record<string, unknown>[] {
  return content.map((part) => {
    if (part.type === "text") return { type: "text", text: part.text };
    const { data, url, mediaType = "image/png" } = part;
    if (data) return { type: "image", source: { type: "base64", media_type: mediaType, data: base64(data) } };
    return { type: "image", source: { type: "url", url } };
  });
}

function toolFields({ tools = [], toolChoice }: BackendGenerateRequest): Record<string, unknown> {
  if (tools.length === 0) return {};
  const choice =
    typeof toolChoice === "object"
      ? { type: "tool", name: toolChoice.name }
      : toolChoice && { type: toolChoice === "required" ? "any" : toolChoice };
  return {
    tools: tools.map(({ function: { name, description, parameters, strict } }) => ({
      name,
      ...(description !== undefined && { description }),
      input_schema: parameters ?? { type: "object", properties: {} },
      ...(strict !== undefined && { strict }),
    })),
    ...(choice && { tool_choice: choice }),
  };
}
