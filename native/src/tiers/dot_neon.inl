// Integer dot products of 16 channels on NEON: see dot_avx2.inl for what these are. With SGL_NEON_DOTPROD (a value) s8
// takes sdot, which adds the four products of a channel at once.

constexpr int kIntegerPanelK = 448, kIntegerPanelK16 = 192;
constexpr int kIntegerTiles = 1, kIntegerDirect = 2, kIntegerPair = 0;
constexpr int kRotatedLines = 4;
#if SGL_NEON_DOTPROD
constexpr int kIntegerRows = 5;  // 20 sums, 4 weights (s16: 8), 1 broadcast
#else
constexpr int kIntegerRows = 3;  // 24 sums, 4 weights, 1 broadcast
#endif

/// -(sum of codes) of a part of a group (0: all 32, 1: the first 16, 2: the last 16).
template <Precision P> SGL_INLINE int32_t negated_sum(const RowGroup& g, int part) {
  const int32_t start = g.start[part];
  return P == Precision::s8 ? (int16_t)start + (start >> 16) : start;
}
/// Sum of the codes of a part, in every lane.
template <Precision P> SGL_INLINE V code_sum(const RowGroup& g, int part) { return v_set(part == 0 ? g.sum : (float)-negated_sum<P>(g, part)); }

SGL_INLINE I i_set(int32_t x) {
  const int32x4_t v = vdupq_n_s32(x);
  return {v, v, v, v};
}
SGL_INLINE int8x16_t as_signed(uint8x16_t v) { return vreinterpretq_s8_u8(v); }

template <Precision P, int kZero, bool kWide> struct Operand;
template <int kZero, bool kWide> struct Operand<Precision::s8, kZero, kWide> {
  static constexpr int kBytes = 64;
  Q w;  // signed; of eight bits code - 128, so that no zero is left
  SGL_MEMBER static Operand of(Q codes) {
    if constexpr (!kWide) return {codes};
    const uint8x16_t flip = vdupq_n_u8(0x80);
    return {{veorq_u8(codes.a, flip), veorq_u8(codes.b, flip), veorq_u8(codes.c, flip), veorq_u8(codes.d, flip)}};
  }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {q_load(p)}; }
  SGL_MEMBER void store(uint8_t* p) const { q_store(p, w); }
};
/// Channels 0-7 and 8-15 of one k as words.
struct Words {
  int16x8_t lo, hi;
};
template <int kZero, bool kWide> struct Operand<Precision::s16, kZero, kWide> {
  static constexpr int kBytes = 128;
  Words k0, k1, k2, k3;
  SGL_MEMBER static int16x8_t low(uint16x8_t v) { return vreinterpretq_s16_u16(vandq_u16(v, vdupq_n_u16(255))); }
  SGL_MEMBER static int16x8_t high(uint16x8_t v) { return vreinterpretq_s16_u16(vshrq_n_u16(v, 8)); }
  SGL_MEMBER static Operand of(Q codes) {
    const uint16x8_t a = vreinterpretq_u16_u8(codes.a), b = vreinterpretq_u16_u8(codes.b);
    const uint16x8_t c = vreinterpretq_u16_u8(codes.c), d = vreinterpretq_u16_u8(codes.d);
    const uint16x8_t lo01 = vuzp1q_u16(a, b), lo23 = vuzp2q_u16(a, b), hi01 = vuzp1q_u16(c, d), hi23 = vuzp2q_u16(c, d);
    return {{low(lo01), low(hi01)}, {high(lo01), high(hi01)}, {low(lo23), low(hi23)}, {high(lo23), high(hi23)}};
  }
  SGL_MEMBER static Words load_words(const uint8_t* p) { return {vreinterpretq_s16_u8(vld1q_u8(p)), vreinterpretq_s16_u8(vld1q_u8(p + 16))}; }
  SGL_MEMBER static Operand load(const uint8_t* p) { return {load_words(p), load_words(p + 32), load_words(p + 64), load_words(p + 96)}; }
  SGL_MEMBER static void store_words(uint8_t* p, Words w) {
    vst1q_u8(p, vreinterpretq_u8_s16(w.lo));
    vst1q_u8(p + 16, vreinterpretq_u8_s16(w.hi));
  }
  SGL_MEMBER void store(uint8_t* p) const {
    store_words(p, k0);
    store_words(p + 32, k1);
    store_words(p + 64, k2);
    store_words(p + 96, k3);
  }
};

template <Precision P> struct Four;
/// In every dword.
template <> struct Four<Precision::s8> {
  int8x16_t x;
  SGL_MEMBER static Four of(const uint8_t* p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return {vreinterpretq_s8_u32(vdupq_n_u32(v))};
  }
};
/// Of k, k + 2, k + 1, k + 3.
template <> struct Four<Precision::s16> {
  int16x4_t x;
  SGL_MEMBER static Four of(const uint8_t* p) { return {vreinterpret_s16_u8(vld1_u8(p))}; }
};

/// Sum over a part of a group of (code - zero) * activation.
template <Precision P, int kZero, bool kWide> struct Dot;

