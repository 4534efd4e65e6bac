/**
 * From a model's name to the parts of an engine: fetch, open, check against memory, pack, size the KV pool, plan.
 * On any failure what was made so far is freed.
 */

import { readFile } from "node:fs/promises";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { SglangError } from "../core/errors.js";
import { logger } from "../core/logger.js";
import type { Checkpoint, TensorInfo, TokenizerSource } from "../core/model-files.js";
import { resolveSamplingParams, type SamplingParams } from "../core/sampling-params.js";
import type { Vocabulary } from "../grammar/index.js";
import { type LoadedWeights, loadWeights, type NativeHandles, type RoundingError } from "../models/load.js";
import { architectureClass } from "../models/registry.js";
import type { NativeAddon } from "../native/addon.js";
import { loadAddon } from "../native/load.js";
import { createEncoderPool, loadTokenizer } from "../tokenizer/index.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { findModel } from "../weights/catalog.js";
import { openCheckpoint } from "../weights/checkpoint.js";
import { PackedCache, packedCacheLimit, packedFolder } from "../weights/packed-cache.js";
import { type ResolveOptions, resolveModel } from "../weights/resolve.js";
import { type EngineConfig, kvDtype, MAX_THREADS, prefillStepTokens, resolveEngineConfig } from "./config.js";
import type { EngineParts } from "./engine.js";
import { availableMemory } from "./memory.js";
import { asMemoryError, checkWeightsFit, planKvPages } from "./memory-plan.js";
import { NativeRunner } from "./native-runner.js";
import { usableCores } from "./usable-cores.js";
import { cachedVocabulary, vocabularyFolder } from "./vocabulary-cache.js";

/** Rows of logits held at once; more rows in a step are computed block by block. */
const HEAD_ROWS = 64;
/** Pool threads yield to the event loop, which must get a core at once when a chunk is to be sent. */
const POOL_NICENESS = 10;
/** Environment variable that forces a kernel tier by name. */
const KERNELS_VARIABLE = "SGLANG_KERNELS";

/** EngineConfig, and how the model is found. */
export interface LoadOptions extends Partial<EngineConfig> {
  /** Never touch the network. */
  offline?: boolean;
  /** Mirror of a catalog model to try first. */
  mirror?: ResolveOptions["mirror"];
  /** Folder for downloads. */
  downloadDir?: string;
  /** Cancels loading; what was downloaded is kept. */
  signal?: AbortSignal;
  onProgress?: ResolveOptions["onProgress"];
  onMessage?: ResolveOptions["onMessage"];
}

/** @throws SglangError naming the flag, file or tensor; see Engine.load */
export async function loadEngineParts(modelSpec: string, options: LoadOptions): Promise<EngineParts> {
  // V8 takes a main thread that waits for native steps for an idle one and compacts the whole heap then, vocabulary and
  // all: pauses of 20 to 30 ms while text streams. Ordinary collections go on.
  // Set before anything is read: a compaction that loading has already made due would still come.
  setFlagsFromString("--no-memory-reducer");
  const { offline, mirror, downloadDir, signal, onProgress, onMessage, ...given } = options;
  const config = resolveEngineConfig({ modelPath: modelSpec, ...given });
  if (config.dtype === "bfloat16" && config.kvCacheDtype === "auto") {
    logger.info("--dtype bfloat16: weights stay as they are in the file; keys and values are cached as f16.");
  }
  checkServable(modelSpec);
  const found = await resolveModel(modelSpec, {
    offline,
    mirror,
    cacheDir: downloadDir,
    signal,
    onProgress,
    onMessage,
  });
  const checkpoint = await openCheckpoint(found.path);
  try {
    const started = performance.now();
    const made = await partsOf(checkpoint, config, found.name, weightCache(config, downloadDir), signal);
    const parts = { ...made, vocabulary: await vocabularyOf(made, vocabularyCache(config, downloadDir), found.name) };
    collectGarbage();
    const loadWeightsSeconds = made.startup?.loadWeightsSeconds ?? 0;
    return { ...parts, startup: { loadWeightsSeconds, totalSeconds: (performance.now() - started) / 1000 } };
  } finally {
    checkpoint.close();
  }
}

/** Where packed weights are kept from one start to the next; null when they are not. */
function weightCache(config: EngineConfig, cacheDir: string | undefined): PackedCache | null {
  const maxBytes = packedCacheLimit(config.weightCacheSize) * 1e9;
  if (config.disableWeightCache || maxBytes === 0) return null;
  return new PackedCache({ folder: packedFolder({ cacheDir }), maxBytes });
}

/** Where vocabularies of grammars are kept; null when they are not. */
function vocabularyCache(config: EngineConfig, cacheDir: string | undefined): string | null {
  return config.disableWeightCache ? null : vocabularyFolder(packedFolder({ cacheDir }));
}

