/** Trying again: which failures, how often, how long between. */
import { invalidField } from "../core/errors.js";
import { BackendError } from "./errors.js";

export interface RetryOptions {
  /** Requests at most, the first one included. @default 3 */
  attempts?: number;
  /** Wait before the second; doubles from there. @default 500 */
  minDelayMs?: number;
  /** @default 20000 */
  maxDelayMs?: number;
}

export type ResolvedRetry = Required<RetryOptions>;

/** @param retry options, or the number of attempts */
export function resolveRetry(retry: RetryOptions | number | undefined): ResolvedRetry {
  const given = typeof retry === "number" ? { attempts: retry } : (retry ?? {});
  const { attempts = 3, minDelayMs = 500, maxDelayMs = 20_000 } = given;
  if (!Number.isSafeInteger(attempts) || attempts < 1)
    throw invalidField("retry.attempts", "an integer >= 1", attempts);
  return { attempts, minDelayMs, maxDelayMs };
}

/** Milliseconds before the next attempt, or null when there is none. */
export function retryDelay(error: unknown, attempt: number, retry: ResolvedRetry): number | null {
  if (!(error instanceof BackendError) || !error.retryable || attempt >= retry.attempts) return null;
  if (error.retryAfterMs !== undefined) return Math.min(error.retryAfterMs, retry.maxDelayMs);
  const delay = Math.min(retry.maxDelayMs, retry.minDelayMs * 2 ** (attempt - 1));
  // Up to a quarter less, so that calls that failed together do not come back together.
  return delay * (1 - Math.random() / 4);
}

/** @throws `signal.reason` when aborted meanwhile */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", stop);
      resolve();
    }, ms);
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}
