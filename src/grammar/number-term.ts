/**
 * Boolean combinations of number constraints as texts of JSON numbers.
 *
 * Constraints are kept as small terms and lowered late, because the spelling depends on what becomes of them: a constant
 * is written in one or two ways, but excluding it must exclude every number that parses to it. Complements are therefore
 * pushed down to single constraints, which have an exact opposite of their own (`not >= 1` is `< 1`); subtracting texts
 * would keep `0.99999999999999999999`, which every reader takes for 1.
 */
import { SglangError } from "../core/errors.js";
import {
  charClass,
  choice,
  difference,
  type Expression,
  intersect,
  NEVER,
  optional,
  repeat,
  sequence,
  text,
} from "./ir.js";
import { leastCommonMultiple } from "./number-decision.js";
import { type NumberBounds, numberRange } from "./number-range.js";

export type Comparison = "<" | "<=" | ">=" | ">";

/** A set of numbers. */
export type NumberTerm =
  | { readonly kind: "any" | "none" | "integer" }
  | { readonly kind: "values"; readonly values: readonly number[] }
  | { readonly kind: "compare"; readonly comparison: Comparison; readonly bound: number }
  | { readonly kind: "multiple"; readonly of: number }
  | { readonly kind: "and" | "or"; readonly items: readonly NumberTerm[] }
  | { readonly kind: "not"; readonly item: NumberTerm };

const OPPOSITE = { "<": ">=", "<=": ">", ">=": "<", ">": "<=" } as const;
const BOUND_NAMES = {
  "<": "exclusiveMaximum",
  "<=": "maximum",
  ">=": "minimum",
  ">": "exclusiveMinimum",
} as const satisfies Record<Comparison, keyof NumberBounds>;

const DIGIT = charClass([0x30, 0x39]);
const NONZERO = charClass([0x31, 0x39]);
const DIGITS = repeat(DIGIT, 1, Number.POSITIVE_INFINITY);
const MINUS = optional(text("-"));
const FRACTION = optional(sequence(text("."), DIGITS));
const EXPONENT_MARK = charClass([0x45, 0x45, 0x65, 0x65]);
/** Characters, point included, up to which different decimals parse to different doubles (at most 15 digits do). */
const EXACT_LENGTH = 16;

/** Largest number that remainders are counted in. */
const MAX_DIVISOR = 1_000_000;

/** Numbers in any spelling JSON has, as far as they parse to a finite double: 308 digits, or fewer and an exponent. */
const ANY_NUMBER = sequence(
  MINUS,
  choice(
    sequence(wholePart(308), FRACTION),
    sequence(wholePart(64), FRACTION, EXPONENT_MARK, choice(sequence(text("-"), DIGITS), exponentTo(243))),
    sequence(DIGIT, FRACTION, EXPONENT_MARK, exponentTo(307)),
  ),
);

/** Short decimals without exponent, `-0` among them: their double prints as the same number. */
const SHORT = intersect(
  sequence(MINUS, wholePart(EXACT_LENGTH), FRACTION),
  repeat(charClass([0x2d, 0x2e, 0x30, 0x39]), 1, EXACT_LENGTH),
);
const SHORT_FRACTIONS = intersect(
  SHORT,
  sequence(
    MINUS,
    DIGITS,
    text("."),
    repeat(DIGIT, 0, Number.POSITIVE_INFINITY),
    NONZERO,
    repeat(text("0"), 0, Number.POSITIVE_INFINITY),
  ),
);
/** Numbers that are no integers: short decimals, and what is so small that it is written with an exponent. */
const NO_INTEGER = choice(
  SHORT_FRACTIONS,
  sequence(
    MINUS,
    NONZERO,
    optional(sequence(text("."), repeat(DIGIT, 1, EXACT_LENGTH - 1))),
    EXPONENT_MARK,
    text("-"),
    repeat(text("0"), 0, 2),
    numberRange({ integer: true, minimum: 1, maximum: 307 }),
  ),
);

