/** Logprobs of chunks -> the two shapes of OpenAI's API. */
import type { ChunkLogprobs, TokenLogprob } from "../core/protocol.js";
import type { ServerTokenizer } from "./context.js";

/** What OpenAI reports for a probability of zero: JSON has no -Infinity. */
const FLOOR = -9999;

const finite = (logprob: number) => Math.max(logprob, FLOOR);

/** `choices[].logprobs.content`: one entry per output token. */
export function chatLogprobs(logprobs: ChunkLogprobs, tokenizer: ServerTokenizer | null): Record<string, unknown>[] {
  const item = ([logprob, id, token]: TokenLogprob) => ({
    token,
    bytes: [...(tokenizer?.tokenBytes(id) ?? Buffer.from(token, "utf8"))],
    logprob: finite(logprob ?? 0),
  });
  return logprobs.output.map((token, i) => ({
    ...item(token),
    top_logprobs: (logprobs.outputTop[i] ?? []).map(item),
  }));
}

/** `choices[].logprobs` of /v1/completions. Offsets count characters of the choice's text. */
export class CompletionLogprobs {
  readonly #wantsTop: boolean;
  #offset = 0;

  /** @param topNum likeliest tokens asked for; 0 leaves `top_logprobs` null */
  constructor(topNum: number) {
    this.#wantsTop = topNum > 0;
  }

  /** The part of a chunk, prompt positions first when `echo` asked for them. */
  part(logprobs: ChunkLogprobs, withInput: boolean): Record<string, unknown> {
    const input = withInput ? (logprobs.input ?? []) : [];
    const inputTop = withInput ? (logprobs.inputTop ?? []) : [];
    const tokens = [...input, ...logprobs.output];
    const top = [
      ...input.map((_, i) => inputTop[i] ?? null),
      ...logprobs.output.map((_, i) => logprobs.outputTop[i] ?? []),
    ];
    return {
      text_offset: tokens.map(([, , text]) => this.#advance(text)),
      token_logprobs: tokens.map(([logprob]) => (logprob === null ? null : finite(logprob))),
      tokens: tokens.map(([, , text]) => text),
      top_logprobs: this.#wantsTop
        ? top.map((list) => list && Object.fromEntries(list.map(([logprob, , text]) => [text, finite(logprob ?? 0)])))
        : null,
    };
  }

  #advance(text: string): number {
    const offset = this.#offset;
    for (const _ of text) this.#offset += 1;
    return offset;
  }
}