/** What grammars need; undefined for an engine that takes none. */
async function vocabularyOf(
  { config, tokenizer, runner }: EngineParts,
  folder: string | null,
  model: string,
): Promise<Vocabulary | undefined> {
  if (config.grammarBackend === "none" || config.isEmbedding) return undefined;
  return cachedVocabulary(tokenizer, runner.vocabSize, { folder, model });
}

/**
 * Loading leaves tens of megabytes of garbage among the vocabulary. Collected now, nobody waits for it; left to V8 it is a
 * pause of as many milliseconds in the middle of somebody's stream. What the C heap has kept of it goes back too.
 */
function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("globalThis.gc");
  if (typeof collect === "function") collect();
  loadAddon().trimHeap();
}

/** Refuses a catalog model that this version cannot serve before it is downloaded. */
function checkServable(modelSpec: string): void {
  const known = findModel(modelSpec);
  if (known?.unservableReason === undefined) return;
  throw new SglangError(
    "UNSUPPORTED_MODEL",
    `${known.name} can be fetched and inspected but not served: ${known.unservableReason}.`,
    { field: "--model-path", found: modelSpec },
  );
}

async function partsOf(
  checkpoint: Checkpoint,
  config: EngineConfig,
  name: string,
  cache: PackedCache | null,
  signal: AbortSignal | undefined,
): Promise<EngineParts> {
  const source = await tokenizerSource(checkpoint, config.chatTemplate);
  const tokenizer = loadTokenizer(source);
  checkDefaults(config.preferredSamplingParams, tokenizer.vocabSize);
  stopWhen(signal)();
  const available = availableMemory();
  // With fast a weight takes a byte, also when the file has fewer bits of it.
  const bytesOf = ({ byteLength, shape }: TensorInfo) =>
    config.numerics === "fast"
      ? Math.max(
          byteLength,
          shape.reduce((a, b) => a * b, 1),
        )
      : byteLength;
  checkWeightsFit(
    [...checkpoint.tensors.values()].reduce((sum, tensor) => sum + bytesOf(tensor), 0),
    available,
  );
  const addon = loadAddon();
  const runtime = addon.createRuntime({
    // Not Node's count of cores: that one does not know a container's CPU quota.
    threads: config.threads ?? Math.min(usableCores(addon.cpuInfo().cores), MAX_THREADS),
    tier: forcedTier(addon),
    nice: POOL_NICENESS,
  });
  const native: NativeHandles = { addon, runtime };
  let weights: LoadedWeights | undefined;
  try {
    const started = performance.now();
    weights = await loadWeights(checkpoint, native, {
      ...(config.contextLength && { contextLength: config.contextLength }),
      onProgress: stopWhen(signal),
      cache,
      kvDtype: kvDtype(config),
      numerics: config.numerics,
    });
    const { roundingError } = weights;
    if (roundingError !== null) logger.info(`--numerics fast: ${describeError(roundingError)}.`);
    const loadWeightsSeconds = (performance.now() - started) / 1000;
    const runner = makeRunner(native, weights, config, tokenizer, available);
    logger.info(
      `Loaded ${name} in ${((performance.now() - started) / 1000).toFixed(1)} s: ${weights.config.architecture}, ` +
        `${runner.kernels.tier} kernels, ${runner.kernels.threads} threads, context ${weights.contextLength}, ` +
        `${runner.pages * runner.pageSize} tokens of KV cache.`,
    );
    const defaults =
      config.samplingDefaults === "model" ? modelDefaults(checkpoint.generationConfig, runner.vocabSize) : {};
    return {
      runner,
      tokenizer,
      config,
      encoders: createEncoderPool(source),
      startup: { loadWeightsSeconds, totalSeconds: loadWeightsSeconds },
      kvIdentity: JSON.stringify([
        ["weights", checkpoint.identity(), addon.packedLayout()],
        // Bits of keys and values are a tier's and a mode's own.
        ["kernels", runner.kernels.tier, config.numerics],
        ["kv", kvDtype(config), config.pageSize, runner.pageStore.pageBytes],
      ]),
      model: {
        modelPath: config.modelPath,
        servedModelName: config.servedModelName ?? name,
        architecture: architectureClass(weights.config.architecture),
        modelType: weights.config.modelType,
        vocabSize: runner.vocabSize,
        contextLength: weights.contextLength,
        isGeneration: !config.isEmbedding,
        hasChatTemplate: tokenizer.chatTemplate !== null,
        dtypes: { ...weights.dtypes },
        parameters: weights.parameters,
        weightVersion: config.weightVersion,
        preferredSamplingParams: { ...defaults, ...config.preferredSamplingParams },
      },
    };
  } catch (error) {
    weights?.close();
    addon.closeRuntime(runtime);
    throw asMemoryError(error, name);
  }
}

function describeError({ all, most, name }: RoundingError): string {
  const percent = (x: number) => `${(100 * x).toPrecision(2)} %`;
  return `rotating and rounding the weights to 8 bits changed them by ${percent(all)} (root mean square), at most ${percent(most)} (${name})`;
}

