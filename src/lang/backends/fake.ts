/**
 * A backend that says what a script says: for tests of programs, and of the language itself.
 *
 *     const backend = new FakeBackend({ answers: ["Paris", { text: "42", finish: "length" }] });
 *     const backend = new FakeBackend({ answers: (request) => promptOf(request).toUpperCase() });
 *
 * A token is a word with the space before it. Stop texts, `maxNewTokens`, `n`, logprobs, usage and abort behave as on a
 * real backend, and what is asked is kept in `requests`.
 */
import { SglangError } from "../../core/errors.js";
import type { ToolCall } from "../../core/protocol.js";
import { partsText } from "../transcript.js";
import {
  ALL_SAMPLING,
  type Backend,
  type BackendCapabilities,
  type BackendDelta,
  type BackendFinish,
  type BackendGenerateRequest,
  type BackendPrompt,
  type BackendScoreRequest,
  type BackendScoreResult,
  type BackendTokenLogprob,
  requireGenerate,
  requireScore,
} from "./backend.js";

export interface FakeAnswer {
  text?: string;
  reasoning?: string;
  toolCalls?: readonly { name: string; arguments: Record<string, unknown>; id?: string }[];
  /** @default "length" when cut by maxNewTokens, "toolCalls" with calls, else "stop" */
  finish?: BackendFinish;
  /** Thrown instead of an answer. */
  error?: unknown;
}

export type FakeScript =
  | readonly (string | FakeAnswer)[]
  | ((request: BackendGenerateRequest, index: number) => string | FakeAnswer | Promise<string | FakeAnswer>);

export interface FakeOptions {
  /** Answers in the order of the requests, or what to answer to a request. With n > 1, `index` counts the answers. */
  answers?: FakeScript;
  /** Logprobs of a continuation's tokens; `prompt` is null for the unconditional ones. @default by length: shorter is likelier */
  scores?: (continuation: string, prompt: string | null) => readonly number[];
  capabilities?: Partial<BackendCapabilities>;
  name?: string;
  model?: string;
  /** Milliseconds before each piece. @default 0: no timer at all */
  delayMs?: number;
  /** Keep prompts, and report what a prefix cache would have saved. @default false */
  cache?: boolean;
  /** Keep `requests`. Turn off for very many. @default true */
  record?: boolean;
}

/** All text of a prompt: raw, or `role: text` lines. */
export function promptOf({ prompt }: { prompt: BackendPrompt }): string {
  if (prompt.type === "text") return partsText(prompt.parts);
  const lines = prompt.messages.map(({ role, content }) => `${role}: ${partsText(content)}`);
  return prompt.continueFinal ? lines.join("\n") : [...lines, "assistant: "].join("\n");
}

function tokensOf(text: string): string[] {
  return text.match(/\s*\S+|\s+$/g) ?? [];
}

/** A stable id for a token's text. */
function tokenId(token: string): number {
  let hash = 0;
  for (let index = 0; index < token.length; index++) hash = (hash * 31 + token.charCodeAt(index)) & 0x7fff;
  return hash;
}

const ALL: BackendCapabilities = {
  text: true,
  chat: true,
  continueTurn: true,
  constraints: ["regex", "jsonSchema", "ebnf", "choices"],
  sampling: ALL_SAMPLING,
  score: true,
  logprobs: true,
  images: true,
  video: true,
  tools: true,
  reasoning: true,
  prefixHint: true,
};

export class FakeBackend implements Backend {
  readonly name: string;
  readonly model: string;
  readonly capabilities: BackendCapabilities;
  /** What was asked to generate, in order. */
  readonly requests: BackendGenerateRequest[] = [];
  readonly scored: BackendScoreRequest[] = [];
  readonly hints: BackendPrompt[] = [];
  /** Requests that are being answered now, and the most at any time. */
  running = 0;
  maxRunning = 0;
  /** Requests that were aborted while they ran. */
  aborted = 0;
  readonly #options: FakeOptions;
  #asked = 0;
  #cached: string[] = [];

  constructor(options: FakeOptions = {}) {
    this.#options = options;
    this.name = options.name ?? "fake";
    this.model = options.model ?? "fake-model";
    this.capabilities = { ...ALL, ...options.capabilities };
  }

