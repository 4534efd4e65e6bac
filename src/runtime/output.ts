/**
 * Rows to chunks: detokenise, find stops, decide why an answer ends, gather logprobs, count.
 *
 * When an answer ends (SGLang's order, with one difference): a stop string or pattern in the new text; else maxNewTokens
 * reached (`length`, also when that last token is an end token); else an end token. SGLang puts `length` first; here a stop
 * text that the very last token completes is trimmed too, so that it never shows.
 */
import { SglangError } from "../core/errors.js";
import type { ChunkLogprobs, FinishReason, GenerateChunk, TokenLogprob } from "../core/protocol.js";
import type { Detokenizer, Tokenizer } from "../tokenizer/tokenizer.js";
import type { RowOutput } from "./batch.js";
import type { Req, ReqOutput } from "./request.js";
import type { StopMatcher } from "./stop-matcher.js";
import type { AnswerThinking } from "./thinking.js";

/** Ids of padding rows have no token. */
const NO_BYTES = new Uint8Array();

/** Text of single tokens, for logprobs. Remembered: likely tokens come again and again. */
export class TokenTexts {
  readonly #tokenizer: Tokenizer;
  readonly #texts = new Map<number, string>();

  constructor(tokenizer: Tokenizer) {
    this.#tokenizer = tokenizer;
  }

  bytes(id: number): Uint8Array {
    return id < this.#tokenizer.vocabSize ? this.#tokenizer.tokenBytes(id) : NO_BYTES;
  }

  get(id: number): string {
    let text = this.#texts.get(id);
    if (text === undefined) {
      text = Buffer.from(this.bytes(id)).toString("utf8");
      this.#texts.set(id, text);
    }
    return text;
  }
}

export interface AnswerOptions {
  /** Which of the n answers. */
  index: number;
  detokenizer: Detokenizer;
  stops: StopMatcher;
  texts: TokenTexts;
  /** null: the request did not ask; all is answer. */
  thinking: AnswerThinking | null;
  /** false: one chunk, at the end. */
  stream: boolean;
  /** Tokens per chunk. */
  streamInterval: number;
  emit: (chunk: GenerateChunk) => void;
  /** Called once, after the last chunk or with the error. */
  end: (error: Error | null) => void;
}

/** One answer of a generate request. */
export class AnswerOutput implements ReqOutput {
  readonly #options: AnswerOptions;
  #text = "";
  /** Tokens pushed. */
  #count = 0;
  #newIds: number[] = [];
  /** Ids not given to the detokenizer yet: without streaming and stops, all of them wait for the end. */
  #undecoded: number[] = [];
  #logprobs: ChunkLogprobs | null = null;
  #stopped = false;
  #emitted = false;

  constructor(options: AnswerOptions) {
    this.#options = options;
  }

