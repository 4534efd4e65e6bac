/**
 * One file over HTTP: resumed with Range, hashed while it streams, retried with growing pauses, and moved into place
 * only when size and digest are right. Redirects are followed by fetch, which drops credentials for another host.
 */
import { dirname } from "node:path";
import { SglangError } from "../core/errors.js";
import type { Digest } from "./digest.js";
import { assertDiskSpace, PartialFile } from "./partial-file.js";
import { abortedError, formatBytes, networkReason, pause, type Transfer } from "./transfer.js";

/** A server that says "come back later" is believed up to here. */
const MAX_RETRY_AFTER_MS = 30_000;

export interface DownloadRequest {
  url: string;
  /** Sent to the URL's own host only. */
  headers?: Record<string, string>;
  /** Absolute path of the finished file; its folder is made. */
  destination: string;
  /** Name for progress and messages. */
  label: string;
  /** Expected length in bytes. */
  size?: number;
  /** Expected digest; without it only the length that the server states is checked. */
  digest?: Digest;
  /** Attempts after the first that bring no new byte. @default 4 */
  retries?: number;
  /** Pause before the first retry; doubles each time. @default 500 */
  backoffMs?: number;
  /** Longest wait for response headers. @default 30_000 */
  headerTimeoutMs?: number;
  /** Longest silence inside a body. @default 30_000 */
  idleTimeoutMs?: number;
}

/** A failure that another attempt may cure. */
class Retryable extends Error {
  readonly retryAfterMs: number;

  constructor(message: string, options: { retryAfterMs?: number; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.retryAfterMs = options.retryAfterMs ?? 0;
  }
}

/**
 * Fetches a file into `request.destination`.
 * @throws SglangError DOWNLOAD_FAILED (what the server answered and what to do), CHECKSUM_MISMATCH (expected and found;
 *   nothing is kept), or ABORTED (the partial file is kept).
 */
export async function downloadFile(request: DownloadRequest, transfer: Transfer = {}): Promise<void> {
  try {
    const resumed = await attemptUntilDone(request, transfer);
    if (resumed !== "damaged") return;
    // The bytes of an earlier run were not what they should be; that is no reason to distrust this source.
    transfer.onMessage?.(`${request.label}: the part kept from an earlier run was damaged, fetching it again.`);
    await attemptUntilDone(request, transfer);
  } catch (error) {
    if (transfer.signal?.aborted) throw abortedError(request.label, error);
    throw error;
  }
}

async function attemptUntilDone(request: DownloadRequest, transfer: Transfer): Promise<"done" | "damaged"> {
  const { destination, digest, size, url } = request;
  const partial = await PartialFile.open(destination, { digest, size, url });
  const carried = partial.length;
  let failures = 0;
  try {
    for (;;) {
      const before = partial.length;
      try {
        await attempt(partial, request, transfer);
        break;
      } catch (error) {
        if (transfer.signal?.aborted || !(error instanceof Retryable)) throw error;
        failures = partial.length > before ? 0 : failures + 1;
        if (failures > (request.retries ?? 4)) throw failed(request, error.message, error);
        const wait = Math.max(error.retryAfterMs, (request.backoffMs ?? 500) * 2 ** Math.max(0, failures - 1));
        transfer.onMessage?.(`${request.label}: ${error.message}; trying again in ${(wait / 1000).toFixed(1)} s.`);
        await pause(wait, transfer.signal);
      }
    }
  } catch (error) {
    await partial.keep();
    throw error;
  }
  try {
    await partial.finish({ signal: transfer.signal });
    return "done";
  } catch (error) {
    if (carried > 0 && SglangError.isInstance(error) && error.code === "CHECKSUM_MISMATCH") return "damaged";
    throw error;
  }
}

/** One request. Returns when the body is complete; throws Retryable when it is not. */
async function attempt(partial: PartialFile, request: DownloadRequest, transfer: Transfer): Promise<void> {
  const { size, label } = request;
  const progress = (received: number, total: number | null) =>
    transfer.onProgress?.({ label, phase: "download", received, total });
  await partial.prepare({
    signal: transfer.signal,
    onBytes: (done) => transfer.onProgress?.({ label, phase: "verify", received: done, total: partial.length }),
  });
  if (size !== undefined && partial.length === size) return;

  const watchdog = new Watchdog(transfer.signal);
  try {
    const headers: Record<string, string> = { ...request.headers, "accept-encoding": "identity" };
    if (partial.length > 0) {
      headers.range = `bytes=${partial.length}-`;
      if (partial.etag) headers["if-range"] = partial.etag;
    }
    watchdog.restart(request.headerTimeoutMs ?? 30_000, "no answer");
    const response = await watchdog.guard(
      (transfer.fetch ?? globalThis.fetch)(request.url, { headers, redirect: "follow", signal: watchdog.signal }),
    );
    const total = await accept(response, partial, request);
    await partial.remember(response.headers.get("etag"));
    if (total !== null) await assertDiskSpace(dirname(partial.path), total - partial.length);
    progress(partial.length, total);

    const reader = response.body?.getReader();
    const idle = request.idleTimeoutMs ?? 30_000;
    for (;;) {
      watchdog.restart(idle, "the transfer stalled");
      const piece = await watchdog.guard(reader?.read() ?? Promise.resolve({ done: true as const, value: undefined }));
      if (piece.done) break;
      if (total !== null && partial.length + piece.value.byteLength > total) {
        await partial.truncate(0);
        throw wrongSize(request, total, `more than ${total}`);
      }
      await partial.append(piece.value);
      progress(partial.length, total);
    }
    if (total !== null && partial.length < total) {
      throw new Retryable(`the connection ended after ${formatBytes(partial.length)} of ${formatBytes(total)}`);
    }
  } finally {
    watchdog.stop();
  }
}

/** Checks status and length of an answer, drops bytes the server will send again. Returns the whole file's length. */
async function accept(response: Response, partial: PartialFile, request: DownloadRequest): Promise<number | null> {
  const { status, headers } = response;
  if (status !== 200 && status !== 206) {
    await response.body?.cancel();
    if (status === 416) {
      await partial.truncate(0);
      throw new Retryable("the server refused to resume (HTTP 416)");
    }
    if (status === 408 || status === 425 || status === 429 || status >= 500) {
      throw new Retryable(`the server answered HTTP ${status}`, {
        retryAfterMs: retryAfter(headers.get("retry-after")),
      });
    }
    throw failed(request, refusal(status));
  }
  let total: number | null;
  if (status === 206) {
    const range = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(headers.get("content-range") ?? "");
    if (!range || Number(range[1]) !== partial.length) {
      await response.body?.cancel();
      await partial.truncate(0);
      throw new Retryable("the server sent another range than asked for");
    }
    total = range[3] === "*" ? Number(range[2]) + 1 : Number(range[3]);
  } else {
    await partial.truncate(0);
    const length = headers.get("content-length");
    total = length === null || headers.has("content-encoding") ? null : Number(length);
  }
  if (request.size !== undefined && total !== null && total !== request.size) {
    await response.body?.cancel();
    await partial.truncate(0);
    throw wrongSize(request, request.size, String(total));
  }
  return total ?? request.size ?? null;
}

/** Aborts a fetch that is silent for too long, or whose caller stopped. */
class Watchdog {
  readonly #abort = new AbortController();
  readonly #caller: AbortSignal | undefined;
  readonly #onCallerAbort: () => void;
  readonly #aborted: Promise<never>;
  #timer: NodeJS.Timeout | undefined;

