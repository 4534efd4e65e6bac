/** The options of `gen`: what they mean for the request, and for the type of the variable. */
import { invalidField } from "../core/errors.js";
import { didYouMean } from "../core/near-miss.js";
import type { ReasoningFormat, ReasoningFormatName } from "../core/reasoning.js";
import type { SamplingParams } from "../core/sampling-params.js";
import { resolveSamplingParams } from "../core/sampling-params.js";
import type { ChoicesMethod } from "./choices.js";
import type { Schema, SchemaValue } from "./schema.js";
import { checkTools, type Tools } from "./tools.js";

/** Sampling of one `gen`, or of a whole program as its default. What is absent is the backend's default. */
export interface SamplingOptions {
  /** Most tokens to generate. */
  maxTokens?: number;
  /** No stop ends the answer before this many tokens. */
  minTokens?: number;
  /** Texts that end the answer; they are not part of it. */
  stop?: string | readonly string[];
  stopTokenIds?: readonly number[];
  stopRegex?: string | RegExp | readonly (string | RegExp)[];
  temperature?: number;
  topP?: number;
  topK?: number;
  minP?: number;
  frequencyPenalty?: number;
  presencePenalty?: number;
  repetitionPenalty?: number;
  ignoreEos?: boolean;
  logitBias?: Readonly<Record<number, number>>;
  seed?: number;
  /** Logprobs of the answer in `meta()`: true, or how many likeliest tokens to report at each position. */
  logprobs?: boolean | number;
  /** Milliseconds that one request may take. */
  timeoutMs?: number;
}

export type ValueType = "int" | "float" | "bool" | "string";

export interface GenOptions extends SamplingOptions {
  /** Names the variable for `s.get(name)`, results and traces. */
  name?: string;
  /** Independent answers: the value is a list, the prompt goes on with the first. */
  n?: number;
  /** A zod schema, a Standard Schema with a JSON Schema form, or a JSON Schema. */
  schema?: Schema;
  /** The whole answer matches. */
  regex?: RegExp | string;
  /** The same as `select(choices)`. */
  choices?: readonly string[];
  choicesMethod?: ChoicesMethod;
  /** `string` is a quoted text; the value is what stands between the quotes. */
  type?: ValueType;
  /** A grammar in EBNF. */
  grammar?: string;
  /** Functions that the model may call. */
  tools?: Tools;
  /** `required`, or a name: the answer is calls, and nothing else. With tools that run, the first answer only. @default "auto" */
  toolChoice?: "auto" | "none" | "required" | { name: string };
  /** Most rounds of tool calls before the model must answer. @default 8 */
  maxSteps?: number;
  /** Keeps thinking out of value and prompt; it is in `meta().reasoning`. */
  separateReasoning?: ReasoningFormatName | ReasoningFormat;
}

type OneValue<O> = O extends { readonly schema: infer S }
  ? SchemaValue<S>
  : O extends { readonly choices: readonly (infer C)[] }
    ? C
    : O extends { readonly type: "int" | "float" }
      ? number
      : O extends { readonly type: "bool" }
        ? boolean
        : string;

/** Type of the variable that `gen(options)` makes. */
export type GenValue<O> = O extends { readonly n: number } ? OneValue<O>[] : OneValue<O>;

const SAMPLING_KEYS = [
  "maxTokens",
  "minTokens",
  "stop",
  "stopTokenIds",
  "stopRegex",
  "temperature",
  "topP",
  "topK",
  "minP",
  "frequencyPenalty",
  "presencePenalty",
  "repetitionPenalty",
  "ignoreEos",
  "logitBias",
  "seed",
  "logprobs",
  "timeoutMs",
] as const satisfies readonly (keyof SamplingOptions)[];

const GEN_KEYS = [
  ...SAMPLING_KEYS,
  "name",
  "n",
  "schema",
  "regex",
  "choices",
  "choicesMethod",
  "type",
  "grammar",
  "tools",
  "toolChoice",
  "maxSteps",
  "separateReasoning",
] as const satisfies readonly (keyof GenOptions)[];

const CONSTRAINT_KEYS = ["schema", "regex", "choices", "type", "grammar"] as const;

const known = new Set<string>(GEN_KEYS);

/** @throws SglangError INVALID_REQUEST for an unknown option (with the near miss), two constraints, or tools that are none */
export function checkGenOptions(options: GenOptions): void {
  let constraint: string | undefined;
  for (const key of Object.keys(options)) {
    if (!known.has(key)) {
      throw invalidField(
        `gen option ${key}`,
        `one of the known options.${didYouMean(key, GEN_KEYS)} It`,
        options[key as keyof GenOptions],
      );
    }
  }
  if (options.tools !== undefined) checkTools(options.tools);
  for (const key of CONSTRAINT_KEYS) {
    if (options[key] === undefined) continue;
    if (constraint !== undefined) {
      throw invalidField(
        "gen",
        "constrained by one of schema, regex, choices, type and grammar",
        `${constraint} and ${key}`,
      );
    }
    constraint = key;
  }
}

const list = <T>(value: T | readonly T[]): T[] => (Array.isArray(value) ? [...value] : [value as T]);

/** No vocabulary is known here: any id is possible, and the backend checks. */
const ANY_VOCABULARY = { vocabSize: Number.MAX_SAFE_INTEGER };

/**
 * What is sent: `options` over the program's `defaults`.
 * @throws SglangError INVALID_REQUEST naming the parameter that is out of range
 */
export function toSampling(options: GenOptions, defaults: SamplingOptions | undefined): Partial<SamplingParams> {
  const merged: GenOptions = defaults ? { ...defaults, ...options } : options;
  const sampling: Partial<SamplingParams> = {};
  let any = false;
  const set = <K extends keyof SamplingParams>(key: K, value: SamplingParams[K] | undefined) => {
    if (value === undefined) return;
    sampling[key] = value;
    any = true;
  };
  set("maxNewTokens", merged.maxTokens);
  set("minNewTokens", merged.minTokens);
  set("stop", merged.stop === undefined ? undefined : list(merged.stop));
  set("stopTokenIds", merged.stopTokenIds === undefined ? undefined : [...merged.stopTokenIds]);
  if (merged.stopRegex !== undefined) {
    set(
      "stopRegex",
      list(merged.stopRegex).map((regex) => (typeof regex === "string" ? regex : regex.source)),
    );
  }
  set("temperature", merged.temperature);
  set("topP", merged.topP);
  set("topK", merged.topK);
  set("minP", merged.minP);
  set("frequencyPenalty", merged.frequencyPenalty);
  set("presencePenalty", merged.presencePenalty);
  set("repetitionPenalty", merged.repetitionPenalty);
  set("ignoreEos", merged.ignoreEos);
  set("logitBias", merged.logitBias);
  set("seed", merged.seed);
  set("n", merged.n);
  // minTokens is compared with maxTokens, whose default is the backend's.
  if (any) resolveSamplingParams({ maxNewTokens: null, ...sampling }, ANY_VOCABULARY);
  return sampling;
}

export function topLogprobs(options: SamplingOptions): number | undefined {
  const { logprobs } = options;
  if (logprobs === undefined || logprobs === false) return undefined;
  if (logprobs === true) return 0;
  if (!Number.isSafeInteger(logprobs) || logprobs < 0)
    throw invalidField("logprobs", "true or an integer >= 0", logprobs);
  return logprobs;
}
