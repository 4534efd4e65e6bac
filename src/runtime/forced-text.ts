/**
 * How text that a grammar forces is written in tokens: as the tokenizer would, or as the model has written it before.
 *
 * A guess is verified token by token, so it may be wrong, but then it has cost a row of computation per wrong token. Models
 * split forced text in ways of their own (under a mask each piece of it is a choice), and they do so again at the same
 * place: what came there decides, the tokenizer only where nothing has come yet. One object per grammar, used by all its
 * requests.
 */
import { type CompiledGrammar, forcedTokens, type Matcher, type TextEncoding } from "../grammar/index.js";

/** Tokens before forced text that decide how it is written. */
export const CONTEXT_TOKENS = 4;
/** Longest guess. */
const MAX_GUESS = 32;
/** A guess goes on while it is this likely to be right up to there. */
const MIN_LIKELIHOOD = 0.7;
/** Places, and ways to write one, that are remembered per grammar. */
const MAX_PLACES = 4096;
const NO_TOKENS: readonly number[] = [];

/** What came at a place: how often each token, and which the most. */
interface Written {
  readonly counts: Map<number, number>;
  total: number;
  most: number;
}

const byGrammar = new WeakMap<CompiledGrammar, ForcedText>();

export class ForcedText {
  readonly #grammar: CompiledGrammar;
  /** By configuration. */
  readonly #written = new Map<number, Written>();
  /** By configuration and the tokens before: the same keys are written again and again. */
  readonly #byTokenizer = new Map<string, readonly number[]>();

  private constructor(grammar: CompiledGrammar) {
    this.#grammar = grammar;
  }

  static of(grammar: CompiledGrammar): ForcedText {
    let known = byGrammar.get(grammar);
    if (!known) {
      known = new ForcedText(grammar);
      byGrammar.set(grammar, known);
    }
    return known;
  }

  /** Does the grammar force the next byte? */
  isAt(configuration: number): boolean {
    return configuration >= 0 && this.#grammar.automaton.forcedByte(configuration) >= 0;
  }

  /** The model wrote `id` at a place. */
  observe(configuration: number, id: number): void {
    if (!this.isAt(configuration)) return;
    let written = this.#written.get(configuration);
    if (!written) {
      if (this.#written.size >= MAX_PLACES) return;
      written = { counts: new Map(), total: 0, most: id };
      this.#written.set(configuration, written);
    }
    const count = (written.counts.get(id) ?? 0) + 1;
    written.counts.set(id, count);
    written.total++;
    if (count > (written.counts.get(written.most) as number)) written.most = id;
  }

  /** The tokens in which the tokenizer would write what is forced after `context`; often none. */
  byTokenizer(matcher: Matcher, tokenizer: TextEncoding, context: readonly number[]): readonly number[] {
    const { configuration } = matcher;
    if (!this.isAt(configuration)) return NO_TOKENS;
    const key = `${configuration} ${context.join(" ")}`;
    let tokens = this.#byTokenizer.get(key);
    if (!tokens) {
      tokens = forcedTokens(matcher, tokenizer, context).slice(0, MAX_GUESS);
      if (this.#byTokenizer.size >= MAX_PLACES) this.#byTokenizer.clear();
      this.#byTokenizer.set(key, tokens);
    }
    return tokens;
  }

  /** The tokens that will likely come while text is forced. The matcher is left as it was. */
  guess(matcher: Matcher, tokenizer: TextEncoding, context: readonly number[]): readonly number[] {
    const before = matcher.length;
    const guess: number[] = [];
    let likelihood = 1;
    while (guess.length < MAX_GUESS && this.isAt(matcher.configuration)) {
      const written = this.#written.get(matcher.configuration);
      if (!written) {
        guess.push(...this.byTokenizer(matcher, tokenizer, [...context, ...guess].slice(-CONTEXT_TOKENS)));
        break;
      }
      likelihood *= (written.counts.get(written.most) as number) / written.total;
      if (likelihood < MIN_LIKELIHOOD) break;
      matcher.acceptToken(written.most);
      guess.push(written.most);
    }
    matcher.rollback(matcher.length - before);
    return guess.slice(0, MAX_GUESS);
  }
}
