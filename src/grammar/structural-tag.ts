/**
 * Structural tags: free text in which certain beginnings (triggers) start a constrained span, as for tool calls.
 *
 * Two spellings are read: SGLang's first one, `{structures: [{begin, schema, end}], triggers}`, and the nested `format`
 * of XGrammar. Free text runs up to the first occurrence of a trigger: that is a regular language, so what the model
 * writes before a tag is part of the grammar like anything else, and a trigger that no tag continues can't be written.
 */
import { SglangError } from "../core/errors.js";
import { parseEbnf } from "./ebnf.js";
import {
  ANY_TEXT,
  choice,
  complement,
  containing,
  EMPTY,
  type Expression,
  embed,
  type GrammarDefinition,
  type GrammarSource,
  intersect,
  ref,
  repeat,
  sequence,
  text,
  upTo,
} from "./ir.js";
import { parseJsonText } from "./json-text.js";
import { regexToExpression } from "./regex.js";

export interface StructuralTagOptions {
  /** Compiles a JSON Schema found at `pointer` in the tag: the JSON Schema front end, which is given from outside. */
  schema(schema: unknown, pointer: string): GrammarSource;
}

/** Tags in one request: each is a rule, and each trigger is compared with each. */
const MAX_TAGS = 10_000;
const MAX_DEPTH = 100;

type Fields = Readonly<Record<string, unknown>>;

interface Tag {
  begin: string;
  /** `content` followed by the end of the tag. */
  rest: Expression;
}

/**
 * The grammar of a structural tag: plain data, or its JSON text, which keeps the order of properties in schemas.
 * Throws INVALID_REQUEST with the JSON pointer of the part that is missing, unknown or impossible.
 */
export function parseStructuralTag(value: unknown, options: StructuralTagOptions): GrammarDefinition {
  let parsed = value;
  if (typeof value === "string") {
    try {
      // Not JSON.parse: it would put integer-like property names of a schema first.
      parsed = parseJsonText(value);
    } catch (error) {
      if (!SglangError.isInstance(error)) throw error;
      throw new SglangError(
        error.code,
        `structural_tag is not JSON: ${error.message}`,
        { field: "structural_tag", expected: "a JSON object" },
        { cause: error },
      );
    }
  }
  return new StructuralTagReader(options).read(parsed);
}

class StructuralTagReader {
  readonly #options: StructuralTagOptions;
  readonly #rules = new Map<string, Expression>();
  #tags = 0;

  constructor(options: StructuralTagOptions) {
    this.#options = options;
  }

