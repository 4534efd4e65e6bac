// V: 16 floats, Q: 64 bytes of codes, as four NEON registers each. Same functions as vec_avx2.inl and vec_portable.inl.
// Members, not arrays: g++ 12 keeps arrays in the frame.

struct V {
  float32x4_t a, b, c, d;
};
struct Q {
  uint8x16_t a, b, c, d;
};
struct I {
  int32x4_t a, b, c, d;
};

constexpr int kTileRows = 6, kTileVecs = 1;  // 24 accumulators, 4 weights, 1 broadcast
constexpr int kDirectRows = 3;               // rows that share one unpacking in registers: 12 sums, 8 scales, 4 codes, 4 weights
constexpr bool kDirectEight = false;
constexpr int kDirectWide = 1;               // most rows for which both tiles of a block are taken at once
constexpr int kDirectPairs = 0;              // most rows for which two blocks are taken at once
constexpr int kDirectLimit = 6;              // most rows for which that beats a panel
constexpr int kPanelK = 128;                 // k per panel: 16 KiB, L1 may be 32 KiB

SGL_INLINE V v_set(float x) {
  const float32x4_t v = vdupq_n_f32(x);
  return {v, v, v, v};
}
SGL_INLINE V v_zero() { return v_set(0); }
SGL_INLINE V v_load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
SGL_INLINE void v_store(float* p, V v) {
  vst1q_f32(p, v.a);
  vst1q_f32(p + 4, v.b);
  vst1q_f32(p + 8, v.c);
  vst1q_f32(p + 12, v.d);
}
/// The first n lanes, 0 <= n <= 16, others 0.
SGL_INLINE V v_load_n(const float* p, int n) {
  if (n >= 16) return v_load(p);
  float lanes[16] = {};
  for (int i = 0; i < n; i++) lanes[i] = p[i];
  return v_load(lanes);
}
SGL_INLINE void v_store_n(float* p, V v, int n) {
  if (n >= 16) return v_store(p, v);
  float lanes[16];
  v_store(lanes, v);
  for (int i = 0; i < n; i++) p[i] = lanes[i];
}
SGL_INLINE V v_add(V x, V y) { return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b), vaddq_f32(x.c, y.c), vaddq_f32(x.d, y.d)}; }
SGL_INLINE V v_sub(V x, V y) { return {vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b), vsubq_f32(x.c, y.c), vsubq_f32(x.d, y.d)}; }
SGL_INLINE V v_mul(V x, V y) { return {vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)}; }
SGL_INLINE V v_div(V x, V y) { return {vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b), vdivq_f32(x.c, y.c), vdivq_f32(x.d, y.d)}; }
/// x * y + z
SGL_INLINE V v_fma(V x, V y, V z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c), vfmaq_f32(z.d, x.d, y.d)};
}
SGL_INLINE V v_fnma(V x, V y, V z) {
  return {vfmsq_f32(z.a, x.a, y.a), vfmsq_f32(z.b, x.b, y.b), vfmsq_f32(z.c, x.c, y.c), vfmsq_f32(z.d, x.d, y.d)};
}
/// The second operand where either is NaN, which the machine's own maximum would give on.
SGL_INLINE float32x4_t larger(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
SGL_INLINE float32x4_t smaller(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
SGL_INLINE V v_max(V x, V y) { return {larger(x.a, y.a), larger(x.b, y.b), larger(x.c, y.c), larger(x.d, y.d)}; }
SGL_INLINE V v_min(V x, V y) { return {smaller(x.a, y.a), smaller(x.b, y.b), smaller(x.c, y.c), smaller(x.d, y.d)}; }
SGL_INLINE V v_round(V x) { return {vrndnq_f32(x.a), vrndnq_f32(x.b), vrndnq_f32(x.c), vrndnq_f32(x.d)}; }
SGL_INLINE float32x4_t pow2_of(float32x4_t n) {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23));
}
/// 2^n of integral n in [-126, 127].
SGL_INLINE V v_pow2(V n) { return {pow2_of(n.a), pow2_of(n.b), pow2_of(n.c), pow2_of(n.d)}; }
/// x < y ? p : q
SGL_INLINE V v_where_less(V x, V y, V p, V q) {
  return {vbslq_f32(vcltq_f32(x.a, y.a), p.a, q.a), vbslq_f32(vcltq_f32(x.b, y.b), p.b, q.b), vbslq_f32(vcltq_f32(x.c, y.c), p.c, q.c),
          vbslq_f32(vcltq_f32(x.d, y.d), p.d, q.d)};
}
alignas(16) static const int32_t kLanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
SGL_INLINE float32x4_t keep4(float32x4_t v, int at, int32x4_t lo, int32x4_t hi, float32x4_t rest) {
  const int32x4_t lane = vld1q_s32(kLanes + at);
  return vbslq_f32(vandq_u32(vcgeq_s32(lane, lo), vcltq_s32(lane, hi)), v, rest);
}
/// Lanes lo <= i < hi of v, others from `rest`.
SGL_INLINE V v_keep(V v, int lo, int hi, V rest) {
  const int32x4_t l = vdupq_n_s32(lo), h = vdupq_n_s32(hi);
  return {keep4(v.a, 0, l, h, rest.a), keep4(v.b, 4, l, h, rest.b), keep4(v.c, 8, l, h, rest.c), keep4(v.d, 12, l, h, rest.d)};
}
/// Lanes i and i + 8, then + 4, + 2, + 1: the same order in every tier.
SGL_INLINE float v_sum(V v) {
  const float32x4_t four = vaddq_f32(vaddq_f32(v.a, v.c), vaddq_f32(v.b, v.d));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
SGL_INLINE float v_max_lane(V v) {
  const float32x4_t four = larger(larger(v.a, v.c), larger(v.b, v.d));
  const float32x4_t two = larger(four, vextq_f32(four, four, 2));
  const float x = vgetq_lane_f32(two, 0), y = vgetq_lane_f32(two, 1);
  return x > y ? x : y;
}
template <int S> SGL_INLINE float32x4_t butterfly4(float32x4_t v) {
  const float32x4_t other = S == 2 ? vextq_f32(v, v, 2) : vrev64q_f32(v);
  static const uint32_t kHigh[2][4] = {{0, ~0u, 0, ~0u}, {0, 0, ~0u, ~0u}};
  return vbslq_f32(vld1q_u32(kHigh[S - 1]), vsubq_f32(other, v), vaddq_f32(v, other));
}
/// Stage S of a Hadamard transform: lanes i without bit S become v[i] + v[i + S], the others v[i - S] - v[i].
template <int S> SGL_INLINE V v_butterfly(V v) {
  if constexpr (S == 8) return {vaddq_f32(v.a, v.c), vaddq_f32(v.b, v.d), vsubq_f32(v.a, v.c), vsubq_f32(v.b, v.d)};
  else if constexpr (S == 4) return {vaddq_f32(v.a, v.b), vsubq_f32(v.a, v.b), vaddq_f32(v.c, v.d), vsubq_f32(v.c, v.d)};
  else return {butterfly4<S>(v.a), butterfly4<S>(v.b), butterfly4<S>(v.c), butterfly4<S>(v.d)};
}
/// Adds lanes 0..7, then 8..15, to eight doubles.
struct Doubles {
  float64x2_t a, b, c, d;
  SGL_MEMBER void clear() { a = b = c = d = vdupq_n_f64(0); }
  SGL_MEMBER void add_half(float32x4_t lo, float32x4_t hi) {
    a = vaddq_f64(a, vcvt_f64_f32(vget_low_f32(lo)));
    b = vaddq_f64(b, vcvt_high_f64_f32(lo));
    c = vaddq_f64(c, vcvt_f64_f32(vget_low_f32(hi)));
    d = vaddq_f64(d, vcvt_high_f64_f32(hi));
  }
  SGL_MEMBER void add(V v) {
    add_half(v.a, v.b);
    add_half(v.c, v.d);
  }
  SGL_MEMBER void store(double* p) const {
    vst1q_f64(p, a);
    vst1q_f64(p + 2, b);
    vst1q_f64(p + 4, c);
    vst1q_f64(p + 6, d);
  }
};

SGL_INLINE uint16x8_t load_words(const uint8_t* p) { return vreinterpretq_u16_u8(vld1q_u8(p)); }
SGL_INLINE float32x4_t half_low(uint16x8_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(h))); }
SGL_INLINE float32x4_t half_high(uint16x8_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(h))); }
SGL_INLINE V v_load_f16(const uint8_t* p) {
  const uint16x8_t lo = load_words(p), hi = load_words(p + 16);
  return {half_low(lo), half_high(lo), half_low(hi), half_high(hi)};
}
SGL_INLINE void v_store_f16(uint8_t* p, V v) {
  vst1_u8(p, vreinterpret_u8_f16(vcvt_f16_f32(v.a)));
  vst1_u8(p + 8, vreinterpret_u8_f16(vcvt_f16_f32(v.b)));
  vst1_u8(p + 16, vreinterpret_u8_f16(vcvt_f16_f32(v.c)));
  vst1_u8(p + 24, vreinterpret_u8_f16(vcvt_f16_f32(v.d)));
}
SGL_INLINE V v_load_bf16(const uint8_t* p) {
  const uint16x8_t lo = load_words(p), hi = load_words(p + 16);
  return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(lo), 16)), vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(lo), 16)),
          vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(hi), 16)), vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(hi), 16))};
}
SGL_INLINE V to_floats(uint32x4_t a, uint32x4_t b, uint32x4_t c, uint32x4_t d) {
  return {vcvtq_f32_u32(a), vcvtq_f32_u32(b), vcvtq_f32_u32(c), vcvtq_f32_u32(d)};
}
SGL_INLINE V to_floats(I i) { return {vcvtq_f32_s32(i.a), vcvtq_f32_s32(i.b), vcvtq_f32_s32(i.c), vcvtq_f32_s32(i.d)}; }
/// 16 unsigned bytes to floats.
SGL_INLINE V widen(uint8x16_t bytes) {
  const uint16x8_t lo = vmovl_u8(vget_low_u8(bytes)), hi = vmovl_u8(vget_high_u8(bytes));
  return to_floats(vmovl_u16(vget_low_u16(lo)), vmovl_u16(vget_high_u16(lo)), vmovl_u16(vget_low_u16(hi)), vmovl_u16(vget_high_u16(hi)));
}
SGL_INLINE V v_load_u8(const uint8_t* p) { return widen(vld1q_u8(p)); }
SGL_INLINE V v_load_s8(const uint8_t* p) {
  const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(p));
  const int16x8_t lo = vmovl_s8(vget_low_s8(bytes)), hi = vmovl_s8(vget_high_s8(bytes));
  return to_floats(I{vmovl_s16(vget_low_s16(lo)), vmovl_s16(vget_high_s16(lo)), vmovl_s16(vget_low_s16(hi)), vmovl_s16(vget_high_s16(hi))});
}
SGL_INLINE V v_load_low4(const uint8_t* p) { return widen(vandq_u8(vld1q_u8(p), vdupq_n_u8(15))); }
SGL_INLINE V v_load_high4(const uint8_t* p) { return widen(vshrq_n_u8(vld1q_u8(p), 4)); }

