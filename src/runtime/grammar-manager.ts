/**
 * Grammars of requests. A request with a constraint waits here, outside the scheduler, until its grammar is ready;
 * others run meanwhile. A grammar that is new is tried in a worker thread first (grammar-trial.ts), so that what would
 * take too long is refused there; then it is compiled here, where its masks are made, and kept by content.
 */
import { invalidField, SglangError } from "../core/errors.js";
import type { Constraint, EngineStats } from "../core/protocol.js";
import type { ReasoningFormat } from "../core/reasoning.js";
import { type CompiledGrammar, GrammarCompiler, type GrammarSpec, type Vocabulary } from "../grammar/index.js";
import type { Tokenizer } from "../tokenizer/tokenizer.js";
import { GrammarTrials, type TrialLimits } from "./grammar-trial.js";
import type { TimeSlices } from "./time-slices.js";

type AnswerSpec = Exclude<GrammarSpec, { kind: "grammar" | "after_thinking" }>;

/** Compilations whose time is remembered, for who looks in between. */
const MAX_LATEST = 1024;
/** Grammars kept. */
const MAX_GRAMMARS = 512;

/** Grammars of the usual shapes, and a text of each: what warming up goes through. */
const USUAL: readonly { spec: AnswerSpec; text: string }[] = [
  {
    spec: {
      kind: "json_schema",
      schema: {
        type: "object",
        properties: {
          name: { type: "string", minLength: 1, maxLength: 20 },
          kind: { enum: ["one", "two"] },
          born: { type: "string", format: "date" },
          age: { type: "integer", minimum: 0, maximum: 150 },
          score: { type: ["number", "null"] },
          tags: { type: "array", items: { type: "string", pattern: "^[a-z]+$" }, maxItems: 4 },
          more: { type: "object" },
        },
        required: ["name", "age"],
        additionalProperties: false,
      },
    },
    text: '{"name": "Ann", "kind": "two", "born": "2001-02-03", "age": 25, "score": 1.5e3, "tags": ["a", "bc"], "more": {"x": [1, true]}}',
  },
  { spec: { kind: "json_object" }, text: '{"a": [1, "b", {"c": null}], "d": "e\\n"}' },
  { spec: { kind: "regex", pattern: "(\\w+ )*[0-9]{1,3}\\.?" }, text: "some words 12." },
];

export interface GrammarOptions {
  /** Space between JSON tokens is up to the model; false: JSON is written without any. @default true */
  anyWhitespace: boolean;
  trialLimits?: TrialLimits;
}

/** What is reported before there was any, and by an engine that takes no constraints. */
export const NO_GRAMMARS: EngineStats["grammar"] = {
  waiting: 0,
  requests: 0,
  cacheHits: 0,
  compiled: 0,
  compileSeconds: 0,
  latestCompileSeconds: [],
  refused: 0,
  timedOut: 0,
  aborted: 0,
};

export class GrammarManager {
  readonly #options: GrammarOptions;
  readonly #tokenizer: Tokenizer;
  readonly #compiler: GrammarCompiler;
  readonly #trials: GrammarTrials;
  readonly #slices: TimeSlices;
  /** Least recently used first. */
  readonly #grammars = new Map<string, CompiledGrammar>();
  readonly #compiling = new Map<string, Promise<CompiledGrammar>>();
  readonly #stats: EngineStats["grammar"] = { ...NO_GRAMMARS };
  readonly #latest: number[] = [];
  #closed = false;

  /** @param vocabulary the tokenizer's, as wide as masks are to be */
  constructor(tokenizer: Tokenizer, vocabulary: Vocabulary, slices: TimeSlices, options: GrammarOptions) {
    this.#options = options;
    this.#slices = slices;
    this.#tokenizer = tokenizer;
    this.#compiler = new GrammarCompiler(vocabulary);
    this.#trials = new GrammarTrials(options.trialLimits);
  }

