// Rows of activations as integers: the left operand of integer matrix products. The one place where their layout is
// written down.
//
// A row of K values is K codes, then one RowGroup per 32 values. value ~= scale * code, |code| <= 127 (s8) or 32767
// (s16), rounded to nearest even. A group that holds NaN or infinity has such a scale, so that every product with it
// is NaN or infinite too.
//   s8   codes in order of k
//   s16  within every four: k, k + 2, k + 1, k + 3, the order in which bytes of packed weights widen to pairs
//
// Rotated rows (rotation.h) have one scale for all of their values: lines of codes, padded with zeros to a multiple of 64,
// then a RowLine. rotated8 has one line, rotated16 a second one with what the first left of each value. A row's value is the
// sum of its lines' values.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rotation.h"

namespace sgl {

/// What the input of a matrix product is turned into before it meets the weights of a quantised format.
enum class Precision : int { f32, s16, s8, rotated8, rotated16 };

struct RowGroup {
  float scale;
  float sum;         // of its 32 codes
  int32_t start[3];  // what sums of products with all 32 codes, the first 16 and the last 16 start from; the tier's own (dot_*.inl)
};

struct RowLine {
  float scale;
  int32_t sum;  // of its codes
};

constexpr bool is_rotated(Precision p) { return p == Precision::rotated8 || p == Precision::rotated16; }
constexpr int line_count(Precision p) { return p == Precision::rotated16 ? 2 : 1; }
/// Bytes that hold `used`, an odd number of cache lines, so that rows do not fall into the same sets of L1.
constexpr size_t odd_lines(size_t used) { return ((used + 63) / 64 | 1) * 64; }
constexpr size_t line_stride(int columns) { return odd_lines((size_t)rotated_columns(columns) + sizeof(RowLine)); }
/// Offset of a line's RowLine.
constexpr size_t line_end(int columns) { return (size_t)rotated_columns(columns); }

constexpr size_t code_bytes(Precision p) { return p == Precision::s16 ? 2 : 1; }
/// Offset of the first RowGroup of a row. columns: a multiple of 32.
constexpr size_t groups_offset(Precision p, int columns) { return (size_t)columns * code_bytes(p); }
/// Bytes from row to row.
constexpr size_t row_stride(Precision p, int columns) {
  if (is_rotated(p)) return line_count(p) * line_stride(columns);
  return odd_lines(groups_offset(p, columns) + (size_t)(columns / 32) * sizeof(RowGroup));
}

/// Rows for one product: as integers, and as they were for blocks of float formats in the same matrix.
struct QuantisedRows {
  Precision precision;
  const uint8_t* data;  // row i at data + i * row_stride(precision, columns)
  const float* x;
  size_t x_stride;      // floats
};

}  // namespace sgl
