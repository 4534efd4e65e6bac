/**
 * The parser that XGrammar's EBNF and llama.cpp's GBNF share: `name ::= alternatives`, strings, character classes,
 * repetition, comments. What differs between the two is in {@link Dialect}.
 */
import {
  ANY_CHARACTER,
  charClass,
  choice,
  complementRanges,
  type Expression,
  type GrammarDefinition,
  normalizeRanges,
  ref,
  repeat,
  sequence,
  text,
} from "./ir.js";
import { shown, TextCursor } from "./text-cursor.js";

export interface Dialect {
  /** Name in errors. */
  field: string;
  /** Characters of rule names. */
  name: RegExp;
  /** `.` is any character. */
  dot: boolean;
  /** `\\x` takes two digits, whatever follows; otherwise a third hexadecimal digit is refused as ambiguous. */
  shortHex: boolean;
  /** Constructs that are recognised and refused: how they begin, what they are, and what to do instead. */
  refused: readonly { pattern: RegExp; what: string; instead: string }[];
}

/** Counts above this are a mistake or an attack, not a grammar. */
const MAX_COUNT = 1_000_000;

const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  n: "\n",
  t: "\t",
  r: "\r",
  b: "\b",
  f: "\f",
  v: "\v",
  a: "\x07",
  e: "\x1b",
  "0": "\0",
};
/** Characters that may stand behind a backslash for themselves. */
const LITERAL_ESCAPES = "\\\"'[]^-/?|.(){}+*$<>=:;,!@#%&~` ";

const HEX_DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

/** Parses a grammar whose start is the rule `root`. Throws INVALID_REQUEST with line and column. */
export function parseBnf(source: string, dialect: Dialect, root: string): GrammarDefinition {
  return new BnfParser(source, dialect).parse(root);
}

class BnfParser {
  readonly #cursor: TextCursor;
  readonly #dialect: Dialect;
  readonly #rules = new Map<string, Expression>();
  /** Where each rule is first used: for the error about one that is missing. */
  readonly #uses = new Map<string, number>();
  readonly #ruleStart: RegExp;

  constructor(source: string, dialect: Dialect) {
    this.#cursor = new TextCursor(source, dialect.field);
    this.#dialect = dialect;
    this.#ruleStart = new RegExp(`${dialect.name.source}[ \\t]*::=`, "y");
  }

