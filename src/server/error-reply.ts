/**
 * The one place that turns errors into HTTP replies and SSE events.
 *
 * Native routes answer SGLang's `{"error": {"message"}}`. Routes under /v1 answer a body that satisfies both SGLang
 * clients (fields at the top, `code` = status) and OpenAI clients (the same under `error`, `code` = our stable code).
 */
import type { FastifyError, FastifyReply, FastifyRequest } from "fastify";
import { type ErrorCode, SglangError } from "../core/errors.js";
import type { Logger } from "../core/logger.js";
import type { FinishReason } from "../core/protocol.js";

/** SGLang's and OpenAI's words for a status. */
const TYPES: Readonly<Record<number, readonly [sglang: string, openai: string]>> = {
  400: ["BadRequestError", "invalid_request_error"],
  401: ["AuthenticationError", "authentication_error"],
  404: ["NotFoundError", "invalid_request_error"],
  413: ["RequestEntityTooLarge", "invalid_request_error"],
  499: ["AbortError", "abort_error"],
  503: ["ServiceUnavailableError", "service_unavailable_error"],
  504: ["TimeoutError", "timeout_error"],
};
/** Seconds a client should wait after a 503. */
const RETRY_AFTER = "1";

export interface ErrorReply {
  status: number;
  message: string;
  /** Stable name: a key of ERRORS, or an HTTP-level reason. */
  code: string;
  param: string | null;
  /** true when nobody threw this on purpose: log it with its stack. */
  unexpected: boolean;
}

/** Status and texts of any thrown value. */
export function describeError(error: unknown): ErrorReply {
  if (SglangError.isInstance(error)) {
    const { status, message, code, details } = error;
    return { status, message, code, param: details.field ?? null, unexpected: code === "ENGINE_FAILED" };
  }
  const { statusCode = 500, code = "", message = String(error) } = (error ?? {}) as Partial<FastifyError>;
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") {
    const sentence = "The body of a POST must be JSON: send the header `Content-Type: application/json`.";
    return { status: 400, message: sentence, code: "INVALID_REQUEST", param: null, unexpected: false };
  }
  if (code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    const sentence =
      "The request body is larger than the server's limit; send less, or start it with a larger bodyLimit.";
    return { status: 413, message: sentence, code: "BODY_TOO_LARGE", param: null, unexpected: false };
  }
  if (statusCode >= 400 && statusCode < 500)
    return { status: statusCode, message, code: "INVALID_REQUEST", param: null, unexpected: false };
  return { status: 500, message: `Internal error: ${message}`, code: "INTERNAL", param: null, unexpected: true };
}

const isOpenAi = (url: string) => url.startsWith("/v1/");

/** Body of an error reply on the route of `url`. */
export function errorBody(reply: ErrorReply, url: string): Record<string, unknown> {
  const { status, message, code, param } = reply;
  if (!isOpenAi(url)) return { error: { message, code, param } };
  const [sglang, openai] = TYPES[status] ?? ["InternalServerError", "server_error"];
  return {
    object: "error",
    message,
    type: sglang,
    param,
    code: status,
    error: { message, type: openai, param, code },
  };
}

/** The event that reports an error inside a stream that has already begun. */
export function errorEvent(error: unknown): Record<string, unknown> {
  const { status, message, code, param } = describeError(error);
  const [, type] = TYPES[status] ?? ["InternalServerError", "server_error"];
  return { error: { object: "error", message, type, param, code } };
}

/** Logs what was not expected. */
export function logError(logger: Logger, error: unknown, request: FastifyRequest): void {
  if (!describeError(error).unexpected) return;
  logger.error({ err: error, requestId: request.id, route: request.url.split("?")[0] }, "request failed");
}

/** Fastify's error handler. */
export function sendError(logger: Logger, error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const description = describeError(error);
  logError(logger, error, request);
  if (description.status === 503) reply.header("retry-after", RETRY_AFTER);
  if (description.status === 401) reply.header("www-authenticate", "Bearer");
  reply
    .code(description.status)
    .type("application/json; charset=utf-8")
    .send(JSON.stringify(errorBody(description, request.url)));
}

/** Error codes of the statuses that a scheduler ends requests with. */
const ABORT_CODES: Readonly<Record<number, ErrorCode>> = { 503: "QUEUE_FULL", 504: "TIMEOUT" };

/** An answer that ended as an abort with a status is an error of the request; any other end is null. */
export function abortError(reason: FinishReason | null): SglangError | null {
  if (reason?.type !== "abort" || reason.statusCode === undefined || reason.statusCode < 400) return null;
  const code = ABORT_CODES[reason.statusCode] ?? (reason.statusCode < 500 ? "INVALID_REQUEST" : "ENGINE_FAILED");
  return new SglangError(code, reason.message);
}

/** Like {@link abortError} for a whole reply, where an answer without an end is an error too. */
export function replyError(reason: FinishReason | null): SglangError | null {
  if (reason === null)
    return new SglangError("ENGINE_FAILED", "The engine ended the request before its answer was complete.");
  return abortError(reason);
}
