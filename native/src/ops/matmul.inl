// y = x W^T over packed blocks, exact mode: f32 activations, weights dequantised to f32 in registers.
//
// Every output has one accumulator that starts at 0 and takes fma(x[k], w[k], acc) for k = 0, 1, 2, ...; the bias is
// added last. Both paths below do just that, so they give the same bits and m may choose between them:
//   direct  few rows: weights are unpacked in registers and used at once, the stream from memory is prefetched
//   panel   many rows: kPanelK x 32 weights are dequantised into scratch and multiplied with register blocks of rows;
//           partial accumulators rest in y between panels

constexpr int kPanelRows = 516;         // rows per pass over the blocks: their slice of x should stay in L2
constexpr size_t kStreamBytes = 512 << 10;  // of x that may be read again for every block
constexpr size_t kPrefetchBytes = 4096;    // how far ahead of the loads the direct path prefetches

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

/// To L1, for loads a few hundred cycles from now; to L2, for what comes after other work.
SGL_INLINE void prefetch_near(const void* p) { __builtin_prefetch(p, 0, 3); }
SGL_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

/// One value of a row that starts `bytes` after x. Written so that rows cost one index register each, not one per k.
SGL_INLINE V broadcast(const float* x, size_t bytes) { return v_set(*(const float*)((const uint8_t*)x + bytes)); }

// ---- unpacking

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

// ---- direct path: R rows x B neighbouring blocks x T tiles of 16 channels, from tile `first` on

template <int R, int B, int T> struct Sums {
  V at[B][R][T];
};

template <int R, int B, int T, int J>
SGL_INLINE void use_codes(Sums<R, B, T>& sums, const Q (&codes)[B][T], const V (&a)[B][T], const V (&b)[B][T], const float* x,
                          size_t x_stride) {
  V w[B][T];
#pragma GCC unroll 2
  for (int i = 0; i < B; i++)
#pragma GCC unroll 2
    for (int t = 0; t < T; t++) w[i][t] = v_fma(q_byte<J>(codes[i][t]), a[i][t], b[i][t]);
#pragma GCC unroll 8
  for (int m = 0; m < R; m++) {
    const V xm = broadcast(x + J, m * (x_stride * sizeof(float)));
#pragma GCC unroll 2
    for (int i = 0; i < B; i++)
#pragma GCC unroll 2
      for (int t = 0; t < T; t++) sums.at[i][m][t] = v_fma(xm, w[i][t], sums.at[i][m][t]);
  }
}

template <PackedFormat F, int R, int B, int T, int H>
SGL_INLINE void direct_half(Sums<R, B, T>& sums, int first, const uint8_t* const (&unit)[B], const uint8_t* const (&step)[B],
                            const uint8_t* const (&ahead)[B], const float* x, size_t x_stride) {
  constexpr PackedLayout L = packed_layout(F);
  // A step's lines are asked for one or two per row: in bursts they would queue up before the loads.
  constexpr int kAll = (L.step_bytes() + L.head_bytes) / 64, kEarly = (kAll + 15) / 16, kLate = (kAll - 8 * kEarly + 7) / 8;
  constexpr int kLines = H == 0 ? kEarly : kLate, kFirstLine = H == 0 ? 0 : 8 * kEarly;
  V a[B][T], b[B][T];
#pragma GCC unroll 1
  for (int g = 0; g < 2; g++) {
    Q plane[B][T];
#pragma GCC unroll 2
    for (int i = 0; i < B; i++) {
#pragma GCC unroll 2
      for (int t = 0; t < T; t++) {
        if (L.groups() == 2 || g == 0) load_affine<F>(unit[i], step[i], H, g, first + t, a[i][t], b[i][t]);
        plane[i][t] = load_plane<F>(step[i], H, g, first + t);
      }
    }
#pragma GCC unroll 1
    for (int r = 0; r < 4; r++, x += 4) {
      Q codes[B][T];
#pragma GCC unroll 2
      for (int i = 0; i < B; i++) {
#pragma GCC unroll 4
        for (int l = 0; l < kLines; l++) prefetch_near(ahead[i] + (kFirstLine + (g * 4 + r) * kLines + l) * 64);
#pragma GCC unroll 2
        for (int t = 0; t < T; t++) {
          codes[i][t] = load_codes<F, H>(step[i], g * 4 + r, first + t, plane[i][t]);
          plane[i][t] = next_plane<F>(plane[i][t]);
        }
      }
      use_codes<R, B, T, 0>(sums, codes, a, b, x, x_stride);
      use_codes<R, B, T, 1>(sums, codes, a, b, x, x_stride);
      use_codes<R, B, T, 2>(sums, codes, a, b, x, x_stride);
      use_codes<R, B, T, 3>(sums, codes, a, b, x, x_stride);
    }
  }
}

