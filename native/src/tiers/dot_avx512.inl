// Integer dot products of 16 channels on AVX-512 BW without VNNI: dot_avx2.inl in one register each.

constexpr int kIntegerRows = 6;
constexpr int kIntegerPanelK = 448, kIntegerPanelK16 = 192;

constexpr int log2_of(int x) { return x <= 1 ? 0 : 1 + log2_of(x / 2); }

/// -(sum of codes) of a part of a group, in every dword.
template <Precision P> SGL_INLINE __m512i negated_sums(const RowGroup& g, int part) {
  if (part == 1) return _mm512_set1_epi32(g.first);
  const __m512i all = _mm512_set1_epi32(g.negated);
  if (part == 0) return all;
  if constexpr (P == Precision::s8) return _mm512_sub_epi16(all, _mm512_set1_epi32(g.first));
  return _mm512_sub_epi32(all, _mm512_set1_epi32(g.first));
}
template <Precision P> SGL_INLINE V code_sum(const RowGroup& g, int part) {
  if (part == 0) return v_set(g.sum);
  const __m512i sum = negated_sums<P>(g, part);
  if constexpr (P == Precision::s8) return _mm512_cvtepi32_ps(_mm512_madd_epi16(sum, _mm512_set1_epi16(-1)));
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_setzero_si512(), sum));
}
SGL_INLINE __m512i dword_of(const uint8_t* p) {
  int32_t v;
  memcpy(&v, p, 4);
  return _mm512_set1_epi32(v);
}

template <Precision P, bool kWide> struct Operand;
template <> struct Operand<Precision::s8, false> {
  static constexpr int kBytes = 64;
  Q w;
  SGL_MEMBER static Operand of(Q codes) { return {codes}; }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p)}; }
  SGL_MEMBER void store(uint8_t* p) const { _mm512_store_si512(p, w); }
};
template <> struct Operand<Precision::s8, true> {
  static constexpr int kBytes = 64;
  Q w, magnitude;
  __mmask64 negative;
  SGL_MEMBER static Operand of_signed(Q w) { return {w, _mm512_abs_epi8(w), _mm512_movepi8_mask(w)}; }
  SGL_MEMBER static Operand of(Q codes) { return of_signed(_mm512_xor_si512(codes, _mm512_set1_epi8((char)0x80))); }
  SGL_MEMBER static Operand load(const uint8_t* p) { return of_signed(q_load(p)); }
  SGL_MEMBER void store(uint8_t* p) const { _mm512_store_si512(p, w); }
};
template <bool kWide> struct Operand<Precision::s16, kWide> {
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
  __m512i sum;  // pairs of s16
  SGL_MEMBER void start(const RowGroup& g, int part) {
    sum = kZero == 0 ? _mm512_setzero_si512() : _mm512_slli_epi16(negated_sums<Precision::s8>(g, part), log2_of(kZero));
  }
  SGL_MEMBER void add(const Operand<Precision::s8, false>& w, const uint8_t* x) {
    sum = _mm512_add_epi16(sum, _mm512_maddubs_epi16(w.w, dword_of(x)));
  }
  SGL_MEMBER V floats() const { return _mm512_cvtepi32_ps(_mm512_madd_epi16(sum, _mm512_set1_epi16(1))); }
};
template <int kZero> struct Dot<Precision::s8, kZero, true> {
  __m512i sum;
  SGL_MEMBER void start(const RowGroup&, int) { sum = _mm512_setzero_si512(); }
  SGL_MEMBER void add(const Operand<Precision::s8, true>& w, const uint8_t* x) {
    const __m512i a = dword_of(x), turned = _mm512_mask_sub_epi8(a, w.negative, _mm512_setzero_si512(), a);
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(w.magnitude, turned), _mm512_set1_epi16(1)));
  }
  SGL_MEMBER V floats() const { return _mm512_cvtepi32_ps(sum); }
};
template <int kZero, bool kWide> struct Dot<Precision::s16, kZero, kWide> {
  __m512i sum;
  SGL_MEMBER void start(const RowGroup& g, int part) {
    sum = kZero == 0 ? _mm512_setzero_si512() : _mm512_slli_epi32(negated_sums<Precision::s16>(g, part), log2_of(kZero));
  }
  SGL_MEMBER void add(const Operand<Precision::s16, kWide>& w, const uint8_t* x) {
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w.even, dword_of(x)));
    sum = _mm512_add_epi32(sum, _mm512_madd_epi16(w.odd, dword_of(x + 4)));
  }
  SGL_MEMBER V floats() const { return _mm512_cvtepi32_ps(sum); }
};
