/**
 * What an answer must look like, in all the spellings clients have for it:
 *
 *   SGLang   json_schema, regex, ebnf, structural_tag   (in sampling_params of /generate, at the top level elsewhere)
 *   OpenAI   response_format
 *   vLLM     structured_outputs, guided_json, guided_regex, guided_choice, guided_grammar
 *
 * A request has one constraint at most. What it says is checked by the grammar room when the engine compiles it.
 */
import { z } from "zod";
import type { Constraint, GenerateRequest, JumpForward } from "../core/protocol.js";
import type { ToolDemand } from "../core/tool-constraint.js";
import { field, flag, list, SCHEMA_OBJECT, schemaOrText, TEXT, tagOrText, text } from "./fields.js";
import { fieldPath, invalid, parseFields, type RefusedFields, shown, unsupported } from "./validation.js";

/** SGLang's names. */
export const constraintShape = {
  json_schema: schemaOrText().nullish(),
  regex: text("a regular expression").nullish(),
  ebnf: text("an EBNF grammar").nullish(),
  structural_tag: tagOrText().nullish(),
  /** Our own: the answer is steered to be complete when its tokens run out. */
  close_on_budget: flag().nullish(),
  /** Our own: who decides in which tokens forced text comes, the model or the tokenizer. */
  jump_forward: z.enum(["verified", "forced"], { error: '"verified" or "forced"' }).nullish(),
};

const choices = () => field("a list of texts", list(TEXT));

/** The OpenAI routes: SGLang's names, OpenAI's and vLLM's. */
export const openAiConstraintShape = {
  ...constraintShape,
  response_format: field("an object", SCHEMA_OBJECT).nullish(),
  structured_outputs: field("an object", SCHEMA_OBJECT).nullish(),
  guided_json: schemaOrText().nullish(),
  guided_regex: text("a regular expression").nullish(),
  guided_choice: choices().nullish(),
  guided_grammar: text("a grammar").nullish(),
};

const DECODING = "there is one grammar engine, and white space is set for the whole server";
/** vLLM's fields that choose between engines. */
export const REFUSED_CONSTRAINT: RefusedFields = {
  guided_decoding_backend: { reason: DECODING, harmless: ["auto"] },
  guided_whitespace_pattern: { reason: DECODING },
};

type Given<Shape extends z.ZodRawShape> = z.output<z.ZodObject<Shape>>;

/**
 * The constraint of a request; undefined without one.
 * @param prefix path of the fields inside the request
 * @throws SglangError INVALID_REQUEST naming the fields when there are several, or the part of one that is wrong
 */
export function toConstraint(given: Given<typeof constraintShape>, prefix = ""): Constraint | undefined {
  return only(nativeConstraints(given), prefix);
}

export function toOpenAiConstraint(given: Given<typeof openAiConstraintShape>): Constraint | undefined {
  const found = nativeConstraints(given);
  const add = (name: string, constraint: Constraint | null) => constraint && found.set(name, constraint);
  if (given.response_format) add("response_format", fromResponseFormat(given.response_format));
  if (given.structured_outputs) add("structured_outputs", fromStructuredOutputs(given.structured_outputs));
  if (isSet(given.guided_json)) add("guided_json", { type: "jsonSchema", schema: given.guided_json });
  if (isSet(given.guided_regex)) add("guided_regex", { type: "regex", pattern: given.guided_regex });
  if (isSet(given.guided_choice)) add("guided_choice", { type: "choices", choices: given.guided_choice });
  if (isSet(given.guided_grammar)) add("guided_grammar", fromGrammar(given.guided_grammar));
  return only(found, "");
}

function isSet<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}

function nativeConstraints(given: Given<typeof constraintShape>): Map<string, Constraint> {
  const found = new Map<string, Constraint>();
  if (isSet(given.json_schema)) found.set("json_schema", { type: "jsonSchema", schema: given.json_schema });
  if (isSet(given.regex)) found.set("regex", { type: "regex", pattern: given.regex });
  if (isSet(given.ebnf)) found.set("ebnf", { type: "ebnf", grammar: given.ebnf });
  if (isSet(given.structural_tag)) found.set("structural_tag", { type: "structuralTag", tag: given.structural_tag });
  return found;
}