/** The texts of the numbers in a term. */
export function numberExpression(term: NumberTerm): Expression {
  switch (term.kind) {
    case "any":
      return ANY_NUMBER;
    case "none":
      return NEVER;
    case "values":
      return choice(...term.values.flatMap(numberSpellings).map(text));
    case "or":
      return choice(...term.items.map(numberExpression));
    case "and":
      return conjunction(term.items);
    case "not":
      return without(term.item);
    default:
      return conjunction([term]);
  }
}

/** How a number is written: in full, and as JavaScript and Python print it. No negative zero; nothing for Infinity. */
export function numberSpellings(value: number): readonly string[] {
  if (!Number.isFinite(value)) return [];
  if (value === 0) return ["0"];
  const printed = String(value);
  return printed.includes("e") ? [inFull(value), printed] : [printed];
}

function inFull(value: number): string {
  if (Number.isInteger(value)) return BigInt(value).toString();
  const [mantissa = "0", exponent = "0"] = Math.abs(value).toExponential().split("e");
  return `${value < 0 ? "-" : ""}0.${"0".repeat(-Number(exponent) - 1)}${mantissa.replace(".", "")}`;
}

/** Bounds of one conjunction become one range, so that `> 0` and `integer` mean "from 1 on". */
function conjunction(items: readonly NumberTerm[]): Expression {
  const parts: Expression[] = [];
  const byRemainder: NumberTerm[] = [];
  const bounds: NumberBounds & Partial<Record<(typeof BOUND_NAMES)[Comparison], number>> = {};
  const collect = (term: NumberTerm): void => {
    switch (term.kind) {
      case "any":
        return;
      case "and":
        for (const item of term.items) collect(item);
        return;
      case "integer":
        bounds.integer = true;
        return;
      case "compare": {
        const name = BOUND_NAMES[term.comparison];
        const tighter = term.comparison.startsWith(">") ? Math.max : Math.min;
        bounds[name] = tighter(bounds[name] ?? term.bound, term.bound);
        return;
      }
      case "multiple":
        if (Number.isInteger(term.of)) byRemainder.push(term);
        else if (bounds.multipleOf === undefined) bounds.multipleOf = term.of;
        else parts.push(numberRange({ multipleOf: term.of }));
        return;
      case "not":
        if (isByRemainder(term)) byRemainder.push(term);
        else if (term.item.kind === "compare") collect(opposite(term.item));
        else if (term.item.kind === "not") collect(term.item.item);
        else if (term.item.kind === "or") for (const item of term.item.items) collect({ kind: "not", item });
        else parts.push(without(term.item));
        return;
      default:
        if (isByRemainder(term)) byRemainder.push(term);
        else parts.push(numberExpression(term));
    }
  };
  for (const item of items) collect(item);
  const [only] = byRemainder;
  if (byRemainder.length === 1 && only?.kind === "multiple" && bounds.multipleOf === undefined)
    bounds.multipleOf = only.of;
  else if (byRemainder.length === 1 && only?.kind === "not" && only.item.kind === "multiple")
    parts.push(without(only.item));
  else if (byRemainder.length > 0) parts.push(remainders(byRemainder, bounds.integer ?? false));
  if (Object.keys(bounds).length > 0) parts.push(numberRange(bounds));
  if (parts.length === 0) return ANY_NUMBER;
  return intersect(...parts);
}

/** Whether the term is made of nothing but multiples of whole numbers. */
function isByRemainder(term: NumberTerm): boolean {
  switch (term.kind) {
    case "multiple":
      return Number.isInteger(term.of);
    case "not":
      return isByRemainder(term.item);
    case "and":
    case "or":
      return term.items.every(isByRemainder);
    default:
      return false;
  }
}

