/** Chunks of one answer -> the body SGLang's /generate replies with. */
import type { ChunkLogprobs, FinishReason, GenerateChunk, TokenLogprob } from "../core/protocol.js";

export interface ReplyOptions {
  weightVersion: string;
  /** Put token texts into logprob items; null otherwise. */
  textInLogprobs: boolean;
  returnPromptTokenIds: boolean;
  /** Likeliest tokens were asked for. */
  top: boolean;
  /** Logprobs of given token ids were asked for. */
  tokenIds: boolean;
  /** Streaming: bodies carry what is new instead of everything so far. */
  incremental: boolean;
}

type Position = TokenLogprob[] | null;

/** Collects one answer: `add` takes a chunk, `body` is the reply as of then. */
export class NativeAnswer {
  readonly #options: ReplyOptions;
  #text = "";
  #ids: number[] = [];
  #logprobs: ChunkLogprobs | undefined;
  #promptTokenIds: readonly number[] | undefined;
  /** Output positions with logprobs so far. */
  #positions = 0;
  last: GenerateChunk | null = null;

  constructor(options: ReplyOptions) {
    this.#options = options;
  }

  add(chunk: GenerateChunk): void {
    if (this.#options.incremental && this.last) {
      this.#text = "";
      this.#ids = [];
      if (this.#logprobs) this.#logprobs = { ...this.#logprobs, output: [], outputTop: [], outputTokenIds: [] };
    }
    this.last = chunk;
    this.#text += chunk.textDelta;
    for (const id of chunk.tokenIdsDelta) this.#ids.push(id);
    this.#promptTokenIds ??= chunk.promptTokenIds;
    if (chunk.logprobs) this.#addLogprobs(chunk.logprobs);
  }

  /** The body as of the last chunk. Only after a first `add`. */
  body(): Record<string, unknown> {
    const { last } = this;
    if (!last) throw new Error("an answer has no body before its first chunk");
    const { usage, timing } = last;
    return {
      text: this.#text,
      output_ids: this.#ids,
      ...(this.#options.returnPromptTokenIds && { prompt_token_ids: this.#promptTokenIds ?? null }),
      meta_info: {
        id: last.rid,
        finish_reason: wireFinishReason(last.finishReason),
        prompt_tokens: usage.promptTokens,
        weight_version: this.#options.weightVersion,
        num_retractions: timing.retractions,
        completion_tokens: usage.completionTokens,
        cached_tokens: usage.cachedTokens,
        ...(usage.reasoningTokens !== undefined && { reasoning_tokens: usage.reasoningTokens }),
        ...(usage.cachedTokensDetails && { cached_tokens_details: usage.cachedTokensDetails }),
        ...(last.finishReason && { e2e_latency: timing.totalMs / 1000 }),
        ...this.#logprobFields(),
      },
    };
  }

  #addLogprobs(fresh: ChunkLogprobs): void {
    this.#positions += fresh.output.length;
    const all = this.#logprobs;
    this.#logprobs = all
      ? {
          output: append(all.output, fresh.output),
          outputTop: append(all.outputTop, fresh.outputTop),
          outputTokenIds: append(all.outputTokenIds, fresh.outputTokenIds),
          input: all.input ?? fresh.input,
          inputTop: all.inputTop ?? fresh.inputTop,
          inputTokenIds: all.inputTokenIds ?? fresh.inputTokenIds,
        }
      : {
          ...fresh,
          output: [...fresh.output],
          outputTop: [...fresh.outputTop],
          outputTokenIds: [...fresh.outputTokenIds],
        };
  }

  #logprobFields(): Record<string, unknown> {
    const all = this.#logprobs;
    if (!all) return {};
    const { textInLogprobs, top, tokenIds } = this.#options;
    const item = ([logprob, id, text]: TokenLogprob) => [logprob, id, textInLogprobs ? text : null];
    const position = (list: Position) => list?.map(item) ?? null;
    return {
      input_token_logprobs: (all.input ?? []).map(item),
      output_token_logprobs: all.output.map(item),
      output_token_logprobs_length: this.#positions,
      ...(top && {
        input_top_logprobs: (all.inputTop ?? []).map(position),
        output_top_logprobs: all.outputTop.map(position),
      }),
      ...(tokenIds && {
        input_token_ids_logprobs: (all.inputTokenIds ?? []).map(position),
        output_token_ids_logprobs: all.outputTokenIds.map(position),
      }),
    };
  }
}

function append<T>(list: T[], more: readonly T[]): T[] {
  for (const entry of more) list.push(entry);
  return list;
}

/** `statusCode` -> `status_code`; null while running. */
export function wireFinishReason(reason: FinishReason | null): Record<string, unknown> | null {
  if (reason?.type !== "abort") return reason;
  const { type, message, statusCode } = reason;
  return { type, message, ...(statusCode !== undefined && { status_code: statusCode }) };
}
