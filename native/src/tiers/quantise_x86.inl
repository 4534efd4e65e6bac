// Activations to integers on AVX2; every x86 tier above it uses these two. See quantised_rows.h.

/// Largest magnitude of 32 values by its bits, so that NaN beats infinity beats every number.
SGL_INLINE float largest32(const float* x) {
  const __m256i mask = _mm256_set1_epi32(0x7fffffff);
  __m256i best = _mm256_and_si256(_mm256_loadu_si256((const __m256i*)x), mask);
#pragma GCC unroll 3
  for (int i = 8; i < 32; i += 8) best = _mm256_max_epi32(best, _mm256_and_si256(_mm256_loadu_si256((const __m256i*)(x + i)), mask));
  __m128i most = _mm_max_epi32(_mm256_castsi256_si128(best), _mm256_extracti128_si256(best, 1));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epi32(most, _mm_shuffle_epi32(most, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(most));
}
SGL_INLINE __m256i scaled8(const float* x, float inverse) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), _mm256_set1_ps(inverse)));
}
/// The four dwords of a register added as pairs of s16.
SGL_INLINE int32_t add_pairs(__m128i v) {
  v = _mm_add_epi16(v, _mm_shuffle_epi32(v, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi16(v, _mm_shuffle_epi32(v, 0xb1)));
}
SGL_INLINE int32_t add_dwords(__m256i v) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

SGL_INLINE void codes8(const float* x, float inverse, uint8_t* codes, RowGroup& group) {
  const __m256i a = _mm256_packs_epi32(scaled8(x, inverse), scaled8(x + 8, inverse));
  const __m256i b = _mm256_packs_epi32(scaled8(x + 16, inverse), scaled8(x + 24, inverse));
  const __m256i mixed = _mm256_packs_epi16(a, b);  // dwords 0 2 4 6 | 1 3 5 7
  const __m256i q = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256((__m256i*)codes, q);
  const __m256i pairs = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_maddubs_epi16(_mm256_set1_epi8(1), q));
  const __m128i first = _mm256_castsi256_si128(pairs);
  group.first = add_pairs(first);
  group.negated = add_pairs(_mm_add_epi16(first, _mm256_extracti128_si256(pairs, 1)));
  group.sum = -(float)((int16_t)group.negated + (group.negated >> 16));
}

SGL_INLINE void codes16(const float* x, float inverse, uint8_t* codes, RowGroup& group) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i a0 = scaled8(x, inverse), a1 = scaled8(x + 8, inverse), b0 = scaled8(x + 16, inverse), b1 = scaled8(x + 24, inverse);
  const __m256i first = _mm256_add_epi32(a0, a1), all = _mm256_add_epi32(first, _mm256_add_epi32(b0, b1));
  // 0xd8 swaps the middle two of every four words.
  const __m256i a = _mm256_permute4x64_epi64(_mm256_packs_epi32(a0, a1), 0xd8), b = _mm256_permute4x64_epi64(_mm256_packs_epi32(b0, b1), 0xd8);
  _mm256_storeu_si256((__m256i*)codes, _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(a, 0xd8), 0xd8));
  _mm256_storeu_si256((__m256i*)(codes + 32), _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(b, 0xd8), 0xd8));
  group.first = add_dwords(_mm256_sub_epi32(zero, first));
  group.negated = add_dwords(_mm256_sub_epi32(zero, all));
  group.sum = -(float)group.negated;
}
