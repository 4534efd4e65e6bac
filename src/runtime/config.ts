/**
 * EngineConfig: SGLang's server arguments that steer an engine, in camelCase, with defaults and checks.
 *
 * Everything here is known before a model is opened; what depends on the model (context length, number of KV pages) is
 * settled by `planKvPages` in memory-plan.ts.
 */
import { SglangError } from "../core/errors.js";
import { DEFAULT_SAMPLING_PARAMS, type SamplingParams } from "../core/sampling-params.js";
import { type KvDtype, NUMERICS, type Numerics } from "../native/addon.js";
import { EVICTION_POLICY_NAMES, type EvictionPolicyName } from "./eviction-policy.js";
import { WRITE_POLICIES, type WritePolicy } from "./kv-tier.js";
import { SCHEDULE_POLICIES, type SchedulePolicy } from "./policy.js";

export const DTYPES = ["auto", "half", "float16", "bfloat16", "float", "float32"] as const;
/** Spellings of SGLang and PyTorch beside ours. */
const KV_SPELLINGS = {
  f16: "f16",
  float16: "f16",
  half: "f16",
  bf16: "bf16",
  bfloat16: "bf16",
  f32: "f32",
  float32: "f32",
  float: "f32",
  int8: "int8",
  fp8_e4m3: "fp8_e4m3",
} as const satisfies Record<string, KvDtype>;
export const KV_CACHE_DTYPES = ["auto", ...(Object.keys(KV_SPELLINGS) as (keyof typeof KV_SPELLINGS)[])] as const;
export const PAGE_SIZES = [1, 8, 16, 32, 64] as const;

export { NUMERICS, type Numerics };

