/**
 * What the language asks of whoever runs the model: one small interface, implemented by the in-process engine, HTTP
 * servers, chat APIs and the scripted fake.
 *
 *   program -> state -> interpreter -- BackendGenerateRequest --> Backend -- BackendDelta* --> variable
 *
 * A backend declares what it can do as data. The language calls {@link requireGenerate} and {@link requireScore} before
 * it sends anything, so a backend only meets requests that it declared; it may call them again when it is used directly.
 */
import type { ToolCall, ToolDefinition } from "../../core/protocol.js";
import type { ReasoningFormat } from "../../core/reasoning.js";
import type { SamplingParams } from "../../core/sampling-params.js";
import { CapabilityError } from "../errors.js";

export type Role = "system" | "user" | "assistant" | "tool";

/** Bytes of an image, or where the backend's server fetches them. */
export interface ImagePart {
  type: "image";
  /** `image/png`, `image/jpeg`, `image/webp`, `image/gif`. Known for `data`, a guess by extension for `url`. */
  mediaType?: string;
  /** The file's bytes. Exactly one of `data` and `url` is given. */
  data?: Uint8Array;
  /** `https://...`; `data:` URLs are decoded to `data` before a backend sees them. */
  url?: string;
}
export interface VideoPart {
  type: "video";
  mediaType?: string;
  data?: Uint8Array;
  url?: string;
  /** Frames to sample. */
  frames: number;
}
export type PromptPart = { type: "text"; text: string } | ImagePart | VideoPart;

export interface PromptMessage {
  role: Role;
  /** Neighbouring texts are merged: two text parts never follow each other, and no text part is empty. */
  content: readonly PromptPart[];
  /** Assistant messages: the calls it made. `function.arguments` is always the JSON text. */
  toolCalls?: readonly ToolCall[];
  /** Tool messages: which call this answers, and the tool's name. */
  toolCallId?: string;
  name?: string;
}

export type BackendPrompt =
  /** Raw text, completed as it stands. Needs `capabilities.text`. */
  | { type: "text"; parts: readonly PromptPart[] }
  /** Turns; the answer is the assistant's. Needs `capabilities.chat`. */
  | {
      type: "chat";
      messages: readonly PromptMessage[];
      /** The last message is an assistant's, and the answer continues it. Needs `capabilities.continueTurn`. */
      continueFinal: boolean;
    };

export type BackendConstraint =
  /** JavaScript syntax, no flags; the whole answer matches (anchors are neither needed nor present). */
  | { type: "regex"; pattern: string }
  /** JSON Schema; the answer is one JSON value that fits. */
  | { type: "jsonSchema"; schema: Record<string, unknown>; name?: string }
  | { type: "ebnf"; grammar: string }
  /** The answer is exactly one of these. */
  | { type: "choices"; choices: readonly string[] };

export interface BackendLogprobs {
  /** Likeliest tokens to report per position beside the chosen one. */
  top: number;
}

export interface BackendGenerateRequest {
  prompt: BackendPrompt;
  /** Only what the program set; absent fields are the backend's defaults. Checked for range by the language. */
  sampling: Partial<SamplingParams>;
  constraint?: BackendConstraint;
  /**
   * The model thinks in this format. A backend that keeps reasoning apart holds only the answer to the constraint; what
   * others answer is split afterwards.
   */
  reasoning?: ReasoningFormat;
  /** Ask for logprobs; absent = none. */
  logprobs?: BackendLogprobs;
  tools?: readonly ToolDefinition[];
  /** `auto` when absent. */
  toolChoice?: "auto" | "none" | "required" | { name: string };
  /** false: deltas may come all at once at the end. */
  stream: boolean;
  /** Stops the work where it runs; the stream then throws `signal.reason`. */
  signal: AbortSignal;
}

export type BackendFinish = "stop" | "length" | "toolCalls" | "contentFilter";

/** `[logprob, token id (-1 where the API has none), text]`. */
export type BackendTokenLogprob = [logprob: number, tokenId: number, text: string];

