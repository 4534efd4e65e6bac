/**
 * The lexemes of JSON: strings, numbers, words, white space, and the terms string and number constraints are made of.
 *
 * Constraints are kept as small terms and lowered late, because the spelling depends on what becomes of them: a constant
 * is written one way (`1`), but excluding it must exclude all its spellings (`1`, `1.0`).
 */
import type { Encoder } from "./encode.js";
import { type Lexemes, NEVER } from "./lexeme.js";
import { type Comparison, compared, decimals, integers, multiplesOf } from "./number-machine.js";

/** A set of numbers. */
export type NumberTerm =
  | { readonly kind: "any" | "none" | "integer" }
  | { readonly kind: "values"; readonly values: readonly number[] }
  | { readonly kind: "compare"; readonly comparison: Comparison; readonly bound: number }
  | { readonly kind: "multiple"; readonly of: number }
  | { readonly kind: "and" | "or"; readonly items: readonly NumberTerm[] }
  | { readonly kind: "not"; readonly item: NumberTerm };

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
  /** Any number, exponents included. */
  readonly number: number;
  /** Decimal numbers without exponent: the universe of number constraints. */
  readonly #decimal: number;
  /** One character of a string in any spelling JSON has for it. */
  readonly #character: number;
  readonly quote: number;

  constructor(lexemes: Lexemes, encoder: Encoder) {
    this.lexemes = lexemes;
    this.encoder = encoder;
    this.quote = lexemes.literal(utf8.encode('"'));
    const digit = lexemes.byteRange(0x30, 0x39);
    const digits = lexemes.repeat(digit, 1, Number.POSITIVE_INFINITY);
    const whole = lexemes.alt([
      this.text("0"),
      lexemes.cat(lexemes.byteRange(0x31, 0x39), lexemes.repeat(digit, 0, Infinity)),
    ]);
    const sign = lexemes.optional(lexemes.alt([this.text("+"), this.text("-")]));
    this.number = lexemes.cat(
      lexemes.optional(this.text("-")),
      whole,
      lexemes.optional(lexemes.cat(this.text("."), digits)),
      lexemes.optional(lexemes.cat(lexemes.alt([this.text("e"), this.text("E")]), sign, digits)),
    );
    this.#decimal = lexemes.machine(decimals());
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
    return this.#number(term, true);
  }

  /** The content of strings (without quotes). */
  stringContent(term: StringTerm): number {
    const { lexemes, encoder } = this;
    switch (term.kind) {
      case "any":
        return lexemes.repeat(this.#character, 0, Number.POSITIVE_INFINITY);
      case "none":
        return NEVER;
      case "values":
        return lexemes.literals(term.values.map((value) => utf8.encode(JSON.stringify(value).slice(1, -1))));
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

  /** Whether the term holds this string. */
  hasString(term: StringTerm, value: string): boolean {
    if (term.kind === "values") return term.values.includes(value);
    return this.lexemes.matches(this.stringContent(term), utf8.encode(JSON.stringify(value).slice(1, -1)));
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
        return finite.filter((value) => this.lexemes.matches(all, utf8.encode(spellNumber(value))));
      }
      default:
        return undefined;
    }
  }

  #number(term: NumberTerm, written: boolean): number {
    const { lexemes } = this;
    switch (term.kind) {
      case "any":
        return this.number;
      case "none":
        return NEVER;
      case "integer":
        return lexemes.machine(integers(!written));
      case "values":
        return written
          ? lexemes.literals(term.values.map((value) => utf8.encode(spellNumber(value))))
          : lexemes.alt(term.values.map((value) => lexemes.machine(compared("=", value))));
      case "compare":
        return lexemes.machine(compared(term.comparison, term.bound));
      case "multiple": {
        const machine = multiplesOf(term.of);
        if (machine === undefined) throw new RangeError(`multipleOf ${term.of} was not checked`);
        return lexemes.machine(machine);
      }
      case "and":
        return lexemes.and(term.items.filter((item) => item.kind !== "any").map((item) => this.#number(item, written)));
      case "or":
        return lexemes.alt(term.items.map((item) => this.#number(item, written)));
      case "not": {
        if (term.item.kind === "any") return NEVER;
        return lexemes.and([this.#decimal, lexemes.not(this.#number(term.item, !written))]);
      }
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
    return this.lexemes.and(parts);
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

/** A number as it is written: no exponent, no negative zero. */
export function spellNumber(value: number): string {
  if (value === 0) return "0";
  const text = String(value);
  if (!text.includes("e")) return text;
  return BigIntOrFixed(value);
}

function BigIntOrFixed(value: number): string {
  if (Number.isInteger(value)) return BigInt(value).toString();
  const [mantissa = "0", exponent = "0"] = Math.abs(value).toExponential().split("e");
  const digits = mantissa.replace(".", "");
  return `${value < 0 ? "-" : ""}0.${"0".repeat(-Number(exponent) - 1)}${digits}`;
}
