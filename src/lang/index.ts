/**
 * The language: programs made of model calls.
 *
 *     const capital = program(async (s, country: string) => {
 *       s.system("You are concise.");
 *       s.user`What is the capital of ${country}?`;
 *       const city = s.assistant(gen("city", { maxTokens: 16, stop: "\n" }));
 *       s.user`Is ${city} on the sea?`;
 *       return { city, sea: s.assistant(select(["yes", "no"])) };
 *     });
 *     const { value } = await capital.run("Portugal", { backend });
 */

export { REASONING_FORMATS, type ReasoningFormat, type ReasoningFormatName } from "../core/reasoning.js";
export type {
  Backend,
  BackendCapabilities,
  BackendConstraint,
  BackendDelta,
  BackendFinish,
  BackendGenerateRequest,
  BackendPrompt,
  BackendScoreRequest,
  BackendScoreResult,
  BackendTokenLogprob,
  BackendUsage,
  ImagePart,
  PromptMessage,
  PromptPart,
  Role,
  VideoPart,
} from "./backends/backend.js";
export { ALL_SAMPLING, requireGenerate, requireScore } from "./backends/backend.js";
export {
  type AiSdkModel,
  type AiSdkOptions,
  type AnthropicOptions,
  aiSdkBackend,
  anthropicBackend,
  type EndpointOptions,
  type EngineBackendOptions,
  type EngineLike,
  endpointBackend,
  engineBackend,
  type HttpOptions,
  type OpenAiOptions,
  openaiBackend,
} from "./backends/index.js";
export type { Batch, BatchItem, BatchOptions } from "./batch.js";
export type { Checkpoint, CheckpointEntry } from "./checkpoint.js";
export {
  type ChoicesMethod,
  greedyTokenSelection,
  type ScoredChoice,
  tokenLengthNormalized,
  unconditionalLikelihoodNormalized,
} from "./choices.js";
export { BackendError, CapabilityError } from "./errors.js";
export type { ProgramEvent } from "./events.js";
export {
  type Expression,
  gen,
  genInt,
  genString,
  image,
  type MediaExpression,
  type SelectOptions,
  select,
  video,
} from "./expression.js";
export type { ForkGroup, ForkOptions, JoinMode } from "./fork.js";
export type { GenOptions, GenValue, SamplingOptions, ValueType } from "./gen-options.js";
export { Limiter, type LimitOptions } from "./limits.js";
export {
  flushCache,
  type Program,
  type ProgramOptions,
  type ProgramResult,
  type ProgramStream,
  program,
  type RunOptions,
  setDefaultBackend,
} from "./program.js";
export type { Progress } from "./progress.js";
export type { RetryOptions } from "./retry.js";
export type { Pricing } from "./run.js";
export type { JsonSchema, JsonSchemaValue, Schema, SchemaValue, StandardSchema } from "./schema.js";
export type { State, TemplatePart } from "./state.js";
export type { TracerLike } from "./telemetry.js";
export { type Tool, type Tools, tool } from "./tools.js";
export type { Trace, TraceCall, TraceEvent, TraceState, TraceUsage } from "./trace.js";
export type { ChoiceMeta, Meta, Variable } from "./variable.js";
