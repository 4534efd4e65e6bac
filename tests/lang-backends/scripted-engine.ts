/**
 * An engine that answers what it is told, one token per piece. Prompts are tokenised by a byte vocabulary with a few longer
 * tokens, longest match first, so that a continuation can merge with the end of its prompt as it does in real models.
 */
import { SglangError } from "../../src/core/errors.js";
import type {
  ChunkLogprobs,
  EngineApi,
  EngineStats,
  FinishReason,
  GenerateChunk,
  GenerateRequest,
  ModelInfo,
  Prompt,
  TokenLogprob,
} from "../../src/core/protocol.js";
import type { ServerTokenizer } from "../../src/server/context.js";
import type { Script, ScriptedAnswer } from "../contracts/backend.js";

/** Ids 256 and on. */
const MERGED = [" the", "ing", "\n\n", "()", "():", "abc"];
const BOS = 300;

function encode(text: string, special = true): number[] {
  const ids = special ? [BOS] : [];
  const bytes = Buffer.from(text, "utf8");
  for (let at = 0; at < bytes.length; ) {
    const rest = bytes.subarray(at, at + 8).toString("latin1");
    const merged = MERGED.filter((token) => rest.startsWith(token)).sort((a, b) => b.length - a.length)[0];
    ids.push(merged ? 256 + MERGED.indexOf(merged) : bytes[at]);
    at += merged?.length ?? 1;
  }
  return ids;
}

const tokenBytes = (id: number) =>
  id === BOS ? Buffer.alloc(0) : id >= 256 ? Buffer.from(MERGED[id - 256] ?? "?") : Buffer.of(id);

export const scriptedTokenizer: ServerTokenizer = {
  encode,
  decode: (ids) => Buffer.concat(ids.map(tokenBytes)).toString("utf8"),
  tokenBytes,
  chatTemplate: {
    render: (messages, { addGenerationPrompt = true, continueFinalMessage = false } = {}) => {
      const turns = messages.map(({ role, content }) => `<${role}>${content}</${role}>`).join("");
      if (continueFinalMessage) return turns.slice(0, turns.lastIndexOf("</"));
      return turns + (addGenerationPrompt ? "<assistant>" : "");
    },
  },
};

function promptIds(prompt: Prompt): readonly number[] {
  if ("inputIds" in prompt) return prompt.inputIds;
  if ("text" in prompt) return encode(prompt.text);
  const { continueFinalMessage = false } = prompt;
  const rendered = scriptedTokenizer.chatTemplate?.render(prompt.messages, {
    continueFinalMessage,
    addGenerationPrompt: !continueFinalMessage,
  });
  return encode(rendered ?? "", false);
}

/** Depends on the token and what stands before it, so that a test sees which position it got. */
const inputLogprob = (ids: readonly number[], at: number) => -(1 + ((ids[at] * 7 + ids[at - 1] * 3) % 50)) / 10;

export class ScriptedEngine implements EngineApi {
  readonly model: ModelInfo;
  readonly tokenizer = scriptedTokenizer;
  readonly requests: GenerateRequest[] = [];
  /** Requests that were aborted, or left by their reader, before their end. */
  abandoned = 0;
  script: Script = { answers: [], usage: { promptTokens: 0, completionTokens: 0, cachedTokens: 0 } };
  failure: SglangError | null = null;

  constructor(model: Partial<ModelInfo> = {}) {
    this.model = {
      modelPath: "models/scripted.gguf",
      servedModelName: "scripted",
      architecture: "Qwen2ForCausalLM",
      modelType: "qwen2",
      vocabSize: 1000,
      contextLength: 8192,
      isGeneration: true,
      hasChatTemplate: true,
      dtypes: { F32: 1 },
      parameters: 1,
      weightVersion: "default",
      preferredSamplingParams: {},
      ...model,
    };
  }

  async *generate(request: GenerateRequest): AsyncGenerator<GenerateChunk> {
    this.requests.push(request);
    let ended = false;
    try {
      if (this.failure) throw this.failure;
      if (request.signal?.aborted) return yield this.#chunk(request, 0, "", { type: "abort", message: "Aborted." });
      if (request.samplingParams?.maxNewTokens === 0) yield this.#chunk(request, 0, "", { type: "length", length: 0 });
      else yield* this.#answers(request);
      ended = !request.signal?.aborted;
    } finally {
      if (!ended && !this.failure && request.samplingParams?.maxNewTokens !== 0) this.abandoned += 1;
    }
  }

