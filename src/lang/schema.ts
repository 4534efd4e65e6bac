/**
 * What `gen({ schema })` takes: zod 4 and every other Standard Schema that has a JSON Schema form, or a JSON Schema. No
 * library is imported: the shapes below are the public ones of the Standard Schema specification.
 */
import { invalidField, SglangError } from "../core/errors.js";

interface StandardIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[];
}
type StandardResult =
  | { readonly value: unknown; readonly issues?: undefined }
  | { readonly issues: readonly StandardIssue[] };

/** The part of a Standard Schema that is used here. */
export interface StandardSchema<Output = unknown> {
  readonly "~standard": {
    readonly version: number;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult | Promise<StandardResult>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
    readonly jsonSchema?: {
      readonly input: (options: { target: string }) => Record<string, unknown>;
    };
  };
}

/** A JSON Schema object, written out. */
export type JsonSchema = { readonly [key: string]: unknown };

export type Schema = StandardSchema | JsonSchema;

type Simplify<T> = { [K in keyof T]: T[K] };
type RequiredKeys<S> = S extends { readonly required: readonly (infer K)[] } ? K : never;
type ObjectValue<S, P> = Simplify<
  { -readonly [K in keyof P as K extends RequiredKeys<S> ? K : never]: JsonSchemaValue<P[K]> } & {
    -readonly [K in keyof P as K extends RequiredKeys<S> ? never : K]?: JsonSchemaValue<P[K]>;
  }
>;

/** The values that a JSON Schema (written as a literal) describes; `unknown` where this cannot tell. */
export type JsonSchemaValue<S> = S extends { readonly const: infer C }
  ? C
  : S extends { readonly enum: readonly (infer E)[] }
    ? E
    : S extends { readonly anyOf: readonly (infer U)[] }
      ? JsonSchemaValue<U>
      : S extends { readonly oneOf: readonly (infer U)[] }
        ? JsonSchemaValue<U>
        : S extends { readonly type: "string" }
          ? string
          : S extends { readonly type: "integer" | "number" }
            ? number
            : S extends { readonly type: "boolean" }
              ? boolean
              : S extends { readonly type: "null" }
                ? null
                : S extends { readonly type: "array"; readonly items: infer I }
                  ? JsonSchemaValue<I>[]
                  : S extends { readonly type: "array" }
                    ? unknown[]
                    : S extends { readonly type: "object"; readonly properties: infer P }
                      ? ObjectValue<S, P>
                      : S extends { readonly type: "object" }
                        ? Record<string, unknown>
                        : unknown;

/** The value that parsing an answer under schema `S` gives. */
export type SchemaValue<S> = S extends { readonly "~standard": { readonly types?: infer T } }
  ? NonNullable<T> extends { readonly output: infer O }
    ? O
    : unknown
  : JsonSchemaValue<S>;

export function isStandardSchema(schema: Schema): schema is StandardSchema {
  return "~standard" in schema;
}

/** Keywords under which an object schema describes a part of a value: closing it there would forbid the other parts. */
const PARTIAL = new Set(["allOf", "not", "if", "then", "else"]);

/**
 * Closes every object that lists its properties and leaves `additionalProperties` open: a validator that drops unknown
 * keys has no use for them, and a model should not spend tokens on them.
 */
function closeObjects(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(closeObjects);
  if (typeof node !== "object" || node === null) return node;
  const closed: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(node)) {
    const literal = PARTIAL.has(key) || key === "enum" || key === "const" || key === "default" || key === "examples";
    closed[key] = literal ? value : closeObjects(value);
  }
  const { type, properties } = closed;
  if (
    type === "object" &&
    typeof properties === "object" &&
    !("additionalProperties" in closed) &&
    !("allOf" in closed)
  ) {
    closed.additionalProperties = false;
  }
  return closed;
}

/**
 * The JSON Schema that constrains the answer.
 * @throws SglangError INVALID_REQUEST for a Standard Schema without a JSON Schema form, or something that is no schema
 */
export function toJsonSchema(schema: Schema): Record<string, unknown> {
  if ((typeof schema !== "object" && typeof schema !== "function") || schema === null) {
    throw invalidField("schema", "a zod schema, a Standard Schema or a JSON Schema", schema);
  }
  if (!isStandardSchema(schema)) return { ...schema };
  const standard = schema["~standard"];
  if (!standard.jsonSchema) {
    throw new SglangError(
      "INVALID_REQUEST",
      `schema of ${standard.vendor} has no JSON Schema form; use zod 4, a library with Standard JSON Schema, or pass a JSON Schema.`,
      { field: "schema", expected: "a schema with a JSON Schema form", found: standard.vendor },
    );
  }
  try {
    const { $schema: _, ...rest } = standard.jsonSchema.input({ target: "draft-2020-12" });
    return closeObjects(rest) as Record<string, unknown>;
  } catch (cause) {
    throw new SglangError(
      "INVALID_REQUEST",
      `schema cannot be written as JSON Schema: ${(cause as Error).message}`,
      { field: "schema" },
      { cause },
    );
  }
}

/**
 * Checks a parsed answer; transforms of the schema apply.
 * @throws SglangError INVALID_REQUEST with the path of the first issue
 */
export async function validateValue(schema: Schema, value: unknown, variable: string): Promise<unknown> {
  if (!isStandardSchema(schema)) return value;
  const result = await schema["~standard"].validate(value);
  if (!result.issues) return result.value;
  const [issue] = result.issues;
  const path = (issue.path ?? []).map((key) => String(typeof key === "object" ? key.key : key)).join(".");
  throw new SglangError(
    "INVALID_REQUEST",
    `The answer of "${variable}" does not fit its schema${path ? ` at ${path}` : ""}: ${issue.message}.`,
    { field: path || "schema", found: JSON.stringify(value) },
  );
}