function only(found: ReadonlyMap<string, Constraint>, prefix: string): Constraint | undefined {
  const [first, second] = found.keys();
  if (second !== undefined) {
    const names = [first, second].map((name) => fieldPath([name], prefix));
    throw invalid(names[1], `${names[0]} and ${names[1]} were both given; a request has one constraint.`);
  }
  return first === undefined ? undefined : found.get(first);
}

const jsonSchemaFormat = z.object({
  name: text().nullish(),
  description: text().nullish(),
  schema: schemaOrText().nullish(),
  // Enforced either way.
  strict: flag().nullish(),
});

/** OpenAI's response_format, and SGLang's structural tags in it. null: any text. */
function fromResponseFormat(format: Record<string, unknown>): Constraint | null {
  const { type, ...rest } = format;
  switch (type) {
    case "text":
      parseFields(z.object({}), rest, { prefix: "response_format" });
      return null;
    case "json_object":
      parseFields(z.object({}), rest, { prefix: "response_format" });
      return { type: "jsonObject" };
    case "json_schema": {
      const { json_schema: inner } = parseFields(z.object({ json_schema: field("an object", SCHEMA_OBJECT) }), rest, {
        prefix: "response_format",
      });
      const { schema } = parseFields(jsonSchemaFormat, inner, { prefix: "response_format.json_schema" });
      if (!isSet(schema))
        throw invalid("response_format.json_schema.schema", "response_format.json_schema.schema is required.");
      return { type: "jsonSchema", schema };
    }
    case "structural_tag":
      return { type: "structuralTag", tag: format };
    default:
      throw invalid(
        "response_format.type",
        `response_format.type must be "text", "json_object", "json_schema" or "structural_tag", got ${shown(type)}.`,
      );
  }
}

const structuredOutputs = z.object({
  json: schemaOrText().nullish(),
  regex: text("a regular expression").nullish(),
  choice: choices().nullish(),
  grammar: text("a grammar").nullish(),
  json_object: flag().nullish(),
  structural_tag: tagOrText().nullish(),
});

const REFUSED_OUTPUTS: RefusedFields = {
  disable_fallback: { reason: DECODING, harmless: [true, false] },
  disable_any_whitespace: { reason: DECODING, harmless: [false] },
  disable_additional_properties: { reason: "write additionalProperties into the schema", harmless: [false] },
  whitespace_pattern: { reason: DECODING },
};

/** vLLM's structured_outputs. */
function fromStructuredOutputs(outputs: Record<string, unknown>): Constraint | null {
  const prefix = "structured_outputs";
  const given = parseFields(structuredOutputs, outputs, { prefix, refused: REFUSED_OUTPUTS });
  const found = new Map<string, Constraint>();
  if (isSet(given.json)) found.set("json", { type: "jsonSchema", schema: given.json });
  if (isSet(given.regex)) found.set("regex", { type: "regex", pattern: given.regex });
  if (isSet(given.choice)) found.set("choice", { type: "choices", choices: given.choice });
  if (isSet(given.grammar)) found.set("grammar", fromGrammar(given.grammar));
  if (given.json_object) found.set("json_object", { type: "jsonObject" });
  if (isSet(given.structural_tag)) found.set("structural_tag", { type: "structuralTag", tag: given.structural_tag });
  return only(found, prefix) ?? null;
}

/** vLLM takes EBNF and Lark, and tells them apart in the same way. */
function fromGrammar(grammar: string): Constraint {
  return grammar.includes("::=") ? { type: "ebnf", grammar } : { type: "lark", grammar };
}

/** The fields of a GenerateRequest that hold a constraint. */
export function constraintFields(
  constraint: Constraint | undefined,
  given: { close_on_budget?: boolean | null; jump_forward?: JumpForward | null },
): Pick<GenerateRequest, "constraint" | "closeOnBudget" | "jumpForward"> {
  return {
    ...(constraint && { constraint }),
    ...(given.close_on_budget && { closeOnBudget: true }),
    ...(given.jump_forward && { jumpForward: given.jump_forward }),
  };
}

/** @throws SglangError UNSUPPORTED when a request has both a constraint and tools whose calls must be enforced */
export function refuseBoth(constraint: Constraint | undefined, demand: ToolDemand | null): void {
  if (constraint && demand)
    throw unsupported("tool_choice", "an answer cannot be held to tool calls and to another constraint at once");
}