  async *#answers(request: GenerateRequest): AsyncGenerator<GenerateChunk> {
    const { answers, hangs } = this.script;
    const pieces = answers.map((answer) => [
      ...(answer.reasoning ? [answer.reasoning] : []),
      ...answer.pieces,
      ...calls(answer),
    ]);
    const thinks = answers.map(({ reasoning }) => reasoning !== undefined);
    const sent = answers.map(() => 0);
    const stream = request.stream ?? true;
    for (let step = 0; step < Math.max(...pieces.map(({ length }) => length)); step++) {
      for (const [index, list] of pieces.entries()) {
        if (step >= list.length || (!stream && step < list.length - 1)) continue;
        const isLast = step === list.length - 1 && !hangs;
        const shown = stream ? [list[step]] : list;
        sent[index] += shown.length;
        const finish = isLast ? finishOf(answers[index], sent[index]) : null;
        const chunk = this.#chunk(request, index, shown, finish, sent[index]);
        if (!request.reasoning) yield chunk;
        else {
          const [thought = "", ...said] = thinks[index] && sent[index] === shown.length ? shown : ["", ...shown];
          yield { ...chunk, reasoningDelta: thought, textDelta: said.join("") };
        }
      }
    }
    if (!hangs) return;
    await new Promise<void>((resolve) => {
      request.signal?.addEventListener("abort", () => resolve(), { once: true });
      if (request.signal?.aborted) resolve();
    });
    yield this.#chunk(request, 0, "", { type: "abort", message: "Aborted by the caller." });
  }

  #chunk(
    request: GenerateRequest,
    index: number,
    text: string | readonly string[],
    finishReason: FinishReason | null,
    completionTokens = 0,
  ): GenerateChunk {
    const ids = promptIds(request.prompt);
    const pieces = typeof text === "string" ? [] : text;
    const isFirst = completionTokens === pieces.length;
    return {
      rid: `${request.rid}`,
      index,
      textDelta: pieces.join(""),
      tokenIdsDelta: pieces.map((piece) => piece.length),
      finishReason,
      usage: { promptTokens: ids.length, completionTokens, cachedTokens: ids.length - 1 },
      logprobs: request.logprobs && logprobsOf(request, ids, pieces, isFirst),
      ...(isFirst && { promptTokenIds: ids }),
      timing: { queuedMs: 0, firstTokenMs: 1, totalMs: 2, retractions: 0 },
    };
  }

  embed(): never {
    throw new Error("not scripted");
  }
  score(): never {
    throw new Error("not scripted");
  }
  stats(): EngineStats {
    const pages = { total: 1, free: 1, evictable: 0, protected: 0, inUse: 0, pageSize: 16 };
    return { numRunningReqs: 0, numQueueReqs: 0, pages, counters: {} } as unknown as EngineStats;
  }
  async flushCache(): Promise<boolean> {
    return true;
  }
  async close(): Promise<void> {}
}

function finishOf({ finish, matched }: ScriptedAnswer, length: number): FinishReason {
  return finish === "length" ? { type: "length", length } : { type: "stop", matched: matched ?? 2 };
}

/** Tool calls as Qwen writes them. */
function calls({ toolCalls = [] }: ScriptedAnswer): string[] {
  return toolCalls.flatMap(({ name, arguments: args }) => [
    "\n<tool",
    `_call>\n{"name": "${name}", "argu`,
    `ments": ${args}}\n</tool_call>`,
  ]);
}

function logprobsOf(
  { logprobs = {} }: GenerateRequest,
  ids: readonly number[],
  pieces: readonly string[],
  isFirst: boolean,
): ChunkLogprobs {
  const { startLen = -1, topNum = 0 } = logprobs;
  if (startLen > ids.length) {
    throw new SglangError("INVALID_REQUEST", `logprob_start_len must be at most ${ids.length}, got ${startLen}.`, {
      field: "logprob_start_len",
    });
  }
  const output = pieces.map((piece, i): TokenLogprob => [-(i + 1) / 8, piece.length, piece]);
  const out: ChunkLogprobs = { output, outputTop: [], outputTokenIds: [] };
  if (topNum > 0) out.outputTop = output.map(([p, id, t]) => Array.from({ length: topNum }, (_, k) => [p! - k, id, t]));
  if (!isFirst || startLen < 0) return out;
  out.input = ids
    .slice(startLen)
    .map((id, i) => [
      startLen + i === 0 ? null : inputLogprob(ids, startLen + i),
      id,
      Buffer.from(tokenBytes(id)).toString("utf8"),
    ]);
  return out;
}