export interface BackendUsage {
  promptTokens: number;
  completionTokens: number;
  /** Prompt tokens that came from a prefix cache; 0 where the backend does not tell. */
  cachedTokens: number;
  /** Of the completion tokens, those of thinking; absent where the backend does not tell. */
  reasoningTokens?: number;
}

/** A piece of one answer. Every answer ends with exactly one delta that has `finish`. */
export interface BackendDelta {
  /** Which of the n answers. */
  index: number;
  /** New text, "" when there is none. Never re-emits. */
  text: string;
  /** New reasoning text, for backends that keep it apart (`capabilities.reasoning`); when set, `text` is none of it. */
  reasoning?: string;
  tokenIds?: readonly number[];
  /** One entry per new token, when asked for. */
  logprobs?: readonly BackendTokenLogprob[];
  topLogprobs?: readonly (readonly BackendTokenLogprob[])[];
  /** Whole calls (never halves), as soon as they are complete; ids are always present. */
  toolCalls?: readonly ToolCall[];
  finish?: BackendFinish;
  /** The stop text or token that ended the answer, when known. */
  matched?: string | number;
  /** Of the whole request, not of this delta; at least once per request, with its last delta. */
  usage?: BackendUsage;
}

export interface BackendScoreRequest {
  prompt: BackendPrompt;
  /** Texts that could follow the prompt. Non-empty, each non-empty. */
  continuations: readonly string[];
  /** Also the logprobs of the same tokens without the prompt before them. */
  unconditional: boolean;
  signal: AbortSignal;
}

export interface BackendScore {
  /**
   * Logprobs of the tokens that spell the continuation, exact at the seam: prompt + continuation is tokenised as one
   * text, and the tokens start where its ids first differ from the prompt's own (`healedStart` in token-healing.ts).
   */
  tokens: readonly BackendTokenLogprob[];
  /** For `unconditional`: one value per entry of `tokens`, null where the model has none (the first token of a text). */
  unconditional?: readonly (number | null)[];
}

export interface BackendScoreResult {
  /** One per continuation, in order. */
  scores: readonly BackendScore[];
  usage: BackendUsage;
}

export type ConstraintType = BackendConstraint["type"];

/** What a backend can do, as data. Everything absent or false is refused by name before anything is sent. */
export interface BackendCapabilities {
  /** Raw text prompts, outside of any role. */
  text: boolean;
  /** Role turns. */
  chat: boolean;
  /** Chat prompts that end in the middle of the assistant's turn. */
  continueTurn: boolean;
  /** Kinds of constraint that the backend enforces exactly. */
  constraints: readonly ConstraintType[];
  /** Sampling parameters that the backend honours. */
  sampling: readonly (keyof SamplingParams)[];
  /** `score` works: logprobs of given continuations. */
  score: boolean;
  /** Logprobs of generated tokens. */
  logprobs: boolean;
  images: boolean;
  video: boolean;
  tools: boolean;
  /** Keeps reasoning apart from the answer (`BackendDelta.reasoning`). */
  reasoning: boolean;
  /** `prefixHint` does something: the prefix is computed and kept. */
  prefixHint: boolean;
}

export interface Backend {
  /** Shown in errors and traces: `engine(qwen2.5-coder-0.5b)`, `openai(gpt-4o-mini)`. */
  readonly name: string;
  /** Model that answers, when known. */
  readonly model?: string;
  readonly capabilities: BackendCapabilities;
  /**
   * Answers as they come, those of n > 1 interleaved. Nothing is sent before the first `next`; leaving the loop early
   * stops the work.
   * @throws BackendError when the request fails; `signal.reason` when aborted
   */
  generate(request: BackendGenerateRequest): AsyncIterable<BackendDelta>;
  /** Logprobs of continuations of one prompt, in one batch that shares it. Present when `capabilities.score`. */
  score?(request: BackendScoreRequest): Promise<BackendScoreResult>;
  /** Computes and keeps the prompt's prefix, before many requests that start with it. Present when `capabilities.prefixHint`. */
  prefixHint?(prompt: BackendPrompt, signal: AbortSignal): Promise<void>;
  /** Tokens of a text, where the backend can tell; rate limits estimate 4 characters per token elsewhere. */
  countTokens?(text: string): number;
  /** Empties the prefix cache; false when it was busy. */
  flushCache?(): Promise<boolean>;
  /** Frees what the backend itself opened (never an engine that was handed in). */
  close?(): Promise<void>;
}

