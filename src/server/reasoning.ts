/** Thinking in requests: which of them have it apart, and POST /separate_reasoning for texts that are there already. */
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import type { ReasoningRequest } from "../core/protocol.js";
import { type ReasoningFormat, ReasoningSplitter, reasoningFormat } from "../core/reasoning.js";
import type { ServerContext } from "./context.js";
import { text } from "./fields.js";
import { describeRoute } from "./openapi.js";
import { parseFields, unsupported } from "./validation.js";

/** How the served model marks its thinking; null = it does not think. */
export function servedReasoning({ config }: ServerContext): ReasoningFormat | null {
  return config.reasoningParser === null ? null : reasoningFormat(config.reasoningParser, "--reasoning-parser");
}

/** @param calling calls are looked for in the answer, and nothing enforces that the thinking ends before them */
export function chatReasoning(
  context: ServerContext,
  { separate, calling }: { separate: boolean; calling: boolean },
): ReasoningRequest | undefined {
  const served = servedReasoning(context);
  if (!served) return undefined;
  const { interrupt, ...format } = served;
  return { format: calling && interrupt !== undefined ? { ...format, interrupt } : format, separate };
}

/**
 * `require_reasoning` of /generate: a constraint begins after the thinking, which stays in the text.
 * @throws SglangError UNSUPPORTED when the server was not told how the model thinks
 */
export function nativeReasoning(
  context: ServerContext,
  required: boolean | null | undefined,
): ReasoningRequest | undefined {
  if (!required) return undefined;
  const format = servedReasoning(context);
  if (format) return { format: { ...format, interrupt: undefined }, separate: false };
  throw unsupported(
    "require_reasoning",
    "this server was not told how its model marks its thinking; start it with --reasoning-parser",
  );
}

/** reasoning_effort as variables of the chat template, under the names that templates have for it. */
export function effortVariables(effort: string | number | null | undefined): Record<string, unknown> {
  if (effort === null || effort === undefined) return {};
  const thinks = effort !== "none";
  return { thinking: thinks, enable_thinking: thinks, reasoning_effort: effort };
}

const separateSchema = z.object({ text: text(), reasoning_parser: text() });

export function registerSeparateReasoning(app: FastifyInstance): void {
  const schema = describeRoute("native", "Thinking and answer of a text", separateSchema);
  app.post("/separate_reasoning", { schema }, (request) => {
    const given = parseFields(separateSchema, request.body, {});
    const splitter = new ReasoningSplitter(reasoningFormat(given.reasoning_parser, "reasoning_parser"));
    const [piece, rest] = [splitter.push(given.text), splitter.finish()];
    return Promise.resolve({ reasoning_text: piece.reasoning + rest.reasoning, text: piece.text + rest.text });
  });
}
