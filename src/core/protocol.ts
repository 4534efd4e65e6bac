/**
 * What crosses the engine's door: one request type going in, one chunk type coming out, and the six verbs.
 *
 *   server / lang  -- GenerateRequest -->  Engine  -- GenerateChunk* -->  server / lang
 *
 * The in-process engine, a proxy to one in another process, and test fakes all implement {@link EngineApi}.
 */
import type { ReasoningFormat } from "./reasoning.js";
import type { SamplingParams } from "./sampling-params.js";

export interface TextPart {
  type: "text";
  text: string;
}
export interface ToolCall {
  id?: string;
  type?: "function";
  function: { name: string; arguments: string | Record<string, unknown> };
}
export interface ChatMessage {
  role: string;
  content: string | TextPart[] | null;
  name?: string;
  tool_calls?: ToolCall[];
  tool_call_id?: string;
  reasoning_content?: string;
}
export interface ToolDefinition {
  type: "function";
  function: { name: string; description?: string; parameters?: Record<string, unknown>; strict?: boolean };
}

/** What the prompt is: exactly one of the three. */
export type Prompt =
  | { text: string }
  | { inputIds: readonly number[] }
  | {
      messages: readonly ChatMessage[];
      tools?: readonly ToolDefinition[];
      /** Continue the last assistant message instead of opening a new turn. */
      continueFinalMessage?: boolean;
      /** Extra variables for the chat template. */
      chatTemplateKwargs?: Record<string, unknown>;
    };

export interface LogprobRequest {
  /** First prompt position whose logprob is wanted; -1 = output tokens only. @default -1 */
  startLen?: number;
  /** Likeliest tokens to report per position. 0..64. @default 0 */
  topNum?: number;
  /** Token ids whose logprob is reported at every position. */
  tokenIds?: readonly number[];
}

/** What an answer must look like as a whole. Enforced token by token, exactly; what cannot be enforced is refused by name. */
export type Constraint =
  /** A JSON value that fits. `schema`: plain data, or its JSON text, which keeps the order of all properties. */
  | { type: "jsonSchema"; schema: unknown }
  /** Any JSON object. */
  | { type: "jsonObject" }
  /** ECMAScript syntax; the whole answer matches. */
  | { type: "regex"; pattern: string }
  /** XGrammar's EBNF; matching begins at the rule `root`. */
  | { type: "ebnf"; grammar: string }
  /** A subset of Lark; matching begins at the rule `start`. */
  | { type: "lark"; grammar: string }
  | { type: "choices"; choices: readonly string[] }
  /** Free text with constrained spans; both of SGLang's spellings, plain data or JSON text. */
  | { type: "structuralTag"; tag: unknown };

export interface ReasoningRequest {
  format: ReasoningFormat;
  /** true: thinking comes as `reasoningDelta`, without its marks. false: all of it is text. @default true */
  separate?: boolean;
}

export type JumpForward = "verified" | "forced";

export interface GenerateRequest {
  prompt: Prompt;
  samplingParams?: Partial<SamplingParams>;
  constraint?: Constraint;
  /**
   * The model may think before it answers; a constraint then begins after the thinking. Absent: everything is answer.
   */
  reasoning?: ReasoningRequest;
  /** With a constraint: steer the answer so that it is complete within maxNewTokens. @default false */
  closeOnBudget?: boolean;
  /**
   * With a constraint, text that the grammar forces. `verified`: the model decides in which tokens it comes, so the answer is
   * the one without jump-forward. `forced`: it comes in the tokens the tokenizer would write, unseen by the model: fewer
   * steps, and an answer whose probabilities are not quite the model's own. @default "verified"
   */
  jumpForward?: JumpForward;
  /** Request id; made up when absent. With n > 1 answer i is `${rid}_${i}`. Must not be in use. */
  rid?: string;
  /** Ask for logprobs; absent = none. */
  logprobs?: LogprobRequest;
  /** true: a chunk per step. false: one chunk per answer, at its end. @default true */
  stream?: boolean;
  /** Aborts the request: pages and slots are free at the next step, the stream ends with finish reason `abort`. */
  signal?: AbortSignal;
  /** Prefix-cache namespace: requests with different keys never share pages. */
  extraKey?: string;
  /** Which requests go first; needs `enablePriorityScheduling`. @default the lowest */
  priority?: number;
  /** Whose share of the engine this takes, with `enableTenantFairness`. @default "", which is a tenant too */
  tenant?: string;
  /** Seconds after which the request is aborted, wherever it is. What it has produced until then is delivered. @default none */
  timeoutSeconds?: number;
  /** Continue an earlier request of a session (`openSession`). */
  session?: SessionParams;
}

/** Where in a session a prompt belongs: after the tokens of the session's request `rid`. */
export interface SessionParams {
  id: string;
  /** Earlier request to continue; absent = a fresh start within the session. */
  rid?: string;
  /** Tokens of the earlier prompt + output to keep, counted from the end when negative; absent or 0 = all. */
  offset?: number;
  /** Forget what continued `rid` so far (abort it where it runs); without `rid` forget the whole session. @default false */
  replace?: boolean;
  /** Continue the earlier prompt without its output. @default false */
  dropPreviousOutput?: boolean;
}

