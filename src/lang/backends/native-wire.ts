/** Replies of SGLang's native /generate: whole ones and event streams to deltas. */
import type { BackendDelta, BackendTokenLogprob, BackendUsage } from "./backend.js";
import type { HttpClient } from "./http.js";
import type { InputLogprobs } from "./scoring.js";
import type { SseEvent } from "./sse.js";
import { UsageSum } from "./usage.js";

type WireLogprob = [logprob: number | null, tokenId: number, text: string | null];

/** What is read of a reply, or of one event. */
export interface NativeReply {
  text?: string;
  output_ids?: number[];
  /** Events of a batch or of n > 1. */
  index?: number;
  meta_info?: NativeMeta;
  error?: { message?: string; code?: unknown } | string;
}
interface NativeMeta {
  finish_reason?: NativeFinish | null;
  prompt_tokens?: number;
  completion_tokens?: number;
  cached_tokens?: number;
  input_token_logprobs?: WireLogprob[];
  output_token_logprobs?: WireLogprob[];
  output_top_logprobs?: (WireLogprob[] | null)[];
}
interface NativeFinish {
  type: string;
  matched?: string | number | null;
  message?: string;
  status_code?: number;
}

const PATH = "/generate";

export function nativeUsage({ meta_info = {} }: NativeReply): BackendUsage {
  return {
    promptTokens: meta_info.prompt_tokens ?? 0,
    completionTokens: meta_info.completion_tokens ?? 0,
    cachedTokens: meta_info.cached_tokens ?? 0,
  };
}

export function nativeInputLogprobs(reply: NativeReply): InputLogprobs {
  const tokens = reply.meta_info?.input_token_logprobs ?? [];
  return { tokens: tokens.map(([logprob, id, text]) => [logprob, id, text ?? ""]), usage: nativeUsage(reply) };
}

/** Reads the replies of one request. */
export class NativeReader {
  readonly #client: HttpClient;
  readonly #answers: readonly NativeAnswer[];
  readonly #usages = new UsageSum();

  /** @param answers how many answers were asked for */
  constructor(client: HttpClient, answers: number) {
    this.#client = client;
    this.#answers = Array.from({ length: answers }, () => new NativeAnswer());
  }

  /** @throws BackendError when the reply reports an error, or lacks an answer */
  *whole(reply: unknown): Generator<BackendDelta, void, undefined> {
    for (const [index, one] of (Array.isArray(reply) ? reply : [reply]).entries())
      yield this.#read({ ...(one as NativeReply), index });
    this.#checkEnd();
  }

  /** @throws BackendError when an event reports an error, or the stream ends before the answers do */
  async *stream(events: AsyncIterable<SseEvent>): AsyncGenerator<BackendDelta, void, undefined> {
    for await (const { data } of events) {
      if (data === "[DONE]") break;
      const delta = this.#read(this.#parse(data));
      if (delta.text !== "" || delta.tokenIds?.length || delta.finish) yield delta;
    }
    this.#checkEnd();
  }

  #parse(data: string): NativeReply {
    try {
      return JSON.parse(data) as NativeReply;
    } catch (cause) {
      throw this.#client.protocolError(PATH, `an event that is not JSON: ${data.slice(0, 200)}`, { cause });
    }
  }

  #read(reply: NativeReply): BackendDelta {
    const { error, index = 0, meta_info } = reply;
    if (error)
      throw this.#client.reportedError(PATH, (typeof error === "string" ? error : error.message) ?? "no reason");
    const answer = this.#answers[index];
    if (!answer || !meta_info)
      throw this.#client.protocolError(PATH, answer ? "no meta_info" : `answer ${index} of ${this.#answers.length}`);
    this.#usages.set(index, nativeUsage(reply));
    const delta = answer.read(index, reply, meta_info);
    const { finish_reason } = meta_info;
    if (!finish_reason) return delta;
    if (finish_reason.type === "abort")
      throw this.#client.reportedError(PATH, finish_reason.message ?? "aborted", finish_reason.status_code);
    answer.finished = true;
    delta.finish = finish_reason.type === "length" ? "length" : "stop";
    if (finish_reason.matched !== null && finish_reason.matched !== undefined) delta.matched = finish_reason.matched;
    delta.usage = this.#usages.total();
    return delta;
  }

  #checkEnd(): void {
    const missing = this.#answers.findIndex(({ finished }) => !finished);
    if (missing >= 0) throw this.#client.protocolError(PATH, `a reply that ends before answer ${missing} is complete`);
  }
}

/** How much of one answer was read. */
class NativeAnswer {
  finished = false;
  #chars = 0;
  #ids = 0;
  #logprobs = 0;

  read(index: number, { text = "", output_ids = [] }: NativeReply, meta: NativeMeta): BackendDelta {
    const { output_token_logprobs: logprobs, output_top_logprobs: top } = meta;
    // Events carry everything so far, unless the server was started with --incremental-streaming-output.
    const cumulative = output_ids.length === 0 || output_ids.length >= (meta.completion_tokens ?? 0);
    const fresh = <T>(list: readonly T[], seen: number) => (cumulative ? list.slice(seen) : list);
    const delta: BackendDelta = { index, text: cumulative ? text.slice(this.#chars) : text };
    delta.tokenIds = fresh(output_ids, this.#ids);
    if (logprobs) delta.logprobs = fresh(logprobs, this.#logprobs).map(item);
    if (top) delta.topLogprobs = fresh(top, this.#logprobs).map((list) => (list ?? []).map(item));
    this.#chars += delta.text.length;
    this.#ids += delta.tokenIds.length;
    this.#logprobs += delta.logprobs?.length ?? 0;
    return delta;
  }
}

const item = ([logprob, id, text]: WireLogprob): BackendTokenLogprob => [logprob ?? 0, id, text ?? ""];
