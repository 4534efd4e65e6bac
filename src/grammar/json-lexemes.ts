/**
 * The lexemes of JSON: strings, numbers, words, white space, and the terms string constraints are made of. (Those of
 * numbers are in `number-term.ts`.)
 */
import type { Encoder } from "./encode.js";
import { type Lexemes, NEVER } from "./lexeme.js";
import { type NumberTerm, numberExpression, numberSpellings } from "./number-term.js";

/** A set of strings. `pattern` holds a lexeme over string contents in JSON spelling and bounds of its lengths. */
export type StringTerm =
  | { readonly kind: "any" | "none" }
  | { readonly kind: "values"; readonly values: readonly string[] }
  | { readonly kind: "length"; readonly min: number; readonly max: number }
  | { readonly kind: "pattern"; readonly lexeme: number; readonly bounds: readonly [number, number] }
  | { readonly kind: "and" | "or"; readonly items: readonly StringTerm[] }
  | { readonly kind: "not"; readonly item: StringTerm };

const utf8 = new TextEncoder();

export class JsonLexemes {
  readonly lexemes: Lexemes;
  readonly encoder: Encoder;
  /** One character of a string in any spelling JSON has for it. */
  readonly #character: number;
  readonly quote: number;
  /** Patterns and formats read before, by their text. */
  readonly patterns = new Map<string, StringTerm & { readonly kind: "pattern" }>();
  readonly #contents = new WeakMap<StringTerm, number>();
  readonly #numbers = new WeakMap<NumberTerm, number>();
  readonly #spellings = new Map<string, Uint8Array>();
  readonly #numbersByText = new Map<string, number>();