/**
 * The numbers that are in all of the terms, which only ask for remainders: one automaton that counts in the least common
 * multiple, where an intersection would count in every divisor. What is excluded must be short; see {@link SHORT}.
 */
function remainders(terms: readonly NumberTerm[], wholeOnly: boolean): Expression {
  const divisors = new Set<number>();
  let excludes = false;
  const look = (term: NumberTerm): void => {
    if (term.kind === "multiple") divisors.add(term.of);
    else if (term.kind === "not") {
      excludes = true;
      look(term.item);
    } else if (term.kind === "and" || term.kind === "or") for (const item of term.items) look(item);
  };
  for (const term of terms) look(term);
  const divisor = [...divisors].reduce(leastCommonMultiple, 1);
  if (divisor > MAX_DIVISOR)
    throw new SglangError(
      "UNSUPPORTED",
      `Multiples of ${[...divisors].join(", ")} meet; their common one is too large.`,
      {
        field: "multipleOf",
        expected: `a least common multiple of at most ${MAX_DIVISOR}`,
      },
    );
  const holds = (term: NumberTerm, divides: (of: number) => boolean): boolean => {
    if (term.kind === "multiple") return divides(term.of);
    if (term.kind === "not") return !holds(term.item, divides);
    if (term.kind === "or") return term.items.some((item) => holds(item, divides));
    return term.kind === "and" && term.items.every((item) => holds(item, divides));
  };
  const magnitude: Expression = {
    kind: "remainder",
    divisor,
    name: JSON.stringify(terms),
    accepts: (remainder) => terms.every((term) => holds(term, (of) => remainder % of === 0)),
  };
  const whole = intersect(numberRange({ integer: true }), sequence(MINUS, magnitude), ...(excludes ? [SHORT] : []));
  const fractions = !wholeOnly && terms.every((term) => holds(term, () => false));
  return fractions ? choice(whole, SHORT_FRACTIONS) : whole;
}

function opposite(term: Extract<NumberTerm, { kind: "compare" }>): NumberTerm {
  return { kind: "compare", comparison: OPPOSITE[term.comparison], bound: term.bound };
}

/** The numbers that are not in a term. */
function without(term: NumberTerm): Expression {
  switch (term.kind) {
    case "any":
      return NEVER;
    case "none":
      return ANY_NUMBER;
    case "integer":
      return NO_INTEGER;
    case "values":
      return gaps(term.values);
    case "compare":
      return numberExpression(opposite(term));
    case "multiple": {
      // Multiples of a whole number are written without fraction: those with one are told apart by being integers.
      const short = intersect(SHORT, numberRange({ integer: Number.isInteger(term.of) }));
      const others = difference(short, numberRange({ multipleOf: term.of }));
      return Number.isInteger(term.of) ? choice(others, SHORT_FRACTIONS) : others;
    }
    case "or":
      return conjunction(term.items.map((item) => ({ kind: "not", item })));
    case "and":
      return choice(...term.items.map(without));
    case "not":
      return numberExpression(term.item);
  }
}

/** All numbers but these: the ranges below, between and above them. */
function gaps(values: readonly number[]): Expression {
  const sorted = [...new Set(values)].filter(Number.isFinite).sort((a, b) => a - b);
  const ranges: NumberBounds[] = [{}];
  for (const value of sorted) {
    const last = ranges[ranges.length - 1] as NumberBounds;
    last.exclusiveMaximum = value;
    ranges.push({ exclusiveMinimum: value });
  }
  return choice(...ranges.map(numberRange));
}

function wholePart(digits: number): Expression {
  return choice(text("0"), sequence(NONZERO, repeat(DIGIT, 0, digits - 1)));
}

/** `e5`, `e+05`: exponents from zero to `most`. */
function exponentTo(most: number): Expression {
  const zeros = repeat(text("0"), 0, Number.POSITIVE_INFINITY);
  return sequence(optional(text("+")), zeros, numberRange({ integer: true, minimum: 0, maximum: most }));
}
