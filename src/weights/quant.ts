/**
 * Blocks of every supported type to exact f32: the truth that kernels are compared with.
 *
 * Each formula is ggml's (`dequantize_row_*` in ggml-quants.c) with every operation rounded to f32 and none fused.
 * In JavaScript `Math.fround(a * b)` is the f32 product: a product of two f32 is exact in f64, and rounding a sum of
 * two f32 twice gives the same f32 as rounding it once.
 *
 * In the layouts, `d`, `m`, `dmin` are halves; nibbles of 32-blocks are not interleaved: the low ones are the first
 * half of the block, the high ones the second.
 */
import { DTYPES, type DType } from "../core/dtype.js";
import { SglangError } from "../core/errors.js";
import { halfToFloat, halfToFloatBits } from "./float16.js";

const round = Math.fround;
const half = halfToFloat();

/** Decodes the block at byte `p` of `b` into `y` from element `o` on. */
type BlockDecoder = (b: Uint8Array, p: number, y: Float32Array, o: number) => void;

const halfAt = (b: Uint8Array, p: number): number => half[b[p] | (b[p + 1] << 8)];

/** d, qs[16]: d * (q - 8). */
const q4_0: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p);
  for (let j = 0; j < 16; j++) {
    const q = b[p + 2 + j];
    y[o + j] = d * ((q & 15) - 8);
    y[o + 16 + j] = d * ((q >> 4) - 8);
  }
};

/** d, m, qs[16]: d * q + m. */
const q4_1: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p);
  const m = halfAt(b, p + 2);
  for (let j = 0; j < 16; j++) {
    const q = b[p + 4 + j];
    y[o + j] = round(d * (q & 15)) + m;
    y[o + 16 + j] = round(d * (q >> 4)) + m;
  }
};

/** Bit `j` of the 32 high bits at `p`, as 0 or 16. */
const fifthBit = (b: Uint8Array, p: number, j: number): number => ((b[p + (j >> 3)] >> (j & 7)) & 1) << 4;

/** d, qh[4], qs[16]: d * (q - 16), bit 4 of q in qh. */
const q5_0: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p);
  for (let j = 0; j < 16; j++) {
    const q = b[p + 6 + j];
    y[o + j] = d * (((q & 15) | fifthBit(b, p + 2, j)) - 16);
    y[o + 16 + j] = d * (((q >> 4) | fifthBit(b, p + 2, j + 16)) - 16);
  }
};

/** d, m, qh[4], qs[16]: d * q + m. */
const q5_1: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p);
  const m = halfAt(b, p + 2);
  for (let j = 0; j < 16; j++) {
    const q = b[p + 8 + j];
    y[o + j] = round(d * ((q & 15) | fifthBit(b, p + 4, j))) + m;
    y[o + 16 + j] = round(d * ((q >> 4) | fifthBit(b, p + 4, j + 16))) + m;
  }
};

/** d, i8 qs[32]: d * q. */
const q8_0: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p);
  for (let j = 0; j < 32; j++) y[o + j] = d * ((b[p + 2 + j] << 24) >> 24);
};

/** scales[16], qs[64], d, dmin: per 16 values (d * low nibble) * q - (dmin * high nibble). */
const q2_k: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p + 80);
  const dmin = halfAt(b, p + 82);
  for (let group = 0; group < 16; group++) {
    const scale = b[p + group];
    const dl = round(d * (scale & 15));
    const ml = round(dmin * (scale >> 4));
    // Groups walk 32 bytes at a time: two groups of 16 bytes for each of the four shifts.
    const qs = p + 16 + (group >> 3) * 32 + (group & 1) * 16;
    const shift = ((group >> 1) & 3) * 2;
    for (let l = 0; l < 16; l++) y[o + group * 16 + l] = round(dl * ((b[qs + l] >> shift) & 3)) - ml;
  }
};

/** hmask[32], qs[64], scales[12], d: per 16 values (d * (scale - 32)) * (q - (high bit ? 0 : 4)). */
const q3_k: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p + 108);
  const scales = p + 96;
  for (let group = 0; group < 16; group++) {
    // 6-bit scales: low 4 bits in nibbles of bytes 0..7 (low nibbles first), high 2 bits in bytes 8..11.
    const low = (b[scales + (group & 7)] >> (group < 8 ? 0 : 4)) & 15;
    const high = (b[scales + 8 + (group & 3)] >> ((group >> 2) * 2)) & 3;
    const dl = round(d * ((low | (high << 4)) - 32));
    const column = (group & 1) * 16;
    const qs = p + 32 + (group >> 3) * 32 + column;
    const shift = ((group >> 1) & 3) * 2;
    const bit = group >> 1;
    for (let l = 0; l < 16; l++) {
      const q = (b[qs + l] >> shift) & 3;
      y[o + group * 16 + l] = dl * ((b[p + column + l] >> bit) & 1 ? q : q - 4);
    }
  }
};

/** The 6-bit scale of sub-block `j` of Q4_K and Q5_K; their 12 bytes begin at `s`. */
const scaleK = (b: Uint8Array, s: number, j: number): number =>
  j < 4 ? b[s + j] & 63 : (b[s + j + 4] & 15) | ((b[s + j - 4] >> 6) << 4);
/** The 6-bit minimum of sub-block `j`. */
const minK = (b: Uint8Array, s: number, j: number): number =>
  j < 4 ? b[s + j + 4] & 63 : (b[s + j + 4] >> 4) | ((b[s + j] >> 6) << 4);

