/**
 * Prometheus metrics under SGLang's names, so that its dashboards work unchanged.
 *
 * Gauges and counters are read from {@link EngineStats} at the moment of a scrape; histograms are fed by
 * {@link EngineMetrics.track} with the chunks of each request. Every series carries the label `model_name`.
 * Source of names and buckets: SGLang `metrics/collector.py`.
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { EngineStats, GenerateChunk } from "./protocol.js";

const TTFT_BUCKETS = [0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400];
const ITL_BUCKETS = [
  0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4,
  6, 8,
];
const E2E_BUCKETS = [0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400, 600, 1200, 1800, 2400];
const QUEUE_BUCKETS = [
  0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 100, 200, 300, 400,
  500, 600, 700, 800, 900, 1000, 1200, 1400, 1600, 1800, 2000, 2500, 3000,
];
const TOKEN_BUCKETS = [1, 8, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];
const COMPILE_BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60];
const RETRACTION_BUCKETS = [0, 1, 2, 3, 4, 5, 10, 20, 50, 100];

/** Where a request's time goes, by SGLang's names. */
const STAGES = ["prefill_waiting", "prefill_forward", "decode_forward"] as const;

type Reading = readonly [name: string, help: string, read: (stats: EngineStats) => number];

const GAUGES: readonly Reading[] = [
  ["num_running_reqs", "The number of running requests.", (s) => s.numRunningReqs],
  ["num_queue_reqs", "The number of requests in the waiting queue.", (s) => s.numQueueReqs],
  ["num_retracted_reqs", "The number of retracted requests in the waiting queue.", (s) => s.numRetractedReqs],
  ["decode_sum_seq_lens", "The sum of the lengths of the running requests.", (s) => s.decodeSumSeqLens],
  ["utilization", "The used share of the places in the batch.", (s) => s.numRunningReqs / s.maxRunningRequests],
  ["engine_startup_time", "Seconds until the engine was there.", (s) => s.startup.totalSeconds],
  ["engine_load_weights_time", "Seconds that loading the weights took.", (s) => s.startup.loadWeightsSeconds],
  ["num_grammar_queue_reqs", "The number of requests that wait for their grammar.", (s) => s.grammar.waiting],
  ["num_paused_reqs", "The number of requests that wait for continue_generation.", pausedReqs],
  ["num_used_tokens", "The number of used tokens of the KV cache.", (s) => s.numUsedTokens],
  ["max_total_num_tokens", "The size of the KV cache in tokens.", (s) => s.maxTotalNumTokens],
  ["max_running_requests", "The most requests in one batch.", (s) => s.maxRunningRequests],
  ["token_usage", "The used share of the KV cache.", (s) => s.tokenUsage],
  ["cache_hit_rate", "The prefix cache hit rate.", (s) => s.cacheHitRate],
  ["gen_throughput", "The generation throughput (token/s).", (s) => s.genThroughput],
  ["overlap_idle_share", "The share of time that native threads waited for the scheduler.", (s) => s.idleShare],
  ["new_token_ratio", "The share of max_new_tokens the scheduler reserves.", (s) => s.newTokenRatio],
  ["kv_available_tokens", "Free tokens of the KV cache.", (s) => s.pages.free * s.pages.pageSize],
  ["kv_evictable_tokens", "Cached tokens that may be evicted.", (s) => s.pages.evictable * s.pages.pageSize],
  ["weights_bytes", "Bytes of model weights in memory.", (s) => s.memory.weightsBytes],
  ["kv_cache_bytes", "Bytes of the KV cache.", (s) => s.memory.kvBytes],
  ["resident_memory_bytes", "Resident memory of the process.", (s) => s.memory.rssBytes],
  ["uptime_seconds", "Seconds since the engine started.", (s) => s.uptimeSeconds],
];

