/**
 * Request bodies against zod schemas, with errors that name the field.
 *
 * A schema's `error` texts are phrases that complete "<field> must be ...". Fields that SGLang or OpenAI know and this
 * server does not offer are listed as {@link RefusedFields}: their harmless value passes, anything else is refused by
 * name. A field nobody knows is refused with the nearest known one. Nothing is ignored.
 */
import type { z } from "zod";
import { SglangError } from "../core/errors.js";
import { didYouMean } from "../core/near-miss.js";

export interface RefusedField {
  /** Completes "<field> is not supported: ...". */
  reason: string;
  /** Values that ask for nothing, beside null. */
  harmless?: readonly unknown[];
}
export type RefusedFields = Readonly<Record<string, RefusedField>>;

/** Most characters of a value shown in an error. */
const MAX_SHOWN = 80;
/** Most entries of a list or object shown in an error. */
const MAX_SHOWN_ENTRIES = 8;

/** How a value looks in an error message. */
export function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "object" && value !== null) {
    if (!isSmall(value)) return Array.isArray(value) ? "a list" : "an object";
  }
  const json = JSON.stringify(value);
  return json.length > MAX_SHOWN ? `${json.slice(0, MAX_SHOWN)}...` : json;
}

/** A few flat entries: worth showing whole. Larger values are not even turned into text. */
function isSmall(value: object): boolean {
  if (Array.isArray(value) && value.length > MAX_SHOWN_ENTRIES) return false;
  const entries = Object.values(value);
  return (
    entries.length > 0 &&
    entries.length <= MAX_SHOWN_ENTRIES &&
    entries.every((entry) =>
      typeof entry === "string" ? entry.length <= MAX_SHOWN : typeof entry !== "object" || entry === null,
    )
  );
}

/** `["messages", 0, "role"]` -> `messages[0].role`. */
export function fieldPath(path: readonly PropertyKey[], prefix = ""): string {
  let out = prefix;
  for (const key of path) out += typeof key === "number" ? `[${key}]` : out === "" ? String(key) : `.${String(key)}`;
  return out;
}

/** A known feature that is not offered. */
export function unsupported(field: string, reason: string): SglangError {
  return new SglangError("UNSUPPORTED", `${field} is not supported: ${reason}.`, { field });
}

/** A request error about `field`; `message` is the whole sentence. */
export function invalid(field: string, message: string): SglangError {
  return new SglangError("INVALID_REQUEST", message, { field });
}

/**
 * Checks `body` and returns its known fields.
 * @param prefix path of `body` inside the request, for messages: `messages[2]`
 * @param hints names people use for a known field: `max_tokens` -> `max_new_tokens`
 * @throws SglangError INVALID_REQUEST or UNSUPPORTED naming the field
 */
export function parseFields<T extends z.ZodObject>(
  schema: T,
  body: unknown,
  options: { refused?: RefusedFields; prefix?: string; hints?: Readonly<Record<string, string>> } = {},
): z.output<T> {
  const { refused = {}, prefix = "", hints = {} } = options;
  if (typeof body !== "object" || body === null || Array.isArray(body)) {
    const what = prefix === "" ? "The request body" : prefix;
    throw new SglangError("INVALID_REQUEST", `${what} must be a JSON object, got ${shown(body)}.`, {
      field: prefix === "" ? undefined : prefix,
    });
  }
  const taken: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(body)) {
    if (Object.hasOwn(schema.shape, key)) {
      taken[key] = value;
      continue;
    }
    const field = fieldPath([key], prefix);
    if (!Object.hasOwn(refused, key)) throw unknownField(field, key, [...Object.keys(schema.shape)], hints);
    const { reason, harmless = [] } = refused[key];
    if (value === null || harmless.some((ok) => sameJson(ok, value))) continue;
    throw unsupported(field, reason);
  }
  const result = schema.safeParse(taken);
  if (result.success) return result.data as z.output<T>;
  throw issueError(result.error.issues[0], taken, prefix);
}

function unknownField(
  field: string,
  key: string,
  known: string[],
  hints: Readonly<Record<string, string>>,
): SglangError {
  const hint = Object.hasOwn(hints, key) ? ` Did you mean ${hints[key]}?` : didYouMean(key, known);
  const name = field.length > MAX_SHOWN ? `${field.slice(0, MAX_SHOWN)}...` : field;
  return new SglangError("INVALID_REQUEST", `${name} is not a known field.${hint}`, { field: name });
}

function issueError(issue: z.core.$ZodIssue, body: unknown, prefix: string): SglangError {
  const field = fieldPath(issue.path, prefix);
  if (issue.code === "unrecognized_keys") return unknownField(fieldPath([issue.keys[0]], field), issue.keys[0], [], {});
  let value = body;
  for (const key of issue.path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  const expected = issue.message;
  if (value === undefined) {
    return new SglangError("INVALID_REQUEST", `${field} is required: ${expected}.`, { field, expected });
  }
  return new SglangError("INVALID_REQUEST", `${field} must be ${expected}, got ${shown(value)}.`, {
    field,
    expected,
    found: shown(value),
  });
}

/** Equality of the small constants in a {@link RefusedField}. */
function sameJson(constant: unknown, value: unknown): boolean {
  if (typeof constant !== "object") return constant === value;
  if (typeof value !== "object" || value === null || Object.keys(value).length > 4) return false;
  return JSON.stringify(constant) === JSON.stringify(value);
}
