/**
 * One text being written under a grammar: what a request holds while it runs.
 *
 * A matcher is a number (its configuration) and the numbers before it; forking and rolling back cost nothing. All
 * matchers of a grammar share its automaton and masks.
 */
import { invalidField } from "../core/errors.js";
import { DEAD } from "./automaton.js";
import type { CompiledGrammar } from "./compiler.js";

export interface MatcherOptions {
  /**
   * After this many tokens of nothing but white space in a row, tokens of that kind are masked as long as others are
   * allowed: a model whose intended text is masked may otherwise write blanks to the end. @default Infinity
   */
  maxBlankTokens?: number;
}

export class Matcher {
  readonly grammar: CompiledGrammar;
  /** Configuration before each accepted token, then the current one. -1 stands for "ended". */
  readonly #history: number[];
  /** For each entry of the history: how many tokens of nothing but white space came last. */
  readonly #blanks: number[];
  readonly #maxBlankTokens: number;

  /** @internal Use {@link CompiledGrammar.matcher}. */
  constructor(grammar: CompiledGrammar, options: MatcherOptions = {}) {
    this.grammar = grammar;
    this.#maxBlankTokens = options.maxBlankTokens ?? Number.POSITIVE_INFINITY;
    this.#history = [grammar.automaton.start];
    this.#blanks = [0];
  }

  /** Number of accepted tokens (and byte strings) that can be rolled back. */
  get length(): number {
    return this.#history.length - 1;
  }

  /** The automaton's configuration; equal numbers mean equal futures. -1 after the end. */
  get configuration(): number {
    return this.#history[this.#history.length - 1] as number;
  }

  /**
   * Reads a token. An end token is accepted where the text may end and terminates the matcher.
   * @returns false, with nothing changed, when the grammar does not allow it.
   */
  acceptToken(id: number): boolean {
    const at = this.configuration;
    if (at < 0) return false;
    const { vocabulary, automaton } = this.grammar;
    if (vocabulary.eosTokenIds.includes(id)) {
      if (!automaton.accepts(at)) return false;
      this.#history.push(-1);
      this.#blanks.push(0);
      return true;
    }
    if (vocabulary.ordinary[id] !== 1) return false;
    return this.#read(vocabulary.bytesOf(id), vocabulary.isBlank(id));
  }

  /** Reads bytes as one step of history. @returns false, with nothing changed, when the grammar does not allow them. */
  acceptBytes(bytes: Uint8Array): boolean {
    return this.configuration >= 0 && this.#read(bytes, false);
  }

  /** Reads text as one step of history. */
  acceptText(text: string): boolean {
    return this.acceptBytes(new TextEncoder().encode(text));
  }

  /** Whether an end token has been accepted. */
  isTerminated(): boolean {
    return this.configuration < 0;
  }

  /** Whether the text so far is complete: an end token is allowed, or was accepted. */
  canTerminate(): boolean {
    const at = this.configuration;
    return at < 0 || this.grammar.automaton.accepts(at);
  }

  /** Whether the text is complete and nothing but an end token can follow. */
  mustTerminate(): boolean {
    const at = this.configuration;
    return at < 0 || !this.grammar.automaton.continues(at);
  }

  /**
   * The mask of tokens allowed next, shared with everyone in the same situation: do not write to it. After the end only
   * end tokens are allowed.
   * @param tokensLeft budget-aware closing: only tokens after which the text can still be completed with what is left
   *   of so many tokens (the next one included; the end token is not counted). Where it is too late for that, the
   *   tokens of the shortest end. @default no budget
   */
  mask(tokensLeft = Number.POSITIVE_INFINITY): Int32Array {
    const at = this.configuration;
    const { masks } = this.grammar;
    if (at < 0) return masks.end;
    const mask = tokensLeft === Number.POSITIVE_INFINITY ? masks.of(at) : masks.within(at, tokensLeft);
    return (this.#blanks.at(-1) as number) >= this.#maxBlankTokens ? masks.withoutBlanks(mask) : mask;
  }

  /** Tokens that the shortest way to a complete text takes from here, the end token not counted: 0 when it is complete. */
  tokensToEnd(): number {
    const at = this.configuration;
    return at < 0 ? 0 : this.grammar.masks.ends.tokens(at);
  }

  /** Copies {@link mask} to `out[offset ...]`: bit `id & 31` of word `id >> 5`. Bits from the vocabulary's size up are 0. */
  fillBitmask(out: Int32Array | Uint32Array, offset = 0, tokensLeft = Number.POSITIVE_INFINITY): void {
    const mask = this.mask(tokensLeft);
    if (offset < 0 || offset + mask.length > out.length) {
      throw invalidField("bitmask", `an array with at least ${offset + mask.length} words`, out.length);
    }
    out.set(mask, offset);
  }

  /** Takes the last `count` tokens back. */
  rollback(count: number): void {
    if (!Number.isInteger(count) || count < 0 || count > this.length) {
      throw invalidField("count", `an integer from 0 to ${this.length}, the tokens accepted so far`, count);
    }
    this.#history.length -= count;
    this.#blanks.length -= count;
  }

  /** An independent matcher at the same place, with the same history. */
  fork(): Matcher {
    const copy = new Matcher(this.grammar, { maxBlankTokens: this.#maxBlankTokens });
    copy.#history.splice(0, 1, ...this.#history);
    copy.#blanks.splice(0, 1, ...this.#blanks);
    return copy;
  }

  /** The bytes that must come next, as far as there is no choice, at most `limit` of them. */
  forcedBytes(limit = 4_096): Uint8Array {
    const bytes: number[] = [];
    const { automaton } = this.grammar;
    for (let at = this.configuration; at >= 0 && bytes.length < limit; ) {
      const byte = automaton.forcedByte(at);
      if (byte < 0) break;
      bytes.push(byte);
      at = automaton.next(at, byte);
    }
    return Uint8Array.from(bytes);
  }

  /**
   * What may come next, for people: each possible byte with the bytes it forces, as text (U+FFFD for parts of
   * characters). At most `limit` pieces; the end of the text is not among them, ask {@link canTerminate}.
   */
  allowedNext(limit = 64): string[] {
    const pieces: string[] = [];
    const { automaton } = this.grammar;
    const at = this.configuration;
    for (let byte = 0; at >= 0 && byte < 256 && pieces.length < limit; byte++) {
      const to = automaton.next(at, byte);
      if (to === DEAD) continue;
      const bytes = [byte];
      for (let next = to; bytes.length < 256; ) {
        const forced = automaton.forcedByte(next);
        if (forced < 0) break;
        bytes.push(forced);
        next = automaton.next(next, forced);
      }
      pieces.push(new TextDecoder().decode(Uint8Array.from(bytes)));
    }
    return pieces;
  }

  #read(bytes: Uint8Array, blank: boolean): boolean {
    const to = this.grammar.automaton.read(this.configuration, bytes);
    if (to === DEAD) return false;
    this.#history.push(to);
    this.#blanks.push(blank ? (this.#blanks.at(-1) as number) + 1 : 0);
    return true;
  }
}
