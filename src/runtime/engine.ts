/**
 * The engine: six verbs over one model.
 *
 * ```ts
 * await using engine = await Engine.load("qwen2.5-coder-0.5b");
 * for await (const chunk of engine.generate({ prompt: { text: "Once upon a time" } })) process.stdout.write(chunk.textDelta);
 * ```
 */
import { randomUUID } from "node:crypto";
import { invalidField, SglangError } from "../core/errors.js";
import type {
  CacheTree,
  EmbedRequest,
  EmbedResult,
  EngineApi,
  EngineStats,
  GenerateChunk,
  GenerateRequest,
  ModelInfo,
  PauseMode,
  Prompt,
  ReasoningRequest,
  ScoreRequest,
  ScoreResult,
  SessionOptions,
} from "../core/protocol.js";
import type { ReasoningFormat } from "../core/reasoning.js";
import { resolveSamplingParams, type SamplingParams } from "../core/sampling-params.js";
import type { CompiledGrammar, Vocabulary } from "../grammar/index.js";
import { createDetokenizer } from "../tokenizer/detokenizer.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { describeCacheTree } from "./cache-tree.js";
import type { EngineConfig } from "./config.js";
import { createTier } from "./create-tier.js";
import { GenerateCall } from "./generate-call.js";
import { GrammarConstraint } from "./grammar-constraint.js";
import { GrammarManager, NO_GRAMMARS } from "./grammar-manager.js";
import { type LoadOptions, loadEngineParts } from "./load.js";
import type { ModelRunner } from "./model-runner.js";
import { AnswerOutput, TokenTexts } from "./output.js";
import type { Random } from "./policy.js";
import { Probes } from "./probes.js";
import { checkLogprobs, fitPrompt, type LongTextEncoder, PromptEncoder } from "./prompt.js";
import { createRandom } from "./random.js";
import { Req } from "./request.js";
import { Scheduler } from "./scheduler.js";
import { priorityOf, schedulerOptions } from "./scheduler-options.js";
import { type SessionNode, Sessions } from "./sessions.js";
import { StopMatcher } from "./stop-matcher.js";
import { AnswerThinking, thinkingAfter } from "./thinking.js";
import { TimeSlices } from "./time-slices.js";
import { Trace } from "./trace.js";
import { makeVocabulary } from "./vocabulary-cache.js";

/** Prompt tokens the detokenizer sees before the answer, for spaces and split characters at its start. */
const PROMPT_TAIL = 64;
/** Nodes of the prefix cache that are shown unless more are asked for. */
const MAX_TREE_NODES = 10_000;

/** What an engine is made of; {@link Engine.load} makes these from a model, tests from fakes. */
export interface EngineParts {
  runner: ModelRunner;
  tokenizer: Tokenizer;
  config: EngineConfig;
  model: ModelInfo;
  /** Tokenises long texts; null = on the event loop. */
  encoders: LongTextEncoder | null;
  /** What grammars need of the tokenizer's vocabulary. @default made from it, which takes a while for a large one */
  vocabulary?: Vocabulary;
  /** Of weights and KV layout: names pages on disk. Needed with hicacheStorageBackend. */
  kvIdentity?: string;
  /** What loading took. @default zeros */
  startup?: EngineStats["startup"];
  /** Check page accounting after every step. @default false */
  strict?: boolean;
}

export class Engine implements EngineApi {
  readonly model: ModelInfo;
  readonly tokenizer: Tokenizer;
  readonly config: EngineConfig;
  /** Resolved from the start for an engine that {@link Engine.load} did not make. */
  warmedUp = Promise.resolve();
  readonly #runner: ModelRunner;
  readonly #scheduler: Scheduler;
  readonly #trace: Trace | null;
  readonly #encoder: PromptEncoder;
  readonly #slices = new TimeSlices();
  readonly #encoders: LongTextEncoder | null;
  /** null: the engine takes no constraints. */
  readonly #grammars: GrammarManager | null;
  readonly #texts: TokenTexts;
  readonly #random: Random;
  readonly #rids = new Set<string>();
  readonly #probes: Probes;
  readonly #sessions = new Sessions();
  readonly #startedAt = performance.now();
  readonly #startup: EngineStats["startup"];
  #closed: Promise<void> | null = null;

