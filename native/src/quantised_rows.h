// Rows of activations as integers: the left operand of integer matrix products. The one place where their layout is
// written down.
//
// A row of K values is K codes, then one RowGroup per 32 values. value ~= scale * code, |code| <= 127 (s8) or 32767
// (s16), rounded to nearest even. A group that holds NaN or infinity has such a scale, so that every product with it
// is NaN or infinite too.
//   s8   codes in order of k
//   s16  within every four: k, k + 2, k + 1, k + 3, the order in which bytes of packed weights widen to pairs
#pragma once
#include <cstddef>
#include <cstdint>

namespace sgl {

/// What the input of a matrix product is turned into before it meets the weights of a quantised format.
enum class Precision : int { f32, s16, s8 };

struct RowGroup {
  float scale;
  float sum;         // of its 32 codes
  int32_t start[3];  // what sums of products with all 32 codes, the first 16 and the last 16 start from; the tier's own (dot_*.inl)
};

constexpr size_t code_bytes(Precision p) { return p == Precision::s16 ? 2 : 1; }
/// Offset of the first RowGroup of a row. columns: a multiple of 32.
constexpr size_t groups_offset(Precision p, int columns) { return (size_t)columns * code_bytes(p); }
/// Bytes from row to row. An odd number of cache lines, so that rows do not fall into the same sets of L1.
constexpr size_t row_stride(Precision p, int columns) {
  const size_t lines = (groups_offset(p, columns) + (size_t)(columns / 32) * sizeof(RowGroup) + 63) / 64;
  return (lines | 1) * 64;
}

/// Rows for one product: as integers, and as they were for blocks of float formats in the same matrix.
struct QuantisedRows {
  Precision precision;  // s16 or s8
  const uint8_t* data;  // row i at data + i * row_stride(precision, columns)
  const float* x;
  size_t x_stride;      // floats
};

}  // namespace sgl
