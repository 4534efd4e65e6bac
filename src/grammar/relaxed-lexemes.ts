/**
 * Lexemes without the upper bounds of their repetitions. Two lexemes that differ in how many characters may still come
 * treat all short texts alike, and tokens are short: what is found out about the one without bounds holds for all of
 * them, up to a length that is known here.
 *
 * A relaxed lexeme matches everything the lexeme does. Up to `reach` bytes it matches the same texts, and the same texts
 * are beginnings of something it matches.
 *
 * With one repetition that is plain counting. Repetitions of few bytes (digits, blanks) are left alone: they are no work. An intersection needs more: a text that both sides can complete might have
 * no common completion within the bounds. So the longest way that any state of the relaxed one has to its nearest end is
 * measured, and the reach is shorter by it: then the end is reached before a bound is.
 */
import { type Lexemes, NEVER } from "./lexeme.js";

export interface Relaxed {
  readonly lexeme: number;
  /** Bytes. */
  readonly reach: number;
}

/** States of a relaxed intersection that are looked at to measure their ways to an end. */
const MAX_STATES = 400;
/** Bounds that are met within fewer bytes are left as they are: too many tokens meet them. */
export const LEAST_REACH = 8;
/** How deep lexemes are taken apart. */
const MAX_DEPTH = 100;

const ENDLESS = Number.POSITIVE_INFINITY;

export class RelaxedLexemes {
  readonly #lexemes: Lexemes;
  readonly #length: number;
  readonly #known = new Map<number, Relaxed>();
  /** By state of an intersection: a bound of the bytes to the nearest end from any state behind it. */
  readonly #ends = new Map<number, number>();

  /** @param length bytes of the longest token: lower bounds above it need not be told apart. */
  constructor(lexemes: Lexemes, length: number) {
    this.#lexemes = lexemes;
    this.#length = length;
  }

  of(lexeme: number): Relaxed {
    return this.#relax(lexeme, 0);
  }

  #relax(lexeme: number, depth: number): Relaxed {
    const known = this.#known.get(lexeme);
    if (known !== undefined) return known;
    const same: Relaxed = { lexeme, reach: ENDLESS };
    const made = depth > MAX_DEPTH ? same : (this.#make(lexeme, depth + 1) ?? same);
    this.#known.set(lexeme, made);
    return made;
  }

  /** Undefined when there is nothing to relax, or no way to be sure. */
  #make(lexeme: number, depth: number): Relaxed | undefined {
    const lexemes = this.#lexemes;
    const { kind, items, min, max } = lexemes.view(lexeme);
    if (kind === "other") return undefined;
    // A part that matches nothing must not come to life.
    if (items.some((item) => lexemes.isEmpty(item))) return undefined;
    const parts = items.map((item) => this.#relax(item, depth));
    const reach = parts.reduce((least, part) => Math.min(least, part.reach), ENDLESS);
    const relaxed = parts.map((part) => part.lexeme);
    switch (kind) {
      case "cat":
        return this.#changed(lexeme, lexemes.cat(...relaxed), reach);
      case "alt":
        return this.#changed(lexeme, lexemes.alt(relaxed), reach);
      case "repeat": {
        const item = items[0] as number;
        if (!lexemes.takesMany(item)) return undefined;
        const least = Math.min(min, this.#length + 1);
        const bytes = max * Math.max(1, lexemes.leastBytes(item));
        if (bytes < LEAST_REACH) return this.#changed(lexeme, lexemes.repeat(relaxed[0] as number, min, max), reach);
        return this.#changed(lexeme, lexemes.repeat(relaxed[0] as number, least, ENDLESS), Math.min(reach, bytes));
      }
      case "and": {
        const all = lexemes.and(relaxed);
        if (all === lexeme) return undefined;
        const left = reach - this.#longestEnd(all);
        return left >= LEAST_REACH ? { lexeme: all, reach: left } : undefined;
      }
    }
  }

  #changed(lexeme: number, relaxed: number, reach: number): Relaxed | undefined {
    return relaxed === lexeme ? undefined : { lexeme: relaxed, reach };
  }

  /** The most bytes that a state behind the lexeme is away from an end; Infinity when there are too many to look at. */
  #longestEnd(lexeme: number): number {
    const known = this.#ends.get(lexeme);
    if (known !== undefined) return known;
    const lexemes = this.#lexemes;
    const states = [lexeme];
    const index = new Map([[lexeme, 0]]);
    const before: number[][] = [[]];
    for (let i = 0; i < states.length; i++) {
      const state = states[i] as number;
      for (const byte of lexemes.representatives(state)) {
        const to = lexemes.next(state, byte);
        if (to === NEVER) continue;
        let at = index.get(to);
        if (at === undefined) {
          if (states.length >= MAX_STATES) {
            this.#ends.set(lexeme, ENDLESS);
            return ENDLESS;
          }
          at = states.push(to) - 1;
          index.set(to, at);
          before.push([]);
        }
        (before[at] as number[]).push(i);
      }
    }
    // From the ends backwards: the last state met is the farthest.
    const far = new Int32Array(states.length).fill(-1);
    const order: number[] = [];
    states.forEach((state, i) => {
      if (!lexemes.nullable(state)) return;
      far[i] = 0;
      order.push(i);
    });
    let most = 0;
    for (let k = 0; k < order.length; k++) {
      const at = order[k] as number;
      most = far[at] as number;
      for (const from of before[at] as number[]) {
        if ((far[from] as number) >= 0) continue;
        far[from] = most + 1;
        order.push(from);
      }
    }
    for (const state of states) this.#ends.set(state, Math.min(most, this.#ends.get(state) ?? ENDLESS));
    return most;
  }
}
