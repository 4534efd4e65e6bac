// What a weight is: exact dequantisation of every block format, by ggml's formulas in f32.
#include "quant.h"

namespace sgl {

BlockShape block_shape(GgmlType type) {
  switch (type) {
    case GgmlType::F32: return {1, 4};
    case GgmlType::F16:
    case GgmlType::BF16: return {1, 2};
    case GgmlType::Q4_0:
    case GgmlType::IQ4_NL: return {32, 18};
    case GgmlType::Q4_1: return {32, 20};
    case GgmlType::Q5_0: return {32, 22};
    case GgmlType::Q5_1: return {32, 24};
    case GgmlType::Q8_0: return {32, 34};
    case GgmlType::Q2_K: return {256, 84};
    case GgmlType::Q3_K: return {256, 110};
    case GgmlType::Q4_K: return {256, 144};
    case GgmlType::Q5_K: return {256, 176};
    case GgmlType::Q6_K: return {256, 210};
    case GgmlType::Rotated8: break;  // no file has it
  }
  return {0, 0};
}

size_t row_bytes(GgmlType type, int columns) {
  const BlockShape shape = block_shape(type);
  if (shape.elements == 0 || columns <= 0 || columns % shape.elements != 0) return 0;
  return (size_t)(columns / shape.elements) * shape.bytes;
}

namespace {

void nibbles32(const uint8_t* qs, uint8_t* out) {
  for (int j = 0; j < 16; j++) {
    out[j] = qs[j] & 15;
    out[j + 16] = qs[j] >> 4;
  }
}

void fifth_bits32(const uint8_t* qh, uint8_t* out) {
  uint32_t bits;
  memcpy(&bits, qh, 4);
  for (int j = 0; j < 32; j++) out[j] |= (uint8_t)(((bits >> j) & 1) << 4);
}

// Q4_K and Q5_K: every 32 bytes hold 32 low nibbles, then 32 high nibbles.
void nibbles256(const uint8_t* qs, uint8_t* out) {
  for (int g = 0; g < 4; g++)
    for (int l = 0; l < 32; l++) {
      out[g * 64 + l] = qs[g * 32 + l] & 15;
      out[g * 64 + 32 + l] = qs[g * 32 + l] >> 4;
    }
}

}  // namespace

void block_codes(GgmlType type, const uint8_t* b, uint8_t* out) {
  switch (type) {
    case GgmlType::Q4_0:
    case GgmlType::IQ4_NL: return nibbles32(b + 2, out);
    case GgmlType::Q4_1: return nibbles32(b + 4, out);
    case GgmlType::Q5_0:
      nibbles32(b + 6, out);
      return fifth_bits32(b + 2, out);
    case GgmlType::Q5_1:
      nibbles32(b + 8, out);
      return fifth_bits32(b + 4, out);
    case GgmlType::Q8_0:
      for (int j = 0; j < 32; j++) out[j] = b[2 + j] ^ 0x80;
      return;
    case GgmlType::Q2_K: {  // scales[16], qs[64], d, dmin
      const uint8_t* qs = b + 16;
      for (int n = 0; n < 2; n++)
        for (int j = 0; j < 4; j++)
          for (int l = 0; l < 32; l++) out[n * 128 + j * 32 + l] = (qs[n * 32 + l] >> (2 * j)) & 3;
      return;
    }
    case GgmlType::Q3_K: {  // hmask[32], qs[64], scales[12], d
      const uint8_t* qs = b + 32;
      for (int n = 0; n < 2; n++)
        for (int j = 0; j < 4; j++)
          for (int l = 0; l < 32; l++)
            out[n * 128 + j * 32 + l] =
                (uint8_t)(((qs[n * 32 + l] >> (2 * j)) & 3) | ((b[l] >> (n * 4 + j)) & 1) << 2);
      return;
    }
    case GgmlType::Q4_K: return nibbles256(b + 16, out);  // d, dmin, scales[12], qs[128]
    case GgmlType::Q5_K: {                                // d, dmin, scales[12], qh[32], qs[128]
      nibbles256(b + 48, out);
      for (int g = 0; g < 8; g++)
        for (int l = 0; l < 32; l++) out[g * 32 + l] |= (uint8_t)(((b[16 + l] >> g) & 1) << 4);
      return;
    }
    case GgmlType::Q6_K: {  // ql[128], qh[64], scales[16], d
      for (int n = 0; n < 2; n++) {
        const uint8_t *ql = b + n * 64, *qh = b + 128 + n * 32;
        uint8_t* o = out + n * 128;
        for (int l = 0; l < 32; l++) {
          o[l] = (uint8_t)((ql[l] & 15) | (qh[l] & 3) << 4);
          o[l + 32] = (uint8_t)((ql[l + 32] & 15) | ((qh[l] >> 2) & 3) << 4);
          o[l + 64] = (uint8_t)((ql[l] >> 4) | ((qh[l] >> 4) & 3) << 4);
          o[l + 96] = (uint8_t)((ql[l + 32] >> 4) | (qh[l] >> 6) << 4);
        }
      }
      return;
    }
    case GgmlType::F32:
    case GgmlType::F16:
    case GgmlType::BF16:
    case GgmlType::Rotated8: return;
  }
}

void dequantize_row(GgmlType type, const uint8_t* src, float* dst, int columns) {
  if (type == GgmlType::F32) {
    memcpy(dst, src, (size_t)columns * 4);
    return;
  }
  if (type == GgmlType::F16 || type == GgmlType::BF16) {
    for (int k = 0; k < columns; k++) {
      const uint16_t h = read_u16(src + (size_t)k * 2);
      dst[k] = type == GgmlType::F16 ? f16_to_f32(h) : bf16_to_f32(h);
    }
    return;
  }
  const BlockShape shape = block_shape(type);
  uint8_t q[256];
  for (int k = 0; k + shape.elements <= columns; k += shape.elements, src += shape.bytes) {
    float* y = dst + k;
    block_codes(type, src, q);
    switch (type) {
      // Products of an 11-bit half, a small scale and a small code are exact in f32; only adding a minimum rounds.
      case GgmlType::Q4_0:
      case GgmlType::Q5_0:
      case GgmlType::Q8_0: {
        const float d = read_f16(src);
        const int zero = type == GgmlType::Q4_0 ? 8 : type == GgmlType::Q5_0 ? 16 : 128;
        for (int j = 0; j < 32; j++) y[j] = d * (float)(q[j] - zero);
        break;
      }
      case GgmlType::IQ4_NL: {
        const float d = read_f16(src);
        for (int j = 0; j < 32; j++) y[j] = d * (float)kIq4Values[q[j]];
        break;
      }
      case GgmlType::Q4_1:
      case GgmlType::Q5_1: {
        const float d = read_f16(src), m = read_f16(src + 2);
        for (int j = 0; j < 32; j++) y[j] = d * (float)q[j] + m;
        break;
      }
      case GgmlType::Q4_K:
      case GgmlType::Q5_K: {
        const float d = read_f16(src), dmin = read_f16(src + 2);
        uint8_t scale[8], minimum[8];
        k_scales(src + 4, scale, minimum);
        for (int j = 0; j < 256; j++) y[j] = d * (float)scale[j / 32] * (float)q[j] - dmin * (float)minimum[j / 32];
        break;
      }
      case GgmlType::Q2_K: {
        const float d = read_f16(src + 80), dmin = read_f16(src + 82);
        for (int j = 0; j < 256; j++)
          y[j] = d * (float)(src[j / 16] & 15) * (float)q[j] - dmin * (float)(src[j / 16] >> 4);
        break;
      }
      case GgmlType::Q3_K: {
        const float d = read_f16(src + 108);
        int8_t scale[16];
        q3_scales(src + 96, scale);
        for (int j = 0; j < 256; j++) y[j] = d * (float)scale[j / 16] * (float)((int)q[j] - 4);
        break;
      }
      case GgmlType::Q6_K: {
        const float d = read_f16(src + 208);
        for (int j = 0; j < 256; j++) y[j] = d * (float)(int8_t)src[192 + j / 16] * (float)((int)q[j] - 32);
        break;
      }
      default: break;
    }
  }
}

}  // namespace sgl
