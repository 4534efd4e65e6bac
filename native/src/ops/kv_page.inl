// Elements of KV pages (kernel_table.h, KvLayout): to f32 and back, for every dtype.

/// e4m3 code as a half of 1/256 of its value: the exponent of a half has the same bias but for those 8.
SGL_INLINE uint16_t e4m3_to_half(uint8_t code) { return (uint16_t)((code & 0x80) << 8 | (code & 0x7f) << 7); }

template <KvDtype D> SGL_INLINE V load_kv(const uint8_t* p) {
  if constexpr (D == KvDtype::f32) return v_load((const float*)p);
  if constexpr (D == KvDtype::f16) return v_load_f16(p);
  if constexpr (D == KvDtype::bf16) return v_load_bf16(p);
  if constexpr (D == KvDtype::int8) return v_load_s8(p);
  uint16_t half[16];
  for (int i = 0; i < 16; i++) half[i] = e4m3_to_half(p[i]);
  return v_load_f16((const uint8_t*)half);
}
template <KvDtype D> SGL_INLINE float read_kv(const uint8_t* p) {
  if constexpr (D == KvDtype::f16) return read_f16(p);
  if constexpr (D == KvDtype::bf16) return bits_to_f32((uint32_t)read_u16(p) << 16);
  if constexpr (D == KvDtype::int8) return (float)(int8_t)*p;
  if constexpr (D == KvDtype::fp8_e4m3) return f16_to_f32(e4m3_to_half(*p));
  float v;
  memcpy(&v, p, 4);
  return v;
}
constexpr size_t kv_bytes(KvDtype d) { return d == KvDtype::f32 ? 4 : d == KvDtype::f16 || d == KvDtype::bf16 ? 2 : 1; }
constexpr bool kv_scaled(KvDtype d) { return kv_bytes(d) == 1; }

/// n neighbouring elements to f32.
template <KvDtype D> SGL_INLINE void load_row(const uint8_t* p, int n, float* out) {
  int i = 0;
  for (; i + 16 <= n; i += 16) v_store(out + i, load_kv<D>(p + i * kv_bytes(D)));
  for (; i < n; i++) out[i] = read_kv<D>(p + i * kv_bytes(D));
}

/// Largest magnitude; NaN when something is not finite.
SGL_INLINE float magnitude(const float* x, int n) {
  float most = 0;
  bool finite = true;
  for (int i = 0; i < n; i++) {
    const float a = __builtin_fabsf(x[i]);
    most = a > most ? a : most;
    finite &= a <= __FLT_MAX__;
  }
  return finite ? most : __builtin_nanf("");
}

/// Codes of n values and the scale that turns them back: value = scale * load_kv(code). Something that is not finite
/// makes the scale NaN, so that it shows.
template <KvDtype D> static float encode_kv(const float* x, int n, uint8_t* codes) {
  const float most = magnitude(x, n);
  if (!(most > 1e-30f)) {
    for (int i = 0; i < n; i++) codes[i] = 0;
    return most == most ? 0.0f : most;
  }
  if constexpr (D == KvDtype::int8) {
    const float by = 127.0f / most;
    for (int i = 0; i < n; i++) {
      const float nearest = (x[i] * by + 12582912.0f) - 12582912.0f;  // to even
      codes[i] = (uint8_t)(int8_t)(int)nearest;
    }
    return most / 127.0f;
  }
  const float by = 448.0f / most;
  for (int i = 0; i < n; i++) {
    const float y = x[i] * by;
    const uint32_t bits = f32_to_bits(y), size = bits & 0x7fffffff;
    const uint32_t rounded = size + 0x7ffff + ((size >> 20) & 1);  // to three bits of mantissa, to even
    const uint32_t normal = (rounded >> 20) - (120u << 3);
    const uint32_t subnormal = f32_to_bits(__builtin_fabsf(y) * 512.0f + 8388608.0f) & 15;  // multiples of 2^-9, to even
    const uint32_t code = size >= 0x3c800000u ? (normal < 0x7e ? normal : 0x7e) : subnormal;
    codes[i] = (uint8_t)(code | (bits >> 24 & 0x80));
  }
  return most * (256.0f / 448.0f);
}

/// To nearest even; NaN stays NaN.
SGL_INLINE uint16_t to_bf16(float x) {
  const uint32_t bits = f32_to_bits(x), rounded = bits + 0x7fff + ((bits >> 16) & 1);
  return (uint16_t)((bits & 0x7fffffff) > 0x7f800000u ? bits >> 16 | 0x40 : rounded >> 16);
}

template <KvDtype D> static bool write_kv(uint8_t* page, const KvLayout& layout, int slot, const float* k, const float* v) {
  const int dim = layout.head_dim, size = layout.page_size;
  uint8_t* keys = page + (size_t)slot * kv_bytes(D);
  uint8_t* values = page + layout.values_offset() + (size_t)slot * dim * kv_bytes(D);
  if constexpr (D == KvDtype::f32) {
    for (int d = 0; d < dim; d++) memcpy(keys + (size_t)d * size * 4, k + d, 4);
    memcpy(values, v, (size_t)dim * 4);
    return true;
  }
  if constexpr (kv_scaled(D)) {
    uint8_t codes[kMaxHeadDim];
    float scale = encode_kv<D>(k, dim, codes);
    for (int d = 0; d < dim; d++) keys[(size_t)d * size] = codes[d];
    uint8_t* scales = page + layout.scales_offset() + (size_t)slot * 4;
    memcpy(scales, &scale, 4);
    scale = encode_kv<D>(v, dim, values);
    memcpy(scales + (size_t)size * 4, &scale, 4);
    return true;
  }
  for (int d = 0; d < dim; d += 16) {
    const int n = lanes_at(d, dim);
    uint16_t half[2][16];
    if constexpr (D == KvDtype::f16) {
      v_store_f16((uint8_t*)half[0], v_load_n(k + d, n));
      v_store_f16((uint8_t*)half[1], v_load_n(v + d, n));
    } else {
      for (int i = 0; i < n; i++) {
        half[0][i] = to_bf16(k[d + i]);
        half[1][i] = to_bf16(v[d + i]);
      }
    }
    for (int i = 0; i < n; i++) memcpy(keys + (size_t)(d + i) * size * 2, half[0] + i, 2);
    memcpy(values + (size_t)d * 2, half[1], (size_t)n * 2);
  }
  // 65520 is the first value that rounds to infinity.
  return D != KvDtype::f16 || !(magnitude(k, dim) >= 65520.0f || magnitude(v, dim) >= 65520.0f);
}

static bool kv_write(uint8_t* kv, const KvLayout& layout, int layer, int page, int slot, int kv_head, const float* k,
                     const float* v) {
  uint8_t* at = kv + layout.page_offset(layer, page, kv_head);
  float even[kMaxHeadDim];
  if (const float* scale = layout.key_scale(layer, kv_head)) {
    for (int d = 0; d < layout.head_dim; d++) even[d] = k[d] / scale[d];
    k = even;
  }
  switch (layout.dtype) {
#define SGL_CASE(D) case KvDtype::D: return write_kv<KvDtype::D>(at, layout, slot, k, v);
    SGL_CASE(f32) SGL_CASE(f16) SGL_CASE(bf16) SGL_CASE(int8) SGL_CASE(fp8_e4m3)
#undef SGL_CASE
  }
  return true;
}
