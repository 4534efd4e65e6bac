/**
 * OpenTelemetry spans of model calls, by the GenAI conventions. The API package is not imported: a tracer is handed in,
 * or found where the API registers itself, so the language stays small and works without it.
 */
import type { Backend, BackendGenerateRequest } from "./backends/backend.js";
import type { Meta } from "./variable.js";

interface SpanLike {
  setAttribute(key: string, value: string | number | string[]): unknown;
  recordException(error: Error): unknown;
  setStatus(status: { code: number; message?: string }): unknown;
  end(): unknown;
}
/** The part of an OpenTelemetry tracer that is used. */
export interface TracerLike {
  startSpan(name: string, options?: { attributes?: Record<string, string | number> }): SpanLike;
}

const API = Symbol.for("opentelemetry.js.api.1");
/** SpanStatusCode.ERROR. */
const STATUS_ERROR = 2;

/** The tracer of the process's OpenTelemetry, when one is registered. */
export function globalTracer(): TracerLike | undefined {
  const api = (globalThis as Record<symbol, unknown>)[API] as
    | { trace?: { getTracer?: (name: string) => TracerLike } }
    | undefined;
  return api?.trace?.getTracer?.("sglang-ts");
}

/** Starts the span of one call; the returned function ends it. */
export function startCallSpan(
  tracer: TracerLike,
  backend: Backend,
  variable: string,
  { prompt, sampling }: Pick<BackendGenerateRequest, "prompt" | "sampling">,
): (outcome: { meta: Meta } | { error: unknown }) => void {
  const operation = prompt.type === "chat" ? "chat" : "text_completion";
  const attributes: Record<string, string | number> = {
    "gen_ai.operation.name": operation,
    "gen_ai.provider.name": backend.name,
    "sglang.variable": variable,
  };
  if (backend.model !== undefined) attributes["gen_ai.request.model"] = backend.model;
  if (sampling.maxNewTokens != null) attributes["gen_ai.request.max_tokens"] = sampling.maxNewTokens;
  if (sampling.temperature !== undefined) attributes["gen_ai.request.temperature"] = sampling.temperature;
  if (sampling.topP !== undefined) attributes["gen_ai.request.top_p"] = sampling.topP;
  const span = tracer.startSpan(backend.model ? `${operation} ${backend.model}` : operation, { attributes });
  return (outcome) => {
    if ("meta" in outcome) {
      const { usage, finish } = outcome.meta;
      span.setAttribute("gen_ai.usage.input_tokens", usage.promptTokens);
      span.setAttribute("gen_ai.usage.output_tokens", usage.completionTokens);
      if (finish) span.setAttribute("gen_ai.response.finish_reasons", [finish]);
    } else {
      const error = outcome.error instanceof Error ? outcome.error : new Error(String(outcome.error));
      span.recordException(error);
      span.setStatus({ code: STATUS_ERROR, message: error.message });
    }
    span.end();
  };
}
