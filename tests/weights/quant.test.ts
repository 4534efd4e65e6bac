import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DTYPES, type DType } from "../../src/core/dtype.js";
import { SglangError } from "../../src/core/errors.js";
import { floatToBfloat16, floatToHalf, halfToFloatBits } from "../../src/weights/float16.js";
import { dequantize } from "../../src/weights/quant.js";
import { type QuantizableDType, quantize } from "../../src/weights/quantize.js";

interface Row {
  type: DType;
  bytes: string;
  values: string;
}
const fixture = JSON.parse(readFileSync(new URL("fixtures/quant-blocks.json", import.meta.url), "utf8")) as {
  dequantize: Row[];
  quantize: Row[];
};
const fromHex = (hex: string) => new Uint8Array(Buffer.from(hex, "hex"));
const toHex = (array: ArrayBufferView) => Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("hex");
const floats = (hex: string) => new Float32Array(fromHex(hex).buffer);

describe("dequantize", () => {
  it("has a fixture for every type of core/dtype", () => {
    expect(fixture.dequantize.map((row) => row.type).sort()).toEqual(Object.keys(DTYPES).sort());
  });

  for (const { type, bytes, values } of fixture.dequantize) {
    it(`gives the bits that the gguf package gives for ${type}`, () => {
      expect(toHex(dequantize(type, fromHex(bytes)))).toBe(values);
    });
  }

  it("reads blocks at any byte offset and writes into the array it is given", () => {
    const row = fixture.dequantize.find(({ type }) => type === "Q6_K")!;
    const shifted = new Uint8Array(row.bytes.length / 2 + 1);
    shifted.set(fromHex(row.bytes), 1);
    const out = new Float32Array(row.values.length / 8 + 1);
    const result = dequantize("Q6_K", shifted.subarray(1), out.subarray(1));
    expect(result.buffer).toBe(out.buffer);
    expect(toHex(out.subarray(1))).toBe(row.values);
  });

  it("keeps NaN payloads and signed zeros of single values", () => {
    expect(toHex(dequantize("F32", fromHex("0100c0ff00000080")))).toBe("0100c0ff00000080");
    expect(toHex(dequantize("BF16", fromHex("c1ff0080")))).toBe("0000c1ff00000080");
    expect(toHex(dequantize("F16", fromHex("01fe0080007c")))).toBe("0020c0ff000000800000807f");
  });

  it("refuses a part of a block and an output of another length", () => {
    expect(() => dequantize("Q4_K", new Uint8Array(143))).toThrow(/143 bytes of Q4_K .* 144/);
    expect(() => dequantize("Q4_0", new Uint8Array(18), new Float32Array(33))).toThrow(SglangError);
  });

  it("gives no values for no bytes", () => {
    for (const type of Object.keys(DTYPES)) expect(dequantize(type as DType, new Uint8Array(0))).toHaveLength(0);
  });
});

describe("quantize", () => {
  for (const { type, bytes, values } of fixture.quantize) {
    it(`writes the bytes that the gguf package writes for ${type}`, () => {
      expect(toHex(quantize(type as QuantizableDType, floats(values)))).toBe(bytes);
    });
  }

  it("copies F32", () => {
    const values = new Float32Array([1, -2.5]);
    const bytes = quantize("F32", values);
    expect(bytes.buffer).not.toBe(values.buffer);
    expect(dequantize("F32", bytes)).toEqual(values);
  });

  /** Largest error as a share of the step: half a step, plus the rounding of the scale to f16 times the largest quant. */
  const steps = { Q8_0: [127, 1], Q4_0: [8, 2], Q5_0: [16, 2], Q4_1: [15, 2], Q5_1: [31, 2] } as const;
  for (const [type, [levels, factor]] of Object.entries(steps)) {
    it(`comes back within one step of the scale for ${type}`, () => {
      const values = fc.float32Array({ minLength: 32, maxLength: 32, min: -1000, max: 1000, noNaN: true });
      fc.assert(
        fc.property(values, (x) => {
          const y = dequantize(type as DType, quantize(type as QuantizableDType, x));
          const largest = x.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
          // 2^-24: the smallest f16, when the scale itself is tiny.
          const bound = (factor * largest) / levels + (levels + 1) * 2 ** -24 + largest * 2 ** -10;
          for (let i = 0; i < 32; i++) expect(Math.abs(y[i] - x[i])).toBeLessThanOrEqual(bound);
        }),
        { numRuns: 60 },
      );
    });
  }

  it("refuses ragged rows, values that are not finite, and scales beyond f16", () => {
    expect(() => quantize("Q8_0", new Float32Array(33))).toThrow(/multiples of 32/);
    for (const type of ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] as const) {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 3e38]) {
        const values = new Float32Array(32).fill(1);
        values[7] = bad;
        expect(() => quantize(type, values), `${type} ${bad}`).toThrow(/does not fit f16/);
      }
    }
  });
});

describe("16-bit floats", () => {
  it("come back from f32 unchanged, all of them", () => {
    const bits = halfToFloatBits();
    const value = new Float32Array(bits.buffer);
    for (let h = 0; h < 65536; h++) {
      const isNan = (h & 0x7c00) === 0x7c00 && (h & 0x3ff) !== 0;
      if (floatToHalf(value[h]) !== h && !isNan) expect.fail(`half ${h}`);
      if (isNan && !Number.isNaN(value[h])) expect.fail(`half ${h} must be NaN`);
    }
  });

  it.each([
    ["ties go to even, down", 1 + 2 ** -11, 0x3c00],
    ["ties go to even, up", 1 + 3 * 2 ** -11, 0x3c02],
    ["the largest half", 65504, 0x7bff],
    ["just below half way beyond it", 65519.99, 0x7bff],
    ["half way beyond it is infinity", 65520, 0x7c00],
    ["half of the smallest subnormal is zero", 2 ** -25, 0],
    ["a little more is the smallest subnormal", 2 ** -25 * 1.001, 1],
    ["the largest subnormal rounds up to a normal", 2 ** -14 * (1 - 2 ** -12), 0x400],
    ["minus zero", -0, 0x8000],
    ["minus infinity", Number.NEGATIVE_INFINITY, 0xfc00],
  ])("floatToHalf: %s", (_name, x, expected) => {
    expect(floatToHalf(x)).toBe(expected);
  });

  it.each([
    ["ties go to even, down", 1 + 2 ** -8, 0x3f80],
    ["ties go to even, up", 1 + 3 * 2 ** -8, 0x3f82],
    ["the largest float rounds to infinity", 3.4e38, 0x7f80],
    ["minus zero", -0, 0x8000],
    ["NaN stays NaN", Number.NaN, 0x7fc0],
  ])("floatToBfloat16: %s", (_name, x, expected) => {
    expect(floatToBfloat16(x)).toBe(expected);
  });
});
