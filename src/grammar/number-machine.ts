/**
 * Automata over the digits of decimal numbers: comparison with a bound, multiples, integers.
 *
 * They read `-?(0|[1-9][0-9]*)(\.[0-9]+)?` without exponent and without negative zero, and compare by value, exactly:
 * `1`, `1.0` and `1.00` are one number to them.
 */
import type { ByteMachine } from "./lexeme.js";

const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;

const ALPHABET: readonly number[] = [MINUS, DOT, ...Array.from({ length: 10 }, (_, i) => ZERO + i)];

enum Phase {
  Start,
  Minus,
  /** A leading zero was read: only a point may follow. */
  Zero,
  Integer,
  Point,
  Fraction,
}

/** What a machine remembers beside the syntax: two small integers, changed by each digit. */
interface Memory {
  readonly a: number;
  readonly b: number;
}

interface State extends Memory {
  readonly phase: Phase;
  readonly negative: boolean;
  /** Whether a digit other than 0 was read. */
  readonly nonzero: boolean;
}

/** What makes one number automaton differ from another. Return undefined from a step to die. */
interface DigitRule {
  readonly name: string;
  readonly initial: Memory;
  digit(memory: Memory, digit: number, inFraction: boolean): Memory | undefined;
  point?(memory: Memory): Memory | undefined;
  accepts(memory: Memory, negative: boolean, inFraction: boolean): boolean;
}

/** States are made as they are met; most numbers meet few. */
class DigitMachine implements ByteMachine {
  readonly name: string;
  readonly start = 0;
  readonly alphabet = ALPHABET;
  readonly #rule: DigitRule;
  readonly #states: State[];
  readonly #ids = new Map<string, number>();

  constructor(rule: DigitRule) {
    this.name = rule.name;
    this.#rule = rule;
    this.#states = [{ phase: Phase.Start, negative: false, nonzero: false, ...rule.initial }];
  }

  accepts(id: number): boolean {
    const state = this.#states[id] as State;
    const { phase } = state;
    if (phase !== Phase.Zero && phase !== Phase.Integer && phase !== Phase.Fraction) return false;
    if (state.negative && !state.nonzero) return false;
    return this.#rule.accepts(state, state.negative, phase === Phase.Fraction);
  }

  next(id: number, byte: number): number {
    const state = this.#states[id] as State;
    const { phase } = state;
    if (byte === MINUS)
      return phase === Phase.Start ? this.#intern({ ...state, phase: Phase.Minus, negative: true }) : -1;
    if (byte === DOT) {
      if (phase !== Phase.Zero && phase !== Phase.Integer) return -1;
      const memory = this.#rule.point === undefined ? state : this.#rule.point(state);
      return memory === undefined ? -1 : this.#intern({ ...state, a: memory.a, b: memory.b, phase: Phase.Point });
    }
    const digit = byte - ZERO;
    if (digit < 0 || digit > 9 || phase === Phase.Zero) return -1;
    const inFraction = phase === Phase.Point || phase === Phase.Fraction;
    const memory = this.#rule.digit(state, digit, inFraction);
    if (memory === undefined) return -1;
    const first = phase === Phase.Start || phase === Phase.Minus;
    return this.#intern({
      a: memory.a,
      b: memory.b,
      negative: state.negative,
      nonzero: state.nonzero || digit !== 0,
      phase: inFraction ? Phase.Fraction : first && digit === 0 ? Phase.Zero : Phase.Integer,
    });
  }

  #intern(state: State): number {
    const key = `${state.phase},${state.negative ? 1 : 0},${state.nonzero ? 1 : 0},${state.a},${state.b}`;
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#states.push(state) - 1;
      this.#ids.set(key, id);
    }
    return id;
  }
}

/** Every decimal number. */
export function decimals(): ByteMachine {
  const memory = { a: 0, b: 0 };
  return new DigitMachine({ name: "decimal", initial: memory, digit: () => memory, accepts: () => true });
}

/** Integers by value: `2` and, when `spelledAny`, also `2.0`. */
export function integers(spelledAny: boolean): ByteMachine {
  const memory = { a: 0, b: 0 };
  return new DigitMachine({
    name: spelledAny ? "integer-value" : "integer",
    initial: memory,
    digit: (_, digit, inFraction) => (inFraction && digit !== 0 ? undefined : memory),
    point: () => (spelledAny ? memory : undefined),
    accepts: () => true,
  });
}