/** d, dmin, scales[12], qs[128]: per 32 values (d * scale) * q - dmin * min. */
const q4_k: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p);
  const dmin = halfAt(b, p + 2);
  for (let sub = 0; sub < 8; sub++) {
    const dl = round(d * scaleK(b, p + 4, sub));
    const ml = round(dmin * minK(b, p + 4, sub));
    const qs = p + 16 + (sub >> 1) * 32;
    const shift = (sub & 1) * 4;
    for (let l = 0; l < 32; l++) y[o + sub * 32 + l] = round(dl * ((b[qs + l] >> shift) & 15)) - ml;
  }
};

/** d, dmin, scales[12], qh[32], qs[128]: as Q4_K with bit 4 of q of sub-block j in bit j of qh. */
const q5_k: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p);
  const dmin = halfAt(b, p + 2);
  for (let sub = 0; sub < 8; sub++) {
    const dl = round(d * scaleK(b, p + 4, sub));
    const ml = round(dmin * minK(b, p + 4, sub));
    const qs = p + 48 + (sub >> 1) * 32;
    const shift = (sub & 1) * 4;
    for (let l = 0; l < 32; l++) {
      const q = ((b[qs + l] >> shift) & 15) | (((b[p + 16 + l] >> sub) & 1) << 4);
      y[o + sub * 32 + l] = round(dl * q) - ml;
    }
  }
};

/** ql[128], qh[64], i8 scales[16], d: per 16 values (d * scale) * (q - 32). */
const q6_k: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p + 208);
  for (let group = 0; group < 16; group++) {
    const dl = round(d * ((b[p + 192 + group] << 24) >> 24));
    // A half of 128 values has 64 bytes of ql and 32 of qh; its quarters take (low, low, high, high) nibbles of ql.
    const quarter = (group >> 1) & 3;
    const column = (group & 1) * 16;
    const ql = p + (group >> 3) * 64 + (quarter & 1) * 32 + column;
    const qh = p + 128 + (group >> 3) * 32 + column;
    const nibble = (quarter >> 1) * 4;
    for (let l = 0; l < 16; l++) {
      const q = ((b[ql + l] >> nibble) & 15) | (((b[qh + l] >> (quarter * 2)) & 3) << 4);
      y[o + group * 16 + l] = dl * (q - 32);
    }
  }
};

const IQ4_VALUES = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/** d, qs[16]: d * table[q]. */
const iq4_nl: BlockDecoder = (b, p, y, o) => {
  const d = halfAt(b, p);
  for (let j = 0; j < 16; j++) {
    const q = b[p + 2 + j];
    y[o + j] = d * IQ4_VALUES[q & 15];
    y[o + 16 + j] = d * IQ4_VALUES[q >> 4];
  }
};

/** Single values are copied as bits, so that NaN payloads and signs survive. */
const bits = (y: Float32Array): Uint32Array => new Uint32Array(y.buffer, y.byteOffset, y.length);

function f32(b: Uint8Array, y: Float32Array): void {
  new Uint8Array(y.buffer, y.byteOffset, y.byteLength).set(b);
}
function f16(b: Uint8Array, y: Float32Array): void {
  const table = halfToFloatBits();
  const out = bits(y);
  for (let i = 0; i < out.length; i++) out[i] = table[b[2 * i] | (b[2 * i + 1] << 8)];
}
function bf16(b: Uint8Array, y: Float32Array): void {
  const out = bits(y);
  for (let i = 0; i < out.length; i++) out[i] = (b[2 * i] << 16) | (b[2 * i + 1] << 24);
}

const blocks = {
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q8_0: q8_0,
  Q2_K: q2_k,
  Q3_K: q3_k,
  Q4_K: q4_k,
  Q5_K: q5_k,
  Q6_K: q6_k,
  IQ4_NL: iq4_nl,
} satisfies Partial<Record<DType, BlockDecoder>>;
const singles = { F32: f32, F16: f16, BF16: bf16 } satisfies Partial<Record<DType, unknown>>;

/**
 * The f32 values of `bytes`, exactly.
 * @param bytes whole blocks of `dtype`, as in a file.
 * @param out receives the values; made when absent.
 * @returns [bytes / block bytes * block elements]
 * @throws SglangError MALFORMED_FILE when `bytes` is not a whole number of blocks or `out` has another length.
 */
export function dequantize(dtype: DType, bytes: Uint8Array, out?: Float32Array): Float32Array {
  const { block, bytes: blockBytes } = DTYPES[dtype];
  const count = bytes.length / blockBytes;
  if (!Number.isInteger(count) || (out !== undefined && out.length !== count * block)) {
    throw new SglangError(
      "MALFORMED_FILE",
      `${bytes.length} bytes of ${dtype} must be whole blocks of ${blockBytes} bytes${out ? ` for ${out.length} values` : ""}.`,
      { expected: `a multiple of ${blockBytes} bytes`, found: `${bytes.length} bytes` },
    );
  }
  const y = out ?? new Float32Array(count * block);
  if (dtype in singles) {
    singles[dtype as keyof typeof singles](bytes, y);
  } else {
    const decode = blocks[dtype as keyof typeof blocks];
    for (let i = 0; i < count; i++) decode(bytes, i * blockBytes, y, i * block);
  }
  return y;
}
