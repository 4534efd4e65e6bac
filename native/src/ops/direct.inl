// The direct path of matmul: few rows, R of them x B neighbouring blocks x T tiles of 16 channels, from tile `first` on.
// Weights are unpacked in registers and used at once; what counts is to keep the stream from memory going.

constexpr size_t kPrefetchBytes = 4096;    // how far ahead of the loads the direct path prefetches

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
