// Integer dot products of 16 channels on AVX-512 VNNI: see dot_avx2.inl for what these are.
//
// Codes are moved to u8 around 128 in every format, so that a sum starts from one stored number per row: -128 times the
// sum of activations. s8 sums (|sum| < 2^22) also start from the bits of the float 1.5 * 2^23: what they hold in the end
// read as a float is 1.5 * 2^23 + sum, and fma(a, that, -1.5 * 2^23 * a) is a * sum rounded once, since scales have at most
// 19 bits. That is one instruction less than converting, and the same result as in other tiers.
//
// The instructions are written as assembly because g++ 12 surrounds the intrinsics with copies of registers.

constexpr int kIntegerRows = 6, kIntegerTiles = 2;  // 12 sums, 12 dot products, 2 weights, 1 broadcast
constexpr int kIntegerPanelK = 448, kIntegerPanelK16 = 256;
constexpr int kIntegerDirect = 8, kIntegerPair = 4;
constexpr int kRotatedLines = 12;  // 24 dot products, 2 weights, 1 broadcast

constexpr float kShift = 12582912.0f;
constexpr int32_t kShiftBits = 0x4b400000;

SGL_INLINE int32_t start8(int32_t negated_pair) { return kShiftBits + 128 * ((int16_t)negated_pair + (negated_pair >> 16)); }
SGL_INLINE int32_t start16(int32_t negated_sum) { return 128 * negated_sum; }
/// The same from four sums of codes.
template <Precision P> SGL_INLINE __m128i start_of(__m128i sums) {
  return _mm_sub_epi32(_mm_set1_epi32(P == Precision::s8 ? kShiftBits : 0), _mm_slli_epi32(sums, 7));
}

template <Precision P> SGL_INLINE V code_sum(const RowGroup& g, int part) {
  if (part == 0) return v_set(g.sum);
  return v_set((float)((P == Precision::s8 ? kShiftBits - g.start[part] : -g.start[part]) / 128));
}
SGL_INLINE __m512i dword_of(const uint8_t* p) {
  int32_t v;
  memcpy(&v, p, 4);
  return _mm512_set1_epi32(v);
}
template <int kZero> SGL_INLINE Q around128(Q codes) {
  if constexpr (kZero == 128) return codes;
  return _mm512_add_epi8(codes, _mm512_set1_epi8((char)(128 - kZero)));
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
template <int kZero, bool kWide> struct Operand<Precision::s8, kZero, kWide> {
  static constexpr int kBytes = 64;
  Q w;
  SGL_MEMBER static Operand of(Q codes) { return {around128<kZero>(codes)}; }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p)}; }
  SGL_MEMBER void store(uint8_t* p) const { _mm512_store_si512(p, w); }
};
template <int kZero, bool kWide> struct Operand<Precision::s16, kZero, kWide> {
  static constexpr int kBytes = 128;
  Q even, odd;  // k, k + 2 and k + 1, k + 3 as words
  SGL_MEMBER static Operand of(Q codes) {
    const Q q = around128<kZero>(codes);
    return {_mm512_and_si512(q, _mm512_set1_epi16(255)), _mm512_srli_epi16(q, 8)};
  }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p), q_load(p + 64)}; }
  SGL_MEMBER void store(uint8_t* p) const {
    _mm512_store_si512(p, even);
    _mm512_store_si512(p + 64, odd);
  }
};

template <Precision P, int kZero, bool kWide> struct Dot {
  static constexpr bool kShifts = P == Precision::s8;
  __m512i sum;
  SGL_MEMBER void start(const RowGroup& g, int part) { sum = _mm512_set1_epi32(g.start[part]); }
  /// See dot_avx2.inl.
  SGL_MEMBER void begin(int32_t codes) { sum = _mm512_set1_epi32(-128 * codes); }
  SGL_MEMBER V value() const { return _mm512_cvtepi32_ps(sum); }
  SGL_MEMBER void add(const Operand<P, kZero, kWide>& w, const Four<P>& a) {
    if constexpr (P == Precision::s8) {
      asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(w.w), "v"(a.x));
    } else {
      asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(w.even), "v"(a.even));
      asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(w.odd), "v"(a.odd));
    }
  }
  SGL_MEMBER V times(V a, V shift) const {
    if constexpr (kShifts) return v_fma(a, _mm512_castsi512_ps(sum), shift);
    return v_mul(a, _mm512_cvtepi32_ps(sum));
  }
};

SGL_INLINE V shift_of(V a) { return v_mul(a, v_set(-kShift)); }
