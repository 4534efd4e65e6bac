// Number formats of weight files: half and bfloat conversions in plain code, and where the parts of a ggml block lie.
#pragma once
#include <cstdint>
#include <cstring>

#include "pack.h"

namespace sgl {

inline float bits_to_f32(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
inline uint32_t f32_to_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

inline float bf16_to_f32(uint16_t h) { return bits_to_f32((uint32_t)h << 16); }

/// Exact; subnormals, infinities and NaN included.
inline float f16_to_f32(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
  if (exponent == 31) return bits_to_f32(sign | 0x7f800000 | mantissa << 13);
  if (exponent != 0) return bits_to_f32(sign | (exponent + 112) << 23 | mantissa << 13);
  const float tiny = (float)mantissa * 0x1p-24f;  // exact: 10 bits
  return sign ? -tiny : tiny;
}

/// Rounds to nearest even, as the hardware does; too large becomes infinity, NaN stays NaN.
inline uint16_t f32_to_f16(float f) {
  const uint32_t u = f32_to_bits(f), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | ((magnitude >> 13) & 0x1ff));
  if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00);
  if (magnitude < 0x38800000) {  // subnormal half: let the float adder round at 2^-24
    const float shifted = bits_to_f32(magnitude) + 0.5f;
    return (uint16_t)(sign | (f32_to_bits(shifted) - f32_to_bits(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return (uint16_t)(sign | ((rounded - (112u << 23)) >> 13));
}

inline uint16_t read_u16(const uint8_t* p) {
  uint16_t v;
  memcpy(&v, p, 2);
  return v;
}
inline float read_f16(const uint8_t* p) { return f16_to_f32(read_u16(p)); }

/// Values of the 16 codes of IQ4_NL.
constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// The eight 6-bit scales and minima of a Q4_K or Q5_K block, from its 12 packed bytes.
inline void k_scales(const uint8_t* q, uint8_t* scale, uint8_t* minimum) {
  for (int j = 0; j < 4; j++) {
    scale[j] = q[j] & 63;
    minimum[j] = q[j + 4] & 63;
    scale[j + 4] = (uint8_t)((q[j + 8] & 15) | (q[j] >> 6) << 4);
    minimum[j + 4] = (uint8_t)((q[j + 8] >> 4) | (q[j + 4] >> 6) << 4);
  }
}

/// The sixteen scales (less 32) of a Q3_K block, from its 12 packed bytes.
inline void q3_scales(const uint8_t* q, int8_t* scale) {
  for (int j = 0; j < 16; j++) {
    const int low = j < 8 ? q[j] & 15 : q[j - 8] >> 4, high = (q[8 + j % 4] >> (j / 4 * 2)) & 3;
    scale[j] = (int8_t)((low | high << 4) - 32);
  }
}

struct BlockShape {
  int elements;  // 0: unknown type
  int bytes;
};
BlockShape block_shape(GgmlType type);

/// The integer codes of one block in element order, as unsigned bytes: IQ4_NL codes are table indices, signed types
/// are shifted up (Q8_0 by 128, Q6_K by 32, Q3_K by 4, Q5_0 by 16, Q4_0 by 8). `out` holds `block_shape().elements`.
void block_codes(GgmlType type, const uint8_t* block, uint8_t* out);

}  // namespace sgl
