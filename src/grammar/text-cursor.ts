/** Reading a grammar file: a position in a text, and errors that say line and column. Shared by the grammar parsers. */
import { SglangError } from "../core/errors.js";

/** A grammar is text of a request; longer ones are refused before any work is done. */
const MAX_GRAMMAR_LENGTH = 4 << 20;
/** Brackets inside brackets; the parsers are recursive. */
const MAX_DEPTH = 200;

export class TextCursor {
  readonly source: string;
  readonly field: string;
  position = 0;
  #depth = 0;

  /** @param field what the text is called in errors: `ebnf`, `gbnf`, `lark`. */
  constructor(source: string, field: string) {
    this.source = source;
    this.field = field;
    if (source.length > MAX_GRAMMAR_LENGTH)
      throw this.error(`the grammar has ${source.length} characters`, `use at most ${MAX_GRAMMAR_LENGTH}`);
  }

  get atEnd(): boolean {
    return this.position >= this.source.length;
  }

  /** The code point here as text, or "" at the end. */
  peek(): string {
    const codePoint = this.source.codePointAt(this.position);
    return codePoint === undefined ? "" : String.fromCodePoint(codePoint);
  }

  take(): string {
    const char = this.peek();
    this.position += char.length;
    return char;
  }

  startsWith(text: string): boolean {
    return this.source.startsWith(text, this.position);
  }

  /** Takes `text` if it comes next. */
  skip(text: string): boolean {
    if (!this.startsWith(text)) return false;
    this.position += text.length;
    return true;
  }

  /** Takes what the sticky expression matches here, or returns null. */
  match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.position;
    const match = pattern.exec(this.source);
    if (match) this.position += match[0].length;
    return match;
  }

  expect(text: string, where: string): void {
    if (!this.skip(text)) throw this.error(`${shown(this.peek())} ${where}`, `write ${JSON.stringify(text)} there`);
  }

  /** Runs a recursive part of a parser, at most {@link MAX_DEPTH} deep. */
  nested<T>(parse: () => T): T {
    if (++this.#depth > MAX_DEPTH)
      throw this.error(`brackets are nested more than ${MAX_DEPTH} deep`, "flatten the rule");
    const result = parse();
    this.#depth--;
    return result;
  }

  /** An error at `position`: what is there, and what to do. */
  error(what: string, instead: string, position = this.position): SglangError {
    const before = this.source.slice(0, position).split("\n");
    const place = `line ${before.length}, column ${[...before[before.length - 1]].length + 1}`;
    return new SglangError("INVALID_REQUEST", `${this.field}, ${place}: ${what}; ${instead}.`, {
      field: this.field,
      expected: instead,
      found: this.source.slice(position, position + 20),
    });
  }
}

export function shown(char: string): string {
  return char === "" ? "the end of the grammar" : JSON.stringify(char);
}