export interface SessionOptions {
  /** @default a fresh one */
  id?: string;
  /** Most tokens the session keeps; 0 = as many as come. @default 0 */
  capacity?: number;
  /** Closes itself when unused for so long. @default never */
  timeoutSeconds?: number;
}

/** What happens to running and waiting requests when generation is paused. */
export type PauseMode = "abort" | "retract" | "in_place";
export const PAUSE_MODES: readonly PauseMode[] = ["abort", "retract", "in_place"];

export type FinishReason =
  | { type: "stop"; matched: number | string }
  | { type: "length"; length: number }
  | { type: "abort"; message: string; statusCode?: number };

/** `[logprob, tokenId, text]`; the first prompt token has logprob null. Raw model logprobs: log-softmax of the logits before penalties, bias, and temperature. */
export type TokenLogprob = [logprob: number | null, tokenId: number, text: string];

export interface ChunkLogprobs {
  /** New output tokens of this chunk. */
  output: TokenLogprob[];
  outputTop: TokenLogprob[][];
  outputTokenIds: TokenLogprob[][];
  /** Prompt positions from startLen on; only in the first chunk of an answer. */
  input?: TokenLogprob[];
  inputTop?: (TokenLogprob[] | null)[];
  inputTokenIds?: (TokenLogprob[] | null)[];
}

export interface Usage {
  promptTokens: number;
  completionTokens: number;
  /** Prompt tokens whose KV came from the prefix cache. */
  cachedTokens: number;
  /** The same by the tier that had them. Absent where the engine does not tell. */
  cachedTokensDetails?: CachedTokensDetails;
  /** Of the completion tokens, those of the thinking and its marks. Absent without `reasoning` in the request. */
  reasoningTokens?: number;
}

/** Cached prompt tokens by where they were: in the KV pool, in host memory beyond it, on disk. */
export interface CachedTokensDetails {
  device: number;
  host: number;
  storage: number;
}

export interface GenerateChunk {
  rid: string;
  /** Which of the n answers. */
  index: number;
  /** New text since the last chunk of this answer. Never splits a character, never re-emits. */
  textDelta: string;
  /** New thinking, where the request asked for it apart. */
  reasoningDelta?: string;
  /** New token ids since the last chunk of this answer (includes a trimmed stop token). */
  tokenIdsDelta: number[];
  /** null until the answer ends; the chunk that carries a reason is its last. */
  finishReason: FinishReason | null;
  usage: Usage;
  logprobs?: ChunkLogprobs;
  /** The prompt's tokens, in the first chunk of each answer. */
  promptTokenIds?: readonly number[];
  /** Milliseconds, from the monotonic clock. */
  timing: { queuedMs: number; firstTokenMs: number | null; totalMs: number; retractions: number };
}

export interface EmbedRequest {
  prompt: Prompt;
  rid?: string;
  signal?: AbortSignal;
}
export interface EmbedResult {
  rid: string;
  /** L2-normalised last-token state, [hidden]. */
  embedding: Float32Array;
  promptTokens: number;
}

export interface ScoreRequest {
  query: string | readonly number[];
  items: readonly string[] | readonly (readonly number[])[];
  /** Tokens whose probability after `query + item` is the score. */
  labelTokenIds: readonly number[];
  /** true: softmax over the labels; false: probabilities over the vocabulary. @default false */
  applySoftmax?: boolean;
  /** true: item + query. @default false */
  itemFirst?: boolean;
  signal?: AbortSignal;
}
export interface ScoreResult {
  /** [items][labels]. */
  scores: number[][];
  promptTokens: number;
}

export interface ModelInfo {
  modelPath: string;
  servedModelName: string;
  architecture: string;
  modelType: string;
  vocabSize: number;
  contextLength: number;
  isGeneration: boolean;
  hasChatTemplate: boolean;
  dtypes: Record<string, number>;
  parameters: number;
  weightVersion: string;
  /** Sampling values from generation_config.json that stand in for SGLang's constants. */
  preferredSamplingParams: Partial<SamplingParams>;
}

/** One run of tokens in the prefix cache. */
export interface CacheTreeNode {
  id: number;
  /** The node whose tokens come before; null = the text begins here. */
  parent: number | null;
  /** "" = no extra key; else a digest of it, which tells namespaces apart without giving them away. */
  namespace: string;
  /** Tokens before this node's. */
  depth: number;
  tokens: number;
  pages: number;
  /** Requests that found it in the cache. */
  hits: number;
  /** Running requests that read it. */
  locks: number;
  priority: number;
  /** Seconds since the last use. */
  idleSeconds: number;
  text?: string;
}

