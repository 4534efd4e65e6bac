/** The errors of the language and its backends: all are `SglangError`s, with the facts that a handler wants beside the sentence. */
import { type ErrorCode, type ErrorDetails, SglangError } from "../core/errors.js";

/** A program asked a backend for something it cannot do. Thrown before anything is sent. */
export class CapabilityError extends SglangError {
  /** `Backend.name`. */
  readonly backend: string;
  /** What is missing: a key of `BackendCapabilities`, with `.value` for lists: `images`, `constraints.regex`, `sampling.topK`. */
  readonly capability: string;

  /** @param why a sentence that says what was asked and what to do instead */
  constructor(backend: string, capability: string, why: string) {
    super("UNSUPPORTED", `Backend ${backend} lacks ${capability}: ${why}`, { field: capability });
    this.name = "CapabilityError";
    this.backend = backend;
    this.capability = capability;
  }
}

/** A backend was asked and failed: a refused connection, an HTTP error, a reply that is not what the protocol says. */
export class BackendError extends SglangError {
  readonly backend: string;
  /** HTTP status of the reply, when there was one. */
  readonly httpStatus: number | undefined;
  /** The same request may succeed later (connection lost, 408, 429, 5xx). */
  readonly retryable: boolean;
  /** How long the server asks callers to wait, milliseconds (`Retry-After`). */
  readonly retryAfterMs: number | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    facts: { backend: string; httpStatus?: number; retryable?: boolean; retryAfterMs?: number; details?: ErrorDetails },
    options?: ErrorOptions,
  ) {
    super(code, message, facts.details, options);
    this.name = "BackendError";
    this.backend = facts.backend;
    this.httpStatus = facts.httpStatus;
    this.retryable = facts.retryable ?? false;
    this.retryAfterMs = facts.retryAfterMs;
  }
}