template <PackedFormat F, int R, int B, int T>
SGL_INLINE void direct_quantised(Sums<R, B, T>& sums, int first, const uint8_t* data, size_t block_bytes, int columns, const float* x,
                                 size_t x_stride, bool more) {
  constexpr PackedLayout L = packed_layout(F);
  constexpr int kAhead = ((int)kPrefetchBytes + L.step_bytes() - 1) / L.step_bytes();
  const int steps = columns / 64;
  const uint8_t *unit[B], *step[B], *ahead[B];
  for (int s = 0; s < steps; s++, x += 64) {
    // Past the end of a block its stream goes on in the block this thread takes next, if there is one in this call.
    size_t next = L.step_offset(s);
    if (s + kAhead < steps)
      next = L.step_offset(s + kAhead);
    else if (more)
      next = B * block_bytes + L.step_offset(s + kAhead - steps);
#pragma GCC unroll 2
    for (int i = 0; i < B; i++) {
      unit[i] = data + i * block_bytes + L.unit_offset(s);
      step[i] = data + i * block_bytes + L.step_offset(s);
      ahead[i] = data + i * block_bytes + next - L.head_bytes;  // a unit's first step comes with its head
    }
    direct_half<F, R, B, T, 0>(sums, first, unit, step, ahead, x, x_stride);
    direct_half<F, R, B, T, 1>(sums, first, unit, step, ahead, x + 32, x_stride);
  }
  if (columns % 64 != 0) {
#pragma GCC unroll 2
    for (int i = 0; i < B; i++) {
      unit[i] = data + i * block_bytes + L.unit_offset(steps);
      step[i] = ahead[i] = data + i * block_bytes + L.step_offset(steps);
    }
    direct_half<F, R, B, T, 0>(sums, first, unit, step, ahead, x, x_stride);
  }
}

template <PackedFormat F, int R, int B, int T>
SGL_INLINE void direct_floats(Sums<R, B, T>& sums, int first, const uint8_t* data, size_t block_bytes, int columns, const float* x,
                              size_t x_stride) {
  constexpr int kElement = packed_layout(F).code_bits / 8;
#pragma GCC unroll 2
  for (int k = 0; k < columns; k++) {
#pragma GCC unroll 2
    for (int i = 0; i < B; i++) {
      const uint8_t* p = data + i * block_bytes + (size_t)k * 32 * kElement + first * 16 * kElement;
      prefetch_near(p + kPrefetchBytes);
      if constexpr (kElement == 4 && T == 2) prefetch_near(p + kPrefetchBytes + 64);
#pragma GCC unroll 2
      for (int t = 0; t < T; t++) {
        const V w = load_floats<F>(p + t * 16 * kElement);
#pragma GCC unroll 8
        for (int m = 0; m < R; m++)
          sums.at[i][m][t] = v_fma(broadcast(x + k, m * (x_stride * sizeof(float))), w, sums.at[i][m][t]);
      }
    }
  }
}

/// The sums of up to 16 channels of one row, the bias (at those channels, or null) added.
SGL_INLINE void store_sums(float* y, V sum, const float* bias, int channels) {
  if (channels <= 0) return;
  if (bias != nullptr) sum = v_add(sum, v_load_n(bias, lesser(channels, 16)));
  if (channels >= 16)
    v_store(y, sum);
  else
    v_store_n(y, sum, channels);
}

