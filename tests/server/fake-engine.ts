/**
 * A scripted engine with a byte tokenizer: token ids are UTF-8 bytes, an answer is a list of pieces, a piece is a chunk.
 * It keeps what it was asked, and can wait between pieces until it is told to go on or aborted.
 */
import { SglangError } from "../../src/core/errors.js";
import type {
  ChunkLogprobs,
  EmbedRequest,
  EmbedResult,
  EngineApi,
  EngineStats,
  FinishReason,
  GenerateChunk,
  GenerateRequest,
  ModelInfo,
  PauseMode,
  Prompt,
  ScoreRequest,
  ScoreResult,
  SessionOptions,
  TokenLogprob,
} from "../../src/core/protocol.js";
import { NO_GRAMMARS } from "../../src/runtime/grammar-manager.js";
import { AnswerThinking } from "../../src/runtime/thinking.js";
import type { ServerTokenizer } from "../../src/server/context.js";

export interface FakeAnswer {
  pieces: string[];
  finish?: FinishReason;
}

export interface FakeOptions {
  /** What answer `index` of a request says. @default ["Hello", ", ", "world"], ended by token 0 */
  answer?: (request: GenerateRequest, index: number) => FakeAnswer;
  /** Awaited before every piece but the first. */
  between?: () => Promise<unknown>;
  /** Thrown by `generate`; `after` pieces when given. */
  fail?: { error: unknown; after?: number };
  model?: Partial<ModelInfo>;
  flushes?: boolean;
}

/** Tokens of one piece are at most its first characters: pieces of many kilobytes test the network, not tokens. */
const MAX_PIECE_TOKENS = 64;

const defaultAnswer = (): FakeAnswer => ({ pieces: ["Hello", ", ", "world"] });

const bytes = (text: string) => [...Buffer.from(text, "utf8")];

export const fakeTokenizer: ServerTokenizer = {
  encode: (text, special = true) => [...(special ? [1] : []), ...bytes(text)],
  decode: (ids, { skipSpecialTokens = true } = {}) =>
    Buffer.from(ids.filter((id) => id >= 10 || !skipSpecialTokens)).toString("utf8"),
  tokenBytes: (id) => Uint8Array.of(id),
  chatTemplate: {
    render: (messages, { addGenerationPrompt = true } = {}) =>
      messages.map((m) => `<${m.role}>${m.content}`).join("") + (addGenerationPrompt ? "<assistant>" : ""),
  },
};

export function promptIds(prompt: Prompt): readonly number[] {
  if ("inputIds" in prompt) return prompt.inputIds;
  if ("text" in prompt) return fakeTokenizer.encode(prompt.text);
  return fakeTokenizer.encode(fakeTokenizer.chatTemplate?.render(prompt.messages) ?? "", false);
}

export class FakeEngine implements EngineApi {
  readonly model: ModelInfo;
  readonly requests: GenerateRequest[] = [];
  readonly embeds: EmbedRequest[] = [];
  readonly scores: ScoreRequest[] = [];
  /** Ids of requests whose signal fired while they ran. */
  readonly aborted: string[] = [];
  readonly flushCalls: (number | undefined)[] = [];
  running = 0;
  /** Pieces handed out, over all requests. */
  pieces = 0;
  closed = false;
  readonly sessions = new Map<string, SessionOptions>();
  /** Modes of pauses; null = went on. */
  readonly pauses: (PauseMode | null)[] = [];
  options: FakeOptions;

  constructor(options: FakeOptions = {}) {
    this.options = options;
    this.model = {
      modelPath: "models/fake.gguf",
      servedModelName: "org/fake-1b",
      architecture: "Qwen2ForCausalLM",
      modelType: "qwen2",
      vocabSize: 256,
      contextLength: 4096,
      isGeneration: true,
      hasChatTemplate: true,
      dtypes: { F32: 2 },
      parameters: 1000,
      weightVersion: "default",
      preferredSamplingParams: {},
      ...options.model,
    };
  }

  async *generate(request: GenerateRequest): AsyncGenerator<GenerateChunk> {
    this.requests.push(request);
    this.running += 1;
    const gone = new Promise<"gone">((resolve) => {
      request.signal?.addEventListener("abort", () => {
        this.aborted.push(request.rid ?? "");
        resolve("gone");
      });
    });
    try {
      yield* this.#answers(request, gone);
    } finally {
      this.running -= 1;
    }
  }

