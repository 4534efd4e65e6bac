// Integer dot products of 16 channels on AVX-512 BW without VNNI: dot_avx2.inl in one register each.

constexpr int kIntegerRows = 6, kIntegerTiles = 2;  // 12 sums, 12 dot products, 2 weights, 1 broadcast
constexpr int kIntegerPanelK = 448, kIntegerPanelK16 = 192;
constexpr int kIntegerDirect = 6, kIntegerPair = 4;
constexpr int kRotatedLines = 6;

constexpr int log2_of(int x) { return x <= 1 ? 0 : 1 + log2_of(x / 2); }

SGL_INLINE int32_t start8(int32_t negated_pair) { return negated_pair; }
SGL_INLINE int32_t start16(int32_t negated_sum) { return negated_sum; }

template <Precision P> SGL_INLINE V code_sum(const RowGroup& g, int part) {
  if (part == 0) return v_set(g.sum);
  const int32_t start = g.start[part];
  return v_set(-(float)(P == Precision::s8 ? (int16_t)start + (start >> 16) : start));
}
SGL_INLINE __m512i dword_of(const uint8_t* p) {
  int32_t v;
  memcpy(&v, p, 4);
  return _mm512_set1_epi32(v);
}

template <Precision P> struct Four;
template <> struct Four<Precision::s8> {
  __m512i x;
  SGL_MEMBER static Four of(const uint8_t* p) { return {dword_of(p)}; }
};
template <> struct Four<Precision::s16> {
  __m512i even, odd;
  SGL_MEMBER static Four of(const uint8_t* p) { return {dword_of(p), dword_of(p + 4)}; }
};

template <Precision P, int kZero, bool kWide> struct Operand;
template <int kZero> struct Operand<Precision::s8, kZero, false> {
  static constexpr int kBytes = 64;
  Q w;
  SGL_MEMBER static Operand of(Q codes) { return {codes}; }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p)}; }
  SGL_MEMBER void store(uint8_t* p) const { _mm512_store_si512(p, w); }
};
template <int kZero> struct Operand<Precision::s8, kZero, true> {
  static constexpr int kBytes = 64;
  Q w, magnitude;
  __mmask64 negative;
  SGL_MEMBER static Operand of_signed(Q w) { return {w, _mm512_abs_epi8(w), _mm512_movepi8_mask(w)}; }
  SGL_MEMBER static Operand of(Q codes) { return of_signed(_mm512_xor_si512(codes, _mm512_set1_epi8((char)0x80))); }
  SGL_MEMBER static Operand load(const uint8_t* p) { return of_signed(q_load(p)); }
  SGL_MEMBER void store(uint8_t* p) const { _mm512_store_si512(p, w); }
};
template <int kZero, bool kWide> struct Operand<Precision::s16, kZero, kWide> {
  static constexpr int kBytes = 128;
  Q even, odd;  // k, k + 2 and k + 1, k + 3 as words
  SGL_MEMBER static Operand of(Q codes) { return {_mm512_and_si512(codes, _mm512_set1_epi16(255)), _mm512_srli_epi16(codes, 8)}; }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p), q_load(p + 64)}; }
  SGL_MEMBER void store(uint8_t* p) const {
    _mm512_store_si512(p, even);
    _mm512_store_si512(p + 64, odd);
  }
};

template <Precision P, int kZero, bool kWide> struct Dot;
template <int kZero> struct Dot<Precision::s8, kZero, false> {
  static constexpr bool kShifts = false;
  __m512i sum;  // pairs of s16
  SGL_MEMBER void start(const RowGroup& g, int part) {
    sum = kZero == 0 ? _mm512_setzero_si512() : _mm512_slli_epi16(_mm512_set1_epi32(g.start[part]), log2_of(kZero));
  }
  SGL_MEMBER void add(const Operand<Precision::s8, kZero, false>& w, const Four<Precision::s8>& a) {
    sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16(w.w, a.x));
  }
  SGL_MEMBER V times(V a, V) const { return v_mul(a, _mm512_cvtepi32_ps(_mm512_madd_epi16(sum, _mm512_set1_epi16(1)))); }
};
template <int kZero> struct Dot<Precision::s8, kZero, true> {
  static constexpr bool kShifts = false;
  __m512i sum;
  SGL_MEMBER void start(const RowGroup&, int) { sum = _mm512_setzero_si512(); }
  /// See dot_avx2.inl.
  SGL_MEMBER void begin(int32_t) { sum = _mm512_setzero_si512(); }
  SGL_MEMBER V value() const { return _mm512_cvtepi32_ps(sum); }
  SGL_MEMBER void add(const Operand<Precision::s8, kZero, true>& w, const Four<Precision::s8>& a) {
    const __m512i turned = _mm512_mask_sub_epi8(a.x, w.negative, _mm512_setzero_si512(), a.x);
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(w.magnitude, turned), _mm512_set1_epi16(1)));
  }
  SGL_MEMBER V times(V a, V) const { return v_mul(a, _mm512_cvtepi32_ps(sum)); }
};
template <int kZero, bool kWide> struct Dot<Precision::s16, kZero, kWide> {
  static constexpr bool kShifts = false;
  __m512i sum;
  SGL_MEMBER void start(const RowGroup& g, int part) {
    sum = kZero == 0 ? _mm512_setzero_si512() : _mm512_slli_epi32(_mm512_set1_epi32(g.start[part]), log2_of(kZero));
  }
  SGL_MEMBER void add(const Operand<Precision::s16, kZero, kWide>& w, const Four<Precision::s16>& a) {
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w.even, a.even));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w.odd, a.odd));
  }
  SGL_MEMBER V times(V a, V) const { return v_mul(a, _mm512_cvtepi32_ps(sum)); }
};

SGL_INLINE V shift_of(V) { return v_zero(); }