/// Rows [row, row + R) against B neighbouring blocks.
template <PackedFormat F, int R, int B, int T>
static __attribute__((noinline)) void direct(const MatmulArgs& args, const PackedBlock* blocks, int row, bool more) {
  constexpr PackedLayout L = packed_layout(F);
  const int columns = args.w->columns;
  const float* x = args.x + row * args.x_stride;
#pragma GCC unroll 1
  for (int first = 0; first < 2; first += T) {
    Sums<R, B, T> sums;
#pragma GCC unroll 2
    for (int i = 0; i < B; i++)
#pragma GCC unroll 8
      for (int m = 0; m < R; m++)
#pragma GCC unroll 2
        for (int t = 0; t < T; t++) sums.at[i][m][t] = v_zero();
    if constexpr (L.quantised)
      direct_quantised<F, R, B, T>(sums, first, blocks->data, L.block_bytes(columns), columns, x, args.x_stride, more);
    else
      direct_floats<F, R, B, T>(sums, first, blocks->data, L.block_bytes(columns), columns, x, args.x_stride);
#pragma GCC unroll 2
    for (int i = 0; i < B; i++)
#pragma GCC unroll 8
      for (int m = 0; m < R; m++)
#pragma GCC unroll 2
        for (int t = 0; t < T; t++) {
          const int at = (first + t) * 16, channel = blocks[i].channel + at;
          const float* bias = args.bias == nullptr ? nullptr : args.bias + channel;
          store_sums(args.y + (row + m) * args.y_stride + channel, sums.at[i][m][t], bias, blocks[i].channels - at);
        }
  }
}

template <PackedFormat F>
static void direct_rows(const MatmulArgs& args, const PackedBlock* blocks, int count) {
  // The streams start cold: ask at once for what would otherwise be a chain of misses.
  const size_t block_bytes = packed_layout(F).block_bytes(args.w->columns);
  for (int i = 0; i < lesser(count, kDirectPairs > 0 ? 2 : 1); i++)
    for (size_t at = 0; at < kPrefetchBytes && at < block_bytes; at += 64) prefetch_near(blocks[i].data + at);
  int i = 0;
  // One or two rows are too few independent sums to hide the latency of an fma: take two blocks at once.
  if constexpr (kDirectPairs >= 1)
    if (args.m == 1)
      for (; i + 2 <= count; i += 2) direct<F, 1, 2, 2>(args, blocks + i, 0, i + 4 <= count);
  if constexpr (kDirectPairs >= 2)
    if (args.m == 2)
      for (; i + 2 <= count; i += 2) direct<F, 2, 2, 2>(args, blocks + i, 0, i + 4 <= count);
  for (; i < count; i++) {
    // Several passes over a block find it in L2; equal passes, since even one row takes the time of two.
    int passes = (args.m + kDirectRows - 1) / kDirectRows;
    for (int row = 0; row < args.m; passes--) {
      const int take = kDirectEight && args.m == 8 ? 8 : (args.m - row + passes - 1) / passes;
      switch (take) {
#define SGL_CASE(n) \
  case n: \
    if constexpr (n <= kDirectRows || (n == 8 && kDirectEight)) direct<F, n, 1, (n > kDirectWide ? 1 : 2)>(args, blocks + i, row, i + 1 < count); \
    break;
        SGL_CASE(1) SGL_CASE(2) SGL_CASE(3) SGL_CASE(4) SGL_CASE(8)
#undef SGL_CASE
      }
      row += take;
    }
  }
}

// ---- panel path

template <PackedFormat F, int H>
SGL_INLINE void panel_half(const uint8_t* unit, const uint8_t* step, float* out) {
  constexpr PackedLayout L = packed_layout(F);
#pragma GCC unroll 1
  for (int t = 0; t < 2; t++) {
    V a, b;
#pragma GCC unroll 1
    for (int g = 0; g < 2; g++) {
      if (L.groups() == 2 || g == 0) load_affine<F>(unit, step, H, g, t, a, b);
      Q plane = load_plane<F>(step, H, g, t);
      float* at = out + g * 16 * 32 + t * 16;
#pragma GCC unroll 1
      for (int r = 0; r < 4; r++, at += 4 * 32) {
        const Q codes = load_codes<F, H>(step, g * 4 + r, t, plane);
        plane = next_plane<F>(plane);
        v_store(at, v_fma(q_byte<0>(codes), a, b));
        v_store(at + 32, v_fma(q_byte<1>(codes), a, b));
        v_store(at + 64, v_fma(q_byte<2>(codes), a, b));
        v_store(at + 96, v_fma(q_byte<3>(codes), a, b));
      }
    }
  }
}