SGL_INLINE Q q_load(const uint8_t* p) { return {vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}; }
SGL_INLINE void q_store(uint8_t* p, Q q) {
  vst1q_u8(p, q.a);
  vst1q_u8(p + 16, q.b);
  vst1q_u8(p + 32, q.c);
  vst1q_u8(p + 48, q.d);
}
SGL_INLINE Q q_low4(Q q) {
  const uint8x16_t low = vdupq_n_u8(15);
  return {vandq_u8(q.a, low), vandq_u8(q.b, low), vandq_u8(q.c, low), vandq_u8(q.d, low)};
}
SGL_INLINE Q q_high4(Q q) { return {vshrq_n_u8(q.a, 4), vshrq_n_u8(q.b, 4), vshrq_n_u8(q.c, 4), vshrq_n_u8(q.d, 4)}; }
SGL_INLINE uint32x4_t dwords(uint8x16_t v) { return vreinterpretq_u32_u8(v); }
SGL_INLINE uint8x16_t bytes(uint32x4_t v) { return vreinterpretq_u8_u32(v); }
template <int N> SGL_INLINE Q q_shl(Q q) {
  return {bytes(vshlq_n_u32(dwords(q.a), N)), bytes(vshlq_n_u32(dwords(q.b), N)), bytes(vshlq_n_u32(dwords(q.c), N)), bytes(vshlq_n_u32(dwords(q.d), N))};
}
template <int N> SGL_INLINE Q q_shr(Q q) {
  return {bytes(vshrq_n_u32(dwords(q.a), N)), bytes(vshrq_n_u32(dwords(q.b), N)), bytes(vshrq_n_u32(dwords(q.c), N)), bytes(vshrq_n_u32(dwords(q.d), N))};
}
template <int N> SGL_INLINE uint8x16_t rotate_right(uint8x16_t v) { return bytes(vsriq_n_u32(vshlq_n_u32(dwords(v), 32 - N), dwords(v), N)); }
template <int N> SGL_INLINE Q q_ror(Q q) { return {rotate_right<N>(q.a), rotate_right<N>(q.b), rotate_right<N>(q.c), rotate_right<N>(q.d)}; }
/// code | (plane & mask)
SGL_INLINE Q q_merge(Q code, Q plane, uint32_t mask) {
  const uint8x16_t m = bytes(vdupq_n_u32(mask));
  return {vorrq_u8(code.a, vandq_u8(plane.a, m)), vorrq_u8(code.b, vandq_u8(plane.b, m)), vorrq_u8(code.c, vandq_u8(plane.c, m)),
          vorrq_u8(code.d, vandq_u8(plane.d, m))};
}
/// Bytes 0..15 replaced by table[byte].
SGL_INLINE Q q_table(Q q, const uint8_t* table) {
  const uint8x16_t t = vld1q_u8(table);
  return {vqtbl1q_u8(t, q.a), vqtbl1q_u8(t, q.b), vqtbl1q_u8(t, q.c), vqtbl1q_u8(t, q.d)};
}
template <int J> SGL_INLINE uint32x4_t byte_of(uint8x16_t v) {
  if constexpr (J == 3) return vshrq_n_u32(dwords(v), 24);
  if constexpr (J == 0) return vandq_u32(dwords(v), vdupq_n_u32(255));
  // Indices out of range give 0.
  const uint32x4_t pick = {0xffffff00 | J, 0xffffff04 | J, 0xffffff08 | J, 0xffffff0c | J};
  return dwords(vqtbl1q_u8(v, bytes(pick)));
}
/// Byte J of every dword, as a float.
template <int J> SGL_INLINE V q_byte(Q q) { return to_floats(byte_of<J>(q.a), byte_of<J>(q.b), byte_of<J>(q.c), byte_of<J>(q.d)); }