export interface EngineConfig {
  /** Shown in model info. @default what Engine.load was given */
  modelPath: string;
  /** Name in `/v1/models`. @default the model's short name */
  servedModelName: string | null;
  /** Label echoed in replies. @default "default" */
  weightVersion: string;
  /** Most tokens of prompt + answer; at most the model's own. @default the model's own */
  contextLength: number | null;
  /** Serve embeddings instead of text. @default false */
  isEmbedding: boolean;
  /**
   * Working precision. Weights always stay as they are in the file and sums are f32; this chooses the type of cached keys
   * and values when `kvCacheDtype` is auto: float and float32 give f32, all others f16. @default "auto"
   */
  dtype: (typeof DTYPES)[number];
  /**
   * Type of cached keys and values: f16, bf16, f32, int8 or fp8_e4m3 (float16, half, bfloat16, float32 and float are
   * other names). The 8-bit types keep a scale per position and head. @default "auto": by `dtype`
   */
  kvCacheDtype: (typeof KV_CACHE_DTYPES)[number];
  /**
   * What inputs of matrix products with quantised weights become. The weights are the file's own but with fast.
   * @default "faithful"
   *
   *     f32        stay as they are: slowest, the reference
   *     exact      16-bit integers with a scale per token and 32 values: next to f32
   *     faithful   8-bit ones, 16-bit ones for the head: nearer to exact arithmetic than llama.cpp
   *     fast       8-bit ones with one scale per token, and weights rounded anew to 8 bits per row, both rotated first
   */
  numerics: Numerics;
  /** Pack weights anew at every start and keep nothing. @default false */
  disableWeightCache: boolean;
  /** Most gigabytes of packed weights kept on disk; null = SGLANG_WEIGHT_CACHE_GB, else 20. @default null */
  weightCacheSize: number | null;
  /** Share of the memory available at start that weights, KV cache and work space may take. (0, 1). @default 0.8 */
  memFractionStatic: number;
  /** Most requests in one batch. @default 64 */
  maxRunningRequests: number;
  /** Requests beyond this many waiting ones are refused; null = no limit. @default null */
  maxQueuedRequests: number | null;
  /** Size of the KV cache in tokens; null = by memory (see memory-plan.ts). @default null */
  maxTotalTokens: number | null;
  /** Most prompt tokens of one prefill step; longer prompts are computed in chunks. -1 = maxPrefillTokens. @default 512 */
  chunkedPrefillSize: number;
  /** Most prompt tokens of one prefill batch, whatever chunkedPrefillSize says. @default 16384 */
  maxPrefillTokens: number;
  /** Most requests in one prefill batch; null = no limit. @default null */
  prefillMaxRequests: number | null;
  /** Order of the waiting queue (policy.ts). @default "fcfs" */
  schedulePolicy: SchedulePolicy;
  /** Requests of a higher `priority` go first, and running ones of a lower may have to give way. @default false */
  enablePriorityScheduling: boolean;
  /** A smaller number is a higher priority. @default false */
  scheduleLowPriorityValuesFirst: boolean;
  /** A running request gives way when its priority is lower by more than this. @default 10 */
  prioritySchedulingPreemptionThreshold: number;
  /** Tenants take turns, by tokens (fair-share.ts). @default false */
  enableTenantFairness: boolean;
  /** Tokens per tenant and round. @default 512 */
  tenantQuantum: number;
  /** Larger reserves more pages for answers and admits fewer requests at once. @default 1.0 */
  scheduleConservativeness: number;
  /** Tokens per KV page: 1, 8, 16, 32 or 64. Prefixes are shared in whole pages. @default 16 */
  pageSize: number;
  /** Compute every prompt from its first token. @default false */
  disableRadixCache: boolean;
  /** Which cached prefixes go first when pages are needed (eviction-policy.ts). @default "lru" */
  radixEvictionPolicy: EvictionPolicyName;
  /** "native": constraints are enforced by this package's grammar room. "none": they are refused. @default "native" */
  grammarBackend: "native" | "none";
  /** Text that a grammar forces is sampled token by token as well. Same tokens. @default false */
  disableJumpForward: boolean;
  /** JSON under a constraint has no white space between its tokens. @default false */
  constrainedJsonDisableAnyWhitespace: boolean;
  /** Pages that leave the KV cache go to host memory, and to disk with hicacheStorageBackend. @default false */
  enableHierarchicalCache: boolean;
  /** Host memory of the second tier in gigabytes; 0 = by hicacheRatio. @default 0 */
  hicacheSize: number;
  /** Host memory of the second tier as a multiple of the KV cache. @default 2 */
  hicacheRatio: number;
  /** When pages are copied to the second tier: on eviction, when computed, or when found for the second time. @default "write_back" */
  hicacheWritePolicy: WritePolicy;
  /** What is behind the host memory: files, or nothing. @default null */
  hicacheStorageBackend: "file" | null;
  /** Folder of the file backend. @default null: kv in the package's cache folder */
  hicacheStorageDir: string | null;
  /** Gigabytes that the files of one model may take. @default 10 */
  hicacheStorageSize: number;
  /** Run the plan op by op: slower, same bits; errors name the op. @default false */
  disableCudaGraph: boolean;
  /** The plain loop: process a step's results before the next is queued. Same tokens. @default false */
  disableOverlapSchedule: boolean;
  /** Running requests get their next token in the steps that compute prompts, which take so many tokens fewer. Same tokens. @default false */
  enableMixedChunk: boolean;
  /** File for a trace of native steps and of the loop's phases (trace.ts); null = none. @default null */
  trace: string | null;
  /** Every request reads its own pages, shared or not: slower when prompts share a beginning, same bits. @default false */
  disableCascade: boolean;
  /** Seed of the seeds of requests that give none; null = a fresh one each start. @default null */
  randomSeed: number | null;
  /** Sampling values when a request gives none: the model's generation config, or OpenAI's constants. @default "model" */
  samplingDefaults: "model" | "openai";
  /** Sampling values that win over both defaults. @default {} */
  preferredSamplingParams: Partial<SamplingParams>;
  /** Cut prompts and maxNewTokens that do not fit instead of refusing them. @default false */
  allowAutoTruncate: boolean;
  /** Compute threads; null = one per core this process may use. @default null */
  threads: number | null;
  /** Seconds after which a step is reported as stuck; 0 = never. @default 300 */
  watchdogTimeout: number;
  /** Tokens per streamed chunk. @default 1 */
  streamInterval: number;
  /** Decode steps between two status lines. @default 40 */
  decodeLogInterval: number;
  /** Jinja file that replaces the model's chat template; null = the model's own. @default null */
  chatTemplate: string | null;
  /** The server reports cached tokens in OpenAI usage. The engine always counts them. @default false */
  enableCacheReport: boolean;
}

