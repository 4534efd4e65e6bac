// Integer dot products of 16 channels on AVX2: Operand is 4 k of their codes as they are multiplied, Four the activations
// they meet, Dot the sums of one row. What each tier's dot file provides, and what ops/integer.inl builds on.
//
// u8 x s8 products are added in pairs to s16 (vpmaddubsw). Narrow formats, |code - zero| * values <= 32 * 8, stay in
// s16 for a whole group: the final sums of code - zero fit (16 * 16 * 127 = 8 * 32 * 127 = 32512), and sums on the
// way may wrap. Wide ones (8 bits) give the sign of the weight to the activation and widen every pair.

constexpr int kIntegerRows = 4;       // rows per register block: 8 sums, 2 weights, 1 broadcast
constexpr int kIntegerTiles = 1;      // tiles of 16 channels that share a broadcast
constexpr int kIntegerPanelK = 448;   // k per panel of s8: 14 KiB
constexpr int kIntegerPanelK16 = 192; // ... of s16
constexpr int kIntegerDirect = 2;     // most rows for which unpacking in registers beats a panel
constexpr int kIntegerPair = 0;       // most rows for which two tiles are taken at once then
constexpr int kRotatedLines = 4;      // lines per register block of ops/rotated.inl: 8 sums, 4 weights, 2 activations

constexpr int log2_of(int x) { return x <= 1 ? 0 : 1 + log2_of(x / 2); }

SGL_INLINE int32_t start8(int32_t negated_pair) { return negated_pair; }
SGL_INLINE int32_t start16(int32_t negated_sum) { return negated_sum; }

/// Sum of the codes of a part of a group (0: all 32, 1: the first 16, 2: the last 16), in every lane.
template <Precision P> SGL_INLINE V code_sum(const RowGroup& g, int part) {
  if (part == 0) return v_set(g.sum);
  const int32_t start = g.start[part];
  return v_set(-(float)(P == Precision::s8 ? (int16_t)start + (start >> 16) : start));
}
SGL_INLINE __m256i dword_of(const uint8_t* p) {
  int32_t v;
  memcpy(&v, p, 4);
  return _mm256_set1_epi32(v);
}
SGL_INLINE void store_aligned(uint8_t* p, Q q) {
  _mm256_store_si256((__m256i*)p, q.lo);
  _mm256_store_si256((__m256i*)(p + 32), q.hi);
}

/// Activations of 4 k in every lane.
template <Precision P> struct Four;
template <> struct Four<Precision::s8> {
  __m256i x;
  SGL_MEMBER static Four of(const uint8_t* p) { return {dword_of(p)}; }
};
template <> struct Four<Precision::s16> {
  __m256i even, odd;
  SGL_MEMBER static Four of(const uint8_t* p) { return {dword_of(p), dword_of(p + 4)}; }
};

template <Precision P, int kZero, bool kWide> struct Operand;
template <int kZero> struct Operand<Precision::s8, kZero, false> {
  static constexpr int kBytes = 64;
  Q w;
  SGL_MEMBER static Operand of(Q codes) { return {codes}; }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p)}; }
  SGL_MEMBER void store(uint8_t* p) const { store_aligned(p, w); }
};
template <int kZero> struct Operand<Precision::s8, kZero, true> {
  static constexpr int kBytes = 64;
  Q w, magnitude;
  SGL_MEMBER static Operand of_signed(Q w) { return {w, {_mm256_abs_epi8(w.lo), _mm256_abs_epi8(w.hi)}}; }
  SGL_MEMBER static Operand of(Q codes) {
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    return of_signed({_mm256_xor_si256(codes.lo, flip), _mm256_xor_si256(codes.hi, flip)});
  }
  SGL_MEMBER static Operand load(const uint8_t* p) { return of_signed(q_load(p)); }
  SGL_MEMBER void store(uint8_t* p) const { store_aligned(p, w); }
};
template <int kZero, bool kWide> struct Operand<Precision::s16, kZero, kWide> {
  static constexpr int kBytes = 128;
  Q even, odd;  // k, k + 2 and k + 1, k + 3 as words
  SGL_MEMBER static Operand of(Q codes) {
    const __m256i low = _mm256_set1_epi16(255);
    return {{_mm256_and_si256(codes.lo, low), _mm256_and_si256(codes.hi, low)}, {_mm256_srli_epi16(codes.lo, 8), _mm256_srli_epi16(codes.hi, 8)}};
  }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p), q_load(p + 64)}; }
  SGL_MEMBER void store(uint8_t* p) const {
    store_aligned(p, even);
    store_aligned(p + 64, odd);
  }
};

