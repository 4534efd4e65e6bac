// Integer products of few rows: weights are unpacked in registers and used at once, as in direct.inl. The same integers
// folded in the same order as by a panel, so the number of rows may choose.

template <Precision P, PackedFormat F, int R, int T, int H>
SGL_INLINE void integer_half(V (&sum)[R][T], int first, const uint8_t* unit, const uint8_t* step, const uint8_t* ahead, const uint8_t* x,
                             const uint8_t* groups, size_t stride) {
  using S = ShapeOf<F>;
  constexpr PackedLayout L = packed_layout(F);
  // A step's lines are asked for one or two per row: in bursts they would queue up before the loads.
  constexpr int kAll = (L.step_bytes() + L.head_bytes) / 64, kEarly = (kAll + 15) / 16, kLate = (kAll - 8 * kEarly + 7) / 8;
  constexpr int kLines = H == 0 ? kEarly : kLate, kFirstLine = H == 0 ? 0 : 8 * kEarly;
  DotOf<P, S> dot[R][T];
#pragma GCC unroll 2
  for (int g = 0; g < 2; g++) {
    if (g < S::kParts) {
#pragma GCC unroll 8
      for (int m = 0; m < R; m++) {
        dot[m][0].start(group_at(groups, m * stride), part_of<S>(g));
        if constexpr (T == 2) dot[m][1] = dot[m][0];
      }
    }
    Q plane[T];
#pragma GCC unroll 2
    for (int t = 0; t < T; t++) plane[t] = load_plane<F>(step, H, g, first + t);
#pragma GCC unroll 1
    for (int r = g * 4; r < g * 4 + 4; r++) {
#pragma GCC unroll 4
      for (int l = 0; l < kLines; l++) prefetch_near(ahead + (kFirstLine + r * kLines + l) * 64);
      OperandOf<P, S> w[T];
#pragma GCC unroll 2
      for (int t = 0; t < T; t++) {
        w[t] = OperandOf<P, S>::of(load_codes<F, H>(step, r, first + t, plane[t]));
        plane[t] = next_plane<F>(plane[t]);
      }
#pragma GCC unroll 8
      for (int m = 0; m < R; m++) {
        const Four<P> a = Four<P>::of(x + m * stride + r * 4 * code_bytes(P));
#pragma GCC unroll 2
        for (int t = 0; t < T; t++) dot[m][t].add(w[t], a);
      }
    }
    if (S::kParts == 1 && g == 0) continue;
#pragma GCC unroll 2
    for (int t = 0; t < T; t++) {
      V a, b;
      load_scales<F>(unit, step, H, g, first + t, a, b);
      const Weights<P, S> w = Weights<P, S>::of(a, b);
#pragma GCC unroll 8
      for (int m = 0; m < R; m++) sum[m][t] = fold<P, S>(sum[m][t], dot[m][t], w, group_at(groups, m * stride), S::kParts == 1 ? 0 : g + 1);
    }
  }
}

/// R rows against T tiles of a block, from tile `first` on.
template <Precision P, PackedFormat F, int R, int T>
static __attribute__((noinline)) void integer_direct(const IntegerArgs& args, const PackedBlock& block, int row, bool more) {
  constexpr PackedLayout L = packed_layout(F);
  constexpr int kAhead = ((int)kPrefetchBytes + L.step_bytes() - 1) / L.step_bytes();
  const int columns = args.w->columns, steps = columns / 64;
  const size_t stride = row_stride(P, columns);
#pragma GCC unroll 1
  for (int first = 0; first < 2; first += T) {
    const uint8_t* x = args.rows->data + row * stride;
    const uint8_t* groups = x + groups_offset(P, columns);
    V sum[R][T];
#pragma GCC unroll 8
    for (int m = 0; m < R; m++)
#pragma GCC unroll 2
      for (int t = 0; t < T; t++) sum[m][t] = v_zero();
#pragma GCC unroll 1
    for (int s = 0; s < steps; s++, x += 64 * code_bytes(P), groups += 2 * sizeof(RowGroup)) {
      // Past the end of a block its stream goes on in the block this thread takes next, if there is one in this call.
      size_t next = L.step_offset(s);
      if (s + kAhead < steps)
        next = L.step_offset(s + kAhead);
      else if (more)
        next = L.block_bytes(columns) + L.step_offset(s + kAhead - steps);
      const uint8_t *unit = block.data + L.unit_offset(s), *step = block.data + L.step_offset(s), *ahead = block.data + next - L.head_bytes;
      integer_half<P, F, R, T, 0>(sum, first, unit, step, ahead, x, groups, stride);
      integer_half<P, F, R, T, 1>(sum, first, unit, step, ahead, x + 32 * code_bytes(P), groups + sizeof(RowGroup), stride);
    }
    if (columns % 64 != 0) {
      const uint8_t* step = block.data + L.step_offset(steps);
      integer_half<P, F, R, T, 0>(sum, first, block.data + L.unit_offset(steps), step, step, x, groups, stride);
    }
#pragma GCC unroll 8
    for (int m = 0; m < R; m++)
#pragma GCC unroll 2
      for (int t = 0; t < T; t++) {
        const int at = (first + t) * 16;
        const float* bias = args.bias == nullptr ? nullptr : args.bias + block.channel + at;
        store_sums(args.y + (row + m) * args.y_stride + block.channel + at, sum[m][t], bias, block.channels - at);
      }
  }
}

template <Precision P, PackedFormat F>
static void integer_direct_rows(const IntegerArgs& args, const PackedBlock* blocks, int count) {
  static_assert(kIntegerDirect <= 8, "heights");
  // The stream starts cold: ask at once for what would otherwise be a chain of misses.
  const size_t block_bytes = packed_layout(F).block_bytes(args.w->columns);
  for (size_t at = 0; at < kPrefetchBytes && at < block_bytes; at += 64) prefetch_near(blocks[0].data + at);
  for (int i = 0; i < count; i++)
    for (int row = 0, take; row < args.m; row += take) {
      take = args.m - row == 7 ? 4 : args.m - row == 5 ? 3 : args.m - row;  // two passes of heights that are there anyway
      switch (take) {
#define SGL_CASE(n) \
  case n: \
    if constexpr (n <= kIntegerDirect) integer_direct<P, F, n, (n > kIntegerPair ? 1 : 2)>(args, blocks[i], row, i + 1 < count); \
    break;
        SGL_CASE(1) SGL_CASE(2) SGL_CASE(3) SGL_CASE(4) SGL_CASE(6) SGL_CASE(8)
#undef SGL_CASE
      }
    }
}
