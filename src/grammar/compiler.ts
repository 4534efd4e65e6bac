/**
 * From what a request asks for to something that makes masks: compiling, caching by content, limits.
 *
 * A compiler belongs to one vocabulary. Its grammars share one arena of lexemes, so that what JSON texts have in common
 * (strings, numbers, formats) is built once; an arena that has grown large is left to the grammars that use it.
 */
import { invalidField, SglangError } from "../core/errors.js";
import { Automaton, type AutomatonLimits } from "./automaton.js";
import { parseEbnf } from "./ebnf.js";
import { Encoder } from "./encode.js";
import { parseGbnf } from "./gbnf.js";
import { writeGrammar } from "./grammar-writer.js";
import { choice, type GrammarSource, text } from "./ir.js";
import { type JsonSchemaOptions, jsonSchemaGrammar } from "./json-schema.js";
import { MAX_DEPTH, tooDeep } from "./json-text.js";
import { parseLark } from "./lark.js";
import { type LexemeLimits, Lexemes } from "./lexeme.js";
import { LexemeMasks } from "./lexeme-masks.js";
import { MaskPool } from "./mask-builder.js";
import { Masks } from "./masks.js";
import { Matcher, type MatcherOptions } from "./matcher.js";
import { Program } from "./program.js";
import { regexToExpression } from "./regex.js";
import type { ReaderLimits } from "./schema-reader.js";
import { parseStructuralTag } from "./structural-tag.js";
import { afterThinking } from "./thinking.js";
import type { Vocabulary } from "./vocabulary.js";

type JsonLayout = Omit<JsonSchemaOptions, "limits">;

/** What a request may ask for. */
export type GrammarSpec =
  /** `schema`: JSON text (keeps property order) or plain data. */
  | ({ readonly kind: "json_schema"; readonly schema: unknown } & JsonLayout)
  /** Any JSON value. */
  | ({ readonly kind: "json" } & JsonLayout)
  /** Any JSON object. */
  | ({ readonly kind: "json_object" } & JsonLayout)
  /** The whole output matches the ECMAScript pattern. */
  | { readonly kind: "regex"; readonly pattern: string; readonly flags?: string }
  | { readonly kind: "ebnf" | "gbnf" | "lark"; readonly source: string; readonly root?: string }
  /** One of these texts. */
  | { readonly kind: "choices"; readonly choices: readonly string[] }
  /** `tag`: the object or its JSON text; see `structural-tag.ts` for its two spellings. */
  | { readonly kind: "structural_tag"; readonly tag: unknown }
  /**
   * Thinking between two marks, then `answer`. `inside`: the text begins within the thinking; else the thinking, mark and
   * all, may be left out.
   */
  | {
      readonly kind: "after_thinking";
      readonly start: string;
      readonly end: string;
      readonly inside: boolean;
      readonly answer: Exclude<GrammarSpec, { kind: "grammar" | "after_thinking" }>;
    }
  /** A grammar made in code. Cached by identity of `grammar`. */
  | { readonly kind: "grammar"; readonly grammar: GrammarSource };

export interface CompileLimits extends AutomatonLimits, LexemeLimits, ReaderLimits {
  /** Characters of the specification. @default 4 MiB */
  maxSourceLength?: number;
}

const DEFAULT_SOURCE_LENGTH = 4 * 1024 * 1024;
/** Compiled grammars kept. */
const MAX_CACHED = 256;
/** Lexemes after which a compiler starts a new arena. */
const ARENA_SIZE = 200_000;

/** A grammar for one vocabulary; makes any number of matchers. */
export class CompiledGrammar {
  readonly vocabulary: Vocabulary;
  readonly automaton: Automaton;
  readonly masks: Masks;
  /** What was not enforced because its own definition says so (unknown formats). */
  readonly warnings: readonly string[];

  constructor(
    vocabulary: Vocabulary,
    automaton: Automaton,
    pool: MaskPool,
    lexemeMasks: LexemeMasks,
    warnings: readonly string[],
  ) {
    this.vocabulary = vocabulary;
    this.automaton = automaton;
    this.masks = new Masks(vocabulary, automaton, pool, lexemeMasks);
    this.warnings = warnings;
  }

  /** A matcher at the start of a text. */
  matcher(options?: MatcherOptions): Matcher {
    return new Matcher(this, options);
  }
}

export class GrammarCompiler {
  readonly vocabulary: Vocabulary;
  readonly #limits: CompileLimits;
  readonly #cache = new Map<string, CompiledGrammar>();
  readonly #byIdentity = new WeakMap<GrammarSource, CompiledGrammar>();
  readonly #pool = new MaskPool();
  #lexemes: Lexemes;
  #encoder: Encoder;
  #lexemeMasks: LexemeMasks;

  constructor(vocabulary: Vocabulary, limits: CompileLimits = {}) {
    this.vocabulary = vocabulary;
    this.#limits = limits;
    this.#lexemes = new Lexemes(limits);
    this.#encoder = new Encoder(this.#lexemes);
    this.#lexemeMasks = new LexemeMasks(vocabulary, this.#lexemes);
  }

