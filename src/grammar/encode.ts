/**
 * Lowers regular {@link Expression}s, which speak of code points, to {@link Lexemes}, which speak of bytes.
 *
 * Two encodings: `utf8` is plain text; `json` is the inside of a JSON string, where every character has exactly one
 * spelling (raw where JSON allows it, else the short escape, else `\u00xx`). One spelling per text is what makes
 * complements and intersections of string constraints mean the same for bytes as for texts.
 */
import { SglangError } from "../core/errors.js";
import { remainderMachine, textMachine } from "./automaton-machine.js";
import { type CodePointRanges, type Expression, intersectRanges, MAX_CODE_POINT } from "./ir.js";
import { EPSILON, type Lexemes, NEVER } from "./lexeme.js";

export type Encoding = "utf8" | "json";

/** Deepest nesting of one expression: the lowering recurses. */
const MAX_DEPTH = 2_000;

const ESCAPES: readonly (readonly [codePoint: number, spelling: string])[] = [
  [0x22, '\\"'],
  [0x5c, "\\\\"],
  ...Array.from({ length: 0x20 }, (_, c) => [c, JSON.stringify(String.fromCharCode(c)).slice(1, -1)] as const),
];

/** Code points that JSON strings hold as they are. */
const RAW_IN_JSON: CodePointRanges = [0x20, 0x21, 0x23, 0x5b, 0x5d, 0xd7ff, 0xe000, MAX_CODE_POINT];
const SCALAR_VALUES: CodePointRanges = [0, 0xd7ff, 0xe000, MAX_CODE_POINT];

const utf8 = new TextEncoder();

export class Encoder {
  readonly #lexemes: Lexemes;
  readonly #classes = new Map<string, number>();
  readonly #expressions: Record<Encoding, WeakMap<Expression, number>> = { utf8: new WeakMap(), json: new WeakMap() };
  /** Any well-formed text, in each encoding. */
  readonly universe: Record<Encoding, number>;

  constructor(lexemes: Lexemes) {
    this.#lexemes = lexemes;
    const any = { utf8: this.characterClass(SCALAR_VALUES, "utf8"), json: this.characterClass(SCALAR_VALUES, "json") };
    lexemes.declareSafeCharacter(any.utf8);
    lexemes.declareSafeCharacter(any.json);
    this.universe = {
      utf8: lexemes.repeat(any.utf8, 0, Number.POSITIVE_INFINITY),
      json: lexemes.repeat(any.json, 0, Number.POSITIVE_INFINITY),
    };
  }