  async *#answers(request: GenerateRequest, gone: Promise<"gone">): AsyncGenerator<GenerateChunk> {
    const { fail, between, answer = defaultAnswer } = this.options;
    if (fail && (fail.after ?? 0) === 0) throw fail.error;
    const prompt = promptIds(request.prompt);
    const n = request.samplingParams?.n ?? 1;
    const answers = Array.from({ length: n }, (_, index) => answer(request, index));
    const sent = answers.map(() => 0);
    const { reasoning } = request;
    const thinking = answers.map(
      () =>
        reasoning &&
        new AnswerThinking(reasoning.format, {
          separate: reasoning.separate ?? true,
          seam: request.constraint ? "lines" : "space",
        }),
    );
    const steps = Math.max(...answers.map(({ pieces }) => pieces.length));
    const stream = request.stream ?? true;
    const chunk = (index: number, text: string, last: boolean, finish: FinishReason | null): GenerateChunk => {
      const ids = bytes(text.slice(0, MAX_PIECE_TOKENS));
      const first = sent[index] === 0;
      sent[index] += ids.length;
      for (const id of ids) thinking[index]?.push(Uint8Array.of(id));
      return {
        rid: n > 1 ? `${request.rid}_${index}` : (request.rid ?? "made-up"),
        index,
        ...(thinking[index]?.split(text, last) ?? { textDelta: text }),
        tokenIdsDelta: ids,
        finishReason: last ? finish : null,
        usage: {
          promptTokens: prompt.length,
          completionTokens: sent[index],
          cachedTokens: index === 0 ? 1 : prompt.length - 1,
          ...(reasoning && { reasoningTokens: thinking[index]?.tokens }),
        },
        logprobs: request.logprobs && fakeLogprobs(request, prompt, ids, first),
        promptTokenIds: first ? prompt : undefined,
        timing: { queuedMs: 2, firstTokenMs: 150, totalMs: 150 + 10 * sent[index], retractions: 0 },
      };
    };
    const end = (index: number): FinishReason => answers[index].finish ?? { type: "stop", matched: 0 };
    for (let step = 0; step < steps; step++) {
      if (step > 0 && between && (await Promise.race([between(), gone])) === "gone") break;
      if (request.signal?.aborted) break;
      if (fail && step === fail.after) throw fail.error;
      if (!stream && step < steps - 1) continue;
      for (let index = 0; index < n; index++) {
        const { pieces } = answers[index];
        if (stream && step >= pieces.length) continue;
        this.pieces += 1;
        const text = stream ? pieces[step] : pieces.join("");
        yield chunk(index, text, stream ? step === pieces.length - 1 : true, end(index));
      }
    }
    if (!request.signal?.aborted) return;
    const finish: FinishReason = { type: "abort", message: "Aborted by the caller." };
    for (let index = 0; index < n; index++) yield chunk(index, "", true, finish);
  }

  async embed(request: EmbedRequest): Promise<EmbedResult> {
    this.embeds.push(request);
    const ids = promptIds(request.prompt);
    return { rid: request.rid ?? "", embedding: Float32Array.of(ids.length, 0.5, -1), promptTokens: ids.length };
  }

  async score(request: ScoreRequest): Promise<ScoreResult> {
    this.scores.push(request);
    return { scores: request.items.map((_, i) => request.labelTokenIds.map((id) => i + id / 1000)), promptTokens: 7 };
  }

  stats(): EngineStats {
    return {
      numRunningReqs: this.running,
      numQueueReqs: 2,
      numUsedTokens: 128,
      maxTotalNumTokens: 1024,
      maxRunningRequests: 8,
      numRetractedReqs: 1,
      decodeSumSeqLens: 77,
      tokenUsage: 0.125,
      cacheHitRate: Number.NaN,
      genThroughput: 42.5,
      idleShare: 0.01,
      newTokenRatio: 0.7,
      grammar: NO_GRAMMARS,
      pages: { total: 64, free: 56, evictable: 4, protected: 0, inUse: 4, pageSize: 16 },
      counters: {
        requests: this.requests.length,
        aborted: this.aborted.length,
        promptTokens: 100,
        generationTokens: 50,
        cachedTokens: 30,
        computedPromptTokens: 70,
        retractions: 1,
        retractedInputTokens: 5,
        retractedOutputTokens: 2,
        prefillSteps: 3,
        decodeSteps: 9,
        nativeBusySeconds: 3,
        nativeIdleSeconds: 0.03,
        preemptions: 0,
        jumpForwardTokens: 0,
        evictedTokens: 0,
      },
      isPaused: (this.pauses.at(-1) ?? null) !== null,
      kernels: { tier: "portable", reason: "fake", threads: 1 },
      memory: { weightsBytes: 1, kvBytes: 2, arenaBytes: 3, rssBytes: 4 },
      hicache: {
        hostPages: 0,
        hostBytes: 0,
        savedPages: 0,
        loadedPages: 0,
        storage: { pages: 0, bytes: 0, reads: 3, writes: 5, corrupt: 0 },
      },
      startup: { loadWeightsSeconds: 1.5, totalSeconds: 2.5 },
      uptimeSeconds: 10,
    };
  }

  async flushCache(options?: { timeoutSeconds?: number }): Promise<boolean> {
    this.flushCalls.push(options?.timeoutSeconds);
    return this.options.flushes ?? true;
  }

  async pauseGeneration(mode: PauseMode): Promise<void> {
    this.pauses.push(mode);
  }

  continueGeneration(): void {
    this.pauses.push(null);
  }

  openSession(options: SessionOptions = {}): string {
    const id = options.id ?? `session ${this.sessions.size}`;
    this.sessions.set(id, options);
    return id;
  }

  closeSession(id: string): boolean {
    return this.sessions.delete(id);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

function fakeLogprobs(
  request: GenerateRequest,
  prompt: readonly number[],
  ids: number[],
  first: boolean,
): ChunkLogprobs {
  const { startLen = -1, topNum = 0, tokenIds = [] } = request.logprobs ?? {};
  const text = (id: number) => String.fromCharCode(id);
  const one = (id: number): TokenLogprob => [-id / 100, id, text(id)];
  const top = (): TokenLogprob[] => Array.from({ length: topNum }, (_, k) => [-(k + 1) / 10, 65 + k, text(65 + k)]);
  const chosen = (): TokenLogprob[] => tokenIds.map((id) => [-0.5, id, text(id)]);
  const out: ChunkLogprobs = { output: ids.map(one), outputTop: ids.map(top), outputTokenIds: ids.map(chosen) };
  if (!first || startLen < 0) return out;
  const positions = prompt.slice(startLen);
  out.input = positions.map((id, i) => (startLen + i === 0 ? [null, id, text(id)] : one(id)));
  out.inputTop = positions.map((_, i) => (startLen + i === 0 ? null : top()));
  out.inputTokenIds = positions.map((_, i) => (startLen + i === 0 ? null : chosen()));
  return out;
}

/** The error of a full queue, as an engine throws it. */
export const queueFull = () => new SglangError("QUEUE_FULL", "8 requests are waiting already; retry later.");
