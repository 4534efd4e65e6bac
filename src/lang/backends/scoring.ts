/**
 * `score` over a server that tells token ids of texts and logprobs of prompts: exact at the seam, because prompt and
 * continuation are tokenised as one text and compared by ids.
 */
import { BackendError } from "../errors.js";
import { healedStart } from "../token-healing.js";
import type {
  BackendPrompt,
  BackendScoreRequest,
  BackendScoreResult,
  BackendTokenLogprob,
  BackendUsage,
  PromptMessage,
} from "./backend.js";
import { textOf } from "./parts.js";
import { addUsage } from "./usage.js";

export interface InputLogprobs {
  /** Of the last prompt positions, the wanted ones among them; null where the server gives none. */
  tokens: readonly (readonly [logprob: number | null, tokenId: number, text: string])[];
  usage: BackendUsage;
}

/** The error of a continuation that begins at the first token of all. */
export function nothingBefore(backend: string, continuation: string): BackendError {
  const text = JSON.stringify(continuation);
  const message = `${backend} cannot score ${text} without a token before it; begin the prompt with some text.`;
  return new BackendError("INVALID_REQUEST", message, { backend });
}

/** What a server must be able to answer. */
export interface ScoringServer {
  /** Of the backend. */
  readonly name: string;
  /** @param special add the special tokens that begin a text */
  tokenize(texts: readonly string[], special: boolean, signal: AbortSignal): Promise<number[][]>;
  /** The turns as the model reads them, up to where the assistant's next text begins. */
  render(messages: readonly PromptMessage[], signal: AbortSignal): Promise<string>;
  /** Computes and keeps a prompt. */
  prefill(ids: readonly number[], signal: AbortSignal): Promise<BackendUsage>;
  /** In one batch: logprobs of each item's tokens from position `start` on, at least. */
  inputLogprobs(
    items: readonly { ids: readonly number[]; start: number }[],
    signal: AbortSignal,
  ): Promise<InputLogprobs[]>;
  protocolError(what: string): BackendError;
}

/** A prompt as raw text; `special`: it lacks the special tokens that begin a text. */
export async function rawPrompt(
  server: ScoringServer,
  prompt: BackendPrompt,
  signal: AbortSignal,
): Promise<{ text: string; special: boolean }> {
  if (prompt.type === "text") return { text: textOf(prompt.parts), special: true };
  const { messages, continueFinal } = prompt;
  if (!continueFinal) return { text: await server.render(messages, signal), special: false };
  const begun = textOf(messages.at(-1)?.content ?? []);
  return { text: (await server.render(messages.slice(0, -1), signal)) + begun, special: false };
}

/** Computes the prompt once, then all continuations in one batch that shares it. */
export async function scoreByTokens(server: ScoringServer, request: BackendScoreRequest): Promise<BackendScoreResult> {
  const { prompt, continuations, unconditional, signal } = request;
  const { text, special } = await rawPrompt(server, prompt, signal);
  const texts = [text, ...continuations.map((continuation) => text + continuation)];
  const [promptIds, ...fulls] = await server.tokenize(texts, special, signal);
  const usages = promptIds.length > 0 ? [await server.prefill(promptIds, signal)] : [];
  const seams = fulls.map((ids) => healedStart(promptIds, ids));
  const first = seams.indexOf(0);
  if (first >= 0) {
    throw nothingBefore(server.name, continuations[first]);
  }
  const results = await server.inputLogprobs(
    fulls.map((ids, i) => ({ ids, start: seams[i] })),
    signal,
  );
  usages.push(...results.map(({ usage }) => usage));
  const tokens = results.map((result, i) => lastTokens(server, result, fulls[i].slice(seams[i])));
  if (!unconditional) return { scores: tokens.map((list) => ({ tokens: list })), usage: usages.reduce(addUsage) };

  const items = fulls.map((ids, i) => ({ ids: ids.slice(seams[i]), start: 0 }));
  const alone = await server.inputLogprobs(items, signal);
  usages.push(...alone.map(({ usage }) => usage));
  return {
    scores: tokens.map((list, i) => ({
      tokens: list,
      unconditional: alone[i].tokens.slice(-list.length).map(([logprob]) => logprob),
    })),
    usage: usages.reduce(addUsage),
  };
}

/** The entries of the continuation: the last ones, whatever position the server began at. */
function lastTokens(server: ScoringServer, { tokens }: InputLogprobs, ids: readonly number[]): BackendTokenLogprob[] {
  const last = tokens.slice(-ids.length);
  return ids.map((id, i) => {
    const entry = last[i];
    if (entry && entry[1] === id && entry[0] !== null) return [entry[0], id, entry[2]];
    const found = entry ? `logprob ${entry[0]} of token ${entry[1]}` : "no entry";
    throw server.protocolError(`${found} where the logprob of prompt token ${id} was asked for`);
  });
}
