/** Checked access to the values of a config file: every refusal names the file, the key, what was expected and what arrived. */
import { SglangError } from "../core/errors.js";

/** Sizes beyond these are not models but damaged files; they keep a graph from being recorded without end. */
const LIMITS = { count: 2 ** 31 - 1, layers: 1024 } as const;

export class ConfigFields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #file: string;
  readonly #prefix: string;

  /** @param prefix put before every key, in look-ups and messages: `llama.` in a GGUF file. */
  constructor(values: Readonly<Record<string, unknown>>, file: string, prefix = "") {
    this.#values = values;
    this.#file = file;
    this.#prefix = prefix;
  }

  get keys(): string[] {
    return Object.keys(this.#values)
      .filter((key) => key.startsWith(this.#prefix))
      .map((key) => key.slice(this.#prefix.length));
  }

  /** The value as it is; null counts as absent. */
  raw(key: string): unknown {
    return this.#values[this.#prefix + key] ?? undefined;
  }
  has(key: string): boolean {
    return this.raw(key) !== undefined;
  }

  /** A positive integer. Without a fallback the key is required. */
  count(key: string, fallback?: number): number {
    return this.#checked(key, fallback, "a positive integer", (x): x is number => isCount(x) && x <= LIMITS.count);
  }
  /** An integer >= 0. */
  natural(key: string, fallback?: number): number {
    return this.#checked(
      key,
      fallback,
      "an integer >= 0",
      (x): x is number => x === 0 || (isCount(x) && x <= LIMITS.count),
    );
  }
  layers(key: string): number {
    return this.#checked(
      key,
      undefined,
      `an integer from 1 to ${LIMITS.layers}`,
      (x): x is number => isCount(x) && x <= LIMITS.layers,
    );
  }
  /** A finite number > 0. */
  positive(key: string, fallback?: number): number {
    return this.#checked(
      key,
      fallback,
      "a number > 0",
      (x): x is number => typeof x === "number" && Number.isFinite(x) && x > 0,
    );
  }
  flag(key: string, fallback: boolean): boolean {
    return this.#checked(key, fallback, "true or false", (x): x is boolean => typeof x === "boolean");
  }
  text(key: string, fallback?: string): string {
    return this.#checked(key, fallback, "a text", (x): x is string => typeof x === "string");
  }
  /** A nested object's fields; messages say `key.inner`. */
  object(key: string): ConfigFields {
    const value = this.#checked(
      key,
      {},
      "an object",
      (x): x is Record<string, unknown> => typeof x === "object" && !Array.isArray(x),
    );
    const named = Object.entries(value).map(([inner, x]) => [`${this.#prefix}${key}.${inner}`, x]);
    return new ConfigFields(Object.fromEntries(named), this.#file, `${this.#prefix}${key}.`);
  }

  /** Refuses a key that is there with any value but the neutral ones. */
  neutral(key: string, values: readonly unknown[], reason: string): void {
    const value = this.raw(key);
    if (value !== undefined && !values.includes(value)) throw this.unsupported(key, reason);
  }

  /** @returns UNSUPPORTED_MODEL: the value is well-formed, this package doesn't compute it. */
  unsupported(key: string, reason: string): SglangError {
    const found = show(this.raw(key));
    return new SglangError(
      "UNSUPPORTED_MODEL",
      `${this.#name(key)} = ${found} in ${this.#file} is not supported: ${reason}.`,
      {
        field: this.#name(key),
        file: this.#file,
        found,
      },
    );
  }

  /** @returns MALFORMED_FILE: the value can't be right. */
  malformed(key: string, expected: string): SglangError {
    const found = this.has(key) ? show(this.raw(key)) : "nothing";
    return new SglangError("MALFORMED_FILE", `${this.#name(key)} in ${this.#file} must be ${expected}, got ${found}.`, {
      field: this.#name(key),
      file: this.#file,
      expected,
      found,
    });
  }

  #name(key: string): string {
    return this.#prefix + key;
  }
  #checked<T>(key: string, fallback: T | undefined, expected: string, holds: (x: unknown) => x is T): T {
    const value = this.raw(key);
    if (value === undefined && fallback !== undefined) return fallback;
    if (!holds(value)) throw this.malformed(key, expected);
    return value;
  }
}

const isCount = (x: unknown): x is number => Number.isSafeInteger(x) && (x as number) >= 1;

const MAX_SHOWN = 80;
function show(value: unknown): string {
  const text = JSON.stringify(value, (_key, x) => (typeof x === "bigint" ? String(x) : x)) ?? String(value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text;
}
