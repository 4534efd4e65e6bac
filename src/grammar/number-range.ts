/**
 * JSON numbers within bounds, as texts: `minimum`, `maximum`, their exclusive forms and `multipleOf`, for integers and
 * for numbers with fraction and exponent.
 *
 * Spelling is canonical where one value has many: no leading zeros, no `-0`, integers without fraction, exponents only
 * with exactly one non-zero digit before the point (what JavaScript and Python print). Comparison is exact decimal
 * arithmetic; beyond that, every text also parses to a finite double inside the bounds, since whoever reads the output
 * will most likely parse it to one.
 */
import { invalidField, SglangError } from "../core/errors.js";
import type { CodePoints } from "./char-class.js";
import { single } from "./char-class.js";
import {
  compareDecimals,
  type Decimal,
  floorDecimal,
  isZero,
  negate,
  parseDecimal,
  scaled,
  scientific,
} from "./decimal.js";
import { charClass, choice, type Expression, intersect, NEVER, optional, repeat, sequence, text } from "./ir.js";
import { automatonExpression, buildAutomaton } from "./text-automaton.js";

/** A bound may be given as text, which keeps digits that a double would lose. */
export type Bound = number | bigint | string;

export interface NumberBounds {
  /** True: no fraction. Default false. */
  integer?: boolean;
  minimum?: Bound;
  maximum?: Bound;
  exclusiveMinimum?: Bound;
  exclusiveMaximum?: Bound;
  multipleOf?: Bound;
}

/** Digits before the point where no bound limits them: enough for any integer that is printed without exponent. */
const MAX_WHOLE_DIGITS = 64;
/** Zeros after the point of the smallest number that is above zero and written without exponent. */
const MAX_LEADING_ZEROS = 20;
/** Exponents stay inside normal doubles, so that no text parses to zero or Infinity. */
const MAX_EXPONENT = 307;
/** Integers get an exponent from here on, as in JavaScript. */
const INTEGER_EXPONENT = 21;
/** Remainders that `multipleOf` may have to track. */
const MAX_REMAINDERS = 10_000;
const MAX_STATES = 100_000;
const CACHE_SIZE = 500;

const DIGIT_LETTERS: readonly CodePoints[] = Array.from({ length: 10 }, (_, digit) => single(0x30 + digit));
const POINT = 10;
const LETTERS: readonly CodePoints[] = [...DIGIT_LETTERS, single(0x2e)];
const DIGIT = charClass([0x30, 0x39]);
const EXPONENT_MARK = charClass([0x45, 0x45, 0x65, 0x65]);

const cache = new Map<string, Expression>();

/**
 * The texts of all JSON numbers inside `bounds`. Matches nothing when the bounds exclude each other.
 * Throws INVALID_REQUEST for a bound that is no number, a `multipleOf` that is not positive, or one too fine to track.
 */
export function numberRange(bounds: NumberBounds): Expression {
  const key = [
    bounds.integer,
    bounds.minimum,
    bounds.maximum,
    bounds.exclusiveMinimum,
    bounds.exclusiveMaximum,
    bounds.multipleOf,
  ].join("|");
  const known = cache.get(key);
  if (known) return known;
  const made = makeRange(bounds);
  if (cache.size >= CACHE_SIZE) cache.clear();
  cache.set(key, made);
  return made;
}

interface Limit {
  value: Decimal;
  strict: boolean;
}

function makeRange(bounds: NumberBounds): Expression {
  const integer = bounds.integer ?? false;
  const low = tightest(bounds, "minimum", "exclusiveMinimum", 1);
  const high = tightest(bounds, "maximum", "exclusiveMaximum", -1);
  const lowest = low && (integer ? integerAbove(low) : doubleAbove(low));
  const highest =
    high && (integer ? negateLimit(integerAbove(negateLimit(high))) : negateLimit(doubleAbove(negateLimit(high))));
  const given = bounds.multipleOf === undefined ? undefined : parseMultiple(bounds.multipleOf);
  // A multiple of a whole number is whole; multiples of 1 are all of those.
  const wholeOnly = integer || given?.places === 0;
  const range = choice(
    magnitudes(nonNegative(lowest, highest), wholeOnly),
    sequence(
      text("-"),
      magnitudes(nonNegative(highest && negateLimit(highest), lowest && negateLimit(lowest), true), wholeOnly),
    ),
  );
  if (!given || (given.divisor === 1 && wholeOnly)) return range;
  // Kept apart, since the states of one automaton for both would be a product; as an intersection they are made on demand.
  return intersect(range, sequence(optional(text("-")), multiples(given, wholeOnly)));
}

function negateLimit(limit: Limit): Limit {
  return { value: negate(limit.value), strict: limit.strict };
}

