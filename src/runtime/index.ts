/**
 * The runtime: a model that answers.
 *
 *     await using engine = await Engine.load("qwen2.5-coder-0.5b");
 *     for await (const chunk of engine.generate({ prompt: { text: "Hello" } })) process.stdout.write(chunk.textDelta);
 */
export { DEFAULT_ENGINE_CONFIG, type EngineConfig, resolveEngineConfig } from "./config.js";
export { Engine, type EngineParts } from "./engine.js";
export type { LoadOptions } from "./load.js";
export type { ModelRunner } from "./model-runner.js";
export { SCHEDULE_POLICIES, type SchedulePolicy } from "./policy.js";
export { type Insertion, type PrefixCache, type PrefixMatch, RadixCache } from "./radix-cache.js";