export const DEFAULT_ENGINE_CONFIG: Readonly<EngineConfig> = Object.freeze({
  modelPath: "",
  servedModelName: null,
  weightVersion: "default",
  contextLength: null,
  isEmbedding: false,
  dtype: "auto",
  kvCacheDtype: "auto",
  numerics: "faithful",
  disableWeightCache: false,
  weightCacheSize: null,
  memFractionStatic: 0.8,
  maxRunningRequests: 64,
  maxQueuedRequests: null,
  maxTotalTokens: null,
  chunkedPrefillSize: 512,
  maxPrefillTokens: 16384,
  prefillMaxRequests: null,
  schedulePolicy: "fcfs",
  enablePriorityScheduling: false,
  scheduleLowPriorityValuesFirst: false,
  prioritySchedulingPreemptionThreshold: 10,
  enableTenantFairness: false,
  tenantQuantum: 512,
  scheduleConservativeness: 1,
  pageSize: 16,
  disableRadixCache: false,
  radixEvictionPolicy: "lru",
  grammarBackend: "native",
  disableJumpForward: false,
  constrainedJsonDisableAnyWhitespace: false,
  enableHierarchicalCache: false,
  hicacheSize: 0,
  hicacheRatio: 2,
  hicacheWritePolicy: "write_back",
  hicacheStorageBackend: null,
  hicacheStorageDir: null,
  hicacheStorageSize: 10,
  disableCudaGraph: false,
  disableOverlapSchedule: false,
  enableMixedChunk: false,
  trace: null,
  disableCascade: false,
  randomSeed: null,
  samplingDefaults: "model",
  preferredSamplingParams: {},
  allowAutoTruncate: false,
  threads: null,
  watchdogTimeout: 300,
  streamInterval: 1,
  decodeLogInterval: 40,
  chatTemplate: null,
  enableCacheReport: false,
});