  stats(): EngineStats["grammar"] {
    return { ...this.#stats, latestCompileSeconds: [...this.#latest], timedOut: this.#trials.timedOut };
  }

  /**
   * The grammar of a constraint; equal constraints compile once, also when they arrive together.
   * @param thinking what comes before the constrained text; null = nothing
   * @param signal stops the waiting, not the compilation: others may wait for the same grammar
   * @throws SglangError INVALID_REQUEST or UNSUPPORTED naming the part (for schemas, the JSON pointer); ABORTED
   */
  async compile(
    constraint: Constraint,
    signal: AbortSignal,
    thinking: ReasoningFormat | null = null,
  ): Promise<CompiledGrammar> {
    const answer = this.#spec(constraint);
    const spec: GrammarSpec = thinking ? this.#afterThinking(thinking, answer) : answer;
    const key = JSON.stringify(spec);
    this.#stats.requests++;
    const known = this.#grammars.get(key);
    if (known) {
      this.#stats.cacheHits++;
      this.#remember(key, known);
      return known;
    }
    this.#stats.waiting++;
    try {
      return await abortable(this.#compileOnce(key, spec), signal);
    } catch (error) {
      if (signal.aborted) this.#stats.aborted++;
      else this.#stats.refused++;
      throw error;
    } finally {
      this.#stats.waiting--;
    }
  }

  /**
   * Goes the way of a request with grammars of the usual shapes, in both threads, and throws them away, so that the first
   * request with a constraint waits no longer than later ones: for a thread to start, for code to be compiled, for the
   * automata that all JSON has in common. Closing the manager ends it.
   * @param whenIdle resolves when nothing else needs this thread: warming up is never in anybody's way
   */
  async warmUp(whenIdle: () => Promise<void>): Promise<void> {
    // What fails here fails again, and is reported, where it matters.
    const tried = Promise.allSettled(USUAL.map(({ spec }) => this.#trials.run(spec)));
    for (const { spec, text } of USUAL) {
      await whenIdle();
      const matcher = await this.#slices.run(() => this.#compiler.compile(spec).matcher());
      for (const character of text) {
        await whenIdle();
        if (this.#closed) return;
        await this.#slices.run(() => {
          matcher.mask();
          matcher.acceptText(character);
        });
      }
    }
    await tried;
  }

  close(): Promise<void> {
    this.#closed = true;
    return this.#trials.close();
  }

  #compileOnce(key: string, spec: GrammarSpec): Promise<CompiledGrammar> {
    let compiling = this.#compiling.get(key);
    if (!compiling) {
      compiling = this.#compile(key, spec).finally(() => this.#compiling.delete(key));
      // Everyone who waits may have left.
      compiling.catch(() => {});
      this.#compiling.set(key, compiling);
    }
    return compiling;
  }

  async #compile(key: string, spec: GrammarSpec): Promise<CompiledGrammar> {
    const started = performance.now();
    await this.#trials.run(spec);
    const grammar = await this.#slices.run(() => this.#compiler.compile(spec));
    this.#stats.compiled++;
    const seconds = (performance.now() - started) / 1000;
    this.#stats.compileSeconds += seconds;
    this.#latest.push(seconds);
    if (this.#latest.length > MAX_LATEST) this.#latest.shift();
    this.#remember(key, grammar);
    return grammar;
  }

  #remember(key: string, grammar: CompiledGrammar): void {
    this.#grammars.delete(key);
    this.#grammars.set(key, grammar);
    if (this.#grammars.size > MAX_GRAMMARS) this.#grammars.delete(this.#grammars.keys().next().value as string);
  }

  #afterThinking({ start, end, startsInside = false }: ReasoningFormat, answer: AnswerSpec): GrammarSpec {
    for (const mark of [start, end]) {
      const id = this.#tokenizer.tokenToId(mark);
      if (id === null || !this.#tokenizer.isSpecial(id)) continue;
      throw new SglangError(
        "UNSUPPORTED",
        `A constraint cannot begin after thinking that ${JSON.stringify(mark)} marks: it is a special token of this model, and grammars are of text. Leave out the constraint, or the reasoning parser.`,
        { field: "reasoning" },
      );
    }
    return { kind: "after_thinking", start, end, inside: startsInside, answer };
  }

  #spec(constraint: Constraint): AnswerSpec {
    const layout = this.#options.anyWhitespace ? {} : { whitespace: "compact" as const };
    switch (constraint.type) {
      case "jsonSchema":
        return { kind: "json_schema", schema: constraint.schema, ...layout };
      case "jsonObject":
        return { kind: "json_object", ...layout };
      case "regex":
        return { kind: "regex", pattern: constraint.pattern };
      case "ebnf":
        return { kind: "ebnf", source: constraint.grammar };
      case "lark":
        return { kind: "lark", source: constraint.grammar };
      case "choices":
        return { kind: "choices", choices: constraint.choices };
      case "structuralTag":
        return { kind: "structural_tag", tag: constraint.tag };
      default: {
        const known = "jsonSchema, jsonObject, regex, ebnf, lark, choices or structuralTag";
        throw invalidField("constraint.type", known, (constraint as { type?: unknown }).type);
      }
    }
  }
}

function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new SglangError("ABORTED", "The request was aborted while its grammar was compiled."));
    if (signal.aborted) return abort();
    signal.addEventListener("abort", abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}