  pushInput(req: Req, position: number, row: RowOutput): void {
    const logprobs = this.#chunkLogprobs(req);
    logprobs.input?.push(this.#entry(row.logprob, req.ids[position]));
    logprobs.inputTop?.push(this.#top(row));
    logprobs.inputTokenIds?.push(this.#wanted(req, row));
  }

  pushToken(req: Req, row: RowOutput, count: number): FinishReason | null {
    const { id } = row;
    const { params } = req;
    this.#count = count;
    req.firstTokenAt ??= performance.now();
    this.#newIds.push(id);
    this.#options.thinking?.push(this.#options.texts.bytes(id));
    if (req.topLogprobs >= 0) {
      const logprobs = this.#chunkLogprobs(req);
      logprobs.output.push(this.#entry(row.logprob, id));
      if (req.topLogprobs > 0) logprobs.outputTop.push(this.#top(row));
      if (req.wantedIds.length > 0) logprobs.outputTokenIds.push(this.#wanted(req, row));
    }

    const isLast = count >= req.maxNewTokens;
    const isStop = !isLast && req.stopIds.has(id);
    if (!isStop || params.noStopTrim) this.#undecoded.push(id);
    const { stream, stops, streamInterval } = this.#options;
    const isDue = stream && (count === 1 || count % streamInterval === 0);
    if (isDue || stops.active) {
      try {
        const matched = this.#decode(count >= params.minNewTokens);
        if (matched !== null) return { type: "stop", matched };
      } catch (error) {
        if (!SglangError.isInstance(error)) throw error;
        return { type: "abort", message: error.message, statusCode: error.status };
      }
    }
    if (isLast) return { type: "length", length: count };
    if (isStop) return { type: "stop", matched: id };
    if (isDue) this.#emit(req, null);
    return null;
  }

  pushProbe(): void {
    throw new Error("A generate request has no probe.");
  }

  finish(req: Req, reason: FinishReason): void {
    let final = reason;
    if (!this.#stopped) {
      const matched = this.#decode(reason.type !== "abort" && req.outputLength >= req.params.minNewTokens, true);
      if (matched === null) this.#text += this.#options.stops.flush();
      else final = { type: "stop", matched };
    }
    this.#emit(req, final);
    this.#options.end(null);
  }

  fail(error: Error): void {
    this.#options.end(error);
  }

  /** Decodes what is new and looks for stops in it; returns the stop that was found. */
  #decode(mayStop: boolean, flush = false): string | null {
    const { detokenizer, stops } = this.#options;
    let text = this.#undecoded.length > 0 ? detokenizer.push(this.#undecoded) : "";
    this.#undecoded = [];
    if (flush) text += detokenizer.flush();
    const found = stops.push(text, mayStop);
    this.#text += found.text;
    if (found.matched !== null) this.#stopped = true;
    return found.matched;
  }

  #emit(req: Req, finishReason: FinishReason | null): void {
    const { thinking } = this.#options;
    const now = performance.now();
    const since = (time: number | null) => (time === null ? null : time - req.receivedAt);
    const chunk: GenerateChunk = {
      rid: req.rid,
      index: this.#options.index,
      ...(thinking?.split(this.#text, finishReason !== null) ?? { textDelta: this.#text }),
      tokenIdsDelta: this.#newIds,
      finishReason,
      usage: {
        promptTokens: req.promptLength,
        completionTokens: this.#count,
        cachedTokens: req.cachedTokens ?? 0,
        cachedTokensDetails: {
          device: Math.max(0, (req.cachedTokens ?? 0) - req.hostTokens - req.storageTokens),
          host: req.hostTokens,
          storage: req.storageTokens,
        },
        ...(thinking && { reasoningTokens: thinking.tokens }),
      },
      timing: {
        queuedMs: (req.admittedAt ?? now) - req.receivedAt,
        firstTokenMs: since(req.firstTokenAt),
        totalMs: now - req.receivedAt,
        retractions: req.retractions,
      },
    };
    if (req.topLogprobs >= 0) chunk.logprobs = this.#chunkLogprobs(req);
    if (!this.#emitted) chunk.promptTokenIds = [...req.ids.subarray(0, req.promptLength)];
    this.#emitted = true;
    this.#text = "";
    this.#newIds = [];
    this.#logprobs = null;
    this.#options.emit(chunk);
  }

  #chunkLogprobs(req: Req): ChunkLogprobs {
    if (this.#logprobs) return this.#logprobs;
    const logprobs: ChunkLogprobs = { output: [], outputTop: [], outputTokenIds: [] };
    if (req.wantsInputLogprobs && !this.#emitted) {
      // Nothing precedes the first prompt token, so it has no logprob.
      const first = req.logprobStart === 0;
      logprobs.input = first ? [this.#entry(null, req.ids[0])] : [];
      if (req.topLogprobs > 0) logprobs.inputTop = first ? [null] : [];
      if (req.wantedIds.length > 0) logprobs.inputTokenIds = first ? [null] : [];
    }
    this.#logprobs = logprobs;
    return logprobs;
  }

  #entry(logprob: number | null, id: number): TokenLogprob {
    return [logprob, id, this.#options.texts.get(id)];
  }

  #top(row: RowOutput): TokenLogprob[] {
    return Array.from(row.topIds, (id, i) => this.#entry(row.topLogprobs[i], id));
  }

  #wanted(req: Req, row: RowOutput): TokenLogprob[] {
    return req.wantedIds.map((id, i) => this.#entry(row.wantedLogprobs[i], id));
  }
}

/** The one row that embed and score requests ask for, as a promise. */
export class ProbeOutput implements ReqOutput {
  readonly result: Promise<RowOutput>;
  #resolve!: (row: RowOutput) => void;
  #reject!: (error: Error) => void;
  #row: RowOutput | null = null;

  constructor() {
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  pushInput(): void {
    throw new Error("A probe has no prompt logprobs.");
  }

  pushToken(): FinishReason | null {
    throw new Error("A probe samples nothing.");
  }

  pushProbe(_req: Req, row: RowOutput): void {
    // The views die with the step's outputs only when nobody holds them; copies keep the rest of the step collectable.
    this.#row = { ...row, wantedLogprobs: row.wantedLogprobs.slice(), hidden: row.hidden?.slice() ?? null };
  }

  finish(_req: Req, reason: FinishReason): void {
    if (this.#row) this.#resolve(this.#row);
    else
      this.#reject(new SglangError("ABORTED", reason.type === "abort" ? reason.message : "The request was aborted."));
  }

  fail(error: Error): void {
    this.#reject(error);
  }
}