/** The stricter of the inclusive and the exclusive bound. `direction` is 1 for lower bounds. */
function tightest(
  bounds: NumberBounds,
  inclusive: "minimum" | "maximum",
  exclusive: "exclusiveMinimum" | "exclusiveMaximum",
  direction: 1 | -1,
): Limit | undefined {
  const limits: Limit[] = [];
  const closed = bounds[inclusive];
  const open = bounds[exclusive];
  if (closed !== undefined) limits.push({ value: parseDecimal(closed, inclusive), strict: false });
  if (open !== undefined) limits.push({ value: parseDecimal(open, exclusive), strict: true });
  if (limits.length < 2) return limits[0];
  const order = compareDecimals(limits[0].value, limits[1].value) * direction;
  return order > 0 ? limits[0] : limits[1];
}

/** The least integer within a lower limit. */
function integerAbove({ value, strict }: Limit): Limit {
  // ceil(x) = -floor(-x); strictly above x: floor(x) + 1.
  const least = strict ? floorDecimal(value) + 1n : -floorDecimal(negate(value));
  return { value: parseDecimal(least, "minimum"), strict: false };
}

/**
 * "Above x" becomes "at least the next double above x": no decimal in between would survive parsing. Zero stays as it
 * is, because its next double has 324 digits.
 */
function doubleAbove(limit: Limit): Limit {
  if (!limit.strict || isZero(limit.value)) return limit;
  const { value } = limit;
  const source = `${value.negative ? "-" : ""}${value.whole || "0"}.${value.fraction || "0"}`;
  const next = nextDouble(Number(source));
  if (!Number.isFinite(next)) return limit;
  const above = parseDecimal(next, "exclusiveMinimum");
  return compareDecimals(above, value) > 0 ? { value: above, strict: false } : limit;
}

function nextDouble(value: number): number {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const bits = view.getBigInt64(0);
  view.setBigInt64(0, value > 0 ? bits + 1n : bits - 1n);
  return view.getFloat64(0);
}

/** Limits of the part of a range at or above zero (`positive`: above), or null if there is none. */
function nonNegative(
  low: Limit | undefined,
  high: Limit | undefined,
  positive = false,
): { low: Limit; high: Limit | undefined } | null {
  const zero: Limit = { value: { negative: false, whole: "", fraction: "" }, strict: positive };
  if (high && (high.value.negative || (isZero(high.value) && (high.strict || positive)))) return null;
  if (!low || low.value.negative || (isZero(low.value) && !low.strict)) return { low: zero, high };
  return { low, high };
}

type Interval = { low: Limit; high: Limit | undefined } | null;

function magnitudes(interval: Interval, wholeOnly: boolean): Expression {
  if (interval === null) return NEVER;
  const { high } = interval;
  // Above zero without exponent: from 0.00000000000000000001 on.
  const low =
    interval.low.strict && isZero(interval.low.value) && !wholeOnly
      ? { value: { negative: false, whole: "", fraction: `${"0".repeat(MAX_LEADING_ZEROS)}1` }, strict: false }
      : interval.low;
  return choice(decimals({ low, high, wholeOnly }), withExponent(interval.low, high, wholeOnly));
}

interface DecimalShape {
  low: Limit;
  high: Limit | undefined;
  wholeOnly: boolean;
  /** One digit from 1 to 9 before the point, as in a mantissa. Default false. */
  firstDigitOnly?: boolean;
}

/** Parts of a number as parts of a key; no bound has so many digits. */
const MANY = 2 ** 20;
const PHASES = { start: 0, zero: 1, whole: 2, point: 3, fraction: 4 } as const;

/** -1, 0 or 1 for a text read so far against the digits of a limit. */
type Order = -1 | 0 | 1;

interface DecimalState {
  phase: "start" | "zero" | "whole" | "point" | "fraction";
  /** Digits before the point, up to the most that matter. */
  digits: number;
  /** Digits after the point, up to the most that matter. */
  places: number;
  low: Order;
  high: Order;
}

