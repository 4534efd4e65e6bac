/**
 * HTTP calls of backends: JSON in, JSON or server-sent events out, over an injectable `fetch`; no Node modules, so that
 * it runs in browsers and edge runtimes.
 *
 * Failures that may pass (lost connection, silence, 408, 409, 425, 429, 5xx) are marked retryable. A call is tried again
 * when it was asked for and nothing of the reply was handed on yet. An aborted signal closes the connection, which is how
 * servers learn of it.
 */
import { type ErrorCode, SglangError } from "../../core/errors.js";
import { BackendError } from "../errors.js";
import { type Retries, retrying } from "./retrying.js";
import { readSse, type SseEvent } from "./sse.js";
import { Watch } from "./watch.js";

export interface HttpOptions extends Retries {
  /** Headers of every call, over the backend's own. */
  headers?: Readonly<Record<string, string>>;
  /** @default globalThis.fetch */
  fetch?: typeof fetch;
  /** Longest silence, milliseconds: until the reply is there, then between two pieces of a stream. @default 300000 */
  timeoutMs?: number;
}

export const DEFAULT_TIMEOUT_MS = 300_000;
/** Characters of a reply that is not JSON shown in an error. */
const SHOWN_CHARS = 300;

export class HttpClient {
  readonly #backend: string;
  readonly #baseUrl: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #options: HttpOptions;

  /**
   * @param backend name for errors
   * @param baseUrl with or without a slash at its end; in browsers it may be a path
   * @throws SglangError INVALID_ARGUMENT for a base URL without a scheme
   */
  constructor(backend: string, baseUrl: string, headers: Readonly<Record<string, string>>, options: HttpOptions) {
    if (!/^(https?:\/\/|\/)/.test(baseUrl)) {
      const expected = "an address that begins with http:// or https://";
      const message = `baseUrl must be ${expected}, got ${JSON.stringify(baseUrl)}.`;
      throw new SglangError("INVALID_ARGUMENT", message, { field: "baseUrl", expected, found: baseUrl });
    }
    this.#backend = backend;
    this.#baseUrl = baseUrl.replace(/\/+$/, "");
    this.#headers = { "content-type": "application/json", ...headers, ...options.headers };
    this.#options = options;
  }