function makeRunner(
  native: NativeHandles,
  weights: LoadedWeights,
  config: EngineConfig,
  tokenizer: Tokenizer,
  available: ReturnType<typeof availableMemory>,
): NativeRunner {
  const { pageSize, memFractionStatic, maxRunningRequests, maxTotalTokens } = config;
  const vocabSize = Math.min(tokenizer.vocabSize, weights.config.vocabSize);
  const maxTokens = Math.max(prefillStepTokens(config), maxRunningRequests);
  const maxRows = Math.min(HEAD_ROWS, maxTokens);
  const dtype = kvDtype(config);
  const pages = planKvPages({
    available,
    memFractionStatic,
    weightsBytes: weights.weightBytes,
    arenaBytes: weights.arenaBytes({ maxTokens, maxRows }),
    kvBytesPerToken: weights.kvBytesPerToken(dtype),
    pageSize,
    contextLength: weights.contextLength,
    maxRunningRequests,
    maxTotalTokens,
  });
  const plan = weights.createPlan({
    maxTokens,
    maxRows,
    kvPages: pages,
    pageSize,
    kvDtype: dtype,
    cascade: !config.disableCascade,
    numerics: config.numerics,
    vocabSize,
  });
  return new NativeRunner(native, weights, plan, {
    vocabSize,
    maxTokens,
    pages,
    pageSize,
    byOp: config.disableCudaGraph,
  });
}

/** The checkpoint's tokenizer, with the chat template of a file in place of its own when one is given. */
async function tokenizerSource(checkpoint: Checkpoint, templateFile: string | null): Promise<TokenizerSource> {
  const source = checkpoint.tokenizer;
  if (!source) {
    throw new SglangError(
      "UNSUPPORTED_MODEL",
      `${checkpoint.path} has no tokenizer; put the model's tokenizer.json beside its weights.`,
      {
        file: checkpoint.path,
        expected: "tokenizer.json",
      },
    );
  }
  if (templateFile === null) return source;
  let chatTemplate: string;
  try {
    chatTemplate = await readFile(templateFile, "utf8");
  } catch (cause) {
    throw new SglangError(
      "FILE_NOT_FOUND",
      `--chat-template: ${templateFile} cannot be read: ${(cause as Error).message}`,
      { file: templateFile, field: "--chat-template" },
      { cause },
    );
  }
  if (source.kind === "huggingface") return { ...source, chatTemplate };
  const { "tokenizer.chat_templates": _named, ...metadata } = source.metadata;
  return { kind: "gguf", metadata: { ...metadata, "tokenizer.chat_template": chatTemplate } };
}

function forcedTier(addon: NativeAddon): string | null {
  const name = process.env[KERNELS_VARIABLE];
  if (!name) return null;
  const tiers = addon.tiers();
  const tier = tiers.find((candidate) => candidate.name === name);
  if (tier?.supported) return name;
  const expected = `one of ${tiers
    .filter(({ supported }) => supported)
    .map((t) => t.name)
    .join(", ")} on this machine`;
  throw new SglangError(
    "INVALID_ARGUMENT",
    `${KERNELS_VARIABLE} must be ${expected}, got ${JSON.stringify(name)}${tier ? ` (${tier.reason})` : ""}.`,
    {
      field: KERNELS_VARIABLE,
      expected,
      found: name,
    },
  );
}

/** generation_config.json's names of the values that SGLang takes from it. */
const MODEL_DEFAULTS = {
  temperature: "temperature",
  top_p: "topP",
  top_k: "topK",
  min_p: "minP",
  repetition_penalty: "repetitionPenalty",
} as const satisfies Record<string, keyof SamplingParams>;

/** Sampling values of the model's generation_config.json. One that is out of range is left out with a warning. */
export function modelDefaults(
  generationConfig: Readonly<Record<string, unknown>>,
  vocabSize: number,
): Partial<SamplingParams> {
  const defaults: Partial<SamplingParams> = {};
  for (const [name, key] of Object.entries(MODEL_DEFAULTS)) {
    const value = generationConfig[name];
    if (value === undefined || value === null) continue;
    // transformers writes 0 for "no limit".
    const candidate = { [key]: key === "topK" && value === 0 ? -1 : value } as Partial<SamplingParams>;
    try {
      resolveSamplingParams(candidate, { vocabSize });
      Object.assign(defaults, candidate);
    } catch (error) {
      logger.warn(`generation_config.json is not followed in ${name}: ${(error as Error).message}`);
    }
  }
  return defaults;
}

function checkDefaults(preferred: Partial<SamplingParams>, vocabSize: number): void {
  try {
    resolveSamplingParams(preferred, { vocabSize });
  } catch (cause) {
    throw new SglangError(
      "INVALID_ARGUMENT",
      `--preferred-sampling-params: ${(cause as Error).message}`,
      { field: "--preferred-sampling-params" },
      { cause },
    );
  }
}

/** Packing goes weight by weight, so it can stop between two. */
function stopWhen(signal: AbortSignal | undefined): () => void {
  return () => {
    if (signal?.aborted) throw new SglangError("ABORTED", "Loading the model was stopped.");
  };
}
