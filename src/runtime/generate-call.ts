/** A generate request as its caller has it: chunks to iterate over, and an end that may come at any time. */
import { invalidField } from "../core/errors.js";
import type { GenerateChunk } from "../core/protocol.js";
import { ChunkStream } from "./chunk-stream.js";
import type { Req } from "./request.js";
import type { Scheduler } from "./scheduler.js";

/** Why requests end whose caller wants no more of them. */
export const ABORTED = "The caller aborted the request.";

/** Longest delay of a Node timer, in seconds. */
const MAX_TIMEOUT = (2 ** 31 - 1) / 1000;

/** Work starts at the first `next` and stops at `return`. */
export class GenerateCall implements AsyncIterableIterator<GenerateChunk> {
  onStart: (() => void) | null = null;
  onEnd: (() => void) | null = null;
  readonly #stop = new AbortController();
  readonly #stream = new ChunkStream<GenerateChunk>();
  #reqs: readonly Req[] = [];
  #scheduler: Scheduler | null = null;
  #timer: NodeJS.Timeout | undefined;
  #followed: AbortSignal | undefined;
  #abortMessage = ABORTED;
  #abortStatus: number | undefined;

  readonly abort = (): void => {
    this.#stop.abort();
    for (const req of this.#reqs)
      this.#scheduler?.abort(req, this.#abortMessage, req.outputLength === 0 ? this.#abortStatus : undefined);
  };

  /**
   * Starts the clock of the request's timeout, if it has one. When it has passed, an answer that has begun ends as it is;
   * one that has not is an error.
   */
  limit(timeoutSeconds: number | undefined): void {
    if (timeoutSeconds === undefined) return;
    if (!(timeoutSeconds > 0 && timeoutSeconds <= MAX_TIMEOUT))
      throw invalidField("timeout_s", `a number of seconds above 0, at most ${MAX_TIMEOUT}`, timeoutSeconds);
    const expire = () => {
      if (this.aborted) return;
      this.#abortMessage = `The request's timeout_s of ${timeoutSeconds} s has passed.`;
      this.#abortStatus = 504;
      this.abort();
    };
    this.#timer = setTimeout(expire, timeoutSeconds * 1000).unref();
  }

  /** Aborts the request when the caller's signal fires, or has fired. */
  follow(signal: AbortSignal | undefined): void {
    this.#followed = signal;
    signal?.addEventListener("abort", this.abort, { once: true });
    if (signal?.aborted) this.abort();
  }

  get aborted(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Fires when the request is aborted, for whatever reason. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  started(reqs: readonly Req[], scheduler: Scheduler): void {
    this.#reqs = reqs;
    this.#scheduler = scheduler;
  }

  push(chunk: GenerateChunk): void {
    this.#stream.push(chunk);
  }

  /** An error in one answer ends the others too. */
  end(error: Error | null): void {
    this.onEnd?.();
    this.onEnd = null;
    clearTimeout(this.#timer);
    this.#followed?.removeEventListener("abort", this.abort);
    this.#stream.end(error);
    if (error) this.abort();
  }

  /** Aborted before there was a request. */
  endAborted(rid: string, n: number): void {
    for (let index = 0; index < n; index++) {
      this.push({
        rid: n > 1 ? `${rid}_${index}` : rid,
        index,
        textDelta: "",
        tokenIdsDelta: [],
        finishReason: { type: "abort", message: this.#abortMessage, statusCode: this.#abortStatus },
        usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 },
        timing: { queuedMs: 0, firstTokenMs: null, totalMs: 0, retractions: 0 },
      });
    }
    this.end(null);
  }

  next(): Promise<IteratorResult<GenerateChunk, undefined>> {
    this.onStart?.();
    this.onStart = null;
    return this.#stream.next();
  }

  return(): Promise<IteratorResult<GenerateChunk, undefined>> {
    this.onStart = null;
    this.abort();
    this.#stream.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