/// Weights [k0, k1) of a block as [k][32] f32. k0 is a multiple of 64.
template <PackedFormat F>
static __attribute__((noinline)) void fill_panel(const uint8_t* block, int k0, int k1, float* panel) {
  constexpr PackedLayout L = packed_layout(F);
  if constexpr (L.quantised) {
    for (int k = k0; k < k1; k += 64, panel += 64 * 32) {
      const uint8_t *unit = block + L.unit_offset(k / 64), *step = block + L.step_offset(k / 64);
      panel_half<F, 0>(unit, step, panel);
      if (k1 - k > 32) panel_half<F, 1>(unit, step, panel + 32 * 32);
    }
  } else {
    constexpr int kElement = L.code_bits / 8;
    const uint8_t* p = block + (size_t)k0 * 32 * kElement;
    for (int i = 0; i < (k1 - k0) * 2; i++) v_store(panel + i * 16, load_floats<F>(p + (size_t)i * 16 * kElement));
  }
}

/// Asks for the weights that fill_panel will read next; the multiplication in between hides the latency.
template <PackedFormat F> static void prefetch_panel(const uint8_t* block, int k0, int k1) {
  constexpr PackedLayout L = packed_layout(F);
  constexpr int kElement = L.code_bits / 8;
  const uint8_t* from = block + (L.quantised ? L.unit_offset(k0 / 64) : (size_t)k0 * 32 * kElement);
  const uint8_t* to = block + (L.quantised ? L.unit_offset((k1 + 63) / 64) : (size_t)k1 * 32 * kElement);
  for (; from < to; from += 64) prefetch(from);
}

