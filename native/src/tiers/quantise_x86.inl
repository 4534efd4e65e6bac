// Activations to integers on AVX2, for every x86 tier. See quantised_rows.h. Expects of the tier's dot file
//   start8(pair)   RowGroup::start from two s16: -(sum of codes at k % 4 < 2) and -(sum of the others)
//   start16(sum)   RowGroup::start from -(sum of codes)

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
/// The sum of a pair of s16.
SGL_INLINE int32_t add_pair(int32_t pair) { return (int16_t)pair + (pair >> 16); }

SGL_INLINE void codes8(const float* x, float inverse, uint8_t* codes, RowGroup& group) {
  const __m256i a = _mm256_packs_epi32(scaled8(x, inverse), scaled8(x + 8, inverse));
  const __m256i b = _mm256_packs_epi32(scaled8(x + 16, inverse), scaled8(x + 24, inverse));
  const __m256i mixed = _mm256_packs_epi16(a, b);  // dwords 0 2 4 6 | 1 3 5 7
  const __m256i q = _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256((__m256i*)codes, q);
  const __m256i pairs = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_maddubs_epi16(_mm256_set1_epi8(1), q));
  const __m128i first = _mm256_castsi256_si128(pairs), last = _mm256_extracti128_si256(pairs, 1);
  const int32_t all = add_pairs(_mm_add_epi16(first, last));
  group.sum = -(float)add_pair(all);
  group.start[0] = start8(all);
  group.start[1] = start8(add_pairs(first));
  group.start[2] = start8(add_pairs(last));
}

SGL_INLINE void codes16(const float* x, float inverse, uint8_t* codes, RowGroup& group) {
  const __m256i a0 = scaled8(x, inverse), a1 = scaled8(x + 8, inverse), b0 = scaled8(x + 16, inverse), b1 = scaled8(x + 24, inverse);
  const int32_t first = add_dwords(_mm256_add_epi32(a0, a1)), last = add_dwords(_mm256_add_epi32(b0, b1));
  // 0xd8 swaps the middle two of every four words.
  const __m256i a = _mm256_permute4x64_epi64(_mm256_packs_epi32(a0, a1), 0xd8), b = _mm256_permute4x64_epi64(_mm256_packs_epi32(b0, b1), 0xd8);
  _mm256_storeu_si256((__m256i*)codes, _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(a, 0xd8), 0xd8));
  _mm256_storeu_si256((__m256i*)(codes + 32), _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(b, 0xd8), 0xd8));
  group.sum = (float)(first + last);
  group.start[0] = start16(-(first + last));
  group.start[1] = start16(-first);
  group.start[2] = start16(-last);
}
