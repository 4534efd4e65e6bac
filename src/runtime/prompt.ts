/** GenerateRequest's prompt to token ids that fit the context. */
import { invalidField, SglangError } from "../core/errors.js";
import { logger } from "../core/logger.js";
import type { LogprobRequest, Prompt } from "../core/protocol.js";
import { type EncoderPool, LONG_TEXT_CHARS } from "../tokenizer/encoder-pool.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import type { TimeSlices } from "./time-slices.js";

/** Most likeliest tokens a logprob request may ask for per position. */
const MAX_TOP_LOGPROBS = 64;
/** Most token ids whose logprob may be asked for per position. */
const MAX_WANTED_IDS = 1024;

/** Tokenises long texts away from the event loop: the tokenizer's EncoderPool, or a fake. */
export type LongTextEncoder = Pick<EncoderPool, "encodeLong" | "close">;

const KINDS = ["text", "inputIds", "messages"] as const;

export class PromptEncoder {
  readonly #tokenizer: Tokenizer;
  readonly #vocabSize: number;
  readonly #slices: TimeSlices;
  readonly #pool: LongTextEncoder | null;

  constructor(tokenizer: Tokenizer, vocabSize: number, slices: TimeSlices, pool: LongTextEncoder | null) {
    this.#tokenizer = tokenizer;
    this.#vocabSize = vocabSize;
    this.#slices = slices;
    this.#pool = pool;
  }

  /**
   * @throws SglangError INVALID_REQUEST: not exactly one kind of prompt, an id out of range, a prompt without tokens,
   *   messages without a chat template or that the template refuses
   */
  async encode(prompt: Prompt): Promise<readonly number[]> {
    const given = KINDS.filter((kind) => (prompt as Partial<Record<string, unknown>>)[kind] !== undefined);
    if (given.length !== 1)
      throw invalidField("prompt", `given as exactly one of ${KINDS.join(", ")}`, given.join(" and ") || "none");
    const ids = await this.#idsOf(prompt);
    if (ids.length === 0) throw invalidField("prompt", "at least one token", 0);
    return ids;
  }

  /** Ids of a text: in a time slice, or in the pool where it would take longer than one. */
  async text(text: string, addSpecialTokens: boolean): Promise<readonly number[]> {
    if (typeof text !== "string") throw invalidField("prompt.text", "a text", text);
    if (this.#pool && text.length > LONG_TEXT_CHARS) return this.#pool.encodeLong(text, addSpecialTokens);
    return this.#slices.run(() => this.#tokenizer.encode(text, addSpecialTokens));
  }

  /** @throws SglangError INVALID_REQUEST naming the first id that is none */
  checkIds(ids: readonly number[], field: string): readonly number[] {
    if (!Array.isArray(ids)) throw invalidField(field, "a list of token ids", ids);
    const wrong = ids.findIndex((id) => !Number.isSafeInteger(id) || id < 0 || id >= this.#vocabSize);
    if (wrong < 0) return ids;
    throw invalidField(`${field}[${wrong}]`, `a token id in [0, ${this.#vocabSize})`, ids[wrong]);
  }

  async #idsOf(prompt: Prompt): Promise<readonly number[]> {
    if ("inputIds" in prompt) return this.#slices.run(() => this.checkIds(prompt.inputIds, "prompt.inputIds"));
    if ("text" in prompt) return this.text(prompt.text, true);
    const { chatTemplate } = this.#tokenizer;
    if (!chatTemplate) {
      throw new SglangError(
        "INVALID_REQUEST",
        "This model has no chat template, so messages cannot become a prompt: send text, or start with --chat-template FILE.",
        { field: "messages" },
      );
    }
    const { messages, tools, continueFinalMessage, chatTemplateKwargs } = prompt;
    const rendered = await this.#slices.run(() =>
      chatTemplate.render(messages, {
        tools,
        continueFinalMessage,
        addGenerationPrompt: !continueFinalMessage,
        kwargs: chatTemplateKwargs,
      }),
    );
    // Templates write their special tokens themselves.
    return this.text(rendered, false);
  }
}

export interface FitOptions {
  contextLength: number;
  /** Tokens the KV pool holds. */
  poolTokens: number;
  allowAutoTruncate: boolean;
  /** null = as many as fit. */
  maxNewTokens: number | null;
  /** The caller asked for maxNewTokens, so that fewer would not be what was asked for. */
  isExplicit: boolean;
}

/**
 * The prompt and the number of output tokens that fit: prompt + output <= context, and in the KV pool.
 * @throws SglangError CONTEXT_TOO_LONG unless allowAutoTruncate
 */
export function fitPrompt(
  ids: readonly number[],
  options: FitOptions,
): { ids: readonly number[]; maxNewTokens: number } {
  const { contextLength, poolTokens, allowAutoTruncate, maxNewTokens, isExplicit } = options;
  const limit = Math.min(contextLength, poolTokens);
  const limitName =
    poolTokens < contextLength
      ? `${limit} tokens of KV cache (--max-total-tokens, --mem-fraction-static)`
      : `context length of ${limit} tokens (--context-length)`;
  const tooLong = (what: string, found: number): SglangError =>
    new SglangError(
      "CONTEXT_TOO_LONG",
      `${what}, but this engine has a ${limitName}; shorten the prompt or lower max_new_tokens.`,
      {
        expected: `at most ${limit} tokens`,
        found: `${found} tokens`,
      },
    );

  const longest = limit - (maxNewTokens === 0 ? 0 : 1);
  let fitted = ids;
  if (ids.length > longest) {
    if (!allowAutoTruncate)
      throw tooLong(
        `The prompt has ${ids.length} tokens${maxNewTokens === 0 ? "" : " and needs room for an answer"}`,
        ids.length,
      );
    logger.warn(`A prompt of ${ids.length} tokens was cut to its first ${longest} (--allow-auto-truncate).`);
    fitted = ids.slice(0, longest);
  }
  const room = limit - fitted.length;
  if (maxNewTokens === null || maxNewTokens <= room) return { ids: fitted, maxNewTokens: maxNewTokens ?? room };
  const total = fitted.length + maxNewTokens;
  if (isExplicit && !allowAutoTruncate) {
    throw tooLong(
      `The prompt's ${fitted.length} tokens and max_new_tokens ${maxNewTokens} make ${total} tokens`,
      total,
    );
  }
  return { ids: fitted, maxNewTokens: room };
}

/** @throws SglangError INVALID_REQUEST naming the field */
export function checkLogprobs(
  logprobs: LogprobRequest | undefined,
  promptLength: number,
  encoder: PromptEncoder,
): void {
  if (!logprobs) return;
  const { startLen = -1, topNum = 0, tokenIds = [] } = logprobs;
  if (!Number.isSafeInteger(startLen) || startLen < -1 || startLen > promptLength)
    throw invalidField("logprob_start_len", `-1 or an integer from 0 to the prompt's ${promptLength} tokens`, startLen);
  if (!Number.isSafeInteger(topNum) || topNum < 0 || topNum > MAX_TOP_LOGPROBS)
    throw invalidField("top_logprobs_num", `an integer from 0 to ${MAX_TOP_LOGPROBS}`, topNum);
  encoder.checkIds(tokenIds, "token_ids_logprob");
  if (tokenIds.length > MAX_WANTED_IDS)
    throw invalidField("token_ids_logprob", `at most ${MAX_WANTED_IDS} ids`, tokenIds.length);
}