/// y[i][0 .. 16 NV) (+)= sum over k of x[i][k] * panel[k][..], i < R: the register block of matmul and attention.
template <int R, int NV>
static __attribute__((noinline)) void tile(const float* x, size_t x_stride, const float* panel, size_t panel_stride, int n,
                                           float* y, size_t y_stride, bool first) {
  V sum[R][NV];
#pragma GCC unroll 12
  for (int i = 0; i < R; i++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) sum[i][v] = first ? v_zero() : v_load(y + i * y_stride + v * 16);
#pragma GCC unroll 4
  for (int k = 0; k < n; k++, panel += panel_stride) {
    V w[NV];
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) w[v] = v_load(panel + v * 16);
#pragma GCC unroll 12
    for (int i = 0; i < R; i++) {
      const V xi = broadcast(x + k, i * (x_stride * sizeof(float)));
#pragma GCC unroll 2
      for (int v = 0; v < NV; v++) sum[i][v] = v_fma(xi, w[v], sum[i][v]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < R; i++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) v_store(y + i * y_stride + v * 16, sum[i][v]);
}

/// Any number of rows x 16 * vecs columns by register blocks.
SGL_INLINE void tiles(const float* x, size_t x_stride, int rows, const float* panel, size_t panel_stride, int n, float* y,
                      size_t y_stride, int vecs, bool first) {
  for (int i = 0; i < rows;) {
    const int take = lesser(rows - i, kTileRows);
    const float* xi = x + i * x_stride;
    for (int v = 0; v < vecs;) {
      const int wide = lesser(vecs - v, kTileVecs);
      const float* p = panel + v * 16;
      float* yi = y + i * y_stride + v * 16;
      switch (take * 2 + wide - 1) {
#define SGL_CASE(r) \
  case r * 2: \
    if constexpr (r <= kTileRows) tile<r, 1>(xi, x_stride, p, panel_stride, n, yi, y_stride, first); \
    break; \
  case r * 2 + 1: \
    if constexpr (r <= kTileRows && kTileVecs == 2) tile<r, 2>(xi, x_stride, p, panel_stride, n, yi, y_stride, first); \
    break;
        SGL_CASE(1) SGL_CASE(2) SGL_CASE(3) SGL_CASE(4) SGL_CASE(5) SGL_CASE(6)
        SGL_CASE(7) SGL_CASE(8) SGL_CASE(9) SGL_CASE(10) SGL_CASE(11) SGL_CASE(12)
#undef SGL_CASE
      }
      v += wide;
    }
    i += take;
  }
}

/// The product of one panel with rows [row, row + rows), added to what earlier panels left in y.
template <PackedFormat F>
static void use_panel(const MatmulArgs& args, const PackedBlock& block, int row, int rows, int k0, int k1, const float* panel,
                      float* spare) {
  const bool whole = block.channels == 32, last = k1 == args.w->columns;
  float* out = args.y + row * args.y_stride + block.channel;
  float* y = whole ? out : spare;  // a narrow block must not write past its channels
  const size_t y_stride = whole ? args.y_stride : 32;
  tiles(args.x + row * args.x_stride + k0, args.x_stride, rows, panel, 32, k1 - k0, y, y_stride, 2, k0 == 0);
  if (!last || (whole && args.bias == nullptr)) return;
  const float* bias = args.bias == nullptr ? nullptr : args.bias + block.channel;
  for (int r = 0; r < rows; r++)
    for (int at = 0; at < block.channels; at += 16)
      store_sums(out + r * args.y_stride + at, v_load(y + r * y_stride + at), bias == nullptr ? nullptr : bias + at, block.channels - at);
}

template <PackedFormat F>
static void panel_rows(const MatmulArgs& args, const PackedBlock* blocks, int count) {
  const int columns = args.w->columns, panels = (columns + kPanelK - 1) / kPanelK;
  float* panel = (float*)args.scratch;
  float* spare = panel + kPanelK * 32;  // [rows][32] for the block of fewer than 32 channels, the last of a run
  // Few rows: block by block, so that the weights are one stream. Many: panel by panel, so that a slice of x stays in L2.
  const bool stream = (size_t)lesser(args.m, kPanelRows) * columns * 4 <= kStreamBytes;
  for (int row = 0; row < args.m; row += kPanelRows)
    for (int i = 0; i < panels * count; i++) {
      const int b = stream ? i / panels : i % count, k0 = (stream ? i % panels : i / count) * kPanelK;
      const int k1 = lesser(k0 + kPanelK, columns);
      fill_panel<F>(blocks[b].data, k0, k1, panel);
      const int next = i + 1;
      if (next < panels * count || stream) {
        const int next_b = stream ? next / panels : next % count, next_k = (stream ? next % panels : next / count) * kPanelK;
        const uint8_t* data = blocks->data + next_b * packed_layout(F).block_bytes(columns);  // may be past the run: no harm
        prefetch_panel<F>(data, next_k, lesser(next_k + kPanelK, columns));
      }
      use_panel<F>(args, blocks[b], row, lesser(args.m - row, kPanelRows), k0, k1, panel, spare);
    }
}

// ---- entry

template <PackedFormat F>
static void matmul_run(const MatmulArgs& args, const PackedBlock* blocks, int count) {
  if constexpr (kDirectRows > 0)
    if (args.m <= kDirectLimit) return direct_rows<F>(args, blocks, count);
  panel_rows<F>(args, blocks, count);
}

static void matmul(const PackedMatrix& w, int block0, int block1, const float* x, size_t x_stride, int m, const float* bias,
                   float* y, size_t y_stride, uint8_t* scratch) {
  const MatmulArgs args = {&w, x, x_stride, m, bias, y, y_stride, scratch};
  const PackedBlock* blocks = w.blocks.data();
  for (int b = block0; b < block1;) {
    // A run: whole blocks of one format, the last of which may be narrow. They are neighbours in memory.
    int end = b + 1;
    while (end < block1 && blocks[end].format == blocks[b].format && blocks[end - 1].channels == 32) end++;
    switch ((PackedFormat)blocks[b].format) {
#define SGL_CASE(F) \
  case PackedFormat::F: matmul_run<PackedFormat::F>(args, blocks + b, end - b); break;
      SGL_CASE(F32) SGL_CASE(F16) SGL_CASE(BF16) SGL_CASE(Q4_0) SGL_CASE(Q4_1) SGL_CASE(Q5_0) SGL_CASE(Q5_1) SGL_CASE(Q8_0)
      SGL_CASE(Q2_K) SGL_CASE(Q3_K) SGL_CASE(Q4_K) SGL_CASE(Q5_K) SGL_CASE(Q6_K) SGL_CASE(IQ4_NL)
#undef SGL_CASE
    }
    b = end;
  }
}

static int matmul_chunk(const PackedMatrix& w, int m) {
  const int blocks = (int)w.blocks.size();
  (void)m;
  const int chunk = blocks / 48 * 2;  // an even number: single rows take blocks in pairs; some 24 items balance well
  return chunk < 2 ? 2 : chunk > 32 ? 32 : chunk;
}
