import { describe, expect, it } from "vitest";
import { SglangError } from "../../src/core/errors.js";
import { type NumberBounds, numberRange } from "../../src/grammar/number-range.js";
import { matches } from "./expression-matcher.js";

/** Decides with integers only: `value * 10 ** places`. */
function scale(value: string, places: number): bigint {
  const [mantissa, exponent = "0"] = value.toLowerCase().split("e");
  const negative = mantissa.startsWith("-");
  const [whole, fraction = ""] = mantissa.replace("-", "").split(".");
  const shift = places - fraction.length + Number(exponent);
  if (shift < 0) throw new Error(`${value} has more than ${places} places`);
  const size = BigInt(whole + fraction) * 10n ** BigInt(shift);
  return negative ? -size : size;
}

const PLACES = 12;
const at = (value: string): bigint => scale(value, PLACES);

function inside(bounds: NumberBounds, value: string): boolean {
  const x = at(value);
  const bound = (key: keyof NumberBounds): bigint | undefined =>
    bounds[key] === undefined ? undefined : at(String(bounds[key]));
  const low = bound("minimum");
  const high = bound("maximum");
  const over = bound("exclusiveMinimum");
  const under = bound("exclusiveMaximum");
  const multiple = bound("multipleOf");
  if (low !== undefined && x < low) return false;
  if (high !== undefined && x > high) return false;
  if (over !== undefined && x <= over) return false;
  if (under !== undefined && x >= under) return false;
  if (multiple !== undefined && x % multiple !== 0n) return false;
  return !bounds.integer || x % at("1") === 0n;
}

function compare(bounds: NumberBounds, values: Iterable<string>): void {
  const expression = numberRange(bounds);
  const wrong: string[] = [];
  for (const value of values) if (matches(expression, value) !== inside(bounds, value)) wrong.push(value);
  expect(wrong.slice(0, 10), JSON.stringify(bounds)).toEqual([]);
}

const INTEGERS = [
  ...Array.from({ length: 2601 }, (_, i) => String(i - 1300)),
  ..."9999 10000 10001 99999 100000 -9999 -10000 123456789 -123456789 9007199254740991 9007199254740992 -9007199254740991 -9007199254740992".split(
    " ",
  ),
];
const DECIMALS = [
  ...Array.from({ length: 801 }, (_, i) => ((i - 400) / 100).toFixed(2)).filter((value) => value !== "-0.00"),
  ...Array.from({ length: 401 }, (_, i) => ((i - 200) / 10).toFixed(1)).filter((value) => value !== "-0.0"),
  ...Array.from({ length: 101 }, (_, i) => ((i - 50) / 1000).toFixed(3)).filter((value) => !/^-0\.0+$/.test(value)),
  ..."0 1 -1 10 -10 99.999 100.001 -99.999 -100.001 0.00001 -0.00001 1e2 1.5e1 2e-3 -1e2 9.99e1 1e-5 1.0e+1 1.25E0".split(
    " ",
  ),
];

describe("Integers", () => {
  it.each<NumberBounds>([
    {},
    { minimum: 0 },
    { minimum: 1 },
    { minimum: -17 },
    { maximum: 0 },
    { maximum: -1 },
    { maximum: 999 },
    { minimum: 10, maximum: 10 },
    { minimum: 99, maximum: 1001 },
    { minimum: -123, maximum: 45 },
    { minimum: -1000, maximum: -99 },
    { exclusiveMinimum: 0 },
    { exclusiveMaximum: 0 },
    { exclusiveMinimum: -5, exclusiveMaximum: 5 },
    { minimum: 0.5, maximum: 3.5 },
    { minimum: -0.5, maximum: 0.5 },
    { exclusiveMinimum: 1.5 },
    { exclusiveMaximum: -1.5 },
    { minimum: 3, exclusiveMinimum: 3 },
    { minimum: 5, exclusiveMinimum: 3 },
    { minimum: -9007199254740991, maximum: 9007199254740991 },
    { multipleOf: 7 },
    { multipleOf: 10 },
    { multipleOf: 1 },
    { multipleOf: 100, minimum: 1 },
    { multipleOf: 12, minimum: -50, maximum: 1234 },
    { multipleOf: 2.5 },
    { multipleOf: 0.5 },
    { multipleOf: 0.01 },
    { multipleOf: 1500 },
    { minimum: 3, maximum: 2 },
    { minimum: 1e2, maximum: 1e3 },
    { minimum: "100000000000", maximum: 123456789012 },
  ])("%j", (bounds) => {
    compare({ integer: true, ...bounds }, INTEGERS);
  });

  it("have one spelling: no leading zeros, no minus zero, no fraction, no plus", () => {
    const any = numberRange({ integer: true });
    for (const text of ["-0", "00", "01", "1.0", "+1", "1.", "", "-", "1e2", "0x1"])
      expect(matches(any, text), text).toBe(false);
  });

  it("may be written with an exponent where JavaScript does so", () => {
    const any = numberRange({ integer: true });
    for (const value of [1e21, -1.5e22, 1.25e25, 1e300])
      expect(matches(any, JSON.stringify(value)), String(value)).toBe(true);
    expect(matches(numberRange({ integer: true, maximum: 1e21 }), "1e+21")).toBe(true);
    expect(matches(numberRange({ integer: true, maximum: 1e21 }), "1.1e+21")).toBe(false);
  });
});