  /** One code point of the ranges (normal form). */
  characterClass(ranges: CodePointRanges, encoding: Encoding): number {
    const key = `${encoding[0]}${ranges.join(",")}`;
    const known = this.#classes.get(key);
    if (known !== undefined) return known;
    const raw = encoding === "json" ? intersectRanges(ranges, RAW_IN_JSON) : ranges;
    const items = [this.#utf8Class(intersectRanges(raw, SCALAR_VALUES))];
    if (encoding === "json") {
      const escapes = ESCAPES.filter(([c]) => contains(ranges, c)).map(([, spelling]) => utf8.encode(spelling));
      items.push(this.#lexemes.literals(escapes));
    }
    const lexeme = this.#lexemes.alt(items);
    this.#classes.set(key, lexeme);
    return lexeme;
  }

  text(value: string, encoding: Encoding): number {
    if (value === "") return EPSILON;
    return this.#lexemes.literal(utf8.encode(encoding === "json" ? JSON.stringify(value).slice(1, -1) : value));
  }

  /** @throws SglangError UNSUPPORTED for `ref`/`embed`, which are not regular, and for absurd nesting. */
  lexeme(expression: Expression, encoding: Encoding, depth = 0): number {
    if (depth > MAX_DEPTH) {
      throw new SglangError("UNSUPPORTED", `The expression is nested deeper than ${MAX_DEPTH} levels; flatten it.`, {
        field: "grammar",
      });
    }
    const cache = this.#expressions[encoding];
    const known = cache.get(expression);
    if (known !== undefined) return known;
    const lexeme = this.#lower(expression, encoding, depth + 1);
    cache.set(expression, lexeme);
    return lexeme;
  }

  #lower(expression: Expression, encoding: Encoding, depth: number): number {
    const lexemes = this.#lexemes;
    switch (expression.kind) {
      case "never":
        return NEVER;
      case "text":
        return this.text(expression.text, encoding);
      case "bytes":
        if (encoding === "json") {
          throw new SglangError("UNSUPPORTED", "Raw bytes cannot be part of a JSON string pattern; use text.", {
            field: "grammar",
          });
        }
        return lexemes.literal(expression.bytes);
      case "class":
        return this.characterClass(expression.ranges, encoding);
      case "sequence":
        return lexemes.cat(...expression.items.map((item) => this.lexeme(item, encoding, depth)));
      case "choice":
        return this.#choice(expression.items, encoding, depth);
      case "repeat":
        return lexemes.repeat(this.lexeme(expression.item, encoding, depth), expression.min, expression.max);
      case "not":
        return lexemes.and([this.universe[encoding], lexemes.not(this.lexeme(expression.item, encoding, depth))]);
      case "and": {
        const positive = expression.items.filter((item) => item.kind !== "not");
        const parts = positive.map((item) => this.lexeme(item, encoding, depth));
        if (parts.length === 0) parts.push(this.universe[encoding]);
        for (const item of expression.items) {
          if (item.kind === "not") parts.push(lexemes.not(this.lexeme(item.item, encoding, depth)));
        }
        return lexemes.and(withoutUniverse(parts, this.universe[encoding]));
      }
      case "automaton":
        return lexemes.machine(
          textMachine(expression.automaton, expression.state, encoding, {
            characterClass: (ranges, within) => this.characterClass(ranges, within),
            next: (lexeme, byte) => lexemes.next(lexeme, byte),
          }),
        );
      case "remainder":
        return lexemes.machine(remainderMachine(expression));
      case "ref":
      case "embed":
        throw new SglangError(
          "UNSUPPORTED",
          "A rule that refers to other rules cannot be intersected or complemented; only regular expressions can.",
          { field: "grammar" },
        );
    }
  }

  /** Choices among plain texts become one literal table, whatever their number. */
  #choice(items: readonly Expression[], encoding: Encoding, depth: number): number {
    const literals: Uint8Array[] = [];
    const others: number[] = [];
    for (const item of items) {
      if (item.kind === "text" && item.text !== "") {
        literals.push(utf8.encode(encoding === "json" ? JSON.stringify(item.text).slice(1, -1) : item.text));
      } else others.push(this.lexeme(item, encoding, depth));
    }
    return this.#lexemes.alt([...others, this.#lexemes.literals(literals)]);
  }

  #utf8Class(ranges: CodePointRanges): number {
    const items = [this.#asciiPart(ranges)];
    items.push(this.#block(ranges, 0x80, 0x7ff, 6, 0xc0, 0));
    items.push(this.#block(ranges, 0x800, 0xffff, 12, 0xe0, 0));
    items.push(this.#block(ranges, 0x10000, MAX_CODE_POINT, 18, 0xf0, 0));
    return this.#lexemes.alt(items);
  }

  #asciiPart(ranges: CodePointRanges): number {
    const bits = new Int32Array(8);
    for (let c = 0; c < 0x80; c++) {
      if (contains(ranges, c)) bits[c >> 5] = (bits[c >> 5] as number) | (1 << (c & 31));
    }
    return this.#lexemes.byteSet(bits);
  }

  /**
   * Code points of `ranges` in [lo, hi], written as a first byte (`marker` + their bits above `shift`) and shift/6
   * continuation bytes. First bytes with equal continuations share them, so the result is deterministic and small.
   * `base` is the code point whose bits above this level are already spoken for.
   */
  #block(ranges: CodePointRanges, lo: number, hi: number, shift: number, marker: number, base: number): number {
    if (overlap(ranges, lo, hi) === "none") return NEVER;
    const byRest = new Map<number, Int32Array>();
    const unit = 2 ** shift;
    for (let index = Math.floor((lo - base) / unit); index <= Math.floor((hi - base) / unit); index++) {
      const from = Math.max(lo, base + index * unit);
      const to = Math.min(hi, base + index * unit + unit - 1);
      const rest = this.#continuation(ranges, from, to, shift, base + index * unit);
      if (rest === NEVER) continue;
      let bits = byRest.get(rest);
      if (bits === undefined) {
        bits = new Int32Array(8);
        byRest.set(rest, bits);
      }
      const byte = marker + index;
      bits[byte >> 5] = (bits[byte >> 5] as number) | (1 << (byte & 31));
    }
    return this.#lexemes.alt([...byRest].map(([rest, bits]) => this.#lexemes.cat(this.#lexemes.byteSet(bits), rest)));
  }

  #continuation(ranges: CodePointRanges, from: number, to: number, shift: number, base: number): number {
    if (shift === 0) return overlap(ranges, from, to) === "none" ? NEVER : EPSILON;
    const covered = overlap(ranges, from, to);
    if (covered === "none") return NEVER;
    if (covered === "all" && to - from === 2 ** shift - 1) {
      const any = this.#lexemes.byteRange(0x80, 0xbf);
      return this.#lexemes.cat(...new Array<number>(shift / 6).fill(any));
    }
    return this.#block(ranges, from, to, shift - 6, 0x80, base);
  }
}

