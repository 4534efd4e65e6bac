/**
 * What every source (Hugging Face files, GGUF metadata) is turned into before a tokenizer is built: one tokenizer.json
 * and the few facts it does not hold. Plain data: it crosses to a worker thread as it is.
 */
import { SglangError } from "../core/errors.js";

export type Json = Record<string, unknown>;

export interface AddedToken {
  id: number;
  content: string;
  /** Dropped by `skipSpecialTokens`. */
  special: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  normalized?: boolean;
  single_word?: boolean;
}

export interface TokenizerSpec {
  /** A tokenizer.json object that the library reads as Hugging Face's own implementation would; complete unless `merges` is there. */
  readonly json: Json;
  /**
   * Rank of each entry of `json.model.merges` where it is not its index. SentencePiece ranks a merge by the score of
   * its result, so merges with one result tie and the leftmost wins; a list of merges can't say that.
   */
  readonly mergeRanks?: Uint32Array;
  /**
   * Merges of a byte-pair vocabulary, "left right", where `json.model` has neither them nor the tokens: a library that is
   * handed both as objects takes a second to make tables of 150,000 entries, see byte-pairs.ts.
   */
  readonly merges?: readonly string[];
  /** Token texts by id; undefined where an id has no token. */
  readonly tokens: readonly (string | undefined)[];
  readonly added: readonly AddedToken[];
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | null;
  /** Apply Hugging Face's clean_up_tokenization to decoded text. */
  readonly cleanUp: boolean;
  readonly chatTemplates: readonly NamedTemplate[];
  /** Variables every chat template sees: bos_token, eos_token, ... */
  readonly templateVariables: Readonly<Record<string, unknown>>;
}

export interface NamedTemplate {
  readonly name: string;
  readonly template: string;
}

/** A plain object, or undefined. */
export function asObject(value: unknown): Json | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Json) : undefined;
}

export function asString(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

/** @throws SglangError MALFORMED_FILE */
export function malformed(field: string, expected: string, found: unknown): SglangError {
  const shown = typeof found === "string" ? JSON.stringify(found) : Array.isArray(found) ? "an array" : String(found);
  return new SglangError(
    "MALFORMED_FILE",
    `${field} must be ${expected}, found ${shown}; the model files are damaged or of an unknown version.`,
    {
      field,
      expected,
      found: shown,
    },
  );
}

/** The refusal of something a tokenizer file may say and this version can't do. */
export function unsupported(field: string, found: string, expected: string): SglangError {
  return new SglangError(
    "UNSUPPORTED_MODEL",
    `${field} is ${found}; this version of the tokenizer takes ${expected}.`,
    {
      field,
      expected,
      found,
    },
  );
}

/** Reads `int | int[] | null | undefined` as a list of token ids. */
export function tokenIdList(field: string, value: unknown): number[] {
  if (value === null || value === undefined) return [];
  const list = Array.isArray(value) ? value : [value];
  return list.map((id) => {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0)
      throw malformed(field, "a token id or a list of them", id);
    return id;
  });
}
