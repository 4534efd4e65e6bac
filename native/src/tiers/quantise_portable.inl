// Activations to integers in plain C++: see quantised_rows.h.

/// Largest magnitude of 32 values by its bits, so that NaN beats infinity beats every number.
SGL_INLINE float largest32(const float* x) {
  uint32_t best = 0;
  for (int i = 0; i < 32; i++) {
    const uint32_t bits = f32_to_bits(x[i]) & 0x7fffffff;
    best = bits > best ? bits : best;
  }
  return bits_to_f32(best);
}
/// To nearest even; |x| < 2^22. Whatever NaN becomes, its group's scale is NaN.
SGL_INLINE int32_t rounded(float x) {
  const float shifted = x + 12582912.0f;
  return (int32_t)(f32_to_bits(shifted) - f32_to_bits(12582912.0f));
}

/// The sums of a group's first and last 16 codes.
SGL_INLINE void set_sums(RowGroup& group, int32_t first, int32_t last) {
  group.sum = (float)(first + last);
  group.start[0] = -(first + last);
  group.start[1] = -first;
  group.start[2] = -last;
}

SGL_INLINE void codes8(const float* x, float inverse, uint8_t* codes, RowGroup& group) {
  int32_t sum[2] = {0, 0};
  for (int i = 0; i < 32; i++) {
    const int8_t q = (int8_t)rounded(x[i] * inverse);
    codes[i] = (uint8_t)q;
    sum[i / 16] += q;
  }
  set_sums(group, sum[0], sum[1]);
}

SGL_INLINE void codes16(const float* x, float inverse, uint8_t* codes, RowGroup& group) {
  int32_t sum[2] = {0, 0};
  for (int i = 0; i < 32; i++) {
    const int16_t q = (int16_t)rounded(x[i] * inverse);
    const int at = (i & ~3) + (i % 4 == 1 ? 2 : i % 4 == 2 ? 1 : i % 4);
    memcpy(codes + 2 * at, &q, 2);
    sum[i / 16] += q;
  }
  set_sums(group, sum[0], sum[1]);
}
