/** `tokenizer.ggml.*` metadata, read with types: the one place that knows the keys. */
import type { Metadata } from "../core/model-files.js";
import { malformed } from "./tokenizer-spec.js";

// Values of tokenizer.ggml.token_type.
export const NORMAL = 1;
export const UNKNOWN = 2;
export const CONTROL = 3;
export const USER_DEFINED = 4;
export const UNUSED = 5;

/** Keys `tokenizer.ggml.<name>_token_id`; "seperator" is the format's own spelling. */
export type TokenRole = "bos" | "eos" | "eot" | "eom" | "unknown" | "seperator" | "padding" | "cls" | "mask";
const ROLES: readonly TokenRole[] = ["bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask"];

export class GgufVocabulary {
  readonly tokens: readonly string[];
  /** token_type by id; all normal when the file has none. */
  readonly types: ArrayLike<number>;
  readonly #metadata: Metadata;

  /** @throws SglangError MALFORMED_FILE */
  constructor(metadata: Metadata) {
    this.#metadata = metadata;
    const tokens = this.#strings("tokens");
    if (tokens === undefined || tokens.length === 0)
      throw malformed("tokenizer.ggml.tokens", "a list of strings", tokens);
    // An empty token could never be told from no token; llama.cpp names it by its id.
    this.tokens = tokens.map((token, id) => (token === "" ? `[EMPTY_${id}]` : token));
    this.types = this.#numbers("token_type") ?? new Uint8Array(tokens.length).fill(NORMAL);
  }

  /** Token to id. Of equal tokens the first wins, as it does when the model was trained. */
  ids(): Record<string, number> {
    // Without a prototype: a vocabulary may well hold "__proto__" and "constructor".
    const ids = Object.create(null) as Record<string, number>;
    for (let id = this.tokens.length - 1; id >= 0; id--) ids[this.tokens[id]!] = id;
    return ids;
  }

  /** Merges, "left right" each; the left may itself begin with a space. */
  merges(): readonly string[] {
    const merges = this.#strings("merges");
    if (merges === undefined) throw malformed("tokenizer.ggml.merges", "a list of strings", undefined);
    const broken = merges.findIndex((merge) => merge.indexOf(" ", 1) === -1);
    if (broken !== -1) throw malformed(`tokenizer.ggml.merges[${broken}]`, 'two tokens, "left right"', merges[broken]);
    return merges;
  }

  /** One score per token. */
  scores(): ArrayLike<number> {
    const scores = this.#numbers("scores");
    if (scores === undefined) throw malformed("tokenizer.ggml.scores", "a list of numbers", undefined);
    return scores;
  }

  string(key: string): string | undefined {
    const value = this.#metadata[`tokenizer.ggml.${key}`];
    if (value !== undefined && typeof value !== "string") throw malformed(`tokenizer.ggml.${key}`, "a string", value);
    return value;
  }

  flag(key: string): boolean | undefined {
    const value = this.#metadata[`tokenizer.ggml.${key}`];
    if (value !== undefined && typeof value !== "boolean") throw malformed(`tokenizer.ggml.${key}`, "a boolean", value);
    return value;
  }

  /** Id of a token with a role; null when the file names none. */
  id(role: TokenRole): number | null {
    const key = `tokenizer.ggml.${role}_token_id`;
    const value = this.#metadata[key];
    if (value === undefined) return null;
    const id = Number(value);
    // Some converters write -1 or 2^32-1 for "none".
    if (id === -1 || id === 0xffffffff) return null;
    if (!Number.isInteger(id) || id < 0 || id >= this.tokens.length) {
      throw malformed(key, `an id below ${this.tokens.length}`, String(value));
    }
    return id;
  }

  /** Ids of all tokens with a role. */
  namedIds(): ReadonlySet<number> {
    return new Set(ROLES.map((role) => this.id(role)).filter((id) => id !== null));
  }

  #strings(key: string): readonly string[] | undefined {
    const value = this.#metadata[`tokenizer.ggml.${key}`];
    if (value === undefined) return undefined;
    if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
      throw malformed(`tokenizer.ggml.${key}`, "a list of strings", value);
    }
    return value as string[];
  }

  #numbers(key: string): ArrayLike<number> | undefined {
    const value = this.#metadata[`tokenizer.ggml.${key}`];
    if (value === undefined) return undefined;
    const list = ArrayBuffer.isView(value) ? Array.from(value as Iterable<number | bigint>, Number) : value;
    if (!Array.isArray(list) || list.length !== this.tokens.length || !list.every((item) => typeof item === "number")) {
      throw malformed(`tokenizer.ggml.${key}`, `a list of ${this.tokens.length} numbers, one per token`, value);
    }
    return list as number[];
  }
}
