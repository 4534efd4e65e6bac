/**
 * sglang-ts: SGLang in TypeScript.
 *
 * ```ts
 * import { Engine } from "sglang-ts";
 *
 * await using engine = await Engine.load("qwen2.5-coder-0.5b");
 * const prompt = { messages: [{ role: "user", content: "Why is the sky blue?" }] };
 * for await (const chunk of engine.generate({ prompt })) process.stdout.write(chunk.textDelta);
 * ```
 */

// The runtime: load a model, ask it things.
export { Engine } from "./runtime/engine.js";
export type { EngineConfig } from "./runtime/config.js";
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

// The server: the same engine over HTTP.
export { createServer, startServer } from "./server/server.js";

// Errors: one class, one table.
export { ERRORS, type ErrorCode, SglangError } from "./core/errors.js";