  constructor(caller: AbortSignal | undefined) {
    this.#caller = caller;
    this.#onCallerAbort = () => this.#abort.abort(caller?.reason);
    this.#aborted = new Promise((_, reject) => {
      this.signal.addEventListener("abort", () => reject(this.signal.reason), { once: true });
    });
    this.#aborted.catch(() => {});
    if (caller?.aborted) this.#onCallerAbort();
    else caller?.addEventListener("abort", this.#onCallerAbort, { once: true });
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  restart(ms: number, what: string): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#abort.abort(new Retryable(`${what} for ${(ms / 1000).toFixed(1)} s`)), ms);
  }

  /**
   * Network failures become Retryable; the caller's own abort stays what it is. The abort is raced and not left to fetch:
   * once its Response has been collected, fetch no longer ends a read that is under way.
   */
  async guard<T>(promise: Promise<T>): Promise<T> {
    try {
      return await Promise.race([promise, this.#aborted]);
    } catch (error) {
      if (this.#caller?.aborted) throw error;
      if (this.signal.reason instanceof Retryable) throw this.signal.reason;
      throw new Retryable(networkReason(error), { cause: error });
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener("abort", this.#onCallerAbort);
    // Lets go of a body that was not read to its end; after a complete one this does nothing.
    this.#abort.abort();
  }
}

function retryAfter(header: string | null): number {
  const seconds = Number(header);
  return header !== null && seconds > 0 ? Math.min(seconds * 1000, MAX_RETRY_AFTER_MS) : 0;
}

/** What an HTTP status means to the person who waits for a model. */
export function refusal(status: number): string {
  if (status === 401)
    return "the server wants to know who asks (HTTP 401): the repository is private or does not exist";
  if (status === 403) return "the server refuses access (HTTP 403): the repository may be gated";
  if (status === 404 || status === 410) return `the server does not have it (HTTP ${status})`;
  return `the server answered HTTP ${status}`;
}

function failed(request: DownloadRequest, reason: string, cause?: unknown): SglangError {
  return new SglangError(
    "DOWNLOAD_FAILED",
    `${request.label} could not be fetched from ${new URL(request.url).host}: ${reason}.`,
    { file: request.destination, found: reason },
    { cause },
  );
}

function wrongSize(request: DownloadRequest, expected: number, found: string): SglangError {
  return new SglangError(
    "CHECKSUM_MISMATCH",
    `${new URL(request.url).host} offers another file as ${request.label}: expected ${expected} bytes, found ${found}.`,
    { file: request.destination, expected: `${expected} bytes`, found: `${found} bytes` },
  );
}
