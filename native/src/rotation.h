// The rotation that comes before weights and activations are rounded to 8 bits (numerics fast).
//
// Rows of K values are cut into blocks of the largest power of two that divides K, at most 256, and each block is multiplied
// by the Hadamard matrix H of that size: H H' = size * 1, so (H x) (H w) / size = x w. An outlier is spread over its block,
// and one scale suits a whole row. The division is exact: the size is a power of two, and it goes into the weights' scales.
//
// One sequence of additions in all code: stages 1, 2, 4, ... of (a, b) -> (a + b, a - b).
#pragma once

namespace sgl {

constexpr int kMostRotated = 256;
/// Sums of products of 8-bit codes over this many columns stay in 32 bits.
constexpr int kRotatedColumns = 131072;

constexpr int rotation_size(int columns) {
  int size = 1;
  while (size < kMostRotated && columns % (2 * size) == 0) size *= 2;
  return size;
}

/// Columns with the zeros that fill the last step of 64.
constexpr int rotated_columns(int columns) { return (columns + 63) / 64 * 64; }

/// Plain code, for packing and for blocks smaller than a vector.
inline void rotate_block(float* x, int size) {
  for (int h = 1; h < size; h *= 2)
    for (int i = 0; i < size; i += 2 * h)
      for (int j = i; j < i + h; j++) {
        const float a = x[j], b = x[j + h];
        x[j] = a + b;
        x[j + h] = a - b;
      }
}

}  // namespace sgl
