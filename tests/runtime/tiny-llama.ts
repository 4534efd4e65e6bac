import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll } from "vitest";
import { setLogLevel } from "../../src/core/logger.js";
import type { EngineConfig } from "../../src/runtime/config.js";
import { Engine } from "../../src/runtime/engine.js";
import { writeTinyModel } from "../../src/testing/index.js";

/** A tiny random model for the tests of a file, silent and removed after them. @returns loads an engine over it */
export function tinyLlama(seed = 5): (config?: Partial<EngineConfig>) => Promise<Engine> {
  let folder: string;
  let model: string;
  beforeAll(async () => {
    setLogLevel("silent");
    folder = mkdtempSync(join(tmpdir(), "tiny-llama-"));
    model = (await writeTinyModel(join(folder, "llama"), { seed })).path;
  });
  afterAll(() => {
    setLogLevel("info");
    rmSync(folder, { recursive: true });
  });
  return (config = {}) => Engine.load(model, { offline: true, threads: 2, maxTotalTokens: 4096, ...config });
}
