// Activations to integers on NEON: see quantised_rows.h.

/// Largest magnitude of 32 values by its bits, so that NaN beats infinity beats every number.
SGL_INLINE float largest32(const float* x) {
  const uint32x4_t mask = vdupq_n_u32(0x7fffffff);
  uint32x4_t best = vdupq_n_u32(0);
#pragma GCC unroll 8
  for (int i = 0; i < 32; i += 4) best = vmaxq_u32(best, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), mask));
  return bits_to_f32(vmaxvq_u32(best));
}
/// Eight values to integers, to nearest even.
SGL_INLINE int16x8_t scaled8(const float* x, float inverse) {
  const int32x4_t lo = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse)), hi = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), inverse));
  return vcombine_s16(vqmovn_s32(lo), vqmovn_s32(hi));
}
/// -(sum of even lanes) and -(sum of odd lanes) as two s16.
SGL_INLINE int32_t negated_pairs(int16x8_t v) {
  int16x4_t sum = vadd_s16(vget_low_s16(v), vget_high_s16(v));
  sum = vneg_s16(vadd_s16(sum, vext_s16(sum, sum, 2)));
  return vget_lane_s32(vreinterpret_s32_s16(sum), 0);
}

SGL_INLINE void codes8(const float* x, float inverse, uint8_t* codes, RowGroup& group) {
  const int8x16_t first = vcombine_s8(vqmovn_s16(scaled8(x, inverse)), vqmovn_s16(scaled8(x + 8, inverse)));
  const int8x16_t second = vcombine_s8(vqmovn_s16(scaled8(x + 16, inverse)), vqmovn_s16(scaled8(x + 24, inverse)));
  vst1q_u8(codes, vreinterpretq_u8_s8(first));
  vst1q_u8(codes + 16, vreinterpretq_u8_s8(second));
  const int16x8_t a = vpaddlq_s8(first), b = vpaddlq_s8(second);
  group.start[0] = negated_pairs(vaddq_s16(a, b));
  group.start[1] = negated_pairs(a);
  group.start[2] = negated_pairs(b);
  group.sum = (float)-negated_sum<Precision::s8>(group, 0);
}

SGL_INLINE void codes16(const float* x, float inverse, uint8_t* codes, RowGroup& group) {
  static const uint8_t kOrder[16] = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};  // the middle two of every four words change places
  const uint8x16_t order = vld1q_u8(kOrder);
  int32_t sums[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; i++) {
    const int16x8_t lo = scaled8(x + 16 * i, inverse), hi = scaled8(x + 16 * i + 8, inverse);
    vst1q_u8(codes + 32 * i, vqtbl1q_u8(vreinterpretq_u8_s16(lo), order));
    vst1q_u8(codes + 32 * i + 16, vqtbl1q_u8(vreinterpretq_u8_s16(hi), order));
    sums[i] = vaddvq_s32(vpadalq_s16(vpaddlq_s16(lo), hi));
  }
  group.start[0] = -(sums[0] + sums[1]);
  group.start[1] = -sums[0];
  group.start[2] = -sums[1];
  group.sum = (float)(sums[0] + sums[1]);
}
