/**
 * The one table of errors and the one class that carries them.
 *
 * Every failure a user can meet has a row here: a stable `code`, the HTTP status the server answers with, the process
 * exit code of the CLI, and what the code means. `docs/errors.md` lists the same rows; a test compares the two.
 */

export const ERRORS = {
  // A request that can't be carried out as asked.
  INVALID_REQUEST: { status: 400, exit: 2, summary: "A request field is missing, unknown, or out of range." },
  CONTEXT_TOO_LONG: { status: 400, exit: 2, summary: "Prompt plus max_new_tokens does not fit the context length." },
  UNSUPPORTED: { status: 400, exit: 2, summary: "A known feature that this version does not offer was asked for." },
  UNAUTHORIZED: { status: 401, exit: 2, summary: "The API key is missing or wrong." },
  NOT_FOUND: { status: 404, exit: 2, summary: "The named model, route, or request does not exist." },
  ABORTED: { status: 499, exit: 130, summary: "The caller aborted the request." },
  TIMEOUT: { status: 504, exit: 1, summary: "The request's timeout_s passed before its answer began." },
  QUEUE_FULL: { status: 503, exit: 1, summary: "Too many requests are waiting; retry later." },
  SHUTTING_DOWN: { status: 503, exit: 1, summary: "The server is draining and takes no new requests." },
  ENGINE_FAILED: { status: 500, exit: 1, summary: "The engine failed while running the request." },
  // Files and models.
  FILE_NOT_FOUND: { status: 404, exit: 2, summary: "A file or folder does not exist or cannot be read." },
  MALFORMED_FILE: {
    status: 400,
    exit: 2,
    summary: "A model file is truncated, inconsistent, or not what it claims to be.",
  },
  UNSUPPORTED_MODEL: {
    status: 400,
    exit: 2,
    summary: "The architecture, tensor type, or option of a model is not supported.",
  },
  TENSOR_MISMATCH: { status: 400, exit: 2, summary: "A tensor is missing or has another shape than the config says." },
  DOWNLOAD_FAILED: { status: 502, exit: 1, summary: "No mirror could deliver a model file." },
  CHECKSUM_MISMATCH: { status: 502, exit: 1, summary: "A downloaded file is not the file that was asked for." },
  // The machine.
  ADDON_UNAVAILABLE: { status: 500, exit: 1, summary: "The native addon could not be loaded." },
  OUT_OF_MEMORY: { status: 500, exit: 1, summary: "The machine has too little memory for the model and its KV cache." },
  PORT_IN_USE: { status: 500, exit: 1, summary: "The address is already in use." },
  INVALID_ARGUMENT: { status: 400, exit: 2, summary: "A command-line flag or option value is not valid." },
} as const satisfies Record<string, { status: number; exit: number; summary: string }>;

export type ErrorCode = keyof typeof ERRORS;

/** What a handler may want to know beside the message. All optional; names are stable. */
export interface ErrorDetails {
  /** Request field or flag, as the user wrote it: `sampling_params.top_p`, `--port`. */
  field?: string;
  /** File or folder the error is about. */
  file?: string;
  /** Tensor the error is about. */
  tensor?: string;
  /** What would have been accepted. */
  expected?: string;
  /** What arrived instead. */
  found?: string;
}

/** The class of every error this package throws on purpose. The message is one sentence that says what to do. */
export class SglangError extends Error {
  readonly code: ErrorCode;
  readonly details: ErrorDetails;
  /** Brand for {@link SglangError.isInstance}: survives two copies of the package in one process. */
  readonly isSglangError = true as const;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = "SglangError";
    this.code = code;
    this.details = details;
  }

  /** HTTP status of this error. */
  get status(): number {
    return ERRORS[this.code].status;
  }

  /** Exit code of a CLI command that ends with this error. */
  get exitCode(): number {
    return ERRORS[this.code].exit;
  }

  static isInstance(value: unknown): value is SglangError {
    return typeof value === "object" && value !== null && (value as SglangError).isSglangError === true;
  }
}

/** Shorthand for the most common throw: a value outside what a field takes. */
export function invalidField(field: string, expected: string, found: unknown): SglangError {
  const shown =
    typeof found === "string" || (typeof found === "object" && found !== null) ? JSON.stringify(found) : String(found);
  return new SglangError("INVALID_REQUEST", `${field} must be ${expected}, got ${shown}.`, {
    field,
    expected,
    found: shown,
  });
}