  constructor(lexemes: Lexemes, encoder: Encoder) {
    this.lexemes = lexemes;
    this.encoder = encoder;
    this.quote = lexemes.literal(utf8.encode('"'));
    const digit = lexemes.byteRange(0x30, 0x39);
    this.#character = this.#anyCharacter(digit);
    lexemes.declareSafeCharacter(this.#character);
  }

  /** These characters as they are. */
  text(value: string): number {
    return this.lexemes.literal(utf8.encode(value));
  }

  /** A JSON string with that content. */
  quoted(content: number): number {
    return this.lexemes.cat(this.quote, content, this.quote);
  }

  numberLexeme(term: NumberTerm): number {
    let known = this.#numbers.get(term);
    if (known === undefined) {
      // Ranges come up again in other schemas, as other objects.
      const key = JSON.stringify(term);
      known = this.#numbersByText.get(key) ?? this.encoder.lexeme(numberExpression(term), "utf8");
      this.#numbersByText.set(key, known);
      this.#numbers.set(term, known);
    }
    return known;
  }

  /** The content of strings (without quotes). Remembered per term. */
  stringContent(term: StringTerm): number {
    let known = this.#contents.get(term);
    if (known === undefined) {
      known = this.#makeContent(term);
      this.#contents.set(term, known);
    }
    return known;
  }

  #makeContent(term: StringTerm): number {
    const { lexemes, encoder } = this;
    switch (term.kind) {
      case "any":
        return lexemes.repeat(this.#character, 0, Number.POSITIVE_INFINITY);
      case "none":
        return NEVER;
      case "values":
        return lexemes.literals(term.values.map((value) => this.#spelled(value)));
      case "length":
        return lexemes.repeat(this.#character, term.min, term.max);
      case "pattern":
        return term.lexeme;
      case "or":
        return lexemes.alt(term.items.map((item) => this.stringContent(item)));
      case "not":
        return lexemes.and([encoder.universe.json, lexemes.not(this.stringContent(term.item))]);
      case "and":
        return this.#stringsInAll(term.items);
    }
  }

  /** The values of a finite term of strings, or undefined when it is not written as a finite one. */
  finiteStrings(term: StringTerm): readonly string[] | undefined {
    switch (term.kind) {
      case "none":
        return [];
      case "values":
        return term.values;
      case "or": {
        const parts = term.items.map((item) => this.finiteStrings(item));
        return parts.every((part) => part !== undefined) ? [...new Set(parts.flat())] : undefined;
      }
      case "and": {
        const finite = term.items.map((item) => this.finiteStrings(item)).find((part) => part !== undefined);
        return finite?.filter((value) => term.items.every((item) => this.hasString(item, value)));
      }
      default:
        return undefined;
    }
  }

  /** A string as JSON spells it, without quotes. Names come up again and again. */
  #spelled(value: string): Uint8Array {
    let known = this.#spellings.get(value);
    if (known === undefined) {
      known = utf8.encode(JSON.stringify(value).slice(1, -1));
      this.#spellings.set(value, known);
    }
    return known;
  }

  /** Whether the term holds this string. */
  hasString(term: StringTerm, value: string): boolean {
    if (term.kind === "values") return term.values.includes(value);
    if (term.kind === "not") return !this.hasString(term.item, value);
    if (term.kind === "and") return term.items.every((item) => this.hasString(item, value));
    if (term.kind === "or") return term.items.some((item) => this.hasString(item, value));
    return this.lexemes.matches(this.stringContent(term), this.#spelled(value));
  }

  /**
   * Whether the term holds any string. Lists and lengths answer for themselves; only what patterns have in common has to
   * be searched for.
   */
  hasAnyString(term: StringTerm): boolean {
    switch (term.kind) {
      case "any":
        return true;
      case "none":
        return false;
      case "values":
        return term.values.length > 0;
      case "length":
        return term.min <= term.max;
      case "or":
        return term.items.some((item) => this.hasAnyString(item));
      case "not":
        // Finitely many strings are never all of them.
        return term.item.kind === "values" || !this.lexemes.isEmpty(this.stringContent(term));
      case "and": {
        const finite = term.items.find((item) => item.kind === "values");
        if (finite?.kind === "values")
          return finite.values.some((value) => term.items.every((item) => this.hasString(item, value)));
        const open = term.items.every(
          ({ kind, ...rest }) => kind === "any" || (kind === "not" && "item" in rest && rest.item.kind === "values"),
        );
        return open || !this.lexemes.isEmpty(this.stringContent(term));
      }
      case "pattern":
        return !this.lexemes.isEmpty(term.lexeme);
    }
  }

  /** The values of a finite term of numbers, or undefined. */
  finiteNumbers(term: NumberTerm): readonly number[] | undefined {
    switch (term.kind) {
      case "none":
        return [];
      case "values":
        return term.values;
      case "or": {
        const parts = term.items.map((item) => this.finiteNumbers(item));
        return parts.every((part) => part !== undefined) ? [...new Set(parts.flat())] : undefined;
      }
      case "and": {
        const finite = term.items.map((item) => this.finiteNumbers(item)).find((part) => part !== undefined);
        if (finite === undefined) return undefined;
        const all = this.numberLexeme({ kind: "and", items: term.items });
        return finite.filter((value) =>
          numberSpellings(value).some((text) => this.lexemes.matches(all, utf8.encode(text))),
        );
      }
      default:
        return undefined;
    }
  }

  /** Length limits that a pattern already implies are left out: products of automata cost. */
  #stringsInAll(items: readonly StringTerm[]): number {
    let least = 0;
    let most = Number.POSITIVE_INFINITY;
    let min = 0;
    let max = Number.POSITIVE_INFINITY;
    const parts: number[] = [];
    for (const item of items) {
      if (item.kind === "length") {
        min = Math.max(min, item.min);
        max = Math.min(max, item.max);
        continue;
      }
      if (item.kind === "any") continue;
      if (item.kind === "pattern") {
        least = Math.max(least, item.bounds[0]);
        most = Math.min(most, item.bounds[1]);
      }
      parts.push(this.stringContent(item));
    }
    if (parts.length === 0) return this.lexemes.repeat(this.#character, min, max);
    if (min > least || max < most) parts.push(this.lexemes.repeat(this.#character, min <= least ? 0 : min, max));
    return this.lexemes.meet(parts);
  }

  #anyCharacter(digit: number): number {
    const { lexemes } = this;
    const set = (text: string): number => lexemes.literals([...text].map((c) => utf8.encode(c)));
    const hex = lexemes.alt([digit, set("abcdefABCDEF")]);
    const notD = lexemes.alt([digit, set("abcefABCEF")]);
    const d = set("dD");
    const single = lexemes.alt([
      lexemes.cat(notD, hex, hex, hex),
      lexemes.cat(d, lexemes.byteRange(0x30, 0x37), hex, hex),
    ]);
    const high = lexemes.cat(d, set("89abAB"), hex, hex);
    const low = lexemes.cat(d, set("cdefCDEF"), hex, hex);
    const unicode = lexemes.cat(this.text("u"), lexemes.alt([single, lexemes.cat(high, this.text("\\u"), low)]));
    return lexemes.alt([
      this.encoder.characterClass([0x20, 0x21, 0x23, 0x5b, 0x5d, 0xd7ff, 0xe000, 0x10ffff], "utf8"),
      lexemes.cat(this.text("\\"), lexemes.alt([set('"\\/bfnrt'), unicode])),
    ]);
  }
}
