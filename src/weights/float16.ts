/** Conversions between f32 and the two 16-bit float formats, bit for bit as ggml and PyTorch do them. */

const word = new Uint32Array(1);
const single = new Float32Array(word.buffer);

/** f32 values of all 65536 halves; as bits, so that NaN payloads survive. */
let halfTable: Uint32Array<ArrayBuffer> | undefined;

function halfBits(h: number): number {
  const sign = (h & 0x8000) << 16;
  const exponent = (h >> 10) & 0x1f;
  const mantissa = h & 0x3ff;
  if (exponent === 31) return (sign | 0x7f800000 | (mantissa << 13)) >>> 0;
  if (exponent !== 0) return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0;
  single[0] = mantissa * 2 ** -24;
  return (word[0] | sign) >>> 0;
}

/** Table from half bits to f32 bits, 256 KiB, built once. */
export function halfToFloatBits(): Uint32Array<ArrayBuffer> {
  halfTable ??= Uint32Array.from({ length: 65536 }, (_, h) => halfBits(h));
  return halfTable;
}

/** Table from half bits to values; shares its memory with {@link halfToFloatBits}. */
export function halfToFloat(): Float32Array<ArrayBuffer> {
  return new Float32Array(halfToFloatBits().buffer);
}

/** Half bits nearest to `x`, ties to even; beyond 65504 infinity; NaN stays NaN. */
export function floatToHalf(x: number): number {
  single[0] = x;
  const bits = word[0];
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >> 13) & 0x3ff);
  if (magnitude >= 0x47800000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal half: the mantissa counts units of 2^-24. The product is exact, so one rounding, to even.
    const units = Math.abs(single[0]) * 2 ** 24;
    const floor = Math.floor(units);
    const rest = units - floor;
    return sign | (floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0));
  }
  // Rebias, round to even; a carry out of the mantissa lands in the exponent, as it should.
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
}

/** bfloat16 bits nearest to `x`, ties to even; NaN becomes a quiet NaN (as ggml's `fp32_to_bf16`). */
export function floatToBfloat16(x: number): number {
  single[0] = x;
  const bits = word[0];
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 64;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

/** `values` as little-endian 16-bit floats. */
export function encodeFloat16(values: Float32Array, dtype: "F16" | "BF16"): Uint8Array<ArrayBuffer> {
  const convert = dtype === "F16" ? floatToHalf : floatToBfloat16;
  const out = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) out[i] = convert(values[i]);
  return new Uint8Array(out.buffer);
}
