/**
 * Sampling parameters, their defaults and the one function that checks them.
 * Names in TypeScript are camelCase; on the wire they are SGLang's snake_case (`wireName`), and errors use the wire name.
 * Source of names, defaults and ranges: SGLang `sampling_params.py`.
 */
import { invalidField } from "./errors.js";

export interface SamplingParams {
  /** Most tokens to generate; 0 computes and caches the prompt only. null = until the context is full. @default 128 */
  maxNewTokens: number | null;
  /** No stop token or stop string ends the answer before this many tokens. @default 0 */
  minNewTokens: number;
  /** Texts that end the answer. @default [] */
  stop: string[];
  /** Token ids that end the answer, beside the model's own. @default [] */
  stopTokenIds: number[];
  /** Regular expressions (JavaScript syntax, flag `u`) that end the answer where they first match. @default [] */
  stopRegex: string[];
  /** 0 (or < 1e-6) is greedy. @default 1.0 */
  temperature: number;
  /** Smallest set of tokens whose probability reaches this. (0, 1]. @default 1.0 */
  topP: number;
  /** Only the k likeliest tokens; -1 = all. @default -1 */
  topK: number;
  /** Drop tokens less likely than minP x the likeliest. [0, 1]. @default 0.0 */
  minP: number;
  /** Subtracted once per earlier occurrence in the output. [-2, 2]. @default 0.0 */
  frequencyPenalty: number;
  /** Subtracted once if the token occurred in the output. [-2, 2]. @default 0.0 */
  presencePenalty: number;
  /** Divides positive and multiplies negative logits of tokens seen in prompt or output. (0, 2]. @default 1.0 */
  repetitionPenalty: number;
  /** Independent answers per prompt. @default 1 */
  n: number;
  /** Do not stop at the model's end-of-sequence tokens. @default false */
  ignoreEos: boolean;
  /** Leave special tokens out of the text. @default true */
  skipSpecialTokens: boolean;
  /** Put a space between neighbouring special tokens that are shown. @default true */
  spacesBetweenSpecialTokens: boolean;
  /** Keep the stop text or stop token in the output. @default false */
  noStopTrim: boolean;
  /** Added to the logits of these token ids before sampling. @default {} */
  logitBias: Record<number, number>;
  /** Seed of this request's draws; null = a fresh one. Answer i of n uses seed + i. @default null */
  seed: number | null;
}

export const DEFAULT_SAMPLING_PARAMS: Readonly<SamplingParams> = Object.freeze({
  maxNewTokens: 128,
  minNewTokens: 0,
  stop: [],
  stopTokenIds: [],
  stopRegex: [],
  temperature: 1.0,
  topP: 1.0,
  topK: -1,
  minP: 0.0,
  frequencyPenalty: 0.0,
  presencePenalty: 0.0,
  repetitionPenalty: 1.0,
  n: 1,
  ignoreEos: false,
  skipSpecialTokens: true,
  spacesBetweenSpecialTokens: true,
  noStopTrim: false,
  logitBias: {},
  seed: null,
});

/** `topP` -> `top_p`; the name the HTTP API and every error message use. `seed` is `sampling_seed` on the wire. */
export function wireName(key: keyof SamplingParams): string {
  if (key === "seed") return "sampling_seed";
  return key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
}

/** Most stop strings, stop ids and bias entries one request may carry: each costs work on every token. */
const MAX_LIST = 1024;
/** Most characters of one stop string. */
const MAX_STOP_CHARS = 4096;
/** Most answers per prompt. */
const MAX_N = 128;

/**
 * Fills in defaults (`defaults`, then SGLang's) and checks every value.
 * @throws SglangError INVALID_REQUEST naming the wire field, what it takes, and what arrived.
 */
