/**
 * Whether a set of numbers has any: answered by arithmetic where that is enough, so that automata are built only for
 * numbers that are written.
 *
 * Numbers tried are decimals of few digits without exponent: their texts are in the grammar of every term that holds them.
 */
import { parseDecimal, scaled } from "./decimal.js";
import type { NumberTerm } from "./number-term.js";

/** Digits up to which a decimal and its double are one. */
const MAX_DIGITS = 15;
const MAX_TRIED = 1e15;
/** Numbers around smaller edges are all short. */
const MAX_EDGE = 1e13;
/** Whole numbers that are tried one by one. */
const MAX_COUNT = 30_000;

/** True or false when it is certain; undefined when that takes a closer look. */
export function hasNumber(term: NumberTerm): boolean | undefined {
  switch (term.kind) {
    case "any":
    case "integer":
    case "multiple":
      return true;
    case "none":
      return false;
    case "or": {
      const parts = term.items.map(hasNumber);
      if (parts.includes(true)) return true;
      return parts.includes(undefined) ? undefined : false;
    }
    default:
      return inConjunction(term);
  }
}

/** What a term says of its numbers. */
interface Facts {
  /** Every number is whole; no number is. */
  whole: boolean;
  broken: boolean;
  /** Where comparisons and constants change what the term says. */
  readonly edges: Set<number>;
  /** Between two edges, whole numbers that differ by it are all in or all out; Infinity when that is not so. */
  period: number;
  values: readonly number[] | undefined;
}

function inConjunction(term: NumberTerm): boolean | undefined {
  const facts: Facts = { whole: false, broken: false, edges: new Set(), period: 1, values: undefined };
  collect(term, true, facts);
  look(term, facts);
  const { whole, broken, edges, period, values } = facts;
  if (whole && broken) return false;
  if (values !== undefined) {
    if (values.some((value) => isShort(value) && holds(term, value))) return true;
    return values.every((value) => !Number.isFinite(value) || isShort(value)) ? false : undefined;
  }
  if (edges.size === 0) edges.add(0);
  const exact = period * edges.size <= MAX_COUNT && [...edges].every((edge) => Math.abs(edge) < MAX_EDGE);
  const reach = exact ? period : 2;
  for (const edge of edges) {
    for (const value of [edge, edge + 0.5, edge - 0.5, edge + 0.0625, edge - 0.0625])
      if (isShort(value) && holds(term, value)) return true;
    for (let i = 0; i <= reach; i++) {
      const above = Math.floor(edge) + i;
      const below = Math.ceil(edge) - i;
      if ((isShort(above) && holds(term, above)) || (isShort(below) && holds(term, below))) return true;
    }
  }
  // Beside every edge all remainders were tried.
  return whole && exact ? false : undefined;
}

/** What a term says of all its numbers; `wanted` false: of all others. */
function collect(term: NumberTerm, wanted: boolean, out: Facts): void {
  switch (term.kind) {
    case "and":
      if (wanted) for (const item of term.items) collect(item, true, out);
      return;
    case "or":
      if (!wanted) for (const item of term.items) collect(item, false, out);
      return;
    case "not":
      collect(term.item, !wanted, out);
      return;
    case "integer":
      if (wanted) out.whole = true;
      else out.broken = true;
      return;
    case "multiple":
      if (wanted && Number.isInteger(term.of)) out.whole = true;
      return;
    case "values":
      if (wanted) out.values ??= term.values;
  }
}

/** Edges and period of a term. */
function look(term: NumberTerm, out: Facts): void {
  switch (term.kind) {
    case "and":
    case "or":
      for (const item of term.items) look(item, out);
      return;
    case "not":
      look(term.item, out);
      return;
    case "compare":
      out.edges.add(term.bound);
      return;
    case "values":
      for (const value of term.values) out.edges.add(value);
      return;
    case "multiple":
      out.period = Number.isInteger(term.of) ? leastCommonMultiple(out.period, term.of) : Number.POSITIVE_INFINITY;
  }
}

function isShort(value: number): boolean {
  const text = String(value);
  return Math.abs(value) < MAX_TRIED && text.length <= MAX_DIGITS && !text.includes("e");
}

/** Whether a term holds a short decimal. */
function holds(term: NumberTerm, value: number): boolean {
  switch (term.kind) {
    case "any":
      return true;
    case "none":
      return false;
    case "integer":
      return Number.isInteger(value);
    case "multiple":
      return isMultiple(value, term.of);
    case "values":
      return term.values.includes(value);
    case "compare":
      if (term.comparison === "<") return value < term.bound;
      if (term.comparison === "<=") return value <= term.bound;
      return term.comparison === ">" ? value > term.bound : value >= term.bound;
    case "and":
      return term.items.every((item) => holds(item, value));
    case "or":
      return term.items.some((item) => holds(item, value));
    case "not":
      return !holds(term.item, value);
  }
}

function isMultiple(value: number, of: number): boolean {
  if (Number.isInteger(of)) return value % of === 0;
  const a = scaled(parseDecimal(Math.abs(value), "multipleOf"));
  const b = scaled(parseDecimal(of, "multipleOf"));
  const places = Math.max(a.places, b.places);
  return (a.units * 10n ** BigInt(places - a.places)) % (b.units * 10n ** BigInt(places - b.places)) === 0n;
}

export function leastCommonMultiple(a: number, b: number): number {
  if (a === Number.POSITIVE_INFINITY) return a;
  let x = a;
  let y = b;
  while (y !== 0) [x, y] = [y, x % y];
  return (a / x) * b;
}
