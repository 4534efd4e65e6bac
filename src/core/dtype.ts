/**
 * Element types of tensors as they lie in files: elements per block and bytes per block.
 * The numeric ids of the quantised types are ggml's (`ggml_type`); F32, F16 and BF16 share them.
 */

export const DTYPES = {
  F32: { ggml: 0, block: 1, bytes: 4 },
  F16: { ggml: 1, block: 1, bytes: 2 },
  Q4_0: { ggml: 2, block: 32, bytes: 18 },
  Q4_1: { ggml: 3, block: 32, bytes: 20 },
  Q5_0: { ggml: 6, block: 32, bytes: 22 },
  Q5_1: { ggml: 7, block: 32, bytes: 24 },
  Q8_0: { ggml: 8, block: 32, bytes: 34 },
  Q2_K: { ggml: 10, block: 256, bytes: 84 },
  Q3_K: { ggml: 11, block: 256, bytes: 110 },
  Q4_K: { ggml: 12, block: 256, bytes: 144 },
  Q5_K: { ggml: 13, block: 256, bytes: 176 },
  Q6_K: { ggml: 14, block: 256, bytes: 210 },
  IQ4_NL: { ggml: 20, block: 32, bytes: 18 },
  BF16: { ggml: 30, block: 1, bytes: 2 },
} as const satisfies Record<string, { ggml: number; block: number; bytes: number }>;

export type DType = keyof typeof DTYPES;

/** Bytes of one contiguous row of `columns` elements. `columns` must be a multiple of the type's block. */
export function rowBytes(dtype: DType, columns: number): number {
  const { block, bytes } = DTYPES[dtype];
  return (columns / block) * bytes;
}

/** The type with ggml id `id`, or undefined if this package does not read it. */
export function dtypeFromGgml(id: number): DType | undefined {
  for (const [name, info] of Object.entries(DTYPES)) if (info.ggml === id) return name as DType;
  return undefined;
}
