/**
 * Products of numerics "fast", step by step as every kernel tier computes them: rows of both sides rotated and rounded to
 * 8 bits with one scale each, an exact integer sum, and f32 steps that are rounded once. See native/src/rotation.h.
 */

/** The rotation takes blocks of the largest power of two that divides a row, at most this. */
const MOST_ROTATED = 256;
const f32 = Math.fround;

/** Codes of a row and the scale they share: value = scale * code. */
export interface RoundedRow {
  readonly codes: Int8Array;
  readonly scale: number;
}

export function rotationSize(columns: number): number {
  let size = 1;
  while (size < MOST_ROTATED && columns % (2 * size) === 0) size *= 2;
  return size;
}

/** Each block times a Hadamard matrix, in stages 1, 2, 4, ... of (a, b) to (a + b, a - b). */
function rotate(row: Float32Array): Float32Array {
  const out = row.slice();
  const size = rotationSize(row.length);
  for (let h = 1; h < size; h *= 2)
    for (let i = 0; i < out.length; i++) {
      if ((i & h) !== 0) continue;
      const [a, b] = [out[i], out[i + h]];
      out[i] = a + b;
      out[i + h] = a - b;
    }
  return out;
}

const largestOf = (row: Float32Array) => row.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

/** One row of weights. Its scale takes the square of the rotation's length back. */
export function roundWeights(row: Float32Array): RoundedRow {
  const rotated = rotate(row);
  const largest = largestOf(rotated);
  const inverse = largest < 1e-30 ? 0 : f32(127 / largest);
  return {
    codes: Int8Array.from(rotated, (x) => nearestEven(f32(x * inverse))),
    scale: f32(largest / 127) / rotationSize(row.length),
  };
}

/** One row of activations: its value is the sum of its lines' values. The second line is what the first left. */
export function roundActivations(row: Float32Array, lines: 1 | 2): RoundedRow[] {
  const rotated = rotate(row);
  const largest = largestOf(rotated);
  const inverse = largest < 1e-30 ? 0 : f32(127 / largest);
  const scale = largest < 1e-30 ? 0 : f32(largest / 127);
  const steps = rotated.map((x) => x * inverse);
  const first = { codes: Int8Array.from(steps, nearestEven), scale };
  if (lines === 1) return [first];
  const rest = steps.map((x) => (x - nearestEven(x)) * 254);
  return [first, { codes: Int8Array.from(rest, nearestEven), scale: f32(scale / 254) }];
}

/** The value of one output before its bias. */
export function rotatedProduct(lines: readonly RoundedRow[], weights: RoundedRow): number {
  const values = lines.map(({ codes, scale }) => {
    let sum = 0;
    for (let k = 0; k < codes.length; k++) sum += codes[k] * weights.codes[k];
    return f32(f32(f32(sum) * weights.scale) * scale);
  });
  return values.reduce((a, b) => f32(a + b));
}

/** To the nearest integer, halves to the even one. */
function nearestEven(x: number): number {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}