/** Every sampling parameter, for backends that pass all of them on. */
export const ALL_SAMPLING: readonly (keyof SamplingParams)[] = [
  "maxNewTokens",
  "minNewTokens",
  "stop",
  "stopTokenIds",
  "stopRegex",
  "temperature",
  "topP",
  "topK",
  "minP",
  "frequencyPenalty",
  "presencePenalty",
  "repetitionPenalty",
  "n",
  "ignoreEos",
  "skipSpecialTokens",
  "spacesBetweenSpecialTokens",
  "noStopTrim",
  "logitBias",
  "seed",
];

function requirePrompt({ name, capabilities }: Backend, prompt: BackendPrompt): void {
  if (prompt.type === "text" && !capabilities.text) {
    throw new CapabilityError(name, "text", "it takes role turns only; put the text in s.user and gen in s.assistant.");
  }
  if (prompt.type === "chat") {
    if (!capabilities.chat) throw new CapabilityError(name, "chat", "it takes raw text only; write it with s.text.");
    if (prompt.continueFinal && !capabilities.continueTurn) {
      throw new CapabilityError(
        name,
        "continueTurn",
        "gen must come first in the assistant's turn, with no text before it.",
      );
    }
  }
  const parts = prompt.type === "text" ? prompt.parts : prompt.messages.flatMap((message) => message.content);
  if (!capabilities.images && parts.some((part) => part.type === "image")) {
    throw new CapabilityError(name, "images", "the prompt has an image; use a backend with a vision model.");
  }
  if (!capabilities.video && parts.some((part) => part.type === "video")) {
    throw new CapabilityError(name, "video", "the prompt has a video; use a backend whose model takes video.");
  }
}

/** @throws CapabilityError for the first thing in `request` that `backend` did not declare */
export function requireGenerate(backend: Backend, request: BackendGenerateRequest): void {
  const { name, capabilities } = backend;
  requirePrompt(backend, request.prompt);
  const { constraint } = request;
  if (constraint && !capabilities.constraints.includes(constraint.type)) {
    const known = capabilities.constraints.length === 0 ? "none" : capabilities.constraints.join(", ");
    throw new CapabilityError(name, `constraints.${constraint.type}`, `it cannot enforce one; it enforces ${known}.`);
  }
  for (const [key, value] of Object.entries(request.sampling)) {
    if (value === undefined || capabilities.sampling.includes(key as keyof SamplingParams)) continue;
    throw new CapabilityError(
      name,
      `sampling.${key}`,
      `it would ignore the value ${JSON.stringify(value)}; leave it out.`,
    );
  }
  if (request.logprobs && !capabilities.logprobs) {
    throw new CapabilityError(name, "logprobs", "it does not return logprobs of generated tokens.");
  }
  if (constraint && request.reasoning && !capabilities.reasoning) {
    throw new CapabilityError(
      name,
      "reasoning",
      "it would hold the thinking to the constraint too; leave out separateReasoning, or the constraint.",
    );
  }
  if (request.tools && request.tools.length > 0 && !capabilities.tools) {
    throw new CapabilityError(name, "tools", "it does not take tool definitions.");
  }
}

/** @throws CapabilityError when `backend` cannot score continuations of this prompt */
export function requireScore(
  backend: Backend,
  request: BackendScoreRequest,
): asserts backend is Backend & { score: NonNullable<Backend["score"]> } {
  if (!backend.capabilities.score || !backend.score) {
    throw new CapabilityError(
      backend.name,
      "score",
      "it returns no logprobs of given texts, which select with a choices method compares.",
    );
  }
  requirePrompt(backend, request.prompt);
}