describe("Numbers", () => {
  it.each<NumberBounds>([
    {},
    { minimum: 0 },
    { minimum: 0.5 },
    { maximum: 0 },
    { maximum: 2.25 },
    { minimum: -1.5, maximum: 1.5 },
    { minimum: 0, maximum: 1 },
    { minimum: 0.1, maximum: 0.3 },
    { exclusiveMinimum: 0 },
    { exclusiveMaximum: 0 },
    { exclusiveMinimum: 0, exclusiveMaximum: 1 },
    { exclusiveMinimum: -2, exclusiveMaximum: 2.5 },
    { minimum: -100, maximum: 100 },
    { minimum: 10, maximum: 99.999 },
    { minimum: 1e-5, maximum: 1e-2 },
    { minimum: -0.02, maximum: -0.001 },
    { minimum: 3, maximum: 3 },
    { exclusiveMinimum: 3, exclusiveMaximum: 3 },
    { minimum: 2, maximum: 1 },
    { exclusiveMinimum: 1, minimum: 1 },
  ])("%j", (bounds) => {
    compare(bounds, DECIMALS);
  });

  it.each<NumberBounds>([
    { multipleOf: 0.01 },
    { multipleOf: 0.1 },
    { multipleOf: 0.25 },
    { multipleOf: 0.03 },
    { multipleOf: 3 },
    { multipleOf: 1.5, minimum: 0, maximum: 9 },
    { multipleOf: 0.1, exclusiveMinimum: 0 },
    { multipleOf: 5 },
    { multipleOf: 0.0075 },
  ])("%j, without exponent", (bounds) => {
    // A multiple of an integer is an integer: it is written without a fraction.
    const values = DECIMALS.filter((value) => !/e/i.test(value));
    compare(bounds, Number.isInteger(bounds.multipleOf) ? values.filter((value) => !value.includes(".")) : values);
  });

  it("accept what JavaScript prints for random doubles, exactly when they are inside", () => {
    const ranges: [NumberBounds, (x: number) => boolean][] = [
      [{}, () => true],
      [{ minimum: 0.001, maximum: 1e10 }, (x) => x >= 0.001 && x <= 1e10],
      [{ exclusiveMinimum: 0 }, (x) => x > 0],
      [{ exclusiveMinimum: -3.7e-8, exclusiveMaximum: 123.456 }, (x) => x > -3.7e-8 && x < 123.456],
      [{ maximum: 4.2e22 }, (x) => x <= 4.2e22],
      [{ minimum: 1.5e22, exclusiveMaximum: 1e23 }, (x) => x >= 1.5e22 && x < 1e23],
    ];
    let seed = 1;
    const random = (): number => {
      seed = (seed * 48271) % 2147483647;
      return seed / 2147483647;
    };
    for (let i = 0; i < 4000; i++) {
      const x = (random() - 0.5) * 10 ** Math.round(random() * 60 - 30);
      for (const [bounds, test] of ranges) {
        expect(matches(numberRange(bounds), JSON.stringify(x)), `${x} in ${JSON.stringify(bounds)}`).toBe(test(x));
      }
    }
    for (const b of [1, 0.1, 123.456, 3.7e-8, 4.2e22]) {
      for (const x of neighbours(b)) {
        expect(matches(numberRange({ exclusiveMinimum: b }), JSON.stringify(x)), `${x} > ${b}`).toBe(x > b);
        expect(matches(numberRange({ exclusiveMaximum: -b }), JSON.stringify(-x)), `${-x} < ${-b}`).toBe(-x < -b);
        expect(matches(numberRange({ minimum: b }), JSON.stringify(x)), `${x} >= ${b}`).toBe(x >= b);
      }
    }
  });

  it("never parse to a value outside, however many digits are written", () => {
    expect(matches(numberRange({ exclusiveMaximum: 1 }), `0.${"9".repeat(40)}`)).toBe(false);
    expect(matches(numberRange({ exclusiveMinimum: 0 }), `0.${"0".repeat(400)}1`)).toBe(false);
    expect(matches(numberRange({ minimum: 0 }), "9".repeat(400))).toBe(false);
    expect(matches(numberRange({}), "1e400")).toBe(false);
    expect(matches(numberRange({ maximum: 1 }), `0.${"9".repeat(40)}`)).toBe(true);
  });

  it("follow JSON's syntax", () => {
    const any = numberRange({});
    for (const text of ["0", "-1", "1.50", "1e5", "1E-5", "2.5e+07", "0.0"])
      expect(matches(any, text), text).toBe(true);
    for (const text of [".5", "1.", "01", "+1", "1e", "--1", "1e1.5", "Infinity", "NaN", "-", "0e"])
      expect(matches(any, text), text).toBe(false);
  });
});

function neighbours(value: number): number[] {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value);
  const bits = view.getBigInt64(0);
  return [-2n, -1n, 0n, 1n, 2n].map((step) => {
    view.setBigInt64(0, bits + step);
    return view.getFloat64(0);
  });
}

describe("Bounds that make no sense", () => {
  it.each<[NumberBounds, RegExp]>([
    [{ minimum: "abc" }, /minimum must be a finite number/],
    [{ maximum: Number.NaN }, /maximum must be a finite number/],
    [{ multipleOf: 0 }, /multipleOf must be a number above 0/],
    [{ multipleOf: -2 }, /multipleOf must be a number above 0/],
    [{ multipleOf: 1234567 }, /multipleOf 1234567 .* remainders/],
    [{ minimum: "1e9999" }, /minimum has the exponent 9999/],
  ])("%j is refused by name", (bounds, message) => {
    expect(() => numberRange(bounds)).toThrow(SglangError);
    expect(() => numberRange(bounds)).toThrow(message);
  });
});