  read(value: unknown): GrammarDefinition {
    const fields = asFields(value, "");
    if (fields.type !== undefined && fields.type !== "structural_tag")
      throw bad("/type", '"structural_tag"', fields.type);
    if (fields.format !== undefined) {
      onlyFields(fields, "", ["type", "format"]);
      return { root: this.#format(fields.format, "/format", null, 0), rules: this.#rules };
    }
    onlyFields(fields, "", ["type", "structures", "triggers"]);
    const tags = asList(fields.structures, "/structures").map((structure, index): Tag => {
      const pointer = `/structures/${index}`;
      const part = asFields(structure, pointer);
      onlyFields(part, pointer, ["begin", "schema", "end"]);
      return {
        begin: this.#begin(part.begin, `${pointer}/begin`),
        rest: sequence(this.#schema(part.schema ?? {}, `${pointer}/schema`), text(asText(part.end, `${pointer}/end`))),
      };
    });
    const triggers = this.#triggers(fields.triggers, "/triggers");
    return { root: this.#triggered(tags, triggers, "", null, false, false), rules: this.#rules };
  }

  /** @param ends how the enclosing tag ends: the format then matches its own text and one of the ends. Null: nothing follows. */
  #format(value: unknown, pointer: string, ends: readonly string[] | null, depth: number): Expression {
    if (depth > MAX_DEPTH) throw bad(pointer, `nesting of at most ${MAX_DEPTH} formats`, "more");
    const fields = asFields(value, pointer);
    const end = ends === null ? EMPTY : choice(...ends.map(text));
    const only = (...names: string[]): void => onlyFields(fields, pointer, ["type", ...names]);
    switch (fields.type) {
      case "const_string":
        only("value");
        return sequence(text(asText(fields.value, `${pointer}/value`)), end);
      case "json_schema": {
        only("json_schema", "style");
        if (fields.style !== undefined && fields.style !== "json")
          throw bad(`${pointer}/style`, '"json"', fields.style);
        return sequence(this.#schema(fields.json_schema ?? {}, `${pointer}/json_schema`), end);
      }
      case "regex":
        only("pattern", "excludes");
        return sequence(
          without(regexToExpression(asText(fields.pattern, `${pointer}/pattern`)), excluded(fields, pointer)),
          end,
        );
      case "grammar":
        only("grammar");
        return sequence(embed(parseEbnf(asText(fields.grammar, `${pointer}/grammar`))), end);
      case "any_text": {
        only("excludes");
        return this.#anyText(excluded(fields, pointer), ends);
      }
      case "sequence": {
        only("elements");
        const elements = asList(fields.elements, `${pointer}/elements`);
        if (elements.length === 0) return end;
        return sequence(
          ...elements.map((element, index) =>
            this.#format(
              element,
              `${pointer}/elements/${index}`,
              index === elements.length - 1 ? ends : null,
              depth + 1,
            ),
          ),
        );
      }
      case "or": {
        only("elements");
        const elements = asList(fields.elements, `${pointer}/elements`);
        if (elements.length === 0) throw bad(`${pointer}/elements`, "at least one format", "none");
        return choice(
          ...elements.map((element, index) => this.#format(element, `${pointer}/elements/${index}`, ends, depth + 1)),
        );
      }
      case "tag": {
        const tag = this.#tag(fields, pointer, depth);
        return sequence(text(tag.begin), tag.rest, end);
      }
      case "triggered_tags": {
        only("triggers", "tags", "at_least_one", "stop_after_first", "excludes");
        if (fields.excludes !== undefined && asList(fields.excludes, `${pointer}/excludes`).length > 0)
          throw bad(
            `${pointer}/excludes`,
            "left out: text between tags can't exclude more than triggers",
            fields.excludes,
          );
        return this.#triggered(
          this.#tagList(fields.tags, `${pointer}/tags`, depth),
          this.#triggers(fields.triggers, `${pointer}/triggers`),
          pointer,
          ends,
          asFlag(fields.at_least_one, `${pointer}/at_least_one`),
          asFlag(fields.stop_after_first, `${pointer}/stop_after_first`),
        );
      }
      case "tags_with_separator": {
        only("tags", "separator", "at_least_one", "stop_after_first");
        const tags = this.#tagList(fields.tags, `${pointer}/tags`, depth);
        const one = choice(...tags.map(({ begin, rest }) => sequence(text(begin), rest)));
        const more = asFlag(fields.stop_after_first, `${pointer}/stop_after_first`)
          ? EMPTY
          : repeat(
              sequence(text(asText(fields.separator ?? "", `${pointer}/separator`)), one),
              0,
              Number.POSITIVE_INFINITY,
            );
        const some = sequence(one, more);
        return sequence(asFlag(fields.at_least_one, `${pointer}/at_least_one`) ? some : choice(some, EMPTY), end);
      }
      default:
        throw bad(
          `${pointer}/type`,
          "one of const_string, json_schema, regex, grammar, any_text, sequence, or, tag, triggered_tags, tags_with_separator",
          fields.type,
        );
    }
  }

  /** Text up to the first end, and that end; without an end any text. */
  #anyText(excludes: readonly string[], ends: readonly string[] | null): Expression {
    return ends === null
      ? without(ANY_TEXT, excludes)
      : choice(...ends.map((end) => without(upTo(end, ends), excludes)));
  }

  #tag(fields: Fields, pointer: string, depth: number): Tag {
    onlyFields(fields, pointer, ["type", "begin", "content", "end"]);
    if (++this.#tags > MAX_TAGS) throw bad(pointer, `at most ${MAX_TAGS} tags`, "more");
    const ends = (Array.isArray(fields.end) ? fields.end : [fields.end]).map((end, index) =>
      asText(end, Array.isArray(fields.end) ? `${pointer}/end/${index}` : `${pointer}/end`),
    );
    if (ends.length === 0) throw bad(`${pointer}/end`, "at least one text", "none");
    // An empty end says that nothing but the content ends the tag.
    const closing = ends.includes("") ? null : ends;
    if (closing === null && ends.length > 1) throw bad(`${pointer}/end`, "texts that are not empty", ends);
    return {
      begin: asText(fields.begin, `${pointer}/begin`),
      rest: this.#format(fields.content ?? { type: "any_text" }, `${pointer}/content`, closing, depth + 1),
    };
  }

  #tagList(value: unknown, pointer: string, depth: number): Tag[] {
    const list = asList(value, pointer);
    if (list.length === 0) throw bad(pointer, "at least one tag", "none");
    return list.map((item, index) => {
      const fields = asFields(item, `${pointer}/${index}`);
      if (fields.type !== undefined && fields.type !== "tag")
        throw bad(`${pointer}/${index}/type`, '"tag"', fields.type);
      return this.#tag(fields, `${pointer}/${index}`, depth);
    });
  }

