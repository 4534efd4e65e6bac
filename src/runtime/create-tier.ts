/** The second tier of the prefix cache as an engine's configuration asks for it. */
import { dirname, join } from "node:path";
import { SglangError } from "../core/errors.js";
import { logger } from "../core/logger.js";
import { cacheFolders } from "../weights/cache.js";
import type { EngineConfig } from "./config.js";
import { KvFiles } from "./kv-files.js";
import { KvTier } from "./kv-tier.js";
import { availableMemory } from "./memory.js";
import type { ModelRunner } from "./model-runner.js";

/** Share of the memory that is left after loading that the tier may have. */
const MEMORY_SHARE = 0.8;

/** @throws SglangError OUT_OF_MEMORY for a --hicache-size that is not there, INVALID_ARGUMENT for a folder that cannot be used */
export function createTier(config: EngineConfig, runner: ModelRunner, identity: string | undefined): KvTier | null {
  const { enableHierarchicalCache, disableRadixCache, hicacheWritePolicy, hicacheStorageBackend } = config;
  if (!enableHierarchicalCache) {
    if (hicacheStorageBackend === null) return null;
    throw new SglangError("INVALID_ARGUMENT", "--hicache-storage-backend needs --enable-hierarchical-cache.", {
      field: "--hicache-storage-backend",
    });
  }
  if (disableRadixCache) {
    throw new SglangError(
      "INVALID_ARGUMENT",
      "--enable-hierarchical-cache needs the radix cache; leave out --disable-radix-cache.",
      {
        field: "--enable-hierarchical-cache",
      },
    );
  }
  const { pageStore: store } = runner;
  if (!store) {
    throw new SglangError("UNSUPPORTED", "--enable-hierarchical-cache: this runner has no pages to copy.", {
      field: "--enable-hierarchical-cache",
    });
  }
  const name = identity ?? "an engine without files";
  const storage =
    hicacheStorageBackend === "file"
      ? new KvFiles({
          folder: config.hicacheStorageDir ?? join(dirname(cacheFolders().models), "kv"),
          identity: name,
          pageBytes: store.pageBytes,
          maxBytes: config.hicacheStorageSize * 1e9,
        })
      : null;
  return new KvTier({
    store,
    maxBytes: hostBytes(config, runner.pages * store.pageBytes),
    policy: hicacheWritePolicy,
    identity: name,
    storage,
  });
}

function hostBytes({ hicacheSize, hicacheRatio }: EngineConfig, kvBytes: number): number {
  const wanted = hicacheSize > 0 ? hicacheSize * 1e9 : hicacheRatio * kvBytes;
  const room = availableMemory().bytes * MEMORY_SHARE;
  if (wanted <= room) return wanted;
  if (hicacheSize > 0) {
    throw new SglangError(
      "OUT_OF_MEMORY",
      `--hicache-size ${hicacheSize} needs ${gigabytes(wanted)}, but ${gigabytes(room)} are left for it beside the model and its KV cache.`,
      { field: "--hicache-size", expected: `at most ${gigabytes(room)}`, found: gigabytes(wanted) },
    );
  }
  logger.info(
    `The second tier of the KV cache gets ${gigabytes(room)}: --hicache-ratio ${hicacheRatio} would be ${gigabytes(wanted)}.`,
  );
  return room;
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;