/** The prefix cache: parents before their children. */
export interface CacheTree {
  pageSize: number;
  evictableTokens: number;
  protectedTokens: number;
  /** nodes.length, unless that was limited. */
  totalNodes: number;
  nodes: CacheTreeNode[];
}

/** The second tier of the prefix cache. */
export interface HicacheStats {
  hostPages: number;
  hostBytes: number;
  /** Pages copied out of the KV cache, and back into it, since the start. */
  savedPages: number;
  loadedPages: number;
  /** Files; `corrupt` counts damaged ones that were dropped. null = no storage. */
  storage: { pages: number; bytes: number; reads: number; writes: number; corrupt: number } | null;
}

/** A moment's numbers; counters count from the start. */
export interface EngineStats {
  numRunningReqs: number;
  numQueueReqs: number;
  /** Of those in the queue, the ones that ran before and had to give way. */
  numRetractedReqs: number;
  /** Tokens of all running requests, prompt and output. */
  decodeSumSeqLens: number;
  numUsedTokens: number;
  maxTotalNumTokens: number;
  maxRunningRequests: number;
  /** numUsedTokens / maxTotalNumTokens. */
  tokenUsage: number;
  /** Cached share of the prompt tokens of the last prefill batches. */
  cacheHitRate: number;
  /** Tokens per second over the last decode interval. */
  genThroughput: number;
  /** Share of the time of the last steps that native threads had nothing to do though requests ran. */
  idleShare: number;
  newTokenRatio: number;
  pages: { total: number; free: number; evictable: number; protected: number; inUse: number; pageSize: number };
  counters: {
    requests: number;
    aborted: number;
    promptTokens: number;
    generationTokens: number;
    cachedTokens: number;
    /** Prompt tokens that went through a forward pass. */
    computedPromptTokens: number;
    retractions: number;
    /** Prompt and output tokens of retracted requests, which are computed again where they are not cached. */
    retractedInputTokens: number;
    retractedOutputTokens: number;
    prefillSteps: number;
    decodeSteps: number;
    /** Seconds that native threads computed, and that they waited between steps or for masks. */
    nativeBusySeconds: number;
    nativeIdleSeconds: number;
    /** Running requests that gave way to a higher priority. */
    preemptions: number;
    /** Output tokens that were expected from a grammar, computed together and found right. */
    jumpForwardTokens: number;
    evictedTokens: number;
  };
  /** Requests with a constraint, and what came of their grammars. */
  grammar: {
    /** Waiting for their grammar now. */
    waiting: number;
    requests: number;
    cacheHits: number;
    /** Grammars compiled, and the seconds that took, waiting included. */
    compiled: number;
    compileSeconds: number;
    /** Seconds of the latest compilations, the last one last. */
    latestCompileSeconds: readonly number[];
    refused: number;
    /** Of the grammars, those that took too long to compile. */
    timedOut: number;
    aborted: number;
  };
  /** `pauseGeneration` was called and `continueGeneration` was not. */
  isPaused: boolean;
  /** null or absent: no second tier. */
  hicache?: HicacheStats | null;
  kernels: { tier: string; reason: string; threads: number };
  memory: { weightsBytes: number; kvBytes: number; arenaBytes: number; rssBytes: number };
  uptimeSeconds: number;
  /** Seconds that loading the weights took, and everything until the engine was there; 0 when it was not loaded from files. */
  startup: { loadWeightsSeconds: number; totalSeconds: number };
}

/** The six verbs, what the engine is, and its tokenizer where it has one. */
export interface EngineApi {
  readonly model: ModelInfo;
  generate(request: GenerateRequest): AsyncIterable<GenerateChunk>;
  embed(request: EmbedRequest): Promise<EmbedResult>;
  score(request: ScoreRequest): Promise<ScoreResult>;
  stats(): EngineStats;
  /** Token ids of a text; long texts are encoded off the event loop. Absent where there is no tokenizer at hand. */
  encode?(text: string, addSpecialTokens?: boolean): Promise<readonly number[]>;
  /** What is in the prefix cache; null without one. Absent where the cache cannot be seen. */
  cacheTree?(options?: { text?: boolean; maxNodes?: number }): CacheTree | null;
  /**
   * Resolves when the first request with a constraint takes no longer than later ones. Requests may come before: an engine
   * warms up while nothing runs. Absent where there is nothing to warm up.
   */
  readonly warmedUp?: Promise<void>;
  /** Empties the prefix cache. false when requests run or wait (after `timeoutSeconds` of waiting). */
  flushCache(options?: { timeoutSeconds?: number }): Promise<boolean>;
  /** No steps until `continueGeneration`; new requests wait. Absent where there is no scheduler at hand. */
  pauseGeneration?(mode: PauseMode): Promise<void>;
  continueGeneration?(): void;
  /** Opens a session and returns its id. Absent where there are none. */
  openSession?(options?: SessionOptions): string;
  /** Forgets a session; false when there is none of that id. Running requests go on. */
  closeSession?(id: string): boolean;
  /** Aborts what runs, frees everything. Idempotent. */
  close(): Promise<void>;
}
