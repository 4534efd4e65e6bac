/**
 * JSON Schema as a grammar: the JSON texts of exactly the values the schema accepts, or an error that names the keyword
 * it cannot enforce. Never less than the schema asks.
 *
 * Drafts 4, 6, 7, 2019-09 and 2020-12, by `$schema`; without it, keywords of all drafts are understood.
 */
import { SglangError } from "../core/errors.js";
import type { ProgramWriter } from "./ir.js";
import { JsonLexemes } from "./json-lexemes.js";
import { parseJsonText, toJsonValue } from "./json-text.js";
import type { Lexemes } from "./lexeme.js";
import type { Program } from "./program.js";
import { SchemaDocument } from "./schema-document.js";
import { type ReaderLimits, SchemaReader } from "./schema-reader.js";
import { SchemaWriter } from "./schema-writer.js";
import { layoutOf, type WhitespaceMode } from "./whitespace.js";

export interface JsonSchemaOptions {
  /** @default "flexible" */
  whitespace?: WhitespaceMode;
  /** Order of declared properties in the text; other properties come after them. @default "declared" */
  propertyOrder?: "declared" | "any";
  limits?: ReaderLimits;
}

/** A schema that can be compiled or embedded; `warnings` is filled when it is written. */
export interface JsonSchemaGrammar extends ProgramWriter {
  readonly warnings: readonly string[];
}

const lexemesOf = new WeakMap<Lexemes, JsonLexemes>();

/**
 * @param schema JSON text (keeps the order of properties, whatever their names) or plain data.
 * @throws SglangError INVALID_REQUEST (not a schema) or UNSUPPORTED (cannot be enforced); `details.field` is the JSON
 *   pointer. Also thrown by `write`.
 */
export function jsonSchemaGrammar(schema: string | unknown, options: JsonSchemaOptions = {}): JsonSchemaGrammar {
  const root = typeof schema === "string" ? parseJsonText(schema) : toJsonValue(schema);
  if (typeof root !== "boolean" && !(root instanceof Map)) {
    throw new SglangError("INVALID_REQUEST", "A JSON schema must be an object or a boolean.", { field: "#" });
  }
  const document = new SchemaDocument(root);
  const warnings: string[] = [];
  return {
    warnings,
    write(program: Program): number {
      let json = lexemesOf.get(program.lexemes);
      if (json === undefined) {
        json = new JsonLexemes(program.lexemes, program.encoder);
        lexemesOf.set(program.lexemes, json);
      }
      const reader = new SchemaReader(document, json, options.limits);
      const writer = new SchemaWriter(program, reader, {
        layout: layoutOf(options.whitespace ?? "flexible", program.lexemes),
        propertyOrder: options.propertyOrder ?? "declared",
      });
      const node = writer.write(reader.root());
      warnings.splice(0, warnings.length, ...new Set(reader.warnings));
      if (node === undefined) {
        throw new SglangError(
          "INVALID_REQUEST",
          "The schema accepts no value at all (#); nothing could be generated.",
          {
            field: "#",
          },
        );
      }
      return node;
    },
  };
}