export function resolveSamplingParams(
  given: Partial<SamplingParams> = {},
  context: { vocabSize: number; defaults?: Partial<SamplingParams>; prefix?: string },
): SamplingParams {
  const prefix = context.prefix ?? "";
  const merged: SamplingParams = { ...DEFAULT_SAMPLING_PARAMS };
  for (const source of [context.defaults, given]) {
    if (!source) continue;
    for (const [key, value] of Object.entries(source)) {
      if (!(key in DEFAULT_SAMPLING_PARAMS)) throw invalidField(`${prefix}${key}`, "a known sampling parameter", value);
      if (value !== undefined) (merged as unknown as Record<string, unknown>)[key] = value;
    }
  }
  const p = merged;
  const name = (key: keyof SamplingParams) => prefix + wireName(key);
  const fail = (key: keyof SamplingParams, expected: string): never => {
    throw invalidField(name(key), expected, p[key]);
  };
  const number = (key: keyof SamplingParams, ok: (x: number) => boolean, expected: string) => {
    const value = p[key];
    if (typeof value !== "number" || !Number.isFinite(value) || !ok(value)) fail(key, expected);
  };
  const integer = (key: keyof SamplingParams, ok: (x: number) => boolean, expected: string) =>
    number(key, (x) => Number.isSafeInteger(x) && ok(x), expected);
  const flag = (key: keyof SamplingParams) => {
    if (typeof p[key] !== "boolean") fail(key, "true or false");
  };

  if (p.maxNewTokens !== null) integer("maxNewTokens", (x) => x >= 0, "an integer >= 0, or null");
  integer(
    "minNewTokens",
    (x) => x >= 0 && (p.maxNewTokens === null || x <= p.maxNewTokens),
    "an integer from 0 to max_new_tokens",
  );
  number("temperature", (x) => x >= 0, "a number >= 0");
  number("topP", (x) => x > 0 && x <= 1, "a number in (0, 1]");
  integer("topK", (x) => x === -1 || x >= 1, "-1 (all) or an integer >= 1");
  number("minP", (x) => x >= 0 && x <= 1, "a number in [0, 1]");
  number("frequencyPenalty", (x) => x >= -2 && x <= 2, "a number in [-2, 2]");
  number("presencePenalty", (x) => x >= -2 && x <= 2, "a number in [-2, 2]");
  number("repetitionPenalty", (x) => x > 0 && x <= 2, "a number in (0, 2]");
  integer("n", (x) => x >= 1 && x <= MAX_N, `an integer from 1 to ${MAX_N}`);
  if (p.seed !== null) integer("seed", () => true, "an integer, or null");
  flag("ignoreEos");
  flag("skipSpecialTokens");
  flag("spacesBetweenSpecialTokens");
  flag("noStopTrim");
  for (const key of ["stop", "stopRegex"] as const) {
    const value = p[key];
    const ok =
      Array.isArray(value) &&
      value.length <= MAX_LIST &&
      value.every((s) => typeof s === "string" && s.length > 0 && s.length <= MAX_STOP_CHARS);
    if (!ok) fail(key, `a non-empty text or at most ${MAX_LIST} of them`);
  }
  for (const pattern of p.stopRegex) {
    try {
      new RegExp(pattern, "u");
    } catch (cause) {
      throw invalidField(name("stopRegex"), `a valid regular expression (${(cause as Error).message})`, pattern);
    }
  }
  const isToken = (id: unknown) =>
    Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) < context.vocabSize;
  if (!Array.isArray(p.stopTokenIds) || p.stopTokenIds.length > MAX_LIST || !p.stopTokenIds.every(isToken))
    fail("stopTokenIds", `a list of at most ${MAX_LIST} token ids in [0, ${context.vocabSize})`);
  const bias = p.logitBias;
  if (typeof bias !== "object" || bias === null || Array.isArray(bias) || Object.keys(bias).length > MAX_LIST)
    fail("logitBias", `an object of at most ${MAX_LIST} entries {token_id: bias}`);
  for (const [id, value] of Object.entries(bias)) {
    if (!isToken(Number(id)))
      throw invalidField(name("logitBias"), `keyed by token ids in [0, ${context.vocabSize})`, id);
    if (typeof value !== "number" || !Number.isFinite(value))
      throw invalidField(`${name("logitBias")}.${id}`, "a finite number", value);
  }
  return merged;
}