/** Numbers without sign and exponent between two limits: digits are compared with the limits' as they are read. */
function decimals({ low, high, wholeOnly, firstDigitOnly = false }: DecimalShape): Expression {
  const limits = [low.value, high?.value];
  const longestWhole = Math.max(...limits.map((limit) => limit?.whole.length ?? 0));
  const longestFraction = Math.max(...limits.map((limit) => limit?.fraction.length ?? 0));
  const maxDigits = firstDigitOnly ? 1 : high ? longestWhole : Math.max(MAX_WHOLE_DIGITS, longestWhole);
  // With unlimited digits, all counts above those of the limits are one.
  const digitsThatMatter = Math.min(
    maxDigits,
    high || maxDigits < Number.POSITIVE_INFINITY ? maxDigits : longestWhole + 1,
  );
  const order = (before: Order, digit: number, expected: string | undefined): Order =>
    before !== 0 ? before : (Math.sign(digit - Number(expected ?? "0")) as Order);
  /** The order of the whole part when its digits are complete. */
  const wholeOrder = (digits: number, sameLength: Order, limit: Decimal | undefined): Order =>
    limit === undefined ? 0 : digits === limit.whole.length ? sameLength : digits < limit.whole.length ? -1 : 1;
  const atPoint = (state: DecimalState): DecimalState => ({
    phase: "point",
    digits: 0,
    places: 0,
    low: wholeOrder(state.digits, state.low, low.value),
    high: wholeOrder(state.digits, state.high, high?.value),
  });
  const accepts = (state: DecimalState): boolean => {
    if (state.phase === "start" || state.phase === "point") return false;
    const end = state.phase === "fraction" ? state : atPoint(state);
    const against = (before: Order, limit: Decimal): Order =>
      before === 0 && limit.fraction.length > end.places ? -1 : before;
    const overLow = against(end.low, low.value);
    if (overLow < 0 || (overLow === 0 && low.strict)) return false;
    if (!high) return true;
    const overHigh = against(end.high, high.value);
    return overHigh < 0 || (overHigh === 0 && !high.strict);
  };
  return automatonExpression(
    buildAutomaton<DecimalState>({
      start: { phase: "start", digits: 0, places: 0, low: 0, high: 0 },
      letters: wholeOnly ? DIGIT_LETTERS : LETTERS,
      join: false,
      limit: MAX_STATES,
      tooLarge: () => {
        throw tooManyStates("minimum", "use shorter bounds");
      },
      key: ({ phase, digits, places, low, high }) =>
        (((PHASES[phase] * MANY + digits) * MANY + places) * 4 + low + 1) * 4 + high + 1,
      accepting: accepts,
      step: (state, letter) => {
        if (letter === POINT) return state.phase === "zero" || state.phase === "whole" ? atPoint(state) : null;
        if (state.phase === "zero") return null;
        if (state.phase === "start" && letter === 0) return firstDigitOnly ? null : { ...state, phase: "zero" };
        if (state.phase === "start" || state.phase === "whole") {
          if (state.digits >= maxDigits) return null;
          return {
            phase: "whole",
            digits: Math.min(state.digits + 1, digitsThatMatter),
            places: 0,
            low: order(state.low, letter, low.value.whole[state.digits]),
            high: order(state.high, letter, high?.value.whole[state.digits]),
          };
        }
        return {
          phase: "fraction",
          digits: 0,
          places: Math.min(state.places + 1, longestFraction),
          low: order(state.low, letter, low.value.fraction[state.places]),
          high: high ? order(state.high, letter, high.value.fraction[state.places]) : 0,
        };
      },
    }),
  );
}

/** `d.ddde±dd` between two limits: the mantissa decides whether the exponent may equal that of a limit. */
function withExponent(low: Limit, high: Limit | undefined, wholeOnly: boolean): Expression {
  const bottom = isZero(low.value) ? undefined : scientific(low.value);
  if (high && isZero(high.value)) return NEVER;
  const top = high && scientific(high.value);
  const one: Limit = { value: parseDecimal(1, "minimum"), strict: false };
  const ten: Limit = { value: parseDecimal(10, "maximum"), strict: true };
  const least = wholeOnly ? INTEGER_EXPONENT : -MAX_EXPONENT;
  const shape = wholeOnly
    ? sequence(DIGIT, optional(sequence(text("."), repeat(DIGIT, 1, INTEGER_EXPONENT - 1))))
    : undefined;
  const parts: Expression[] = [];
  // Mantissas below that of the lower limit need a larger exponent; those above that of the upper one a smaller.
  const cutsLow = bottom ? [true, false] : [false];
  const cutsHigh = top ? [true, false] : [false];
  for (const belowLow of cutsLow)
    for (const aboveHigh of cutsHigh) {
      const from = Math.max(least, bottom ? bottom.exponent + (belowLow ? 1 : 0) : least);
      const to = Math.min(MAX_EXPONENT, top ? top.exponent - (aboveHigh ? 1 : 0) : MAX_EXPONENT);
      if (from > to) continue;
      const ranges: [Limit, Limit][] = [[one, ten]];
      if (bottom)
        ranges.push(
          belowLow
            ? [one, { value: bottom.mantissa, strict: !low.strict }]
            : [{ value: bottom.mantissa, strict: low.strict }, ten],
        );
      if (top && high)
        ranges.push(
          aboveHigh
            ? [{ value: top.mantissa, strict: !high.strict }, ten]
            : [one, { value: top.mantissa, strict: high.strict }],
        );
      const floor = ranges.map(([limit]) => limit).reduce((a, b) => (stricter(a, b, 1) ? a : b));
      const ceiling = ranges.map(([, limit]) => limit).reduce((a, b) => (stricter(a, b, -1) ? a : b));
      const mantissa = decimals({ low: floor, high: ceiling, wholeOnly: false, firstDigitOnly: true });
      parts.push(sequence(shape ? intersect(mantissa, shape) : mantissa, EXPONENT_MARK, exponents(from, to)));
    }
  return choice(...parts);
}

