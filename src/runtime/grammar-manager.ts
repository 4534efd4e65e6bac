/**
 * Grammars of requests. A request with a constraint waits here, outside the scheduler, until its grammar is ready;
 * others run meanwhile. A grammar that is new is tried in a worker thread first (grammar-trial.ts), so that what would
 * take too long is refused there; then it is compiled here, where its masks are made, and kept by content.
 */
import { SglangError } from "../core/errors.js";
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

export interface GrammarOptions {
  /** Space between JSON tokens is up to the model; false: JSON is written without any. @default true */
  anyWhitespace: boolean;
  trialLimits?: TrialLimits;
}

/** What an engine that takes no constraints reports of them. */
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
  readonly #stats: EngineStats["grammar"] = {
    waiting: 0,
    requests: 0,
    cacheHits: 0,
    compiled: 0,
    refused: 0,
    timedOut: 0,
    aborted: 0,
    compileSeconds: 0,
    latestCompileSeconds: [],
  };
  readonly #latest: number[] = [];

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

  close(): Promise<void> {
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
