/**
 * What a program appends to a state beside plain text: `gen`, `select`, `image`, `video`. An expression does nothing by
 * itself; the state that it is appended to makes a variable of it.
 */
import { invalidField } from "../core/errors.js";
import type { ImagePart, VideoPart } from "./backends/backend.js";
import type { ChoicesMethod } from "./choices.js";
import type { GenOptions, GenValue } from "./gen-options.js";
import { loadMedia, type MediaSource } from "./media.js";

declare const VALUE: unique symbol;

/** An expression whose variable has a value of type `T`. */
export interface Expression<T> {
  readonly [VALUE]?: T;
  readonly expression: "gen" | "select";
}

export interface GenExpression<T> extends Expression<T> {
  readonly expression: "gen";
  readonly name: string | undefined;
  readonly options: GenOptions;
}

export interface SelectExpression<T> extends Expression<T> {
  readonly expression: "select";
  readonly name: string | undefined;
  readonly choices: readonly string[];
  readonly method: ChoicesMethod | undefined;
}

export interface MediaExpression {
  readonly expression: "media";
  readonly load: () => Promise<ImagePart | VideoPart>;
}

export interface SelectOptions {
  name?: string;
  /**
   * How choices are compared. Absent: `tokenLengthNormalized` where the backend can score texts, constrained decoding
   * where it cannot. Given: needs a backend that can score.
   */
  method?: ChoicesMethod;
}

/** The empty `gen()`: free text. */
type NoOptions = Record<never, never>;

/**
 * Generates text: the value's type follows from the constraint in `options`.
 *
 *     gen({ maxTokens: 64, stop: "\n" })       // string
 *     gen("age", { type: "int" })              // number, also s.get("age")
 *     gen({ schema: z.object({ a: z.int() }) }) // { a: number }
 */
export function gen<const O extends GenOptions = NoOptions>(options?: O): Expression<GenValue<O>>;
export function gen<const O extends GenOptions = NoOptions>(name: string, options?: O): Expression<GenValue<O>>;
export function gen(first?: string | GenOptions, second?: GenOptions): Expression<unknown> {
  const options = (typeof first === "string" ? second : first) ?? {};
  const name = typeof first === "string" ? first : options.name;
  if (options.choices !== undefined) {
    checkChoices(options.choices, "gen choices");
    return {
      expression: "select",
      name,
      choices: options.choices,
      method: options.choicesMethod,
    } as SelectExpression<unknown>;
  }
  return { expression: "gen", name, options } as GenExpression<unknown>;
}

function checkChoices(choices: unknown, field: string): asserts choices is readonly string[] {
  if (!Array.isArray(choices) || choices.length === 0) {
    throw invalidField(field, "a list of at least one text", choices);
  }
  const wrong = choices.find((choice) => typeof choice !== "string" || choice === "");
  if (wrong !== undefined) throw invalidField(field, "non-empty texts", wrong);
  const twice = choices.find((choice, at) => choices.indexOf(choice) !== at);
  if (twice !== undefined) throw invalidField(field, "different texts", twice);
}

/** Chooses the likeliest of `choices`: `select(["yes", "no"])` has the type `"yes" | "no"`. */
export function select<const C extends readonly string[]>(choices: C, options?: SelectOptions): Expression<C[number]>;
export function select<const C extends readonly string[]>(
  name: string,
  choices: C,
  options?: SelectOptions,
): Expression<C[number]>;
export function select(
  first: string | readonly string[],
  second?: readonly string[] | SelectOptions,
  third?: SelectOptions,
): Expression<string> {
  const named = typeof first === "string";
  const choices = named ? second : first;
  const options = ((named ? third : second) ?? {}) as SelectOptions;
  checkChoices(choices, "select choices");
  const name = named ? first : options.name;
  return { expression: "select", name, choices, method: options.method } as SelectExpression<string>;
}

/** `gen({ type: "int" })`. */
export function genInt<const O extends GenOptions = NoOptions>(name: string, options?: O): Expression<number> {
  return gen(name, { ...options, type: "int" }) as Expression<number>;
}

/** `gen({ type: "string" })`: a quoted text; the value is what stands between the quotes. */
export function genString<const O extends GenOptions = NoOptions>(name: string, options?: O): Expression<string> {
  return gen(name, { ...options, type: "string" }) as Expression<string>;
}

/** A picture: a path (Node), a URL (`https:`, `data:`, `file:`) or the file's bytes. Read when it is appended. */
export function image(source: MediaSource): MediaExpression {
  return { expression: "media", load: async () => ({ type: "image", ...(await loadMedia(source)) }) };
}

/** A video, of which the model sees `frames` frames. */
export function video(source: MediaSource, frames: number): MediaExpression {
  if (!Number.isSafeInteger(frames) || frames < 1) throw invalidField("video frames", "an integer >= 1", frames);
  return { expression: "media", load: async () => ({ type: "video", frames, ...(await loadMedia(source)) }) };
}

export function isExpression(
  value: unknown,
): value is GenExpression<unknown> | SelectExpression<unknown> | MediaExpression {
  return typeof value === "object" && value !== null && "expression" in value;
}