/** `maxTotalTokens` -> `--max-total-tokens`: errors name the flag. */
export function flagName(key: string): string {
  return `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
}

function refuse(key: string, expected: string, found: unknown): never {
  const shown = JSON.stringify(found) ?? String(found);
  const field = flagName(key);
  throw new SglangError("INVALID_ARGUMENT", `${field} (${key}) must be ${expected}, got ${shown}.`, {
    field,
    expected,
    found: shown,
  });
}

/** Most threads of the native pool. */
export const MAX_THREADS = 256;

type Check = readonly [ok: (value: unknown) => boolean, expected: string];

const isInteger = (least: number) => (x: unknown) => Number.isSafeInteger(x) && (x as number) >= least;
const isNumber = (x: unknown): x is number => typeof x === "number" && Number.isFinite(x);
const integer = (least: number): Check => [isInteger(least), `an integer >= ${least}`];
const orNull = ([ok, expected]: Check): Check => [(x) => x === null || ok(x), `${expected}, or null`];
const oneOf = (values: readonly unknown[]): Check => [(x) => values.includes(x), `one of ${values.join(", ")}`];
const flag: Check = [(x) => typeof x === "boolean", "true or false"];
const text: Check = [(x) => typeof x === "string", "a text"];

const CHECKS: { readonly [K in keyof EngineConfig]: Check } = {
  modelPath: text,
  servedModelName: orNull(text),
  weightVersion: text,
  contextLength: orNull(integer(1)),
  isEmbedding: flag,
  dtype: oneOf(DTYPES),
  kvCacheDtype: oneOf(KV_CACHE_DTYPES),
  numerics: oneOf(NUMERICS),
  disableWeightCache: flag,
  weightCacheSize: orNull([(x) => isNumber(x) && x >= 0, "a number of gigabytes >= 0"]),
  memFractionStatic: [(x) => isNumber(x) && x > 0 && x < 1, "a number between 0 and 1"],
  maxRunningRequests: [(x) => isInteger(1)(x) && (x as number) <= 4096, "an integer from 1 to 4096"],
  maxQueuedRequests: orNull(integer(0)),
  maxTotalTokens: orNull(integer(1)),
  chunkedPrefillSize: [(x) => x === -1 || isInteger(1)(x), "-1 (off) or an integer >= 1"],
  maxPrefillTokens: integer(1),
  prefillMaxRequests: orNull(integer(1)),
  schedulePolicy: oneOf(SCHEDULE_POLICIES),
  enablePriorityScheduling: flag,
  scheduleLowPriorityValuesFirst: flag,
  prioritySchedulingPreemptionThreshold: [(x) => isNumber(x) && x >= 0, "a number >= 0"],
  enableTenantFairness: flag,
  tenantQuantum: integer(1),
  scheduleConservativeness: [(x) => isNumber(x) && x >= 0, "a number >= 0"],
  pageSize: oneOf(PAGE_SIZES),
  disableRadixCache: flag,
  radixEvictionPolicy: oneOf(EVICTION_POLICY_NAMES),
  grammarBackend: oneOf(["native", "none"]),
  disableJumpForward: flag,
  constrainedJsonDisableAnyWhitespace: flag,
  enableHierarchicalCache: flag,
  hicacheSize: [(x) => isNumber(x) && x >= 0, "a number >= 0"],
  hicacheRatio: [(x) => isNumber(x) && x > 0, "a number > 0"],
  hicacheWritePolicy: oneOf(WRITE_POLICIES),
  hicacheStorageBackend: orNull(oneOf(["file"])),
  hicacheStorageDir: orNull(text),
  hicacheStorageSize: [(x) => isNumber(x) && x > 0, "a number > 0"],
  disableCudaGraph: flag,
  disableOverlapSchedule: flag,
  enableMixedChunk: flag,
  trace: orNull(text),
  disableCascade: flag,
  randomSeed: orNull([Number.isSafeInteger, "an integer"]),
  samplingDefaults: oneOf(["model", "openai"]),
  preferredSamplingParams: [
    (x) =>
      typeof x === "object" &&
      x !== null &&
      !Array.isArray(x) &&
      Object.keys(x).every((key) => key in DEFAULT_SAMPLING_PARAMS),
    `an object with keys of ${Object.keys(DEFAULT_SAMPLING_PARAMS).join(", ")}`,
  ],
  allowAutoTruncate: flag,
  threads: orNull([(x) => isInteger(1)(x) && (x as number) <= MAX_THREADS, `an integer from 1 to ${MAX_THREADS}`]),
  watchdogTimeout: [(x) => isNumber(x) && x >= 0, "a number >= 0"],
  streamInterval: integer(1),
  decodeLogInterval: integer(1),
  chatTemplate: orNull(text),
  enableCacheReport: flag,
};

/**
 * Fills in defaults and checks every value.
 * @throws SglangError INVALID_ARGUMENT naming the flag, what it takes, and what arrived
 */
export function resolveEngineConfig(options: Partial<EngineConfig> = {}): EngineConfig {
  const config = { ...DEFAULT_ENGINE_CONFIG };
  for (const [key, value] of Object.entries(options)) {
    if (!(key in CHECKS)) refuse(key, `a known engine option (${Object.keys(CHECKS).join(", ")})`, value);
    if (value === undefined) continue;
    const [ok, expected] = CHECKS[key as keyof EngineConfig];
    if (!ok(value)) refuse(key, expected, value);
    (config as Record<string, unknown>)[key] = value;
  }
  return config;
}

/** Most prompt tokens of one prefill step. */
export function prefillStepTokens(config: EngineConfig): number {
  const { chunkedPrefillSize, maxPrefillTokens } = config;
  return chunkedPrefillSize === -1 ? maxPrefillTokens : Math.min(chunkedPrefillSize, maxPrefillTokens);
}

export function kvDtype(config: EngineConfig): KvDtype {
  if (config.kvCacheDtype !== "auto") return KV_SPELLINGS[config.kvCacheDtype];
  return config.dtype === "float" || config.dtype === "float32" ? "f32" : "f16";
}