function stricter(a: Limit, b: Limit, direction: 1 | -1): boolean {
  const order = compareDecimals(a.value, b.value) * direction;
  return order > 0 || (order === 0 && a.strict);
}

/** Exponents between two integers, with an optional plus sign and up to two leading zeros (Python prints 1e-07). */
function exponents(from: number, to: number): Expression {
  const zeros = repeat(text("0"), 0, 2);
  const limit = (value: number): Limit => ({ value: parseDecimal(value, "exponent"), strict: false });
  const range = (low: number, high: number): Expression =>
    low > high ? NEVER : decimals({ low: limit(low), high: limit(high), wholeOnly: true });
  return choice(
    sequence(optional(text("+")), zeros, range(Math.max(0, from), to)),
    sequence(text("-"), zeros, range(Math.max(1, -to), -from)),
  );
}

interface Multiple {
  /** The numbers are multiples of `divisor * 10 ** -places`. */
  divisor: number;
  places: number;
  /** What a remainder counts after so many digits behind the point: `10 ** (places - digits)` modulo the divisor. */
  scale: readonly number[];
}

interface MultipleState {
  phase: "start" | "zero" | "whole" | "point" | "fraction";
  /** Digits after the point, up to those the divisor has. */
  places: number;
  /** Of the digits read so far, divided by the divisor. */
  remainder: number;
}

/**
 * Multiples without sign, with any number of digits. A remainder can't be followed through an exponent, so multiples are
 * written out.
 */
function multiples({ divisor, places, scale }: Multiple, wholeOnly: boolean): Expression {
  return automatonExpression(
    buildAutomaton<MultipleState>({
      start: { phase: "start", places: 0, remainder: 0 },
      letters: wholeOnly ? DIGIT_LETTERS : LETTERS,
      join: false,
      limit: MAX_STATES,
      tooLarge: () => {
        throw tooManyStates("multipleOf", "use a divisor with fewer digits");
      },
      key: (state) => (PHASES[state.phase] * MANY + state.places) * MAX_REMAINDERS + state.remainder,
      accepting: ({ phase, places: read, remainder }) =>
        phase !== "start" && phase !== "point" && (remainder * scale[read]) % divisor === 0,
      step: ({ phase, places: read, remainder }, letter) => {
        if (letter === POINT)
          return phase === "zero" || phase === "whole" ? { phase: "point", places: 0, remainder } : null;
        if (phase === "zero") return null;
        if (phase === "start" && letter === 0) return { phase: "zero", places: 0, remainder: 0 };
        const next = (remainder * 10 + letter) % divisor;
        if (phase === "start" || phase === "whole") return { phase: "whole", places: 0, remainder: next };
        if (read < places) return { phase: "fraction", places: read + 1, remainder: next };
        return letter === 0 ? { phase: "fraction", places: read, remainder } : null;
      },
    }),
  );
}

function tooManyStates(field: string, advice: string): SglangError {
  return new SglangError("INVALID_REQUEST", `A number range needs more than ${MAX_STATES} states; ${advice}.`, {
    field,
  });
}

/** Whether a `multipleOf` has few enough remainders. */
export function isTrackable(divisor: number): boolean {
  const { units, places } = scaled(parseDecimal(divisor, "multipleOf"));
  return units * BigInt(places + 1) <= BigInt(MAX_REMAINDERS);
}

function parseMultiple(value: Bound): Multiple {
  const decimal = parseDecimal(value, "multipleOf");
  if (decimal.negative || isZero(decimal)) throw invalidField("multipleOf", "a number above 0", value);
  const { units, places } = scaled(decimal);
  if (units * BigInt(places + 1) > BigInt(MAX_REMAINDERS))
    throw new SglangError(
      "INVALID_REQUEST",
      `multipleOf ${value} needs one state for each of ${units} remainders; at most ${MAX_REMAINDERS} are supported.`,
      { field: "multipleOf", expected: `a divisor with at most ${MAX_REMAINDERS} remainders`, found: String(value) },
    );
  const scale = Array.from({ length: places + 1 }, (_, digits) => Number(10n ** BigInt(places - digits) % units));
  return { divisor: Number(units), places, scale };
}
