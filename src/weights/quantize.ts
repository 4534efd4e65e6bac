/**
 * f32 to the simple block types, bit for bit as ggml's reference quantisers (`quantize_row_*_ref`).
 * For exports and for small models in tests; K-quants need a search and are not written here.
 */
import { DTYPES, type DType } from "../core/dtype.js";
import { SglangError } from "../core/errors.js";
import { encodeFloat16, floatToHalf } from "./float16.js";

const round = Math.fround;

/** Types {@link quantize} writes. */
export type QuantizableDType = "F32" | "F16" | "BF16" | "Q8_0" | "Q4_0" | "Q4_1" | "Q5_0" | "Q5_1";

/** Encodes the 32 values of `x` from `i` on into the block at byte `p` of `b`. */
type BlockEncoder = (x: Float32Array, i: number, b: Uint8Array, p: number) => void;

function putHalf(b: Uint8Array, p: number, value: number): void {
  const h = floatToHalf(value);
  if ((h & 0x7c00) === 0x7c00) throw tooLarge("block scale", value);
  b[p] = h & 255;
  b[p + 1] = h >> 8;
}

function tooLarge(what: string, value: number): SglangError {
  return new SglangError("INVALID_ARGUMENT", `The ${what} ${value} does not fit f16; write the tensor as F32.`, {
    expected: "a finite value of at most 65504",
    found: String(value),
  });
}

const q8_0: BlockEncoder = (x, i, b, p) => {
  let max = 0;
  for (let j = 0; j < 32; j++) max = Math.max(max, Math.abs(x[i + j]));
  const d = round(max / 127);
  const inverse = d === 0 ? 0 : round(1 / d);
  putHalf(b, p, d);
  for (let j = 0; j < 32; j++) {
    const q = round(x[i + j] * inverse);
    // roundf: halves go away from zero.
    b[p + 2 + j] = q < 0 ? -Math.floor(0.5 - q) : Math.floor(q + 0.5);
  }
};

/** d = (value of largest magnitude) / -2^(bits - 1), q = trunc(x / d + 2^(bits - 1) + 0.5). */
const symmetric =
  (width: 4 | 5): BlockEncoder =>
  (x, i, b, p) => {
    let max = 0;
    for (let j = 0; j < 32; j++) {
      const value = x[i + j];
      if (Math.abs(value) > Math.abs(max)) max = value;
    }
    const zero = 1 << (width - 1);
    const d = round(max / -zero);
    const inverse = d === 0 ? 0 : round(1 / d);
    putHalf(b, p, d);
    pack(b, p + 2, width, (j) => round(round(x[i + j] * inverse) + zero + 0.5));
  };

/** m = min, d = (max - min) / (2^bits - 1), q = trunc((x - m) / d + 0.5). */
const affine =
  (width: 4 | 5): BlockEncoder =>
  (x, i, b, p) => {
    let min = Infinity;
    let max = -Infinity;
    for (let j = 0; j < 32; j++) {
      // Not Math.min: of two zeros ggml keeps the first, whatever the signs.
      if (x[i + j] < min) min = x[i + j];
      if (x[i + j] > max) max = x[i + j];
    }
    const d = round(round(max - min) / ((1 << width) - 1));
    const inverse = d === 0 ? 0 : round(1 / d);
    putHalf(b, p, d);
    putHalf(b, p + 2, min);
    pack(b, p + 4, width, (j) => round(round(round(x[i + j] - min) * inverse) + 0.5));
  };

/** Truncates, clips and packs 32 quants: fifth bits first (width 5), then nibbles. */
function pack(b: Uint8Array, p: number, width: 4 | 5, quant: (j: number) => number): void {
  const highest = (1 << width) - 1;
  const nibbles = width === 5 ? p + 4 : p;
  for (let j = 0; j < 32; j++) {
    const q = Math.min(highest, Math.trunc(quant(j)));
    if (j < 16) b[nibbles + j] = q & 15;
    else b[nibbles + j - 16] |= (q & 15) << 4;
    if (width === 5) b[p + (j >> 3)] |= (q >> 4) << (j & 7);
  }
}

const encoders: Partial<Record<DType, BlockEncoder>> = {
  Q8_0: q8_0,
  Q4_0: symmetric(4),
  Q4_1: affine(4),
  Q5_0: symmetric(5),
  Q5_1: affine(5),
};

/**
 * `values` as bytes of `dtype`, ready for a file.
 * @param values rows of a multiple of the type's block (32), row-major.
 * @throws SglangError INVALID_ARGUMENT for a type without quantiser, a ragged length, or values whose scale overflows f16.
 */
export function quantize(dtype: QuantizableDType, values: Float32Array): Uint8Array<ArrayBuffer> {
  if (dtype === "F32") return new Uint8Array(values.slice().buffer);
  if (dtype === "F16" || dtype === "BF16") return encodeFloat16(values, dtype);
  const { block, bytes } = DTYPES[dtype];
  const encode = encoders[dtype];
  if (encode === undefined || values.length % block !== 0) {
    throw new SglangError(
      "INVALID_ARGUMENT",
      `${values.length} values can't be written as ${dtype}; it takes multiples of ${block}.`,
      {
        expected: `a multiple of ${block} values in ${Object.keys(encoders).join(", ")}`,
        found: `${values.length} values in ${dtype}`,
      },
    );
  }
  for (const value of values) if (!Number.isFinite(value)) throw tooLarge("value", value);
  const out = new Uint8Array((values.length / block) * bytes);
  for (let i = 0; i < values.length / block; i++) encode(values, i * block, out, i * bytes);
  return out;
}
