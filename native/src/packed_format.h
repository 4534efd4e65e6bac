// Byte layout of packed blocks: 32 output channels x all of K. The one place where these offsets are written down.
//
// Quantised formats are cut into steps of 64 k; a last half step (32 k) is stored as a whole one, its second half zero.
// A step holds two tiles of 16 channels. Within a tile, "row r" is k = 4r..4r+3 of a half step: 64 bytes
// [16 channels][4 k], the operand order of VNNI and of AMX int8 tiles.
//   codes   4-bit: [tile][row 0..7][64 bytes], low nibble = first 32 k, high nibble = second 32 k  (1024 bytes)
//           8-bit: [tile][row 0..15][64 bytes]                                                     (2048 bytes)
//   high    fifth bits: [tile][half][16 channels] u32, bit 8 * (k & 3) + r                         (256 bytes)
//           fifth and sixth: [tile][half][r / 4][16 channels] u32, bits 8 * (k & 3) + 2 * (r & 3)  (512 bytes)
//   scales  see Scale
// Formats with blocks of 256 group four steps into a unit that starts with the f16 scales of its 32 channels.
// Every weight is a * code + b in f32, exactly what dequantize_row gives.
//
// Float formats are [k][32 channels] of the file's own element.
//
// Rotated8 is our own: rows are rotated (rotation.h) and rounded to 8 bits with one scale per channel. A block begins with the f32
// scales of its 32 channels; then come the steps, 8-bit codes around 128 and nothing else. Columns are padded to a multiple of 64
// with the code of 0.
#pragma once
#include <cstddef>
#include <cstdint>

#include "pack.h"
#include "rotation.h"

namespace sgl {

/// One format for every file type, whose values are ggml's, and Rotated8.
using PackedFormat = GgmlType;

enum class Scale {
  D,     // [half][32] f16 d:                          a = d, b = -zero * d
  DM,    // [half][32 f16 d, 32 f16 m]:                a = d, b = m
  K45,   // [half][32 u8 scale, 32 u8 min]; unit 32 f16 d, 32 f16 dmin:  a = d * scale, b = -(dmin * min)
  K36,   // [half][2 groups of 16 k][32] s8 scale; unit 32 f16 d:        a = d * scale, b = -zero * a
  K2,    // [half][2][32] u8, scale low, min high nibble; unit 32 f16 d, 32 f16 dmin
  None,  // float formats; Rotated8, whose offsets are rotated_step's
};

struct PackedLayout {
  bool quantised;
  int code_bits;     // 4 or 8; float formats: bytes per element * 8
  int high_bits;     // 0, 1 or 2 bits above the nibble
  int zero;          // code of the weight 0 (Scale::D and K36)
  Scale scale;
  int unit_steps;    // steps per unit: 1 or 4
  int head_bytes;    // before a unit's first step

  constexpr int code_bytes() const { return code_bits == 8 ? 2048 : 1024; }
  constexpr int scale_offset() const { return code_bytes() + 256 * high_bits; }
  constexpr int scale_bytes() const { return scale == Scale::DM ? 256 : 128; }
  constexpr int step_bytes() const { return scale_offset() + scale_bytes(); }
  constexpr int unit_bytes() const { return head_bytes + unit_steps * step_bytes(); }
  /// Sub-groups of a half step that have scales of their own.
  constexpr int groups() const { return scale == Scale::K36 || scale == Scale::K2 ? 2 : 1; }
  constexpr size_t block_bytes(int columns) const {
    if (!quantised) return (size_t)columns * 32 * (code_bits / 8);
    const int steps = (columns + 63) / 64, units = (steps + unit_steps - 1) / unit_steps;
    return (size_t)units * head_bytes + (size_t)steps * step_bytes();
  }
  /// Start of the unit that holds step s, relative to the block; step_offset gives the step itself.
  constexpr size_t unit_offset(int s) const { return (size_t)(s / unit_steps) * unit_bytes(); }
  constexpr size_t step_offset(int s) const {
    return unit_offset(s) + head_bytes + (size_t)(s % unit_steps) * step_bytes();
  }
};

constexpr PackedLayout packed_layout(PackedFormat f) {
  switch (f) {
    case PackedFormat::Q4_0: return {true, 4, 0, 8, Scale::D, 1, 0};
    case PackedFormat::IQ4_NL: return {true, 4, 0, 128, Scale::D, 1, 0};  // codes go through a table to value + 128
    case PackedFormat::Q4_1: return {true, 4, 0, 0, Scale::DM, 1, 0};
    case PackedFormat::Q5_0: return {true, 4, 1, 16, Scale::D, 1, 0};
    case PackedFormat::Q5_1: return {true, 4, 1, 0, Scale::DM, 1, 0};
    case PackedFormat::Q8_0: return {true, 8, 0, 128, Scale::D, 1, 0};
    case PackedFormat::Q2_K: return {true, 4, 0, 0, Scale::K2, 4, 128};
    case PackedFormat::Q3_K: return {true, 4, 0, 4, Scale::K36, 4, 64};
    case PackedFormat::Q4_K: return {true, 4, 0, 0, Scale::K45, 4, 128};
    case PackedFormat::Q5_K: return {true, 4, 1, 0, Scale::K45, 4, 128};
    case PackedFormat::Q6_K: return {true, 4, 2, 32, Scale::K36, 4, 64};
    case PackedFormat::Rotated8: return {true, 8, 0, 128, Scale::None, 1, 0};
    case PackedFormat::F32: return {false, 32, 0, 0, Scale::None, 1, 0};
    case PackedFormat::F16:
    case PackedFormat::BF16: return {false, 16, 0, 0, Scale::None, 1, 0};
  }
  return {false, 0, 0, 0, Scale::None, 1, 0};
}

/// Offset of step s of a Rotated8 block, and its end after the last.
constexpr size_t rotated_step(int s) { return 128 + (size_t)s * 2048; }
/// Apart from PackedLayout: g++ 12 makes slower code of other formats when its functions have one more case.
constexpr size_t block_bytes(PackedFormat f, int columns) {
  return f == PackedFormat::Rotated8 ? rotated_step(rotated_columns(columns) / 64) : packed_layout(f).block_bytes(columns);
}

}  // namespace sgl
