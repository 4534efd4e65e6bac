/** Trying a call again after failures that may pass. Shared by the backends that call something remote. */
import { type RetryOptions, resolveRetry, retryDelay, sleep } from "../retry.js";

export interface Retries {
  /**
   * Tries per request. Programs retry by themselves, so this is for backends that are used directly.
   * @default 1
   */
  retry?: RetryOptions | number;
}

/** @throws the last failure; `signal.reason` when aborted */
export async function retrying<T>({ retry = 1 }: Retries, signal: AbortSignal, call: () => Promise<T>): Promise<T> {
  const resolved = resolveRetry(retry);
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted();
    try {
      return await call();
    } catch (error) {
      const delay = retryDelay(error, attempt, resolved);
      if (delay === null) throw error;
      await sleep(delay, signal);
    }
  }
}
