/**
 * The kinds of values that request fields take.
 *
 * Lists are checked by predicates that stop at the first wrong entry: a schema that reports every wrong entry would
 * turn one hostile body into millions of error objects. Each kind knows its JSON Schema, for the documentation.
 */
import { z } from "zod";

/** Deepest nesting of free-form JSON (tool parameters, template variables) that is passed on. */
const MAX_JSON_DEPTH = 64;
/** Deepest nesting of a schema: about three levels of JSON for each level of the values it describes. */
const MAX_SCHEMA_DEPTH = 2048;

export interface Kind<T> {
  is(value: unknown): value is T;
  /** JSON Schema. */
  schema: Record<string, unknown>;
}

function shallowEnough(value: unknown, depth = MAX_JSON_DEPTH): boolean {
  if (typeof value !== "object" || value === null) return true;
  return depth > 0 && Object.values(value).every((inner) => shallowEnough(inner, depth - 1));
}

export const ANY: Kind<unknown> = { is: (value): value is unknown => value !== undefined, schema: {} };
export const TEXT: Kind<string> = { is: (value) => typeof value === "string", schema: { type: "string" } };
export const FLAG: Kind<boolean> = { is: (value) => typeof value === "boolean", schema: { type: "boolean" } };
export const INTEGER: Kind<number> = {
  is: (value): value is number => Number.isSafeInteger(value),
  schema: { type: "integer" },
};
export const TOKEN: Kind<number> = {
  is: (value): value is number => Number.isSafeInteger(value) && (value as number) >= 0,
  schema: { type: "integer", minimum: 0 },
};
const objectOf = (depth: number): Kind<Record<string, unknown>> => ({
  is: (value): value is Record<string, unknown> =>
    typeof value === "object" && value !== null && !Array.isArray(value) && shallowEnough(value, depth),
  schema: { type: "object" },
});
/** Free-form JSON object, not too deep to be walked. */
export const OBJECT = objectOf(MAX_JSON_DEPTH);
/** A JSON Schema or structural tag as an object. The grammar room has limits of its own. */
export const SCHEMA_OBJECT = objectOf(MAX_SCHEMA_DEPTH);

export const list = <T>({ is, schema }: Kind<T>): Kind<T[]> => ({
  is: (value): value is T[] => Array.isArray(value) && value.every(is),
  schema: { type: "array", items: schema },
});

export const nullable = <T>({ is, schema }: Kind<T>): Kind<T | null> => ({
  is: (value): value is T | null => value === null || is(value),
  schema: { anyOf: [schema, { type: "null" }] },
});

type Value<K> = K extends Kind<infer T> ? T : never;

/** A field that takes one of `kinds`. `error` completes "<field> must be ...". */
export function field<K extends Kind<unknown>[]>(error: string, ...kinds: K): z.ZodType<Value<K[number]>> {
  const schema = kinds.length === 1 ? kinds[0].schema : { anyOf: kinds.map((kind) => kind.schema) };
  return z.custom<Value<K[number]>>((value) => kinds.some((kind) => kind.is(value)), { error }).meta(schema);
}

export const text = (error = "a text") => field(error, TEXT);
export const flag = () => field("true or false", FLAG);
export const integer = (error = "an integer") => field(error, INTEGER);
export const number = (error = "a number") => z.number({ error });
export const tokenIds = () => field("a list of token ids", list(TOKEN));
export const oneOrMany = () => field("a text or a list of texts", TEXT, list(TEXT));
export const jsonObject = (error = `an object nested at most ${MAX_JSON_DEPTH} deep`) => field(error, OBJECT);
export const schemaOrText = () => field("a JSON Schema, or its JSON text", TEXT, FLAG, SCHEMA_OBJECT);
export const tagOrText = () => field("a structural tag, or its JSON text", TEXT, SCHEMA_OBJECT);
/** A list whose entries the route checks one by one, to name the wrong one. */
export const listOfAny = (error: string) => field(error, list(ANY));
/** A prompt of the OpenAI routes. */
export const textOrTokens = () =>
  field(
    "a text, a list of texts, a list of token ids, or a list of such lists",
    TEXT,
    list(TEXT),
    list(TOKEN),
    list(list(TOKEN)),
  );
