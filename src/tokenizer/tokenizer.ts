/** The tokenizer interface: text to ids and back. `load.ts` makes one from a {@link TokenizerSource}. */
import type { ChatMessage, ToolDefinition } from "../core/protocol.js";

export interface DecodeOptions {
  /** @default true */
  skipSpecialTokens?: boolean;
  /** @default true */
  spacesBetweenSpecialTokens?: boolean;
}

export interface Tokenizer {
  /** Ids are in [0, vocabSize). May be smaller than the model's padded embedding. */
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  /** Every id that ends an answer (generation_config, tokenizer_config, GGUF eos/eot/eom). */
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | null;
  /** The model's own template, or null. */
  readonly chatTemplate: ChatTemplate | null;
  /** @param addSpecialTokens add bos/eos as the model's post-processor does. @default true */
  encode(text: string, addSpecialTokens?: boolean): number[];
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /** UTF-8 bytes a token stands for (byte-level and byte-fallback tokens included; special tokens: their literal text). */
  tokenBytes(id: number): Uint8Array;
  isSpecial(id: number): boolean;
  idToToken(id: number): string | null;
  tokenToId(token: string): number | null;
  /** Digest of everything that tokenBytes, isSpecial and eosTokenIds answer, hex. Absent where it is not at hand. */
  vocabularyDigest?(): string;
}

export interface ChatTemplate {
  /** Template source, Jinja. */
  readonly source: string;
  /** @throws SglangError INVALID_REQUEST with the template's own message when it raises. */
  render(
    messages: readonly ChatMessage[],
    options?: {
      tools?: readonly ToolDefinition[];
      /** @default true */
      addGenerationPrompt?: boolean;
      continueFinalMessage?: boolean;
      kwargs?: Record<string, unknown>;
    },
  ): string;
}

/**
 * Turns a growing list of ids into text without ever splitting a character or saying a text twice.
 * `push` returns the text that has become certain; `flush` what is left (incomplete bytes become U+FFFD).
 */
export interface Detokenizer {
  push(ids: readonly number[]): string;
  flush(): string;
}
