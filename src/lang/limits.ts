/**
 * How much may be asked at once: requests in flight, requests and tokens per minute. One limiter may be shared by many
 * runs; a run that has none is unlimited.
 */
import { invalidField } from "../core/errors.js";

export interface LimitOptions {
  /** Requests in flight. @default Infinity */
  concurrency?: number;
  /** @default Infinity */
  requestsPerMinute?: number;
  /** Prompt and answer tokens, counted from what backends report; before a reply, estimated. @default Infinity */
  tokensPerMinute?: number;
}

/** Gives the place back, with the tokens that were really used (undefined: the estimate stands). */
export type Release = (tokens?: number) => void;

interface Waiter {
  tokens: number;
  grant: (release: Release) => void;
}

const MINUTE_MS = 60_000;

/** An allowance that refills steadily and may be overdrawn by one request, which then delays the next. */
class Bucket {
  readonly #perMinute: number;
  #level: number;
  #at = Date.now();

  constructor(perMinute: number) {
    this.#perMinute = perMinute;
    this.#level = perMinute;
  }

  /** Milliseconds until something may be taken: 0 = now. */
  wait(amount: number): number {
    if (this.#perMinute === Number.POSITIVE_INFINITY) return 0;
    const now = Date.now();
    this.#level = Math.min(this.#perMinute, this.#level + ((now - this.#at) * this.#perMinute) / MINUTE_MS);
    this.#at = now;
    // A request larger than a whole minute's allowance goes when the bucket is full.
    const missing = Math.min(amount, this.#perMinute) - this.#level;
    return missing <= 0 ? 0 : Math.ceil((missing * MINUTE_MS) / this.#perMinute);
  }

  take(amount: number): void {
    if (this.#perMinute !== Number.POSITIVE_INFINITY) this.#level -= amount;
  }
}

export class Limiter {
  readonly #concurrency: number;
  readonly #requests: Bucket;
  readonly #tokens: Bucket;
  #running = 0;
  #waiting: Waiter[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: LimitOptions) {
    const { concurrency = Infinity, requestsPerMinute = Infinity, tokensPerMinute = Infinity } = options;
    for (const [name, value] of Object.entries({ concurrency, requestsPerMinute, tokensPerMinute })) {
      if (!(value >= 1)) throw invalidField(`limits.${name}`, "a number >= 1", value);
    }
    this.#concurrency = concurrency;
    this.#requests = new Bucket(requestsPerMinute);
    this.#tokens = new Bucket(tokensPerMinute);
  }

  /** Requests in flight now. */
  get running(): number {
    return this.#running;
  }

  /**
   * Waits for a place, first come first served.
   * @param tokens estimate of what the request will use
   * @throws `signal.reason` when aborted while waiting
   */
  acquire(tokens: number, signal: AbortSignal): Promise<Release> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const leave = () => {
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        reject(signal.reason);
      };
      const waiter: Waiter = {
        tokens,
        grant: (release) => {
          signal.removeEventListener("abort", leave);
          resolve(release);
        },
      };
      signal.addEventListener("abort", leave, { once: true });
      this.#waiting.push(waiter);
      this.#admit();
    });
  }

  #admit(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (this.#waiting.length > 0 && this.#running < this.#concurrency) {
      const [next] = this.#waiting;
      const wait = Math.max(this.#requests.wait(1), this.#tokens.wait(next.tokens));
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#admit(), wait);
        return;
      }
      this.#waiting.shift();
      this.#running++;
      this.#requests.take(1);
      this.#tokens.take(next.tokens);
      next.grant(this.#release(next.tokens));
    }
  }

  #release(estimate: number): Release {
    let released = false;
    return (tokens) => {
      if (released) return;
      released = true;
      this.#running--;
      if (tokens !== undefined) this.#tokens.take(tokens - estimate);
      this.#admit();
    };
  }
}