  parse(root: string): GrammarDefinition {
    const cursor = this.#cursor;
    this.#space();
    while (!cursor.atEnd) {
      const start = cursor.position;
      const name = cursor.match(this.#dialect.name)?.[0];
      if (name === undefined)
        throw cursor.error(`${shown(cursor.peek())} where a rule should begin`, "write `name ::= ...`");
      this.#space();
      cursor.expect("::=", `after the rule name ${name}`);
      if (this.#rules.has(name)) throw cursor.error(`rule ${name} is defined twice`, "join the two with |", start);
      this.#space();
      this.#rules.set(name, this.#alternatives());
      this.#space();
    }
    for (const [name, position] of this.#uses)
      if (!this.#rules.has(name))
        throw cursor.error(`rule ${name} is not defined`, `add \`${name} ::= ...\``, position);
    if (!this.#rules.has(root))
      throw cursor.error(`there is no rule ${root}`, `add \`${root} ::= ...\`, where matching begins`, 0);
    return { root: ref(root), rules: this.#rules };
  }

  #space(): void {
    this.#cursor.match(/(?:[ \t\r\n]|#[^\n]*)*/y);
  }

  #alternatives(): Expression {
    const items = [this.#sequence()];
    while (this.#cursor.skip("|")) {
      this.#space();
      items.push(this.#sequence());
    }
    return choice(...items);
  }

  /** Items until `|`, `)`, the next rule or the end. */
  #sequence(): Expression {
    const items: Expression[] = [];
    for (;;) {
      const cursor = this.#cursor;
      if (cursor.atEnd || cursor.startsWith("|") || cursor.startsWith(")") || this.#atRule()) break;
      let item = this.#atom();
      this.#space();
      for (let counts = this.#quantifier(); counts; counts = this.#quantifier()) {
        item = repeat(item, counts[0], counts[1]);
        this.#space();
      }
      items.push(item);
    }
    return sequence(...items);
  }

  #atRule(): boolean {
    const { position, source } = this.#cursor;
    this.#ruleStart.lastIndex = position;
    return this.#ruleStart.test(source);
  }

  #quantifier(): [number, number] | null {
    const cursor = this.#cursor;
    if (cursor.skip("*")) return [0, Number.POSITIVE_INFINITY];
    if (cursor.skip("+")) return [1, Number.POSITIVE_INFINITY];
    if (cursor.skip("?")) return [0, 1];
    if (!cursor.startsWith("{")) return null;
    const start = cursor.position;
    const match = cursor.match(/\{\s*(\d*)\s*(?:(,)\s*(\d*)\s*)?\}/y);
    if (!match || (match[1] === "" && (match[3] ?? "") === ""))
      throw cursor.error("the repetition is malformed", "write {n}, {n,}, {,m} or {n,m}", start);
    const min = Number(match[1]);
    const max = match[2] === undefined ? min : match[3] === "" ? Number.POSITIVE_INFINITY : Number(match[3]);
    if (min > max)
      throw cursor.error(`the repetition ${match[0]} has its bounds swapped`, "put the smaller first", start);
    if (min > MAX_COUNT || (max > MAX_COUNT && max !== Number.POSITIVE_INFINITY))
      throw cursor.error(`the repetition ${match[0]} is too large`, `count to ${MAX_COUNT} at most`, start);
    return [min, max];
  }

  #atom(): Expression {
    const cursor = this.#cursor;
    const start = cursor.position;
    for (const { pattern, what, instead } of this.#dialect.refused) {
      if (cursor.match(pattern)) throw cursor.error(`${what} can't be enforced`, instead, start);
    }
    if (cursor.skip('"')) return this.#string(start);
    if (cursor.skip("[")) return this.#class(start);
    if (cursor.skip("(")) {
      return cursor.nested(() => {
        this.#space();
        const inner = this.#alternatives();
        cursor.expect(")", "where the group should end");
        return inner;
      });
    }
    if (this.#dialect.dot && cursor.skip(".")) return ANY_CHARACTER;
    const name = cursor.match(this.#dialect.name)?.[0];
    if (name === undefined)
      throw cursor.error(
        `${shown(cursor.peek())} is not part of an expression`,
        "write a string, a class, a group or a rule name",
      );
    if (!this.#uses.has(name)) this.#uses.set(name, start);
    return ref(name);
  }

  #string(start: number): Expression {
    const cursor = this.#cursor;
    let value = "";
    for (;;) {
      if (cursor.atEnd || cursor.startsWith("\n"))
        throw cursor.error("the string does not end", 'close it with "', start);
      const char = cursor.take();
      if (char === '"') return text(value);
      value += char === "\\" ? String.fromCodePoint(this.#escape()) : this.#character(char);
    }
  }

  #class(start: number): Expression {
    const cursor = this.#cursor;
    const negated = cursor.skip("^");
    const ranges: number[] = [];
    const unfinished = (): boolean => cursor.atEnd || cursor.startsWith("\n");
    while (!cursor.skip("]")) {
      if (unfinished()) throw cursor.error("the character class does not end", "close it with ]", start);
      const at = cursor.position;
      const low = this.#classCharacter();
      let high = low;
      if (cursor.startsWith("-") && cursor.source[cursor.position + 1] !== "]") {
        cursor.take();
        if (unfinished()) continue;
        high = this.#classCharacter();
        if (low > high)
          throw cursor.error(
            `the range ${cursor.source.slice(at, cursor.position)} is reversed`,
            "put the smaller first",
            at,
          );
      }
      ranges.push(low, high);
    }
    const normal = normalizeRanges(ranges);
    return charClass(negated ? complementRanges(normal) : normal);
  }

  #classCharacter(): number {
    const char = this.#cursor.take();
    return char === "\\" ? this.#escape() : this.#character(char).codePointAt(0)!;
  }

  /** Half of a surrogate pair has no UTF-8 form. */
  #character(char: string): string {
    const code = char.codePointAt(0)!;
    if (code >= 0xd800 && code <= 0xdfff)
      throw this.#cursor.error("half of a surrogate pair", "write the whole character", this.#cursor.position - 1);
    return char;
  }

  /** After a backslash. */
  #escape(): number {
    const cursor = this.#cursor;
    const start = cursor.position - 1;
    const char = cursor.take();
    const digits = HEX_DIGITS[char];
    if (digits !== undefined) {
      const hex = cursor.match(/[0-9A-Fa-f]+/y)?.[0] ?? "";
      if (hex.length < digits)
        throw cursor.error(
          `\\${char} needs ${digits} hexadecimal digits`,
          `write \\${char}${"0".repeat(digits)}`,
          start,
        );
      // Readers of EBNF disagree on whether a third digit after \x belongs to the escape.
      if (char === "x" && hex.length > digits && !this.#dialect.shortHex)
        throw cursor.error(`\\x${hex} is ambiguous`, `write \\u00${hex.slice(0, 2)} before the digit ${hex[2]}`, start);
      cursor.position -= hex.length - digits;
      const codePoint = Number.parseInt(hex.slice(0, digits), 16);
      if (codePoint > 0x10ffff || (codePoint >= 0xd800 && codePoint <= 0xdfff))
        throw cursor.error(
          `U+${codePoint.toString(16).toUpperCase()} is not a character`,
          "use a code point from 0 to 10FFFF that is no surrogate",
          start,
        );
      return codePoint;
    }
    const simple = SIMPLE_ESCAPES[char];
    if (simple !== undefined) return simple.codePointAt(0)!;
    if (char !== "" && LITERAL_ESCAPES.includes(char)) return char.codePointAt(0)!;
    throw cursor.error(
      `the escape \\${char} is unknown`,
      'use \\n, \\t, \\r, \\\\, \\", \\xHH, \\uHHHH or \\UHHHHHHHH',
      start,
    );
  }
}