const COUNTERS: readonly Reading[] = [
  ["num_requests_total", "Number of requests processed.", (s) => s.counters.requests],
  ["num_aborted_requests_total", "Number of requests aborted.", (s) => s.counters.aborted],
  ["prompt_tokens_total", "Number of prefill tokens processed.", (s) => s.counters.promptTokens],
  ["generation_tokens_total", "Number of generation tokens processed.", (s) => s.counters.generationTokens],
  ["cached_tokens_total", "Number of cached prompt tokens.", (s) => s.counters.cachedTokens],
  ["num_retracted_requests_total", "Number of retractions.", (s) => s.counters.retractions],
  ["num_retracted_input_tokens_total", "Prompt tokens of retracted requests.", (s) => s.counters.retractedInputTokens],
  [
    "num_retracted_output_tokens_total",
    "Output tokens of retracted requests.",
    (s) => s.counters.retractedOutputTokens,
  ],
  ["num_preempted_requests_total", "Requests that gave way to a higher priority.", (s) => s.counters.preemptions],
  ["num_so_requests_total", "Number of structured output requests processed.", (s) => s.grammar.requests],
  ["num_grammar_total", "Requests with a constraint.", (s) => s.grammar.requests],
  ["num_grammar_cache_hit_total", "Requests whose grammar was compiled before.", (s) => s.grammar.cacheHits],
  [
    "num_grammar_cache_miss_total",
    "Requests whose grammar was not at hand.",
    (s) => s.grammar.requests - s.grammar.cacheHits,
  ],
  ["num_grammar_aborted_total", "Requests aborted while they waited for their grammar.", (s) => s.grammar.aborted],
  ["num_grammar_timeout_total", "Grammars that took too long to compile.", (s) => s.grammar.timedOut],
  ["num_grammar_refused_total", "Requests whose grammar was refused, time-outs included.", (s) => s.grammar.refused],
  ["grammar_compiled_total", "Grammars compiled.", (s) => s.grammar.compiled],
  ["grammar_compile_seconds_total", "Seconds compiling took, waiting included.", (s) => s.grammar.compileSeconds],
  [
    "jump_forward_tokens_total",
    "Output tokens expected from a grammar, computed together and found right.",
    (s) => s.counters.jumpForwardTokens,
  ],
  ["prefetched_tokens_total", "Tokens read from storage.", (s) => storedTokens(s, s.hicache?.storage?.reads)],
  ["backuped_tokens_total", "Tokens written to storage.", (s) => storedTokens(s, s.hicache?.storage?.writes)],
  ["evicted_tokens_total", "Tokens evicted from the prefix cache.", (s) => s.counters.evictedTokens],
  ["prefill_steps_total", "Forward passes over prompts.", (s) => s.counters.prefillSteps],
  ["native_busy_seconds_total", "Seconds native threads computed.", (s) => s.counters.nativeBusySeconds],
  ["native_idle_seconds_total", "Seconds native threads waited between steps.", (s) => s.counters.nativeIdleSeconds],
  ["decode_steps_total", "Forward passes over running requests.", (s) => s.counters.decodeSteps],
];

/** Feeds the chunks of one request (all its answers) to the histograms. */
export type ChunkObserver = (chunk: GenerateChunk) => void;

/** One registry of all series of one engine. */
export class EngineMetrics {
  readonly registry = new Registry();
  readonly #stats: () => EngineStats;
  /** The numbers of the scrape under way: all series of one scrape are of one moment. */
  #snapshot: EngineStats | null = null;
  readonly #firstToken: Histogram;
  readonly #interToken: Histogram;
  readonly #endToEnd: Histogram;
  readonly #queue: Histogram;
  readonly #promptTokens: Histogram;
  readonly #generationTokens: Histogram;
  readonly #retractions: Histogram;
  readonly #stages: Histogram<"stage">;