  /**
   * One POST with a JSON reply.
   * @throws BackendError; `signal.reason` when aborted
   */
  json(path: string, body: unknown, signal: AbortSignal): Promise<unknown> {
    return retrying(this.#options, signal, () =>
      this.#watched(path, signal, async (watch) => {
        const response = await this.#open(path, body, "application/json", watch.signal);
        const text = await response.text();
        try {
          return JSON.parse(text) as unknown;
        } catch (cause) {
          throw this.protocolError(path, `a reply that is not JSON: ${text.slice(0, SHOWN_CHARS)}`, { cause });
        }
      }),
    );
  }

  /** One POST of which only success or refusal (400) counts; the reply's body is not read. */
  async succeeds(path: string): Promise<boolean> {
    const { signal } = new AbortController();
    try {
      await this.#watched(path, signal, async (watch) => {
        const response = await this.#open(path, undefined, "*/*", watch.signal);
        await response.body?.cancel();
      });
      return true;
    } catch (error) {
      if (error instanceof BackendError && error.httpStatus === 400) return false;
      throw error;
    }
  }

  /**
   * One POST answered by events. Ending the loop early closes the connection.
   * @throws BackendError; `signal.reason` when aborted
   */
  async *events(path: string, body: unknown, signal: AbortSignal): AsyncGenerator<SseEvent, void, undefined> {
    // The first event is part of the try: a server that accepts and then falls over is asked again.
    const { watch, events, first } = await retrying(this.#options, signal, () => this.#begin(path, body, signal));
    try {
      for (let next = first; !next.done; ) {
        watch.pause();
        yield next.value;
        watch.start();
        next = await this.#guarded(path, signal, watch, () => events.next());
      }
    } finally {
      await events.return();
      watch.end();
    }
  }

  async #begin(path: string, body: unknown, signal: AbortSignal) {
    const watch = new Watch(this.#timeoutMs, signal);
    watch.start();
    try {
      return await this.#guarded(path, signal, watch, async () => {
        const response = await this.#open(path, body, "text/event-stream", watch.signal);
        const type = response.headers.get("content-type") ?? "nothing";
        if (!response.body || type.includes("json")) {
          const text = (await response.text()).slice(0, SHOWN_CHARS);
          throw this.protocolError(path, `${type} instead of an event stream: ${text}`);
        }
        const events = readSse(response.body);
        return { watch, events, first: await events.next() };
      });
    } catch (error) {
      watch.end();
      throw error;
    }
  }

  /** A reply that is not what the protocol says. */
  protocolError(path: string, what: string, options?: ErrorOptions): BackendError {
    return new BackendError(
      "ENGINE_FAILED",
      `${this.#backend} answered ${path} with ${what}.`,
      { backend: this.#backend },
      options,
    );
  }

  /** The error that a server reports inside an event stream, or as the reason why an answer ended. */
  reportedError(path: string, message: string, status?: number): BackendError {
    return new BackendError(codeOf(status ?? 500), `${this.#backend} failed at ${path}: ${message}`, {
      backend: this.#backend,
      httpStatus: status,
      retryable: status === undefined ? false : isRetryable(status),
    });
  }

  get #timeoutMs(): number {
    return this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  }

  async #watched<T>(path: string, signal: AbortSignal, call: (watch: Watch) => Promise<T>): Promise<T> {
    const watch = new Watch(this.#timeoutMs, signal);
    watch.start();
    try {
      return await this.#guarded(path, signal, watch, () => call(watch));
    } finally {
      watch.end();
    }
  }

  /** Failures of `fetch` and of streams, as the errors that callers may count on. */
  async #guarded<T>(path: string, signal: AbortSignal, watch: Watch, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      if (!watch.expired) throw this.#describe(path, error);
      const message = `${this.#backend} sent nothing for ${this.#timeoutMs} ms at ${path}; give more with timeoutMs.`;
      throw new BackendError(
        "ENGINE_FAILED",
        message,
        { backend: this.#backend, retryable: true, details: { field: "timeoutMs" } },
        { cause: error },
      );
    }
  }

  #describe(path: string, error: unknown): unknown {
    if (error instanceof BackendError) return error;
    const { message, cause } = error instanceof Error ? error : { message: String(error), cause: undefined };
    const why = cause instanceof Error && cause.message ? `${message} (${cause.message})` : message;
    return new BackendError(
      "ENGINE_FAILED",
      `${this.#backend} could not be reached, or lost the connection, at ${this.#baseUrl}${path}: ${why}.`,
      { backend: this.#backend, retryable: true },
      { cause: error },
    );
  }

  async #open(path: string, body: unknown, accept: string, signal: AbortSignal): Promise<Response> {
    // Called as a plain function: browsers refuse a `fetch` whose `this` is another object.
    const call = this.#options.fetch ?? globalThis.fetch;
    const response = await call(this.#baseUrl + path, {
      method: "POST",
      headers: { accept, ...this.#headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      signal,
    });
    if (response.ok) return response;
    const { status } = response;
    const message = errorMessage(await response.text()) ?? response.statusText;
    throw new BackendError(codeOf(status), `${this.#backend} answered ${path} with ${status}: ${message}`, {
      backend: this.#backend,
      httpStatus: status,
      retryable: isRetryable(status),
      retryAfterMs: retryAfter(response.headers),
    });
  }
}

const isRetryable = (status: number) => [408, 409, 425, 429].includes(status) || (status >= 500 && status !== 501);

/** The code of a failure that HTTP reports. */
export function codeOf(status: number): ErrorCode {
  if (status === 401 || status === 403) return "UNAUTHORIZED";
  if (status === 404) return "NOT_FOUND";
  if (status === 499) return "ABORTED";
  if (status === 501) return "UNSUPPORTED";
  // 529 is Anthropic's word for overloaded.
  if (status === 503 || status === 529) return "QUEUE_FULL";
  if (status >= 500) return "ENGINE_FAILED";
  return isRetryable(status) ? "QUEUE_FULL" : "INVALID_REQUEST";
}

/** The sentence in an error body of SGLang, OpenAI, vLLM, or Anthropic; the body itself when it has another form. */
function errorMessage(body: string): string | null {
  if (body.trim() === "") return null;
  try {
    const { error, message, detail } = JSON.parse(body) as Record<string, unknown>;
    const nested = (error as { message?: unknown } | null | undefined)?.message;
    for (const text of [nested, message, error, detail]) if (typeof text === "string") return text;
  } catch {
    // Not JSON: proxies answer in HTML or plain text.
  }
  return body.slice(0, SHOWN_CHARS);
}

/** Milliseconds; the header is in seconds or a date. */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get("retry-after");
  if (value === null) return undefined;
  const seconds = Number(value);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : undefined;
}
