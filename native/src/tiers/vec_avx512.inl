// V: 16 floats, Q: 64 bytes of codes, as one AVX-512 register each. Same functions as vec_avx2.inl and vec_portable.inl.

typedef __m512 V;
typedef __m512i Q;

constexpr int kTileRows = 12, kTileVecs = 2;  // 24 accumulators, 2 weights, 1 broadcast
constexpr int kDirectRows = 4;                // rows that share one unpacking in registers
constexpr bool kDirectEight = true;           // ... and eight, a usual batch, at once
constexpr int kDirectWide = 8;                // most rows for which both tiles of a block are taken at once
constexpr int kDirectPairs = 2;               // most rows for which two blocks are taken at once
constexpr int kDirectLimit = 8;               // most rows for which that beats a panel
constexpr int kPanelK = 256;                  // k per panel: 32 KiB

SGL_INLINE V v_zero() { return _mm512_setzero_ps(); }
SGL_INLINE V v_set(float x) { return _mm512_set1_ps(x); }
SGL_INLINE V v_load(const float* p) { return _mm512_loadu_ps(p); }
SGL_INLINE void v_store(float* p, V v) { _mm512_storeu_ps(p, v); }
SGL_INLINE __mmask16 first_lanes(int n) { return (__mmask16)(n >= 16 ? 0xffff : (1u << n) - 1); }
SGL_INLINE V v_load_n(const float* p, int n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
SGL_INLINE void v_store_n(float* p, V v, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
SGL_INLINE V v_add(V a, V b) { return _mm512_add_ps(a, b); }
SGL_INLINE V v_sub(V a, V b) { return _mm512_sub_ps(a, b); }
SGL_INLINE V v_mul(V a, V b) { return _mm512_mul_ps(a, b); }
SGL_INLINE V v_div(V a, V b) { return _mm512_div_ps(a, b); }
SGL_INLINE V v_fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
SGL_INLINE V v_fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }
/// The second operand where either is NaN.
SGL_INLINE V v_max(V a, V b) { return _mm512_max_ps(a, b); }
SGL_INLINE V v_min(V a, V b) { return _mm512_min_ps(a, b); }
SGL_INLINE V v_round(V a) { return _mm512_roundscale_ps(a, 8); }
/// 2^n of integral n in [-126, 127].
SGL_INLINE V v_pow2(V n) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
/// a < b ? x : y
SGL_INLINE V v_where_less(V a, V b, V x, V y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
/// Lanes lo <= i < hi of v, others from `rest`.
SGL_INLINE V v_keep(V v, int lo, int hi, V rest) {
  const __mmask16 below = lo <= 0 ? 0 : first_lanes(lo);
  return _mm512_mask_blend_ps((__mmask16)((hi <= 0 ? 0 : first_lanes(hi)) & ~below), rest, v);
}
/// Lanes i and i + 8, then + 4, + 2, + 1: the same order in every tier.
SGL_INLINE float v_sum(V v) {
  const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
SGL_INLINE float v_max_lane(V v) {
  const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
/// Stage S of a Hadamard transform: lanes i without bit S become v[i] + v[i + S], the others v[i - S] - v[i].
template <int S> SGL_INLINE V v_butterfly(V v) {
  constexpr __mmask16 kHigh = S == 8 ? 0xff00 : S == 4 ? 0xf0f0 : S == 2 ? 0xcccc : 0xaaaa;
  V other;
  if constexpr (S >= 4)
    other = _mm512_shuffle_f32x4(v, v, S == 8 ? 0x4e : 0xb1);
  else
    other = _mm512_permute_ps(v, S == 2 ? 0x4e : 0xb1);
  return _mm512_mask_sub_ps(_mm512_add_ps(v, other), kHigh, other, v);
}
/// Adds lanes 0..7, then 8..15, to eight doubles.
struct Doubles {
  __m512d sum;
  SGL_MEMBER void clear() { sum = _mm512_setzero_pd(); }
  SGL_MEMBER void add(V v) {
    sum = _mm512_add_pd(sum, _mm512_cvtps_pd(_mm512_castps512_ps256(v)));
    sum = _mm512_add_pd(sum, _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1)));
  }
  SGL_MEMBER void store(double* p) const { _mm512_storeu_pd(p, sum); }
};

SGL_INLINE V v_load_f16(const uint8_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
SGL_INLINE void v_store_f16(uint8_t* p, V v) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
SGL_INLINE V v_load_bf16(const uint8_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
SGL_INLINE V v_load_u8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
SGL_INLINE V v_load_s8(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
SGL_INLINE V v_load_low4(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)), _mm512_set1_epi32(15)));
}
SGL_INLINE V v_load_high4(const uint8_t* p) {
  return _mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)), 4));
}

SGL_INLINE Q q_load(const uint8_t* p) { return _mm512_loadu_si512(p); }
SGL_INLINE Q q_low4(Q q) { return _mm512_and_si512(q, _mm512_set1_epi8(15)); }
SGL_INLINE Q q_high4(Q q) { return _mm512_and_si512(_mm512_srli_epi32(q, 4), _mm512_set1_epi8(15)); }
template <int N> SGL_INLINE Q q_shl(Q q) { return _mm512_slli_epi32(q, N); }
template <int N> SGL_INLINE Q q_shr(Q q) { return _mm512_srli_epi32(q, N); }
template <int N> SGL_INLINE Q q_ror(Q q) { return _mm512_ror_epi32(q, N); }
/// code | (plane & mask)
SGL_INLINE Q q_merge(Q code, Q plane, uint32_t mask) {
  return _mm512_ternarylogic_epi32(code, plane, _mm512_set1_epi32((int)mask), 0xf8);
}
/// Bytes 0..15 replaced by table[byte].
SGL_INLINE Q q_table(Q q, const uint8_t* table) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table)), q);
}
/// Byte J of every dword, as a float.
template <int J> SGL_INLINE V q_byte(Q q) {
  if constexpr (J == 3) return _mm512_cvtepi32_ps(_mm512_srli_epi32(q, 24));
  if constexpr (J == 0) return _mm512_cvtepi32_ps(_mm512_and_si512(q, _mm512_set1_epi32(255)));
  const __m512i pick = _mm512_broadcast_i32x4(
      _mm_setr_epi32((int)0xffffff00 | J, (int)0xffffff04 | J, (int)0xffffff08 | J, (int)0xffffff0c | J));
  return _mm512_cvtepi32_ps(_mm512_shuffle_epi8(q, pick));
}