#if SGL_NEON_DOTPROD
template <int kZero, bool kWide> struct Dot<Precision::s8, kZero, kWide> {
  static constexpr bool kShifts = false;
  I sum;
  SGL_MEMBER void start(const RowGroup& g, int part) { sum = i_set(kWide || kZero == 0 ? 0 : kZero * negated_sum<Precision::s8>(g, part)); }
  /// See dot_avx2.inl.
  SGL_MEMBER void begin(int32_t) { sum = i_set(0); }
  SGL_MEMBER V value() const { return to_floats(sum); }
  SGL_MEMBER void add(const Operand<Precision::s8, kZero, kWide>& w, const Four<Precision::s8>& four) {
    const int8x16_t a = four.x;
    sum.a = vdotq_s32(sum.a, as_signed(w.w.a), a);
    sum.b = vdotq_s32(sum.b, as_signed(w.w.b), a);
    sum.c = vdotq_s32(sum.c, as_signed(w.w.c), a);
    sum.d = vdotq_s32(sum.d, as_signed(w.w.d), a);
  }
  SGL_MEMBER V times(V a, V) const { return v_mul(a, to_floats(sum)); }
};
#else
/// Narrow codes, |code - zero| <= 32: the products of each k % 4 are added up in s16. Sums on the way may wrap; the sum
/// of two neighbours, which has all of zero in its first lane, fits at the end: 16 * 16 * 127 = 8 * 32 * 127 = 32512.
template <int kZero> struct Dot<Precision::s8, kZero, false> {
  static constexpr bool kShifts = false;
  int16x8_t a0, a1, b0, b1, c0, c1, d0, d1;
  SGL_MEMBER void start(const RowGroup& g, int part) {
    a0 = vdupq_n_s16(0);
    if constexpr (kZero != 0) {
      const int16x4_t pairs = vreinterpret_s16_s32(vdup_n_s32(g.start[part]));
      const uint32x2_t words = vreinterpret_u32_s16(vmul_n_s16(pairs, kZero));
      // The two words of a channel widen to dwords whose upper halves are 0.
      a0 = vreinterpretq_s16_u32(vmovl_u16(vreinterpret_u16_u32(words)));
    }
    a1 = b0 = b1 = c0 = c1 = d0 = d1 = a0;
  }
  SGL_MEMBER static void add(int16x8_t& lo, int16x8_t& hi, uint8x16_t w, int8x16_t x) {
    lo = vmlal_s8(lo, vget_low_s8(as_signed(w)), vget_low_s8(x));
    hi = vmlal_high_s8(hi, as_signed(w), x);
  }
  SGL_MEMBER void add(const Operand<Precision::s8, kZero, false>& w, const Four<Precision::s8>& four) {
    add(a0, a1, w.w.a, four.x);
    add(b0, b1, w.w.b, four.x);
    add(c0, c1, w.w.c, four.x);
    add(d0, d1, w.w.d, four.x);
  }
  SGL_MEMBER V times(V a, V) const {
    return v_mul(a, to_floats(I{vpaddlq_s16(vpaddq_s16(a0, a1)), vpaddlq_s16(vpaddq_s16(b0, b1)), vpaddlq_s16(vpaddq_s16(c0, c1)), vpaddlq_s16(vpaddq_s16(d0, d1))}));
  }
};
/// Eight bits: two products fit s16 (2 * 128 * 127 = 32512), four do not.
template <int kZero> struct Dot<Precision::s8, kZero, true> {
  static constexpr bool kShifts = false;
  I sum;
  SGL_MEMBER void start(const RowGroup&, int) { sum = i_set(0); }
  /// See dot_avx2.inl.
  SGL_MEMBER void begin(int32_t) { sum = i_set(0); }
  SGL_MEMBER V value() const { return to_floats(sum); }
  SGL_MEMBER static int32x4_t add(int32x4_t sum, uint8x16_t w, int8x16_t x) {
    return vpadalq_s16(sum, vpaddq_s16(vmull_s8(vget_low_s8(as_signed(w)), vget_low_s8(x)), vmull_high_s8(as_signed(w), x)));
  }
  SGL_MEMBER void add(const Operand<Precision::s8, kZero, true>& w, const Four<Precision::s8>& four) {
    sum = {add(sum.a, w.w.a, four.x), add(sum.b, w.w.b, four.x), add(sum.c, w.w.c, four.x), add(sum.d, w.w.d, four.x)};
  }
  SGL_MEMBER V times(V a, V) const { return v_mul(a, to_floats(sum)); }
};
#endif

template <int kZero, bool kWide> struct Dot<Precision::s16, kZero, kWide> {
  static constexpr bool kShifts = false;
  I sum;
  SGL_MEMBER void start(const RowGroup& g, int part) { sum = i_set(kZero == 0 ? 0 : kZero * negated_sum<Precision::s16>(g, part)); }
  template <int kLane> SGL_MEMBER void add(const Words& w, int16x4_t x) {
    sum.a = vmlal_lane_s16(sum.a, vget_low_s16(w.lo), x, kLane);
    sum.b = vmlal_high_lane_s16(sum.b, w.lo, x, kLane);
    sum.c = vmlal_lane_s16(sum.c, vget_low_s16(w.hi), x, kLane);
    sum.d = vmlal_high_lane_s16(sum.d, w.hi, x, kLane);
  }
  SGL_MEMBER void add(const Operand<Precision::s16, kZero, kWide>& w, const Four<Precision::s16>& four) {
    add<0>(w.k0, four.x);
    add<2>(w.k1, four.x);
    add<1>(w.k2, four.x);
    add<3>(w.k3, four.x);
  }
  SGL_MEMBER V times(V a, V) const { return v_mul(a, to_floats(sum)); }
};

SGL_INLINE V shift_of(V) { return v_set(0); }
