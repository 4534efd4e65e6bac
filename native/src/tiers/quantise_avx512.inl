// Activations to integers on AVX-512, four groups of 32 at a time: what is one number per group is computed for four in one
// register. The same numbers as quantise_x86.inl, which does what is left over. Expects start_of of the tier's dot file.

/// Of each of four registers its largest lane, or the sum of its lanes.
#define SGL_FOUR_IN_ONE(name, combine, narrow)                                                                                     \
  SGL_INLINE __m128i name(const __m512i (&v)[4]) {                                                                                  \
    const __m512i ab = combine(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));                               \
    const __m512i cd = combine(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));                               \
    const __m512i all = combine(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));                                      \
    const __m512i half = combine(all, _mm512_shuffle_i64x2(all, all, 0x4e));                                                        \
    return narrow(_mm512_castsi512_si128(half), _mm512_extracti32x4_epi32(half, 1));                                                \
  }
SGL_FOUR_IN_ONE(largest_of_four, _mm512_max_epi32, _mm_max_epi32)
SGL_FOUR_IN_ONE(sums_of_four, _mm512_add_epi32, _mm_add_epi32)
#undef SGL_FOUR_IN_ONE

SGL_INLINE __m512i scaled16(const float* x, float inverse) { return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse))); }

/// The sums of four groups' first and last 16 codes.
template <Precision P> SGL_INLINE void set_sums(RowGroup* group, const __m512i (&first)[4], const __m512i (&last)[4]) {
  const __m128i a = sums_of_four(first), b = sums_of_four(last), both = _mm_add_epi32(a, b);
  alignas(16) float sum[4];
  alignas(16) int32_t start[3][4];
  _mm_store_ps(sum, _mm_cvtepi32_ps(both));
  _mm_store_si128((__m128i*)start[0], start_of<P>(both));
  _mm_store_si128((__m128i*)start[1], start_of<P>(a));
  _mm_store_si128((__m128i*)start[2], start_of<P>(b));
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    group[i].sum = sum[i];
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++) group[i].start[j] = start[j][i];
  }
}

/// Groups in fours; returns how many.
template <Precision P> SGL_INLINE int quantise_many(const float* x, int groups, float most, uint8_t* codes, RowGroup* group) {
  const __m512i mask = _mm512_set1_epi32(0x7fffffff);
  int done = 0;
  for (; done + 4 <= groups; done += 4, x += 128, group += 4, codes += 128 * code_bytes(P)) {
    __m512i best[4], first[4], last[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
      best[i] = _mm512_max_epi32(_mm512_and_si512(_mm512_loadu_si512(x + i * 32), mask), _mm512_and_si512(_mm512_loadu_si512(x + i * 32 + 16), mask));
    const __m128 largest = _mm_castsi128_ps(largest_of_four(best));
    // NaN is not below the limit: it stays.
    const __m128 some = _mm_cmp_ps(largest, _mm_set1_ps(1e-30f), _CMP_NLT_UQ);
    alignas(16) float inverse[4], scale[4];
    _mm_store_ps(inverse, _mm_and_ps(some, _mm_div_ps(_mm_set1_ps(most), largest)));
    _mm_store_ps(scale, _mm_and_ps(some, _mm_div_ps(largest, _mm_set1_ps(most))));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      group[i].scale = scale[i];
      first[i] = scaled16(x + i * 32, inverse[i]);
      last[i] = scaled16(x + i * 32 + 16, inverse[i]);
      if constexpr (P == Precision::s8) {
        _mm_storeu_si128((__m128i*)(codes + i * 32), _mm512_cvtsepi32_epi8(first[i]));
        _mm_storeu_si128((__m128i*)(codes + i * 32 + 16), _mm512_cvtsepi32_epi8(last[i]));
      } else {
        // 0xd8 swaps the middle two of every four words.
        const __m512i words = _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtsepi32_epi16(first[i])), _mm512_cvtsepi32_epi16(last[i]), 1);
        _mm512_storeu_si512(codes + i * 64, _mm512_shufflehi_epi16(_mm512_shufflelo_epi16(words, 0xd8), 0xd8));
      }
    }
    set_sums<P>(group, first, last);
  }
  return done;
}
