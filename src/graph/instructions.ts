/**
 * The words of a plan: what `graph/lower` writes and `native/src/plan.cc` reads. Keep the two in step.
 *
 * An instruction is 16 int32 words: the opcode, then its arguments. Buffers and weights are indices into the plan's
 * tables; -1 = none; floats are stored as their IEEE-754 bits. All values are f32, row-major, one row per token or row.
 */
export const INSTRUCTION_WORDS = 16;
export const BUFFER_WORDS = 5;

export const Opcode = {
  /** out[t] = table[token[t]] * scale.  [out, table w, scale f] */
  Embed: 0,
  /** Per row and group of width columns/groups: out = x * rsqrt(mean(x^2) + eps) * weight.  [out, in, weight w, eps f, groups] (in place allowed) */
  RmsNorm: 1,
  /** out = a + b.  [out, a, b] (out may be a) */
  Add: 2,
  /** sum = a + b; out = rmsNorm(sum).  [sum, out, a, b, weight w, eps f] (sum may be a) */
  AddRmsNorm: 3,
  /** out = in W^T (+ bias).  [out, in, matrix w, bias w or -1] */
  Linear: 4,
  /** Rotates pairs (i, i + n) of each head by position * freq[i], n = length of freq; NEOX order; other columns copied. cos and sin times mscale.  [inout, freq w, heads, headDim, mscale f] */
  Rope: 5,
  /** Writes this step's keys and values into the pages.  [k, v, layer] */
  KvWrite: 6,
  /** out = attention of q over the pages. GQA: head h reads kv head h / (heads / kvHeads).  [out, q, layer, heads, kvHeads, headDim, scale f, window (0 = none), causal (1)] */
  Attention: 7,
  /** out[i] = act(x[i]) * x[n + i], n = columns of out.  [out, in, activation] */
  GatedAct: 8,
  /** out[row] = in[rowToken[row]].  [out rows, in tokens] */
  TakeRows: 9,
  /** out[i] = act(y[i]) * y[n + i], y = in W^T (+ bias), n = columns of out.  [out, in, matrix w of two parts of n rows, bias w or -1, activation] */
  GatedLinear: 10,
  /** Linear to the plan's logits, last in the head; rows of which sampling needs only the best ids are not written.  [out, in, matrix w, bias w or -1] */
  Logits: 11,
} as const;
export type Opcode = (typeof Opcode)[keyof typeof Opcode];

export const Activation = { Silu: 0, GeluTanh: 1, GeluErf: 2 } as const;
export type Activation = (typeof Activation)[keyof typeof Activation];

const word = new DataView(new ArrayBuffer(4));
/** The int32 whose bits are the f32 `x`. */
export function floatWord(x: number): number {
  word.setFloat32(0, x, true);
  return word.getInt32(0, true);
}
