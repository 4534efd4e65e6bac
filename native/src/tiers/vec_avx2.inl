// V: 16 floats, Q: 64 bytes of codes, as two AVX2 registers each. Same functions as vec_avx512.inl and vec_portable.inl.

struct V {
  __m256 lo, hi;
};
struct Q {
  __m256i lo, hi;
};

constexpr int kTileRows = 6, kTileVecs = 1;  // 12 accumulators, 2 weights, 1 broadcast
constexpr int kDirectRows = 4;               // rows that share one unpacking in registers
constexpr bool kDirectEight = false;
constexpr int kDirectWide = 1;               // most rows for which both tiles of a block are taken at once
constexpr int kDirectPairs = 0;              // most rows for which two blocks are taken at once
constexpr int kDirectLimit = 8;              // most rows for which that beats a panel
constexpr int kPanelK = 128;                 // k per panel: 16 KiB, L1 may be 32 KiB

SGL_INLINE V v_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
SGL_INLINE V v_set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
SGL_INLINE V v_load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
SGL_INLINE void v_store(float* p, V v) {
  _mm256_storeu_ps(p, v.lo);
  _mm256_storeu_ps(p + 8, v.hi);
}
alignas(64) static const int32_t kLanes[48] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
/// All ones in the lanes of half `half` that are below n.
SGL_INLINE __m256i first_lanes(int n, int half) {
  const int at = 16 - (n < 0 ? 0 : n > 16 ? 16 : n) + half * 8;
  return _mm256_loadu_si256((const __m256i*)(kLanes + at));
}
SGL_INLINE V v_load_n(const float* p, int n) {
  return {_mm256_maskload_ps(p, first_lanes(n, 0)), _mm256_maskload_ps(p + 8, first_lanes(n, 1))};
}
SGL_INLINE void v_store_n(float* p, V v, int n) {
  _mm256_maskstore_ps(p, first_lanes(n, 0), v.lo);
  _mm256_maskstore_ps(p + 8, first_lanes(n, 1), v.hi);
}
SGL_INLINE V v_add(V a, V b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
SGL_INLINE V v_sub(V a, V b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
SGL_INLINE V v_mul(V a, V b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
SGL_INLINE V v_div(V a, V b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
SGL_INLINE V v_fma(V a, V b, V c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
SGL_INLINE V v_fnma(V a, V b, V c) { return {_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)}; }
/// The second operand where either is NaN.
SGL_INLINE V v_max(V a, V b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
SGL_INLINE V v_min(V a, V b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
SGL_INLINE V v_round(V a) { return {_mm256_round_ps(a.lo, 8), _mm256_round_ps(a.hi, 8)}; }
SGL_INLINE __m256 pow2_half(__m256 n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
/// 2^n of integral n in [-126, 127].
SGL_INLINE V v_pow2(V n) { return {pow2_half(n.lo), pow2_half(n.hi)}; }
/// a < b ? x : y
SGL_INLINE V v_where_less(V a, V b, V x, V y) {
  return {_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
/// Lanes lo <= i < hi of v, others from `rest`.
SGL_INLINE V v_keep(V v, int lo, int hi, V rest) {
  const __m256i a = _mm256_andnot_si256(first_lanes(lo, 0), first_lanes(hi, 0));
  const __m256i b = _mm256_andnot_si256(first_lanes(lo, 1), first_lanes(hi, 1));
  return {_mm256_blendv_ps(rest.lo, v.lo, _mm256_castsi256_ps(a)), _mm256_blendv_ps(rest.hi, v.hi, _mm256_castsi256_ps(b))};
}
/// Lanes i and i + 8, then + 4, + 2, + 1: the same order in every tier.
SGL_INLINE float v_sum(V v) {
  const __m256 a = _mm256_add_ps(v.lo, v.hi);
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
SGL_INLINE float v_max_lane(V v) {
  const __m256 a = _mm256_max_ps(v.lo, v.hi);
  const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
template <int S> SGL_INLINE __m256 butterfly_half(__m256 v) {
  __m256 other;
  if constexpr (S == 4)
    other = _mm256_permute2f128_ps(v, v, 1);
  else
    other = _mm256_permute_ps(v, S == 2 ? 0x4e : 0xb1);
  return _mm256_blend_ps(_mm256_add_ps(v, other), _mm256_sub_ps(other, v), S == 4 ? 0xf0 : S == 2 ? 0xcc : 0xaa);
}
/// Stage S of a Hadamard transform: lanes i without bit S become v[i] + v[i + S], the others v[i - S] - v[i].
template <int S> SGL_INLINE V v_butterfly(V v) {
  if constexpr (S == 8) return {_mm256_add_ps(v.lo, v.hi), _mm256_sub_ps(v.lo, v.hi)};
  else return {butterfly_half<S>(v.lo), butterfly_half<S>(v.hi)};
}
/// Adds lanes 0..7, then 8..15, to eight doubles.
struct Doubles {
  __m256d lo, hi;
  SGL_MEMBER void clear() { lo = hi = _mm256_setzero_pd(); }
  SGL_MEMBER void add_half(__m256 v) {
    lo = _mm256_add_pd(lo, _mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    hi = _mm256_add_pd(hi, _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
  }
  SGL_MEMBER void add(V v) {
    add_half(v.lo);
    add_half(v.hi);
  }
  SGL_MEMBER void store(double* p) const {
    _mm256_storeu_pd(p, lo);
    _mm256_storeu_pd(p + 4, hi);
  }
};

SGL_INLINE V v_load_f16(const uint8_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 16)))};
}
SGL_INLINE void v_store_f16(uint8_t* p, V v) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(v.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128((__m128i*)(p + 16), _mm256_cvtps_ph(v.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
SGL_INLINE __m256 bf16_half(const uint8_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16));
}
SGL_INLINE V v_load_bf16(const uint8_t* p) { return {bf16_half(p), bf16_half(p + 16)}; }
SGL_INLINE V to_floats(__m256i lo, __m256i hi) { return {_mm256_cvtepi32_ps(lo), _mm256_cvtepi32_ps(hi)}; }
SGL_INLINE __m256i widen_u8(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
SGL_INLINE V v_load_u8(const uint8_t* p) { return to_floats(widen_u8(p), widen_u8(p + 8)); }
SGL_INLINE V v_load_s8(const uint8_t* p) {
  return to_floats(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)),
                   _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8))));
}
SGL_INLINE V v_load_low4(const uint8_t* p) {
  const __m256i mask = _mm256_set1_epi32(15);
  return to_floats(_mm256_and_si256(widen_u8(p), mask), _mm256_and_si256(widen_u8(p + 8), mask));
}
SGL_INLINE V v_load_high4(const uint8_t* p) {
  return to_floats(_mm256_srli_epi32(widen_u8(p), 4), _mm256_srli_epi32(widen_u8(p + 8), 4));
}

SGL_INLINE Q q_load(const uint8_t* p) {
  return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 32))};
}
SGL_INLINE Q q_low4(Q q) {
  return {_mm256_and_si256(q.lo, _mm256_set1_epi8(15)), _mm256_and_si256(q.hi, _mm256_set1_epi8(15))};
}
template <int N> SGL_INLINE Q q_shl(Q q) { return {_mm256_slli_epi32(q.lo, N), _mm256_slli_epi32(q.hi, N)}; }
template <int N> SGL_INLINE Q q_shr(Q q) { return {_mm256_srli_epi32(q.lo, N), _mm256_srli_epi32(q.hi, N)}; }
template <int N> SGL_INLINE Q q_ror(Q q) {
  const Q low = q_shr<N>(q), high = q_shl<32 - N>(q);
  return {_mm256_or_si256(low.lo, high.lo), _mm256_or_si256(low.hi, high.hi)};
}
SGL_INLINE Q q_high4(Q q) { return q_low4(q_shr<4>(q)); }
/// code | (plane & mask)
SGL_INLINE Q q_merge(Q code, Q plane, uint32_t mask) {
  const __m256i m = _mm256_set1_epi32((int)mask);
  return {_mm256_or_si256(code.lo, _mm256_and_si256(plane.lo, m)), _mm256_or_si256(code.hi, _mm256_and_si256(plane.hi, m))};
}
/// Bytes 0..15 replaced by table[byte].
SGL_INLINE Q q_table(Q q, const uint8_t* table) {
  const __m256i t = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)table));
  return {_mm256_shuffle_epi8(t, q.lo), _mm256_shuffle_epi8(t, q.hi)};
}
/// Byte J of every dword, as a float.
template <int J> SGL_INLINE V q_byte(Q q) {
  if constexpr (J == 3) return to_floats(_mm256_srli_epi32(q.lo, 24), _mm256_srli_epi32(q.hi, 24));
  if constexpr (J == 0) {
    const __m256i mask = _mm256_set1_epi32(255);
    return to_floats(_mm256_and_si256(q.lo, mask), _mm256_and_si256(q.hi, mask));
  }
  const __m256i pick = _mm256_broadcastsi128_si256(
      _mm_setr_epi32((int)0xffffff00 | J, (int)0xffffff04 | J, (int)0xffffff08 | J, (int)0xffffff0c | J));
  return to_floats(_mm256_shuffle_epi8(q.lo, pick), _mm256_shuffle_epi8(q.hi, pick));
}
