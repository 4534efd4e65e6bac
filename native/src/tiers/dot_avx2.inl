// Integer dot products of 16 channels on AVX2: Operand is 4 k of their codes as they are multiplied, Dot the sums of
// one row. What each tier's dot file provides, and what ops/integer.inl builds on.
//
// u8 x s8 products are added in pairs to s16 (vpmaddubsw). Narrow formats, |code - zero| * values <= 32 * 8, stay in
// s16 for a whole group: the final sums of code - zero fit (16 * 16 * 127 = 8 * 32 * 127 = 32512), and sums on the
// way may wrap. Wide ones (8 bits) give the sign of the weight to the activation and widen every pair.

constexpr int kIntegerRows = 4;       // rows per register block: 8 sums, 2 weights, 1 broadcast
constexpr int kIntegerPanelK = 448;   // k per panel of s8: 14 KiB
constexpr int kIntegerPanelK16 = 192; // ... of s16

constexpr int log2_of(int x) { return x <= 1 ? 0 : 1 + log2_of(x / 2); }

/// -(sum of codes) of a part of a group (0: all 32, 1: the first 16, 2: the others), in every dword.
template <Precision P> SGL_INLINE __m256i negated_sums(const RowGroup& g, int part) {
  if (part == 1) return _mm256_set1_epi32(g.first);
  const __m256i all = _mm256_set1_epi32(g.negated);
  if (part == 0) return all;
  if constexpr (P == Precision::s8) return _mm256_sub_epi16(all, _mm256_set1_epi32(g.first));
  return _mm256_sub_epi32(all, _mm256_set1_epi32(g.first));
}
/// Sum of the codes of a part, in every lane.
template <Precision P> SGL_INLINE V code_sum(const RowGroup& g, int part) {
  if (part == 0) return v_set(g.sum);
  __m256i sum = negated_sums<P>(g, part);
  if constexpr (P == Precision::s8)
    sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(-1));
  else
    sum = _mm256_sub_epi32(_mm256_setzero_si256(), sum);
  const __m256 f = _mm256_cvtepi32_ps(sum);
  return {f, f};
}
SGL_INLINE __m256i dword_of(const uint8_t* p) {
  int32_t v;
  memcpy(&v, p, 4);
  return _mm256_set1_epi32(v);
}

template <Precision P, bool kWide> struct Operand;
template <> struct Operand<Precision::s8, false> {
  static constexpr int kBytes = 64;
  Q w;
  SGL_MEMBER static Operand of(Q codes) { return {codes}; }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p)}; }
  SGL_MEMBER void store(uint8_t* p) const {
    _mm256_store_si256((__m256i*)p, w.lo);
    _mm256_store_si256((__m256i*)(p + 32), w.hi);
  }
};
template <> struct Operand<Precision::s8, true> {
  static constexpr int kBytes = 64;
  Q w, magnitude;
  SGL_MEMBER static Operand of_signed(Q w) { return {w, {_mm256_abs_epi8(w.lo), _mm256_abs_epi8(w.hi)}}; }
  SGL_MEMBER static Operand of(Q codes) {
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    return of_signed({_mm256_xor_si256(codes.lo, flip), _mm256_xor_si256(codes.hi, flip)});
  }
  SGL_MEMBER static Operand load(const uint8_t* p) { return of_signed(q_load(p)); }
  SGL_MEMBER void store(uint8_t* p) const {
    _mm256_store_si256((__m256i*)p, w.lo);
    _mm256_store_si256((__m256i*)(p + 32), w.hi);
  }
};
template <bool kWide> struct Operand<Precision::s16, kWide> {
  static constexpr int kBytes = 128;
  Q even, odd;  // k, k + 2 and k + 1, k + 3 as words
  SGL_MEMBER static Operand of(Q codes) {
    const __m256i low = _mm256_set1_epi16(255);
    return {{_mm256_and_si256(codes.lo, low), _mm256_and_si256(codes.hi, low)}, {_mm256_srli_epi16(codes.lo, 8), _mm256_srli_epi16(codes.hi, 8)}};
  }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p), q_load(p + 64)}; }
  SGL_MEMBER void store(uint8_t* p) const {
    _mm256_store_si256((__m256i*)p, even.lo);
    _mm256_store_si256((__m256i*)(p + 32), even.hi);
    _mm256_store_si256((__m256i*)(p + 64), odd.lo);
    _mm256_store_si256((__m256i*)(p + 96), odd.hi);
  }
};

/// Sum over a part of a group of (code - zero) * activation.
template <Precision P, int kZero, bool kWide> struct Dot;
template <int kZero> struct Dot<Precision::s8, kZero, false> {
  __m256i lo, hi;  // pairs of s16
  SGL_MEMBER void start(const RowGroup& g, int part) {
    lo = hi = kZero == 0 ? _mm256_setzero_si256() : _mm256_slli_epi16(negated_sums<Precision::s8>(g, part), log2_of(kZero));
  }
  SGL_MEMBER void add(const Operand<Precision::s8, false>& w, const uint8_t* x) {
    const __m256i a = dword_of(x);
    lo = _mm256_add_epi16(lo, _mm256_maddubs_epi16(w.w.lo, a));
    hi = _mm256_add_epi16(hi, _mm256_maddubs_epi16(w.w.hi, a));
  }
  SGL_MEMBER V floats() const {
    const __m256i one = _mm256_set1_epi16(1);
    return to_floats(_mm256_madd_epi16(lo, one), _mm256_madd_epi16(hi, one));
  }
};
template <int kZero> struct Dot<Precision::s8, kZero, true> {
  __m256i lo, hi;  // the operand has no zero left
  SGL_MEMBER void start(const RowGroup&, int) { lo = hi = _mm256_setzero_si256(); }
  SGL_MEMBER void add(const Operand<Precision::s8, true>& w, const uint8_t* x) {
    const __m256i a = dword_of(x), one = _mm256_set1_epi16(1);
    lo = _mm256_add_epi32(lo, _mm256_madd_epi16(_mm256_maddubs_epi16(w.magnitude.lo, _mm256_sign_epi8(a, w.w.lo)), one));
    hi = _mm256_add_epi32(hi, _mm256_madd_epi16(_mm256_maddubs_epi16(w.magnitude.hi, _mm256_sign_epi8(a, w.w.hi)), one));
  }
  SGL_MEMBER V floats() const { return to_floats(lo, hi); }
};
template <int kZero, bool kWide> struct Dot<Precision::s16, kZero, kWide> {
  __m256i lo, hi;
  SGL_MEMBER void start(const RowGroup& g, int part) {
    lo = hi = kZero == 0 ? _mm256_setzero_si256() : _mm256_slli_epi32(negated_sums<Precision::s16>(g, part), log2_of(kZero));
  }
  SGL_MEMBER void add(const Operand<Precision::s16, kWide>& w, const uint8_t* x) {
    const __m256i even = dword_of(x), odd = dword_of(x + 4);
    lo = _mm256_add_epi32(lo, _mm256_madd_epi16(w.even.lo, even));
    hi = _mm256_add_epi32(hi, _mm256_madd_epi16(w.even.hi, even));
    lo = _mm256_add_epi32(lo, _mm256_madd_epi16(w.odd.lo, odd));
    hi = _mm256_add_epi32(hi, _mm256_madd_epi16(w.odd.hi, odd));
  }
  SGL_MEMBER V floats() const { return to_floats(lo, hi); }
};
