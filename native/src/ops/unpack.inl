// From packed blocks (packed_format.h) to f32 registers: codes, planes of high bits, scales. A weight is a * code + b.

/// One call of matmul (kernel_table.h).
struct MatmulArgs {
  const PackedMatrix* w;
  const float* x;
  size_t x_stride;
  int m;
  const float* bias;
  float* y;
  size_t y_stride;
  uint8_t* scratch;
};

/// End of the run that starts at block b: whole blocks of one format, the last of which may be narrow. They are
/// neighbours in memory.
SGL_INLINE int run_end(const PackedBlock* blocks, int b, int most) {
  int end = b + 1;
  while (end < most && blocks[end].format == blocks[b].format && blocks[end - 1].channels == 32) end++;
  return end;
}

/// To L1, for loads a few hundred cycles from now; to L2, for what comes after other work.
SGL_INLINE void prefetch_near(const void* p) { __builtin_prefetch(p, 0, 3); }
SGL_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }
SGL_INLINE void prefetch_to_write(const void* p) { __builtin_prefetch(p, 1, 3); }

/// One value of a row that starts `bytes` after x. Written so that rows cost one index register each, not one per k.
SGL_INLINE V broadcast(const float* x, size_t bytes) { return v_set(*(const float*)((const uint8_t*)x + bytes)); }

/// Scales of 16 channels for one group of a half step: weight = a * code + b.
template <PackedFormat F>
SGL_INLINE void load_affine(const uint8_t* unit, const uint8_t* step, int half, int group, int tile, V& a, V& b) {
  constexpr PackedLayout L = packed_layout(F);
  const uint8_t* s = step + L.scale_offset() + half * (L.scale_bytes() / 2);
  if constexpr (L.scale == Scale::D) {
    a = v_load_f16(s + tile * 32);
    b = v_mul(a, v_set(-(float)L.zero));
  } else if constexpr (L.scale == Scale::DM) {
    a = v_load_f16(s + tile * 32);
    b = v_load_f16(s + 64 + tile * 32);
  } else if constexpr (L.scale == Scale::K45) {
    a = v_mul(v_load_f16(unit + tile * 32), v_load_u8(s + tile * 16));
    b = v_sub(v_zero(), v_mul(v_load_f16(unit + 64 + tile * 32), v_load_u8(s + 32 + tile * 16)));
  } else if constexpr (L.scale == Scale::K36) {
    a = v_mul(v_load_f16(unit + tile * 32), v_load_s8(s + group * 32 + tile * 16));
    b = v_mul(a, v_set(-(float)L.zero));
  } else {
    a = v_mul(v_load_f16(unit + tile * 32), v_load_low4(s + group * 32 + tile * 16));
    b = v_sub(v_zero(), v_mul(v_load_f16(unit + 64 + tile * 32), v_load_high4(s + group * 32 + tile * 16)));
  }
}

alignas(16) constexpr uint8_t kIq4Table[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};

/// High bits for rows 4 * group .. + 3 of a half step, those of the first row in place; next_plane moves on by a row.
template <PackedFormat F>
SGL_INLINE Q load_plane(const uint8_t* step, int half, int group, int tile) {
  constexpr PackedLayout L = packed_layout(F);
  if constexpr (L.high_bits == 0) return Q();
  const uint8_t* p = step + L.code_bytes() + (tile * 2 + half) * 64 * L.high_bits;
  if constexpr (L.high_bits == 2) return q_ror<28>(q_load(p + group * 64));
  const Q plane = q_load(p);
  return group == 0 ? q_shl<4>(plane) : plane;
}
template <PackedFormat F> SGL_INLINE Q next_plane(Q plane) {
  constexpr PackedLayout L = packed_layout(F);
  if constexpr (L.high_bits == 2) return q_ror<2>(plane);
  if constexpr (L.high_bits == 1) return q_shr<1>(plane);
  return plane;
}

/// Codes of one row of half step H: 4 k of 16 channels, a byte each.
template <PackedFormat F, int H>
SGL_INLINE Q load_codes(const uint8_t* step, int row, int tile, Q plane) {
  constexpr PackedLayout L = packed_layout(F);
  if constexpr (L.code_bits == 8) {
    return q_load(step + tile * 1024 + (H * 8 + row) * 64);
  } else {
    const Q packed = q_load(step + tile * 512 + row * 64);
    const Q code = H == 0 ? q_low4(packed) : q_high4(packed);
    if constexpr (F == PackedFormat::IQ4_NL) return q_table(code, kIq4Table);
    if constexpr (L.high_bits == 1) return q_merge(code, plane, 0x10101010u);
    if constexpr (L.high_bits == 2) return q_merge(code, plane, 0x30303030u);
    return code;
  }
}

template <PackedFormat F> SGL_INLINE V load_floats(const uint8_t* p) {
  if constexpr (F == PackedFormat::F16) return v_load_f16(p);
  if constexpr (F == PackedFormat::BF16) return v_load_bf16(p);
  return v_load((const float*)p);
}
