// Integer dot products of 16 channels on AVX-VNNI: dot_avx512vnni.inl in two registers of 256 bits each.

constexpr int kIntegerRows = 6, kIntegerTiles = 1;  // 12 dot products, 2 weights, 1 broadcast
constexpr int kIntegerPanelK = 448, kIntegerPanelK16 = 192;
constexpr int kIntegerDirect = 4, kIntegerPair = 1;
constexpr int kRotatedLines = 6;

constexpr float kShift = 12582912.0f;
constexpr int32_t kShiftBits = 0x4b400000;

SGL_INLINE int32_t start8(int32_t negated_pair) { return kShiftBits + 128 * ((int16_t)negated_pair + (negated_pair >> 16)); }
SGL_INLINE int32_t start16(int32_t negated_sum) { return 128 * negated_sum; }

template <Precision P> SGL_INLINE V code_sum(const RowGroup& g, int part) {
  if (part == 0) return v_set(g.sum);
  return v_set((float)((P == Precision::s8 ? kShiftBits - g.start[part] : -g.start[part]) / 128));
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
template <int kZero> SGL_INLINE Q around128(Q codes) {
  if constexpr (kZero == 128) return codes;
  const __m256i more = _mm256_set1_epi8((char)(128 - kZero));
  return {_mm256_add_epi8(codes.lo, more), _mm256_add_epi8(codes.hi, more)};
}

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
template <int kZero, bool kWide> struct Operand<Precision::s8, kZero, kWide> {
  static constexpr int kBytes = 64;
  Q w;
  SGL_MEMBER static Operand of(Q codes) { return {around128<kZero>(codes)}; }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p)}; }
  SGL_MEMBER void store(uint8_t* p) const { store_aligned(p, w); }
};
template <int kZero, bool kWide> struct Operand<Precision::s16, kZero, kWide> {
  static constexpr int kBytes = 128;
  Q even, odd;  // k, k + 2 and k + 1, k + 3 as words
  SGL_MEMBER static Operand of(Q codes) {
    const Q q = around128<kZero>(codes);
    const __m256i low = _mm256_set1_epi16(255);
    return {{_mm256_and_si256(q.lo, low), _mm256_and_si256(q.hi, low)}, {_mm256_srli_epi16(q.lo, 8), _mm256_srli_epi16(q.hi, 8)}};
  }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p), q_load(p + 64)}; }
  SGL_MEMBER void store(uint8_t* p) const {
    store_aligned(p, even);
    store_aligned(p + 64, odd);
  }
};

template <Precision P, int kZero, bool kWide> struct Dot {
  static constexpr bool kShifts = P == Precision::s8;
  __m256i lo, hi;
  SGL_MEMBER void start(const RowGroup& g, int part) { lo = hi = _mm256_set1_epi32(g.start[part]); }
  /// See dot_avx2.inl.
  SGL_MEMBER void begin(int32_t codes) { lo = hi = _mm256_set1_epi32(-128 * codes); }
  SGL_MEMBER V value() const { return to_floats(lo, hi); }
  SGL_MEMBER void add(const Operand<P, kZero, kWide>& w, const Four<P>& a) {
    if constexpr (P == Precision::s8) {
      asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(lo) : "x"(w.w.lo), "x"(a.x));
      asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(hi) : "x"(w.w.hi), "x"(a.x));
    } else {
      asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(lo) : "x"(w.even.lo), "x"(a.even));
      asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(hi) : "x"(w.even.hi), "x"(a.even));
      asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(lo) : "x"(w.odd.lo), "x"(a.odd));
      asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(hi) : "x"(w.odd.hi), "x"(a.odd));
    }
  }
  SGL_MEMBER V times(V a, V shift) const {
    if constexpr (kShifts) return v_fma(a, {_mm256_castsi256_ps(lo), _mm256_castsi256_ps(hi)}, shift);
    return v_mul(a, to_floats(lo, hi));
  }
};

SGL_INLINE V shift_of(V a) { return v_mul(a, v_set(-kShift)); }
