// V: 16 floats, Q: 64 bytes of codes, as compiler vectors that any architecture's code generator splits into its own
// registers. Same functions as vec_avx512.inl and vec_avx2.inl.

typedef float V __attribute__((vector_size(64)));
typedef uint32_t Q __attribute__((vector_size(64)));
typedef int32_t I __attribute__((vector_size(64)));

#if defined(__aarch64__)
constexpr int kTileRows = 6, kTileVecs = 1;  // 24 of 32 NEON registers
#else
constexpr int kTileRows = 2, kTileVecs = 1;  // 8 of 16 SSE registers
#endif
constexpr int kDirectRows = 1, kDirectWide = 1, kDirectPairs = 0;
constexpr int kDirectLimit = 0;  // rows always go through a panel: less code to compile
constexpr bool kDirectEight = false;
constexpr int kPanelK = 128;    // k per panel: 16 KiB

template <class T> SGL_INLINE T read_as(const void* p) {
  T v;
  memcpy(&v, p, sizeof v);
  return v;
}
SGL_INLINE V v_set(float x) { return V{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
SGL_INLINE V v_zero() { return v_set(0); }
SGL_INLINE V v_load(const float* p) { return read_as<V>(p); }
SGL_INLINE void v_store(float* p, V v) { memcpy(p, &v, sizeof v); }
SGL_INLINE V v_load_n(const float* p, int n) {
  V v = v_zero();
  memcpy(&v, p, (size_t)n * 4);
  return v;
}
SGL_INLINE void v_store_n(float* p, V v, int n) { memcpy(p, &v, (size_t)n * 4); }
SGL_INLINE V v_add(V a, V b) { return a + b; }
SGL_INLINE V v_sub(V a, V b) { return a - b; }
SGL_INLINE V v_mul(V a, V b) { return a * b; }
SGL_INLINE V v_div(V a, V b) { return a / b; }
/// Fused where the machine can, so that no code path depends on what the compiler contracts.
SGL_INLINE V v_fma(V a, V b, V c) {
#ifdef __FP_FAST_FMAF
  V out;
  for (int i = 0; i < 16; i++) out[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return out;
#else
  return a * b + c;
#endif
}
SGL_INLINE V v_fnma(V a, V b, V c) { return v_fma(-a, b, c); }
/// The second operand where either is NaN.
SGL_INLINE V v_max(V a, V b) { return a > b ? a : b; }
SGL_INLINE V v_min(V a, V b) { return a < b ? a : b; }
SGL_INLINE V v_round(V a) {  // to nearest even, |a| < 2^22
  const V big = v_set(12582912.0f);
  return (a + big) - big;
}
/// 2^n of integral n in [-126, 127].
SGL_INLINE V v_pow2(V n) {
  const I bits = (__builtin_convertvector(n, I) + 127) << 23;
  return read_as<V>(&bits);
}
/// a < b ? x : y
SGL_INLINE V v_where_less(V a, V b, V x, V y) { return a < b ? x : y; }
/// Lanes lo <= i < hi of v, others from `rest`.
SGL_INLINE V v_keep(V v, int lo, int hi, V rest) {
  const I lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return ((lane >= lo) & (lane < hi)) != 0 ? v : rest;
}
/// Lanes i and i + 8, then + 4, + 2, + 1: the same order in every tier.
SGL_INLINE float v_sum(V v) {
  for (int n = 8; n > 0; n /= 2)
    for (int i = 0; i < n; i++) v[i] += v[i + n];
  return v[0];
}
SGL_INLINE float v_max_lane(V v) {
  for (int n = 8; n > 0; n /= 2)
    for (int i = 0; i < n; i++) v[i] = v[i] > v[i + n] ? v[i] : v[i + n];
  return v[0];
}
/// Stage S of a Hadamard transform: lanes i without bit S become v[i] + v[i + S], the others v[i - S] - v[i].
template <int S> SGL_INLINE V v_butterfly(V v) {
  V out;
  for (int i = 0; i < 16; i++) out[i] = i & S ? v[i ^ S] - v[i] : v[i] + v[i ^ S];
  return out;
}
/// Adds lanes 0..7, then 8..15, to eight doubles.
struct Doubles {
  double sum[8];
  SGL_MEMBER void clear() { memset(sum, 0, sizeof sum); }
  SGL_MEMBER void add(V v) {
    for (int i = 0; i < 8; i++) sum[i] += (double)v[i];
    for (int i = 0; i < 8; i++) sum[i] += (double)v[i + 8];
  }
  SGL_MEMBER void store(double* p) const { memcpy(p, sum, sizeof sum); }
};

typedef uint16_t Half __attribute__((vector_size(32)));
typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef int8_t SignedBytes __attribute__((vector_size(16)));

SGL_INLINE V v_load_f16(const uint8_t* p) {
  const Q h = __builtin_convertvector(read_as<Half>(p), Q), magnitude = (h & 0x7fffu) << 13;
  const V scaled = read_as<V>(&magnitude) * 0x1p112f;  // exact, subnormals too
  const Q special = (magnitude >= 0x0f800000u) ? (magnitude | 0x7f800000u) : read_as<Q>(&scaled);
  const Q bits = special | (h & 0x8000u) << 16;
  return read_as<V>(&bits);
}
static __attribute__((noinline)) void v_store_f16(uint8_t* p, V v) {
  for (int i = 0; i < 16; i++) {
    const uint16_t h = f32_to_f16(v[i]);
    memcpy(p + 2 * i, &h, 2);
  }
}
SGL_INLINE V v_load_bf16(const uint8_t* p) {
  const Q bits = __builtin_convertvector(read_as<Half>(p), Q) << 16;
  return read_as<V>(&bits);
}
SGL_INLINE V v_load_u8(const uint8_t* p) { return __builtin_convertvector(read_as<Bytes>(p), V); }
SGL_INLINE V v_load_s8(const uint8_t* p) { return __builtin_convertvector(read_as<SignedBytes>(p), V); }
SGL_INLINE V v_load_low4(const uint8_t* p) { return __builtin_convertvector(read_as<Bytes>(p) & 15, V); }
SGL_INLINE V v_load_high4(const uint8_t* p) { return __builtin_convertvector(read_as<Bytes>(p) >> 4, V); }

SGL_INLINE Q q_load(const uint8_t* p) { return read_as<Q>(p); }
SGL_INLINE Q q_low4(Q q) { return q & 0x0f0f0f0fu; }
SGL_INLINE Q q_high4(Q q) { return (q >> 4) & 0x0f0f0f0fu; }
template <int N> SGL_INLINE Q q_shl(Q q) { return q << N; }
template <int N> SGL_INLINE Q q_shr(Q q) { return q >> N; }
template <int N> SGL_INLINE Q q_ror(Q q) { return q >> N | q << (32 - N); }
/// code | (plane & mask)
SGL_INLINE Q q_merge(Q code, Q plane, uint32_t mask) { return code | (plane & mask); }
/// Bytes 0..15 replaced by table[byte].
SGL_INLINE Q q_table(Q q, const uint8_t* table) {
  uint8_t bytes[64];
  memcpy(bytes, &q, 64);
  for (int i = 0; i < 64; i++) bytes[i] = table[bytes[i] & 15];
  return read_as<Q>(bytes);
}
/// Byte J of every dword, as a float.
template <int J> SGL_INLINE V q_byte(Q q) {
  const I bytes = __builtin_convertvector((q >> (8 * J)) & 255u, I);
  return __builtin_convertvector(bytes, V);
}