  /** @param options.stats called once per scrape */
  constructor(options: { modelName: string; stats: () => EngineStats }) {
    this.#stats = options.stats;
    const stats = () => this.#snapshot ?? options.stats();
    this.registry.setDefaultLabels({ model_name: options.modelName });
    const registers = [this.registry];
    for (const [name, help, read] of GAUGES) {
      new Gauge({
        name: `sglang:${name}`,
        help,
        registers,
        collect() {
          this.set(finite(read(stats())));
        },
      });
    }
    for (const [name, help, read] of COUNTERS) {
      new Counter({
        name: `sglang:${name}`,
        help,
        registers,
        collect() {
          this.reset();
          this.inc(finite(read(stats())));
        },
      });
    }
    new Counter({
      name: "sglang:realtime_tokens_total",
      help: "Tokens by where they came from.",
      labelNames: ["mode"],
      registers,
      collect() {
        const { counters } = stats();
        this.reset();
        this.inc({ mode: "prefill_compute" }, counters.computedPromptTokens);
        this.inc({ mode: "prefill_cache" }, counters.cachedTokens);
        this.inc({ mode: "decode" }, counters.generationTokens);
      },
    });
    const histogram = (name: string, help: string, buckets: number[]) =>
      new Histogram({ name: `sglang:${name}`, help, buckets, registers });
    this.#firstToken = histogram("time_to_first_token_seconds", "Time to first token in seconds.", TTFT_BUCKETS);
    this.#interToken = histogram("inter_token_latency_seconds", "Inter-token latency in seconds.", ITL_BUCKETS);
    this.#endToEnd = histogram("e2e_request_latency_seconds", "End-to-end request latency in seconds.", E2E_BUCKETS);
    this.#queue = histogram("queue_time_seconds", "Queueing time in seconds.", QUEUE_BUCKETS);
    this.#promptTokens = histogram("prompt_tokens_histogram", "Prompt tokens per request.", TOKEN_BUCKETS);
    this.#generationTokens = histogram("generation_tokens_histogram", "Generated tokens per answer.", TOKEN_BUCKETS);
    this.#retractions = histogram("num_retractions", "Retractions per answer.", RETRACTION_BUCKETS);
    let seen = 0;
    new Histogram({
      name: "sglang:grammar_compilation_time_seconds",
      help: "Seconds it took to compile a grammar, waiting included.",
      buckets: COMPILE_BUCKETS,
      registers,
      collect() {
        const { compiled, latestCompileSeconds } = stats().grammar;
        const fresh = Math.min(compiled - seen, latestCompileSeconds.length);
        for (const seconds of latestCompileSeconds.slice(latestCompileSeconds.length - fresh)) this.observe(seconds);
        seen = compiled;
      },
    });
    this.#stages = new Histogram({
      name: "sglang:per_stage_req_latency_seconds",
      help: "Seconds of each stage of a request.",
      labelNames: ["stage"],
      buckets: QUEUE_BUCKETS,
      registers,
    });
  }

  /** An observer for one request. Latencies come from the chunks' own clock, not from when they are observed. */
  track(): ChunkObserver {
    /** Per answer: milliseconds of its last seen token. */
    const last = new Map<number, number>();
    return (chunk) => {
      const { timing } = chunk;
      let fresh = chunk.tokenIdsDelta.length;
      let since = last.get(chunk.index);
      if (since === undefined && timing.firstTokenMs !== null && fresh > 0) {
        this.#firstToken.observe(timing.firstTokenMs / 1000);
        since = timing.firstTokenMs;
        fresh -= 1;
      }
      if (since !== undefined && fresh > 0) {
        const perToken = Math.max(0, timing.totalMs - since) / fresh / 1000;
        for (let i = 0; i < fresh; i++) this.#interToken.observe(perToken);
      }
      if (since !== undefined) last.set(chunk.index, timing.totalMs);
      if (chunk.finishReason === null || chunk.finishReason.type === "abort") return;
      this.#endToEnd.observe(timing.totalMs / 1000);
      this.#queue.observe(timing.queuedMs / 1000);
      this.#promptTokens.observe(chunk.usage.promptTokens);
      this.#generationTokens.observe(chunk.usage.completionTokens);
      this.#retractions.observe(timing.retractions);
      const { queuedMs, firstTokenMs, totalMs } = timing;
      const ends = [queuedMs, firstTokenMs ?? totalMs, totalMs];
      for (const [i, stage] of STAGES.entries())
        this.#stages.observe({ stage }, Math.max(0, ends[i] - (ends[i - 1] ?? 0)) / 1000);
    };
  }

  /** Content type of {@link EngineMetrics.render}. */
  get contentType(): string {
    return this.registry.contentType;
  }

  /** All series in the Prometheus text format. */
  async render(): Promise<string> {
    this.#snapshot = this.#stats();
    try {
      return await this.registry.metrics();
    } finally {
      this.#snapshot = null;
    }
  }
}

function pausedReqs(stats: EngineStats): number {
  return stats.isPaused ? stats.numRunningReqs + stats.numQueueReqs : 0;
}

/** Storage counts pages. */
function storedTokens({ pages }: EngineStats, count = 0): number {
  return count * pages.pageSize;
}

/** Before the first batch some ratios are 0/0. */
function finite(value: number): number {
  return Number.isFinite(value) ? value : 0;
}