  /**
   * The grammar of a specification, from the cache when it was compiled before.
   * @throws SglangError INVALID_REQUEST or UNSUPPORTED with the field (for schemas, the JSON pointer) that is wrong.
   */
  compile(spec: GrammarSpec): CompiledGrammar {
    if (spec.kind === "grammar") {
      const known = this.#byIdentity.get(spec.grammar);
      if (known !== undefined) return known;
      const made = this.#build(spec.grammar, []);
      this.#byIdentity.set(spec.grammar, made);
      return made;
    }
    const key = keyOf(spec);
    const limit = this.#limits.maxSourceLength ?? DEFAULT_SOURCE_LENGTH;
    if (key.length > limit) {
      throw new SglangError("UNSUPPORTED", `The grammar has ${key.length} characters; at most ${limit} are taken.`, {
        field: spec.kind,
        expected: `at most ${limit} characters`,
        found: String(key.length),
      });
    }
    const known = this.#cache.get(key);
    if (known !== undefined) {
      this.#cache.delete(key);
      this.#cache.set(key, known);
      return known;
    }
    const made = this.#compileNew(spec);
    this.#cache.set(key, made);
    if (this.#cache.size > MAX_CACHED) this.#cache.delete(this.#cache.keys().next().value as string);
    return made;
  }

  #compileNew(spec: Exclude<GrammarSpec, { kind: "grammar" }>): CompiledGrammar {
    const warnings: string[] = [];
    return this.#build(this.#source(spec, warnings), warnings);
  }

  /** @param warnings gets those of schemas when the grammar is written; shared with what is compiled from it */
  #source(spec: Exclude<GrammarSpec, { kind: "grammar" }>, warnings: string[]): GrammarSource {
    switch (spec.kind) {
      case "json_schema":
        return this.#schema(spec.schema, spec, warnings);
      case "json":
        return this.#schema(true, spec, warnings);
      case "json_object":
        return this.#schema({ type: "object" }, spec, warnings);
      case "regex":
        return { root: regexToExpression(spec.pattern, spec.flags), rules: new Map() };
      case "ebnf":
        return parseEbnf(spec.source, spec.root);
      case "gbnf":
        return parseGbnf(spec.source, spec.root);
      case "lark":
        return parseLark(spec.source, spec.root);
      case "choices":
        if (spec.choices.length === 0) throw invalidField("choices", "a list with at least one text", "an empty list");
        return { root: choice(...spec.choices.map(text)), rules: new Map() };
      case "structural_tag":
        return parseStructuralTag(spec.tag, { schema: (schema) => this.#schema(schema, {}, warnings) });
      case "after_thinking":
        return afterThinking(spec, this.#source(spec.answer, warnings));
    }
  }

  #schema(schema: unknown, layout: JsonLayout, warnings: string[]): GrammarSource {
    const options: JsonSchemaOptions = { limits: this.#limits };
    if (layout.whitespace !== undefined) options.whitespace = layout.whitespace;
    if (layout.propertyOrder !== undefined) options.propertyOrder = layout.propertyOrder;
    const grammar = jsonSchemaGrammar(schema, options);
    return {
      write(program) {
        const root = grammar.write(program);
        warnings.push(...grammar.warnings);
        return root;
      },
    };
  }

  #build(source: GrammarSource, warnings: readonly string[]): CompiledGrammar {
    if (this.#lexemes.size > ARENA_SIZE) {
      this.#lexemes = new Lexemes(this.#limits);
      this.#encoder = new Encoder(this.#lexemes);
      this.#lexemeMasks = new LexemeMasks(this.vocabulary, this.#lexemes);
    }
    const program = new Program(this.#lexemes, this.#encoder);
    const root = writeGrammar(program, source);
    if (root === program.never || !program.isProductive(root)) {
      throw new SglangError("INVALID_REQUEST", "The grammar accepts no text at all; nothing could be generated.", {
        field: "grammar",
      });
    }
    const automaton = new Automaton(program, root, this.#limits);
    return new CompiledGrammar(this.vocabulary, automaton, this.#pool, this.#lexemeMasks, warnings);
  }
}

/** Content key: JSON in which Maps (order-preserving objects) are marked, since the order of their members counts. */
function keyOf(value: unknown, depth = 0): string {
  // A specification holds its schema a few levels down.
  if (depth > MAX_DEPTH + 8) throw tooDeep();
  if (Array.isArray(value)) return `[${value.map((item) => keyOf(item, depth + 1)).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "null";
  const entries = value instanceof Map ? value : Object.entries(value);
  const members: string[] = [];
  for (const [key, item] of entries)
    if (item !== undefined) members.push(`${JSON.stringify(key)}:${keyOf(item, depth + 1)}`);
  return value instanceof Map ? `M{${members.join(",")}}` : `{${members.join(",")}}`;
}