/** How many code points the texts of a regular expression have: `[least, most]`, bounds that always hold. */
export function lengthBounds(expression: Expression): readonly [number, number] {
  let known = bounds.get(expression);
  if (known === undefined) {
    known = findBounds(expression);
    bounds.set(expression, known);
  }
  return known;
}

/** Expressions share their parts. */
const bounds = new WeakMap<Expression, readonly [number, number]>();

function findBounds(expression: Expression): readonly [number, number] {
  switch (expression.kind) {
    case "text": {
      const length = [...expression.text].length;
      return [length, length];
    }
    case "class":
      return [1, 1];
    case "sequence":
      return expression.items.map(lengthBounds).reduce((a, b) => [a[0] + b[0], a[1] + b[1]], [0, 0]);
    case "choice":
      return expression.items
        .map(lengthBounds)
        .reduce((a, b) => [Math.min(a[0], b[0]), Math.max(a[1], b[1])], [Number.POSITIVE_INFINITY, 0]);
    case "repeat": {
      const [least, most] = lengthBounds(expression.item);
      return [least * expression.min, most === 0 ? 0 : most * expression.max];
    }
    case "and":
      return expression.items
        .map(lengthBounds)
        .reduce((a, b) => [Math.max(a[0], b[0]), Math.min(a[1], b[1])], [0, Number.POSITIVE_INFINITY]);
    default:
      return [0, Number.POSITIVE_INFINITY];
  }
}

function withoutUniverse(parts: readonly number[], universe: number): number[] {
  const rest = parts.filter((part) => part !== universe);
  return rest.length === parts.length || rest.length === 0 ? [...parts] : keepPositive(parts, rest);
}

/** The universe may go only when another part keeps the text well-formed; the first part always is such a one. */
function keepPositive(parts: readonly number[], rest: readonly number[]): number[] {
  return rest[0] === parts[0] ? [...rest] : [...parts];
}

function contains(ranges: CodePointRanges, codePoint: number): boolean {
  for (let i = 0; i < ranges.length; i += 2) {
    if (codePoint >= (ranges[i] as number) && codePoint <= (ranges[i + 1] as number)) return true;
  }
  return false;
}

function overlap(ranges: CodePointRanges, lo: number, hi: number): "none" | "some" | "all" {
  // First range that ends at or after lo.
  let from = 0;
  let to = ranges.length >> 1;
  while (from < to) {
    const mid = (from + to) >> 1;
    if ((ranges[2 * mid + 1] as number) < lo) from = mid + 1;
    else to = mid;
  }
  if (2 * from >= ranges.length || (ranges[2 * from] as number) > hi) return "none";
  return (ranges[2 * from] as number) <= lo && (ranges[2 * from + 1] as number) >= hi ? "all" : "some";
}