  #triggers(value: unknown, pointer: string): string[] {
    const triggers = asList(value, pointer).map((trigger, index) => this.#begin(trigger, `${pointer}/${index}`));
    if (triggers.length === 0) throw bad(pointer, "at least one trigger", "none");
    return triggers;
  }

  #begin(value: unknown, pointer: string): string {
    const begin = asText(value, pointer);
    if (begin === "") throw bad(pointer, "a text that is not empty", begin);
    return begin;
  }

  /** Free text, then a tag, then free text again; `first` and `last` are `at_least_one` and `stop_after_first`. */
  #triggered(
    tags: readonly Tag[],
    triggers: readonly string[],
    pointer: string,
    ends: readonly string[] | null,
    first: boolean,
    last: boolean,
  ): Expression {
    tags.forEach(({ begin }, index) => {
      if (!triggers.some((trigger) => begin.startsWith(trigger)))
        throw bad(
          `${pointer}/${pointer === "" ? "structures" : "tags"}/${index}/begin`,
          `a text that begins with one of the triggers ${triggers.map((trigger) => JSON.stringify(trigger)).join(", ")}`,
          begin,
        );
    });
    const stops = ends === null ? triggers : [...triggers, ...ends];
    const name = `tags ${this.#rules.size}`;
    const tail =
      ends === null
        ? complement(containing(choice(...triggers.map(text))))
        : choice(...ends.map((end) => upTo(end, stops)));
    const end = ends === null ? EMPTY : choice(...ends.map(text));
    const next = last ? end : ref(name);
    const dispatch = triggers.map((trigger) => {
      // A begin with several triggers is entered by the shortest, which is complete first.
      const entered = tags.filter(
        ({ begin }) =>
          begin.startsWith(trigger) &&
          !triggers.some((other) => other.length < trigger.length && begin.startsWith(other)),
      );
      const rests = entered.map(({ begin, rest }) => sequence(text(begin.slice(trigger.length)), rest));
      return sequence(upTo(trigger, stops), choice(...rests), next);
    });
    this.#rules.set(name, choice(tail, ...dispatch));
    if (!first) return ref(name);
    return sequence(choice(...tags.map(({ begin, rest }) => sequence(text(begin), rest))), next);
  }

  #schema(schema: unknown, pointer: string): Expression {
    return embed(this.#options.schema(schema, pointer));
  }
}

function without(expression: Expression, excludes: readonly string[]): Expression {
  return excludes.length === 0
    ? expression
    : intersect(expression, complement(containing(choice(...excludes.map(text)))));
}

function excluded(fields: Fields, pointer: string): string[] {
  if (fields.excludes === undefined) return [];
  return asList(fields.excludes, `${pointer}/excludes`).map((item, index) => {
    const exclude = asText(item, `${pointer}/excludes/${index}`);
    if (exclude === "") throw bad(`${pointer}/excludes/${index}`, "a text that is not empty", exclude);
    return exclude;
  });
}

function bad(pointer: string, expected: string, found: unknown): SglangError {
  const field = `structural_tag${pointer}`;
  const shown =
    found === undefined ? "nothing" : JSON.stringify(found instanceof Map ? Object.fromEntries(found) : found);
  return new SglangError("INVALID_REQUEST", `${field} must be ${expected}, got ${shown}.`, {
    field,
    expected,
    found: shown,
  });
}

function asFields(value: unknown, pointer: string): Fields {
  if (value instanceof Map) return Object.fromEntries(value) as Fields;
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw bad(pointer, "an object", value);
  return value as Fields;
}

function asList(value: unknown, pointer: string): readonly unknown[] {
  if (!Array.isArray(value)) throw bad(pointer, "a list", value);
  return value;
}

function asText(value: unknown, pointer: string): string {
  if (typeof value !== "string") throw bad(pointer, "a text", value);
  return value;
}

function asFlag(value: unknown, pointer: string): boolean {
  if (value === undefined) return false;
  if (typeof value !== "boolean") throw bad(pointer, "true or false", value);
  return value;
}

/** Nothing is ignored: a field that is not known is an error. */
function onlyFields(fields: Fields, pointer: string, known: readonly string[]): void {
  for (const name of Object.keys(fields))
    if (!known.includes(name)) throw bad(`${pointer}/${name}`, `left out; known are ${known.join(", ")}`, fields[name]);
}