  async *generate(request: BackendGenerateRequest): AsyncGenerator<BackendDelta> {
    requireGenerate(this, request);
    const { signal, sampling } = request;
    signal.throwIfAborted();
    if (this.#options.record !== false) this.requests.push(request);
    this.running++;
    this.maxRunning = Math.max(this.maxRunning, this.running);
    try {
      const prompt = promptOf(request);
      const promptTokens = tokensOf(prompt).length;
      const cachedTokens = this.#remember(prompt);
      let completionTokens = 0;
      const count = sampling.n ?? 1;
      for (let index = 0; index < count; index++) {
        const answer = await this.#answer(request, this.#asked++, index);
        if (answer.error !== undefined) throw answer.error;
        const cut = cutAnswer(answer, request);
        completionTokens += cut.tokens.length;
        const usage = { promptTokens, completionTokens, cachedTokens };
        if (answer.reasoning) yield { index, text: "", reasoning: answer.reasoning };
        const pieces = request.stream ? cut.tokens.map((token) => [token]) : [cut.tokens];
        for (const piece of pieces) {
          await this.#pause(signal);
          yield { index, text: piece.join(""), tokenIds: piece.map(tokenId), ...logprobsOf(piece, request) };
        }
        await this.#pause(signal);
        const toolCalls: ToolCall[] | undefined = answer.toolCalls?.map((call, at) => ({
          id: call.id ?? `call_${this.#asked}_${at}`,
          type: "function",
          function: { name: call.name, arguments: JSON.stringify(call.arguments) },
        }));
        yield {
          index,
          text: "",
          finish: answer.finish ?? (toolCalls ? "toolCalls" : cut.finish),
          ...(cut.matched === undefined ? {} : { matched: cut.matched }),
          ...(toolCalls ? { toolCalls } : {}),
          usage,
        };
      }
    } catch (error) {
      if (signal.aborted) this.aborted++;
      throw error;
    } finally {
      this.running--;
    }
  }

  async score(request: BackendScoreRequest): Promise<BackendScoreResult> {
    requireScore(this, request);
    request.signal.throwIfAborted();
    if (this.#options.record !== false) this.scored.push(request);
    const prompt = promptOf(request);
    const score =
      this.#options.scores ?? ((continuation: string) => tokensOf(continuation).map(() => -continuation.length));
    const cachedTokens = this.#remember(prompt);
    await this.#pause(request.signal);
    return {
      scores: request.continuations.map((continuation) => ({
        tokens: score(continuation, prompt).map((logprob, at): BackendTokenLogprob => {
          const token = tokensOf(continuation)[at] ?? "";
          return [logprob, tokenId(token), token];
        }),
        ...(request.unconditional ? { unconditional: score(continuation, null) } : {}),
      })),
      usage: { promptTokens: tokensOf(prompt).length, completionTokens: 0, cachedTokens },
    };
  }

  async prefixHint(prompt: BackendPrompt, signal: AbortSignal): Promise<void> {
    this.hints.push(prompt);
    await this.#pause(signal);
    const text = promptOf({ prompt });
    this.#remember(text.endsWith("\nassistant: ") ? text.slice(0, -"\nassistant: ".length) : text);
  }

  async flushCache(): Promise<boolean> {
    this.#cached = [];
    return true;
  }

  async #answer(request: BackendGenerateRequest, asked: number, index: number): Promise<FakeAnswer> {
    const { answers = [""] } = this.#options;
    if (typeof answers === "function") {
      const answer = await answers(request, index);
      return typeof answer === "string" ? { text: answer } : answer;
    }
    if (asked >= answers.length) {
      throw new SglangError(
        "INVALID_REQUEST",
        `The script of ${this.name} has ${answers.length} answers, and one more was asked for.`,
      );
    }
    const answer = answers[asked];
    return typeof answer === "string" ? { text: answer } : answer;
  }

  /** Tokens of `prompt` that an earlier prompt began with. */
  #remember(prompt: string): number {
    if (!this.#options.cache) return 0;
    let longest = 0;
    for (const earlier of this.#cached) {
      let shared = 0;
      while (shared < prompt.length && shared < earlier.length && prompt[shared] === earlier[shared]) shared++;
      longest = Math.max(longest, shared);
    }
    this.#cached.push(prompt);
    return tokensOf(prompt.slice(0, longest)).length;
  }

  #pause(signal: AbortSignal): Promise<void> | undefined {
    const { delayMs = 0 } = this.#options;
    signal.throwIfAborted();
    if (delayMs === 0) return undefined;
    return new Promise((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer);
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        signal.removeEventListener("abort", stop);
        resolve();
      }, delayMs);
      signal.addEventListener("abort", stop, { once: true });
    });
  }
}

interface Cut {
  tokens: string[];
  finish: BackendFinish;
  matched?: string;
}

/** What is left of an answer after stop texts and the token limit. */
function cutAnswer({ text = "" }: FakeAnswer, { sampling }: BackendGenerateRequest): Cut {
  const stops = (sampling.stop ?? []).map((stop) => ({ stop, at: text.indexOf(stop) })).filter(({ at }) => at >= 0);
  const [first] = stops.sort((a, b) => a.at - b.at);
  const end = first ? first.at + (sampling.noStopTrim ? first.stop.length : 0) : text.length;
  const tokens = tokensOf(text.slice(0, end));
  const limit = sampling.maxNewTokens;
  if (limit != null && tokens.length > limit) return { tokens: tokens.slice(0, limit), finish: "length" };
  return { tokens, finish: "stop", ...(first ? { matched: first.stop } : {}) };
}

function logprobsOf(tokens: readonly string[], { logprobs }: BackendGenerateRequest): Partial<BackendDelta> {
  if (!logprobs) return {};
  const entries = tokens.map((token): BackendTokenLogprob => [-0.5, tokenId(token), token]);
  const top = entries.map((entry) =>
    Array.from({ length: logprobs.top }, (_, at): BackendTokenLogprob => [entry[0] - at, entry[1] + at, entry[2]]),
  );
  return { logprobs: entries, topLogprobs: top };
}
