/**
 * Exact decimal numbers, as far as bounds of a number range need them: digits before and after the point, compared and
 * rounded without ever passing through binary floating point.
 */
import { invalidField, SglangError } from "../core/errors.js";

export interface Decimal {
  readonly negative: boolean;
  /** Digits before the point without leading zeros; "" for zero. */
  readonly whole: string;
  /** Digits after the point without trailing zeros. */
  readonly fraction: string;
}

/** Bounds are written out as digits; larger exponents than doubles have would only cost memory. */
const MAX_EXPONENT = 400;

/** Reads a JSON number (or its text, which keeps digits that a double would lose). */
export function parseDecimal(value: number | bigint | string, field: string): Decimal {
  const source = String(value);
  const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(source);
  if (!match) throw invalidField(field, "a finite number", value);
  const exponent = Number(match[4] ?? 0);
  if (Math.abs(exponent) > MAX_EXPONENT)
    throw new SglangError(
      "INVALID_REQUEST",
      `${field} has the exponent ${exponent}; at most ±${MAX_EXPONENT} is supported.`,
      {
        field,
        expected: `an exponent of at most ${MAX_EXPONENT}`,
        found: source,
      },
    );
  const digits = match[2] + (match[3] ?? "");
  const point = match[2].length + exponent;
  const padded = point < 0 ? "0".repeat(-point) + digits : digits.padEnd(point, "0");
  const at = Math.max(0, point);
  const whole = padded.slice(0, at).replace(/^0+/, "");
  const fraction = padded.slice(at).replace(/0+$/, "");
  return { negative: match[1] === "-" && (whole !== "" || fraction !== ""), whole, fraction };
}

export function isZero(value: Decimal): boolean {
  return value.whole === "" && value.fraction === "";
}

export function negate(value: Decimal): Decimal {
  return isZero(value) ? value : { ...value, negative: !value.negative };
}

/** Below zero if `a < b`, zero if equal. */
export function compareDecimals(a: Decimal, b: Decimal): number {
  if (a.negative !== b.negative) return a.negative ? -1 : 1;
  const size = compareMagnitudes(a, b);
  return a.negative ? -size : size;
}

export function compareMagnitudes(a: Decimal, b: Decimal): number {
  if (a.whole.length !== b.whole.length) return a.whole.length - b.whole.length;
  if (a.whole !== b.whole) return a.whole < b.whole ? -1 : 1;
  // Digits of equal place line up, and a text that ends first has zeros there: text order is number order.
  return a.fraction === b.fraction ? 0 : a.fraction < b.fraction ? -1 : 1;
}

/** The largest integer that is not above `value`. */
export function floorDecimal(value: Decimal): bigint {
  const whole = BigInt(value.whole || "0");
  if (!value.negative) return whole;
  return value.fraction === "" ? -whole : -whole - 1n;
}

/** `value` as mantissa and exponent with one digit before the point: 0.0123 is 1.23 and -2. Not for zero. */
export function scientific(value: Decimal): { mantissa: Decimal; exponent: number } {
  const digits = value.whole + value.fraction;
  const first = digits.search(/[1-9]/);
  return {
    mantissa: { negative: false, whole: digits[first], fraction: digits.slice(first + 1).replace(/0+$/, "") },
    exponent: value.whole.length - 1 - first,
  };
}

/** `value` as `units * 10 ** -places` with the fewest places. */
export function scaled(value: Decimal): { units: bigint; places: number } {
  return { units: BigInt(value.whole + value.fraction || "0"), places: value.fraction.length };
}
