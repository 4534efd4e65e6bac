/**
 * Configuration of a checkpoint: `hf-config.ts` reads config.json, `gguf-config.ts` reads GGUF metadata. Both check every
 * value they use and refuse by name what would change the computation and is not supported.
 */
import type { Checkpoint } from "../core/model-files.js";
import type { ModelConfig } from "./config.js";
import { ggufConfig } from "./gguf-config.js";
import { huggingFaceConfig } from "./hf-config.js";

/**
 * @throws SglangError MALFORMED_FILE for a value that is missing or out of range, UNSUPPORTED_MODEL for one that is
 * known but not supported; both name the key.
 */
export function modelConfig(checkpoint: Checkpoint): ModelConfig {
  return checkpoint.format === "gguf" ? ggufConfig(checkpoint) : huggingFaceConfig(checkpoint);
}
