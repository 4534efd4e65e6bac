/** Backends: what runs the model of a program. */
export { type AiSdkModel, type AiSdkOptions, aiSdkBackend } from "./ai-sdk.js";
export { type AnthropicOptions, anthropicBackend } from "./anthropic.js";
export type * from "./backend.js";
export { type EndpointOptions, endpointBackend } from "./endpoint.js";
export {
  type EngineBackendOptions,
  type EngineLike,
  engineBackend,
  type ToolParser,
  type ToolParserEvent,
} from "./engine.js";
export { type FakeAnswer, FakeBackend, type FakeOptions, type FakeScript, promptOf } from "./fake.js";
export type { HttpOptions } from "./http.js";
export { type OpenAiOptions, openaiBackend } from "./openai.js";