  constructor(parts: EngineParts) {
    const { runner, tokenizer, config, model } = parts;
    this.model = model;
    this.tokenizer = tokenizer;
    this.config = config;
    this.#startup = parts.startup ?? { loadWeightsSeconds: 0, totalSeconds: 0 };
    this.#runner = runner;
    this.#encoders = parts.encoders;
    this.#encoder = new PromptEncoder(tokenizer, runner.vocabSize, this.#slices, parts.encoders);
    this.#grammars =
      config.grammarBackend === "none" || config.isEmbedding
        ? null
        : new GrammarManager(tokenizer, parts.vocabulary ?? makeVocabulary(tokenizer, runner.vocabSize), this.#slices, {
            anyWhitespace: !config.constrainedJsonDisableAnyWhitespace,
          });
    this.#texts = new TokenTexts(tokenizer);
    this.#random = createRandom(config.randomSeed);
    this.#trace = config.trace === null ? null : new Trace(config.trace);
    const given = {
      strict: parts.strict ?? false,
      trace: this.#trace,
      tier: createTier(config, runner, parts.kvIdentity),
    };
    this.#scheduler = new Scheduler(runner, schedulerOptions(config, runner, given));
    this.#probes = new Probes({
      vocabSize: runner.vocabSize,
      encoder: this.#encoder,
      scheduler: this.#scheduler,
      slices: this.#slices,
      fit: (ids) => this.#fit(ids, 0, true),
    });
  }

  /**
   * Finds (fetches, if need be), checks and packs a model, and starts an engine over it.
   * @param modelSpec a GGUF file, a folder, a catalog name, or `org/name[:file]` of a hub
   * @throws SglangError naming the file, flag or tensor; OUT_OF_MEMORY with the numbers
   */
  static async load(modelSpec: string, options: LoadOptions = {}): Promise<Engine> {
    const parts = await loadEngineParts(modelSpec, options);
    try {
      const engine = new Engine(parts);
      engine.warmedUp = engine.#grammars?.warmUp(() => engine.#scheduler.whenIdle()) ?? engine.warmedUp;
      return engine;
    } catch (error) {
      await parts.encoders?.close();
      await parts.runner.close();
      throw error;
    }
  }

  /** Chunks of all answers as they come; each answer ends with the chunk that has a finish reason. Starts at the first `next`. */
  generate(request: GenerateRequest): AsyncIterableIterator<GenerateChunk> {
    const call = new GenerateCall();
    call.onStart = () => void this.#startGenerate(request, call);
    return call;
  }

  async embed(request: EmbedRequest): Promise<EmbedResult> {
    if (!this.config.isEmbedding) {
      throw new SglangError("UNSUPPORTED", "This engine serves text; start it with --is-embedding to get embeddings.");
    }
    const rid = this.#claimRid(request.rid);
    try {
      return { rid, ...(await this.#probes.embed(request, rid)) };
    } finally {
      this.#rids.delete(rid);
    }
  }

  async score(request: ScoreRequest): Promise<ScoreResult> {
    if (this.config.isEmbedding)
      throw new SglangError("UNSUPPORTED", "An engine started with --is-embedding cannot score.");
    return this.#probes.score(request);
  }

  /** Token ids of a text as prompts get them: in time slices, long texts in a worker thread. */
  encode(text: string, addSpecialTokens = true): Promise<readonly number[]> {
    return this.#encoder.text(text, addSpecialTokens);
  }

  stats(): EngineStats {
    return {
      ...this.#scheduler.stats(),
      grammar: this.#grammars?.stats() ?? NO_GRAMMARS,
      kernels: this.#runner.kernels,
      memory: { ...this.#runner.memory, rssBytes: process.memoryUsage.rss() },
      startup: this.#startup,
      uptimeSeconds: (performance.now() - this.#startedAt) / 1000,
    };
  }

  cacheTree({ text = false, maxNodes = MAX_TREE_NODES }: { text?: boolean; maxNodes?: number } = {}): CacheTree | null {
    const { radix } = this.#scheduler.kv;
    return radix && describeCacheTree(radix, { maxNodes, decode: text ? (ids) => this.tokenizer.decode(ids) : null });
  }

  async flushCache(options: { timeoutSeconds?: number } = {}): Promise<boolean> {
    const deadline = performance.now() + (options.timeoutSeconds ?? 0) * 1000;
    for (;;) {
      if (this.#scheduler.flushCache()) return true;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      let timer: NodeJS.Timeout | undefined;
      const timeout = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, left);
      });
      await Promise.race([this.#scheduler.whenIdle(), timeout]);
      clearTimeout(timer);
    }
  }

  pauseGeneration(mode: PauseMode): Promise<void> {
    return this.#scheduler.pause(mode);
  }

  continueGeneration(): void {
    this.#scheduler.resume();
  }

  openSession(options: SessionOptions = {}): string {
    return this.#sessions.open(options);
  }

  closeSession(id: string): boolean {
    return this.#sessions.close(id);
  }

  /**
   * For errors that nobody caught: what is in memory cannot be relied on any more. Every request that runs or waits is
   * answered with `cause`, and none is taken; {@link failed} resolves.
   */
  fail(cause: Error): void {
    this.#scheduler.fail(cause);
  }

  /** Resolves when the engine died of an internal error: every request was answered with it, and none is taken any more. */
  get failed(): Promise<SglangError> {
    return this.#scheduler.failed;
  }

  close(): Promise<void> {
    this.#closed ??= (async () => {
      this.#sessions.closeAll();
      await this.#grammars?.close();
      await this.#scheduler.close();
      await this.#scheduler.kv.close();
      await this.#trace?.close();
      await this.#encoders?.close();
      await this.#runner.close();
    })();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #startGenerate(request: GenerateRequest, call: GenerateCall): Promise<void> {
    const receivedAt = performance.now();
    const { session } = request;
    let node: SessionNode | null = null;
    let rid = "";
    let n = 1;
    try {
      if (this.config.isEmbedding)
        throw new SglangError("UNSUPPORTED", "An engine started with --is-embedding cannot generate text.");
      call.limit(request.timeoutSeconds);
      rid = this.#claimRid(request.rid);
      const claimed = rid;
      call.onEnd = () => {
        this.#rids.delete(claimed);
        node?.ended();
      };
      call.follow(request.signal);
      const priority = priorityOf(request.priority, this.config);

      const params = await this.#slices.run(() =>
        resolveSamplingParams(request.samplingParams, {
          vocabSize: this.#runner.vocabSize,
          defaults: this.model.preferredSamplingParams,
        }),
      );
      n = params.n;
      if (session && params.n > 1) throw invalidField("sampling_params.n", "1 in a session", params.n);
      // Tokenised while the grammar compiles; how the answer thinks, the end of the prompt says.
      const compiling = request.reasoning ? null : this.#compile(request, call, null);
      compiling?.catch(() => {});
      const encoded = call.aborted ? null : await this.#encoder.encode(request.prompt);
      const thinking = request.reasoning && encoded ? this.#thinking(request.reasoning, request.prompt, encoded) : null;
      const grammar = call.aborted ? null : await (compiling ?? this.#compile(request, call, thinking));
      await this.#slices.run(() => {
        if (!encoded || call.aborted) {
          call.endAborted(rid, params.n);
          return;
        }
        const isExplicit = request.samplingParams?.maxNewTokens !== undefined;
        let prompt: readonly number[] = encoded;
        if (session) [prompt, node] = this.#sessions.add(session, rid, encoded, this.tokenizer.bosTokenId);
        const { ids, maxNewTokens } = this.#fit(prompt, params.maxNewTokens, isExplicit);
        checkLogprobs(request.logprobs, ids.length, this.#encoder);
        const reqs = this.#answers(request, call, {
          rid,
          ids,
          params,
          maxNewTokens,
          receivedAt,
          priority,
          grammar: grammar ?? null,
          thinking,
        });
        this.#scheduler.enqueue(reqs);
        call.started(reqs, this.#scheduler);
        node?.started(reqs[0], call.abort);
      });
    } catch (error) {
      if (session && node) this.#sessions.remove(session.id, node);
      // Aborted while its grammar compiled: the same end as anywhere else.
      if (call.aborted && SglangError.isInstance(error) && error.code === "ABORTED") call.endAborted(rid, n);
      else call.end(error as Error);
    }
  }

  /** The grammar of a request's constraint; null without one. */
  #compile(
    { constraint, closeOnBudget, jumpForward }: GenerateRequest,
    call: GenerateCall,
    thinking: ReasoningFormat | null,
  ): Promise<CompiledGrammar> | null {
    if (!constraint) {
      if (jumpForward === "forced") throw invalidField("jump_forward", "left out without a constraint", jumpForward);
      if (closeOnBudget) throw invalidField("close_on_budget", "left out without a constraint", closeOnBudget);
      return null;
    }
    if (this.#grammars) return this.#grammars.compile(constraint, call.signal, thinking);
    throw new SglangError(
      "UNSUPPORTED",
      "Constraints are off on this engine; start it without --grammar-backend none.",
      {
        field: "--grammar-backend",
      },
    );
  }

  /** How the answer to a prompt thinks; null = not at all. */
  #thinking({ format }: ReasoningRequest, prompt: Prompt, ids: readonly number[]): ReasoningFormat | null {
    const tail = this.tokenizer.decode(ids.slice(-PROMPT_TAIL), { skipSpecialTokens: false });
    return thinkingAfter(format, prompt, tail);
  }

  /** The n independent requests of one generate request; they share the prompt's pages through the prefix cache. */
  #answers(
    request: GenerateRequest,
    call: GenerateCall,
    given: {
      rid: string;
      ids: readonly number[];
      params: SamplingParams;
      maxNewTokens: number;
      receivedAt: number;
      priority: number;
      grammar: CompiledGrammar | null;
      thinking: ReasoningFormat | null;
    },
  ): Req[] {
    const { rid, ids, params, maxNewTokens, receivedAt, priority, grammar, thinking } = given;
    const { reasoning } = request;
    // Where the marks are special tokens they would not show in the text.
    const marked = thinking !== null && [thinking.start, thinking.end].some((mark) => this.#isSpecial(mark));
    const stopIds = new Set(params.stopTokenIds);
    // Under a grammar an end token means that the text is complete: nothing could follow.
    if (!params.ignoreEos || grammar) for (const id of this.tokenizer.eosTokenIds) stopIds.add(id);
    const seed = params.seed ?? Math.floor(this.#random() * 2 ** 32);
    let open = params.n;
    const group = {};
    return Array.from({ length: params.n }, (_, index) => {
      const output = new AnswerOutput({
        index,
        detokenizer: createDetokenizer(
          this.tokenizer,
          {
            skipSpecialTokens: params.skipSpecialTokens && !marked,
            spacesBetweenSpecialTokens: params.spacesBetweenSpecialTokens,
          },
          ids.slice(-PROMPT_TAIL),
        ),
        stops: new StopMatcher({ strings: params.stop, regexes: params.stopRegex, trim: !params.noStopTrim }),
        texts: this.#texts,
        thinking:
          reasoning === undefined
            ? null
            : new AnswerThinking(thinking, {
                separate: reasoning.separate ?? true,
                seam: grammar ? "lines" : "space",
              }),
        stream: request.stream ?? true,
        streamInterval: this.config.streamInterval,
        emit: (chunk) => call.push(chunk),
        end: (error) => {
          if (error) call.end(error);
          else if (--open === 0) call.end(null);
        },
      });
      return new Req({
        rid: params.n > 1 ? `${rid}_${index}` : rid,
        group,
        promptIds: ids,
        params,
        maxNewTokens,
        seed: BigInt(seed) + BigInt(index),
        stopIds,
        namespace: request.extraKey,
        priority,
        tenant: request.tenant,
        logprobs: request.logprobs,
        ...(grammar && {
          constraint: new GrammarConstraint(grammar, {
            maxNewTokens,
            minNewTokens: params.minNewTokens,
            closeOnBudget: request.closeOnBudget ?? false,
            tokenizer: this.tokenizer,
            drafts: !this.config.disableJumpForward,
            forced: request.jumpForward === "forced",
            promptIds: ids,
          }),
        }),
        receivedAt,
        output,
      });
    });
  }

  #isSpecial(token: string): boolean {
    const id = this.tokenizer.tokenToId(token);
    return id !== null && this.tokenizer.isSpecial(id);
  }

  #fit(ids: readonly number[], maxNewTokens: number | null, isExplicit: boolean): ReturnType<typeof fitPrompt> {
    return fitPrompt(ids, {
      contextLength: this.model.contextLength,
      poolTokens: this.#runner.pages * this.#runner.pageSize,
      allowAutoTruncate: this.config.allowAutoTruncate,
      maxNewTokens,
      isExplicit,
    });
  }

  #claimRid(given: string | undefined): string {
    const rid = given ?? randomUUID().replaceAll("-", "");
    if (this.#rids.has(rid)) throw invalidField("rid", "not in use by another request", rid);
    this.#rids.add(rid);
    return rid;
  }
}
