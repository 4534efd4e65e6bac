/**
 * sglang-ts: SGLang in TypeScript. A runtime:
 *
 * ```ts
 * import { Engine } from "sglang-ts";
 *
 * await using engine = await Engine.load("qwen2.5-coder-0.5b");
 * const prompt = { messages: [{ role: "user", content: "Why is the sky blue?" }] };
 * for await (const chunk of engine.generate({ prompt })) process.stdout.write(chunk.textDelta);
 * ```
 *
 * and a language for programs made of its calls:
 *
 * ```ts
 * const capital = program(async (s, country: string) => {
 *   s.user`What is the capital of ${country}?`;
 *   return s.assistant(gen({ maxTokens: 16 }));
 * });
 * const { value } = await capital.run("Portugal", { backend: engineBackend(engine) });
 * ```
 */

// Errors: one class, one table.
export { ERRORS, type ErrorCode, SglangError } from "./core/errors.js";
export type {
  ChatMessage,
  EmbedRequest,
  EmbedResult,
  EngineApi,
  EngineStats,
  FinishReason,
  GenerateChunk,
  GenerateRequest,
  LogprobRequest,
  ModelInfo,
  Prompt,
  ScoreRequest,
  ScoreResult,
  TokenLogprob,
  ToolCall,
  ToolDefinition,
  Usage,
} from "./core/protocol.js";
export { DEFAULT_SAMPLING_PARAMS, type SamplingParams } from "./core/sampling-params.js";
// The language: programs made of model calls. The rest of it is in `sglang-ts/lang`.
export { type EndpointOptions, endpointBackend, engineBackend } from "./lang/backends/index.js";
export { gen, image, program, select, setDefaultBackend, tool } from "./lang/index.js";
export type { EngineConfig } from "./runtime/config.js";
// The runtime: load a model, ask it things.
export { Engine } from "./runtime/engine.js";
// The server: the same engine over HTTP.
export { createServer, startServer } from "./server/server.js";
