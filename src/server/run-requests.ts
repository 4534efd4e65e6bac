/**
 * Runs the engine requests of one HTTP request: ids, aborts, metrics and the log line, for every generating route.
 *
 * All requests run at once. The first failure aborts the others; when the client goes away all are aborted at once.
 */
import { randomUUID } from "node:crypto";
import type { FastifyReply } from "fastify";
import { SglangError } from "../core/errors.js";
import type { GenerateChunk, GenerateRequest } from "../core/protocol.js";
import type { ServerContext } from "./context.js";
import { errorEvent, logError } from "./error-reply.js";
import { SseStream } from "./sse.js";

export interface RunOptions {
  /** Every request must have its `rid`. */
  requests: readonly (GenerateRequest & { rid: string })[];
  reply: FastifyReply;
  /** Called in order per request; a returned promise holds back only that request. */
  onChunk(requestIndex: number, chunk: GenerateChunk): Promise<void> | undefined;
  /** Observe in /metrics. @default true */
  logMetrics?: boolean;
  /** Write the log line when the server logs requests. @default true */
  logRequest?: boolean;
}

/** A fresh request id, in SGLang's form (32 hex digits). */
export function newRid(): string {
  return randomUUID().replaceAll("-", "");
}

/** The request header that names a tenant (--enable-tenant-fairness); gateways set it. */
const TENANT_HEADER = "x-tenant";

const clientGone = () => new SglangError("ABORTED", "The client closed the connection.");

/** Aborts when the client closes its connection before the reply is complete. */
export function disconnectSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.on("close", () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  if (reply.raw.destroyed) controller.abort();
  return controller.signal;
}

/**
 * Resolves when every request has ended.
 * @throws whatever the engine throws first; SglangError ABORTED when the client is gone
 */
export async function runRequests(context: ServerContext, options: RunOptions): Promise<void> {
  const { requests, reply, onChunk, logMetrics = true } = options;
  const rids = requests.map((request) => request.rid);
  const controllers = context.active.enter(rids);
  const gone = disconnectSignal(reply);
  const tenant = reply.request.headers[TENANT_HEADER] as string | undefined;
  const started = performance.now();
  let failure: { error: unknown } | undefined;
  const tally = { promptTokens: 0, cachedTokens: 0, completionTokens: 0, finishReasons: [] as string[] };
  try {
    await Promise.all(
      requests.map(async (request, i) => {
        const signal = AbortSignal.any([controllers[i].signal, gone]);
        const observe = logMetrics ? context.metrics.track() : undefined;
        try {
          for await (const chunk of context.engine.generate({ ...request, ...(tenant && { tenant }), signal })) {
            observe?.(chunk);
            if (chunk.finishReason) count(tally, chunk);
            const held = onChunk(i, chunk);
            if (held) await held;
          }
        } catch (error) {
          failure ??= { error };
          for (const controller of controllers) controller.abort();
        }
      }),
    );
  } finally {
    context.active.leave(rids);
  }
  if (context.config.logRequests && options.logRequest !== false) {
    const route = reply.request.routeOptions.url;
    const milliseconds = Math.round(performance.now() - started);
    context.logger.info({ requestId: reply.request.id, route, rids, milliseconds, ...tally }, "request finished");
  }
  if (gone.aborted) throw clientGone();
  if (failure) throw failure.error;
}

function count(
  tally: { promptTokens: number; cachedTokens: number; completionTokens: number; finishReasons: string[] },
  { index, usage, finishReason }: GenerateChunk,
): void {
  if (index === 0) {
    tally.promptTokens += usage.promptTokens;
    tally.cachedTokens += usage.cachedTokens;
  }
  tally.completionTokens += usage.completionTokens;
  tally.finishReasons.push(finishReason?.type ?? "");
}

/**
 * Runs `produce` with an event stream and ends it. An error before the first event is thrown on, to become an HTTP
 * error; a later one becomes one error event before `[DONE]`.
 */
export async function streamReply(
  context: ServerContext,
  reply: FastifyReply,
  produce: (stream: SseStream) => Promise<void>,
): Promise<void> {
  const stream = new SseStream(reply);
  try {
    await produce(stream);
  } catch (error) {
    if (!stream.opened) throw error;
    logError(context.logger, error, reply.request);
    stream.send(errorEvent(error));
  }
  stream.end();
}

/** Runs one engine call that is not a generation, abortable like one. */
export async function runCall<T>(
  context: ServerContext,
  reply: FastifyReply,
  rids: readonly string[],
  call: (signals: AbortSignal[]) => Promise<T>,
): Promise<T> {
  const controllers = context.active.enter(rids);
  const gone = disconnectSignal(reply);
  try {
    return await call(controllers.map((controller) => AbortSignal.any([controller.signal, gone])));
  } catch (error) {
    throw gone.aborted ? clientGone() : error;
  } finally {
    for (const controller of controllers) controller.abort();
    context.active.leave(rids);
  }
}