/// Sum over a part of a group of (code - zero) * activation. `times` gives a * sum; shift_of(a) is what it wants to know of a
/// beyond a, where kShifts.
template <Precision P, int kZero, bool kWide> struct Dot;
template <int kZero> struct Dot<Precision::s8, kZero, false> {
  static constexpr bool kShifts = false;
  __m256i lo, hi;  // pairs of s16
  SGL_MEMBER void start(const RowGroup& g, int part) {
    lo = hi = kZero == 0 ? _mm256_setzero_si256() : _mm256_slli_epi16(_mm256_set1_epi32(g.start[part]), log2_of(kZero));
  }
  SGL_MEMBER void add(const Operand<Precision::s8, kZero, false>& w, const Four<Precision::s8>& a) {
    lo = _mm256_add_epi16(lo, _mm256_maddubs_epi16(w.w.lo, a.x));
    hi = _mm256_add_epi16(hi, _mm256_maddubs_epi16(w.w.hi, a.x));
  }
  SGL_MEMBER V times(V a, V) const {
    const __m256i one = _mm256_set1_epi16(1);
    return v_mul(a, to_floats(_mm256_madd_epi16(lo, one), _mm256_madd_epi16(hi, one)));
  }
};
template <int kZero> struct Dot<Precision::s8, kZero, true> {
  static constexpr bool kShifts = false;
  __m256i lo, hi;  // the operand has no zero left
  SGL_MEMBER void start(const RowGroup&, int) { lo = hi = _mm256_setzero_si256(); }
  /// For sums over whole rows (ops/rotated.inl), of codes around 128: begin with the sum of a line's codes, in the end the sum.
  SGL_MEMBER void begin(int32_t) { lo = hi = _mm256_setzero_si256(); }
  SGL_MEMBER V value() const { return to_floats(lo, hi); }
  SGL_MEMBER void add(const Operand<Precision::s8, kZero, true>& w, const Four<Precision::s8>& a) {
    const __m256i one = _mm256_set1_epi16(1);
    lo = _mm256_add_epi32(lo, _mm256_madd_epi16(_mm256_maddubs_epi16(w.magnitude.lo, _mm256_sign_epi8(a.x, w.w.lo)), one));
    hi = _mm256_add_epi32(hi, _mm256_madd_epi16(_mm256_maddubs_epi16(w.magnitude.hi, _mm256_sign_epi8(a.x, w.w.hi)), one));
  }
  SGL_MEMBER V times(V a, V) const { return v_mul(a, to_floats(lo, hi)); }
};
template <int kZero, bool kWide> struct Dot<Precision::s16, kZero, kWide> {
  static constexpr bool kShifts = false;
  __m256i lo, hi;
  SGL_MEMBER void start(const RowGroup& g, int part) {
    lo = hi = kZero == 0 ? _mm256_setzero_si256() : _mm256_slli_epi32(_mm256_set1_epi32(g.start[part]), log2_of(kZero));
  }
  SGL_MEMBER void add(const Operand<Precision::s16, kZero, kWide>& w, const Four<Precision::s16>& a) {
    lo = _mm256_add_epi32(lo, _mm256_madd_epi16(w.even.lo, a.even));
    hi = _mm256_add_epi32(hi, _mm256_madd_epi16(w.even.hi, a.even));
    lo = _mm256_add_epi32(lo, _mm256_madd_epi16(w.odd.lo, a.odd));
    hi = _mm256_add_epi32(hi, _mm256_madd_epi16(w.odd.hi, a.odd));
  }
  SGL_MEMBER V times(V a, V) const { return v_mul(a, to_floats(lo, hi)); }
};

SGL_INLINE V shift_of(V) { return v_zero(); }