export type Comparison = "<" | "<=" | "=" | ">=" | ">";

/** Numbers x with `x <comparison> bound`. */
export function compared(comparison: Comparison, bound: number): ByteMachine {
  const { negative: boundNegative, whole, fraction } = decimalDigits(bound);
  const allowed = { "<": [-1], "<=": [-1, 0], "=": [0], ">=": [0, 1], ">": [1] }[comparison];
  // Memory: a = digits of this part read so far (saturated), b = sign of the comparison of magnitudes so far.
  // In the fraction, a whole part of another length has already decided b.
  const sign = (difference: number): number => (difference < 0 ? -1 : difference > 0 ? 1 : 0);
  return new DigitMachine({
    name: `${comparison}${bound}`,
    initial: { a: 0, b: 0 },
    digit({ a, b }, digit, inFraction) {
      if (inFraction) {
        if (b !== 0) return { a: 0, b };
        const against = a < fraction.length ? Number(fraction[a]) : 0;
        return { a: Math.min(a + 1, fraction.length), b: sign(digit - against) };
      }
      if (a >= whole.length) return { a: whole.length + 1, b: 1 };
      return { a: a + 1, b: b !== 0 ? b : sign(digit - Number(whole[a])) };
    },
    point: ({ a, b }) => ({ a: 0, b: a < whole.length ? -1 : a > whole.length ? 1 : b }),
    accepts({ a, b }, negative, inFraction) {
      let magnitude = b;
      if (!inFraction) {
        magnitude = a < whole.length ? -1 : a > whole.length ? 1 : b;
        if (magnitude === 0 && fraction.length > 0) magnitude = -1;
      } else if (b === 0 && a < fraction.length) magnitude = -1;
      const result = negative ? (boundNegative ? -magnitude : -1) : boundNegative ? 1 : magnitude;
      return allowed.includes(result);
    },
  });
}

/** Largest scaled divisor: each remainder is a state. */
export const MAX_DIVISOR = 10_000;

/** Multiples of `divisor` (> 0), or undefined when its scaled form has more than {@link MAX_DIVISOR} remainders. */
export function multiplesOf(divisor: number): ByteMachine | undefined {
  const { whole, fraction } = decimalDigits(divisor);
  const scaled = Number(whole + fraction);
  if (!Number.isSafeInteger(scaled) || scaled > MAX_DIVISOR || scaled <= 0) return undefined;
  const places = fraction.length;
  const padded = (remainder: number, digits: number): number => {
    let out = remainder;
    for (let i = digits; i < places; i++) out = (out * 10) % scaled;
    return out;
  };
  // Memory: a = remainder of the digits so far, b = digits after the point.
  return new DigitMachine({
    name: `%${divisor}`,
    initial: { a: 0, b: 0 },
    digit({ a, b }, digit, inFraction) {
      if (!inFraction) return { a: (a * 10 + digit) % scaled, b: 0 };
      if (b >= places) return digit === 0 ? { a, b } : undefined;
      return { a: (a * 10 + digit) % scaled, b: b + 1 };
    },
    accepts: ({ a, b }, _, inFraction) => padded(a, inFraction ? b : 0) === 0,
  });
}

/** Digits of a number before and after the point, without superfluous zeros; the whole part is never empty. */
export function decimalDigits(value: number): { negative: boolean; whole: string; fraction: string } {
  const [mantissa = "0", exponent = "0"] = String(Math.abs(value)).split("e");
  const [before = "0", after = ""] = mantissa.split(".");
  const shift = Number(exponent);
  let whole = before;
  let fraction = after;
  if (shift > 0) {
    whole += fraction.slice(0, shift).padEnd(shift, "0");
    fraction = fraction.slice(shift);
  } else if (shift < 0) {
    const padded = whole.padStart(-shift + 1, "0");
    fraction = padded.slice(padded.length + shift) + fraction;
    whole = padded.slice(0, padded.length + shift);
  }
  return {
    negative: value < 0,
    whole: whole.replace(/^0+(?=.)/, ""),
    fraction: fraction.replace(/0+$/, ""),
  };
}
