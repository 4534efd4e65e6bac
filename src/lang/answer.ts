/** Deltas of one request gathered into answers, one per `n`. */
import type { ToolCall } from "../core/protocol.js";
import { type ReasoningFormat, ReasoningSplitter } from "../core/reasoning.js";
import type { BackendDelta, BackendFinish, BackendTokenLogprob, BackendUsage } from "./backends/backend.js";
import { BackendError } from "./errors.js";

export interface Answer {
  text: string;
  reasoning: string;
  finish: BackendFinish | null;
  matched?: string | number;
  tokenIds: number[];
  logprobs: BackendTokenLogprob[];
  topLogprobs: (readonly BackendTokenLogprob[])[];
  toolCalls: ToolCall[];
}

export interface Answers {
  answers: Answer[];
  usage: BackendUsage;
  firstTextMs: number;
}

const NO_USAGE: BackendUsage = { promptTokens: 0, completionTokens: 0, cachedTokens: 0 };

function emptyAnswer(): Answer {
  return { text: "", reasoning: "", finish: null, tokenIds: [], logprobs: [], topLogprobs: [], toolCalls: [] };
}

/**
 * Reads a stream to its end.
 * @param count answers that were asked for
 * @param show gets what the first answer says, as it comes
 * @throws BackendError when an answer never ends
 */
export async function gatherAnswers(
  deltas: AsyncIterable<BackendDelta>,
  count: number,
  backend: string,
  format: ReasoningFormat | undefined,
  show: ((piece: { text: string; reasoning: string }) => void) | undefined,
): Promise<Answers> {
  const answers = Array.from({ length: count }, emptyAnswer);
  const splitters = format ? answers.map(() => new ReasoningSplitter(format)) : undefined;
  const apart = new Set<number>();
  let usage = NO_USAGE;
  let firstTextMs = 0;
  const add = (index: number, text: string, reasoning: string) => {
    if (text === "" && reasoning === "") return;
    if (firstTextMs === 0) firstTextMs = performance.now();
    answers[index].text += text;
    answers[index].reasoning += reasoning;
    if (index === 0) show?.({ text, reasoning });
  };
  for await (const delta of deltas) {
    const answer = answers[delta.index];
    if (!answer) {
      throw new BackendError("ENGINE_FAILED", `Backend ${backend} sent answer ${delta.index} of ${count}.`, {
        backend,
      });
    }
    // A backend that keeps reasoning apart has nothing left to split.
    if (delta.reasoning !== undefined) apart.add(delta.index);
    if (splitters && !apart.has(delta.index)) {
      const split = splitters[delta.index].push(delta.text);
      add(delta.index, split.text, split.reasoning);
      if (delta.finish) {
        const rest = splitters[delta.index].finish();
        add(delta.index, rest.text, rest.reasoning);
      }
    } else {
      add(delta.index, delta.text, delta.reasoning ?? "");
    }
    if (delta.tokenIds) answer.tokenIds.push(...delta.tokenIds);
    if (delta.logprobs) answer.logprobs.push(...delta.logprobs);
    if (delta.topLogprobs) answer.topLogprobs.push(...delta.topLogprobs);
    if (delta.toolCalls) answer.toolCalls.push(...delta.toolCalls);
    if (delta.matched !== undefined) answer.matched = delta.matched;
    if (delta.finish) answer.finish = delta.finish;
    if (delta.usage) usage = delta.usage;
  }
  const open = answers.findIndex((answer) => answer.finish === null);
  if (open >= 0) {
    throw new BackendError("ENGINE_FAILED", `Backend ${backend} ended the stream before answer ${open} was complete.`, {
      backend,
      retryable: true,
    });
  }
  return { answers, usage, firstTextMs };
}
