// Integer products of many rows: a panel of operands and scales is unpacked into L1 and used by all of them.

// Rows per pass over the blocks, most and at least, and the bytes of them that should stay in L2 from block to block.
constexpr int kIntegerPass = 256, kIntegerLeast = 48;
constexpr size_t kIntegerPassBytes = 640 << 10;

/// Passes that m rows are cut into, of about equal height.
SGL_INLINE int integer_passes(Precision p, int columns, int m) {
  const int most = (int)(kIntegerPassBytes / row_stride(p, columns));
  const int height = most < kIntegerLeast ? kIntegerLeast : lesser(most, kIntegerPass);
  return (m + height - 1) / height;
}

/// Operands as [half][tile][8], scales as [half][tile][part] (Weights).
template <Precision P, class S> struct PanelOf {
  using O = OperandOf<P, S>;
  static constexpr int kColumns = P == Precision::s8 ? kIntegerPanelK : kIntegerPanelK16;
  static constexpr int kScales = S::kParts * Weights<P, S>::kVectors * 16;  // floats per tile of a half
  uint8_t* operands;
  float* scales;
  SGL_MEMBER uint8_t* operand(int half, int tile) const { return operands + (half * 2 + tile) * 8 * O::kBytes; }
  SGL_MEMBER float* scale(int half, int tile) const { return scales + (half * 2 + tile) * kScales; }
};

template <Precision P, PackedFormat F, int H>
SGL_INLINE void fill_integer_half(const uint8_t* unit, const uint8_t* step, const PanelOf<P, ShapeOf<F>>& panel, int half) {
  using S = ShapeOf<F>;
  using O = OperandOf<P, S>;
#pragma GCC unroll 1
  for (int t = 0; t < 2; t++) {
    uint8_t* out = panel.operand(half, t);
    float* scale = panel.scale(half, t);
#pragma GCC unroll 2
    for (int g = 0; g < 2; g++) {
      if (g < S::kParts) {
        V a, b;
        load_scales<F>(unit, step, H, g, t, a, b);
        Weights<P, S>::of(a, b).store(scale);
        scale += Weights<P, S>::kVectors * 16;
      }
      Q plane = load_plane<F>(step, H, g, t);
#pragma GCC unroll 4
      for (int r = 0; r < 4; r++, out += O::kBytes) {
        O::of(load_codes<F, H>(step, g * 4 + r, t, plane)).store(out);
        plane = next_plane<F>(plane);
      }
    }
  }
}

/// Weights [k0, k1) of a block. k0 is a multiple of 64.
template <Precision P, PackedFormat F>
static __attribute__((noinline)) void fill_integer_panel(const uint8_t* block, int k0, int k1, const PanelOf<P, ShapeOf<F>>& panel) {
  constexpr PackedLayout L = packed_layout(F);
  for (int k = k0, half = 0; k < k1; k += 64, half += 2) {
    const uint8_t *unit = block + L.unit_offset(k / 64), *step = block + L.step_offset(k / 64);
    fill_integer_half<P, F, 0>(unit, step, panel, half);
    if (k1 - k > 32) fill_integer_half<P, F, 1>(unit, step, panel, half + 1);
  }
}

/// Lines of packed weights to ask for while others are multiplied: `each` per half step.
struct NextLines {
  const uint8_t* next;
  int each;
};

/// Adds the products of R rows with T tiles of a panel to sums, [R][32], which count as 0 before the first panel.
template <Precision P, class S, int R, int T>
static __attribute__((noinline)) void integer_tile(const PanelOf<P, S>& panel, int tile, int halves, const uint8_t* x, const uint8_t* groups, size_t stride,
                                                   float* sums, bool first, NextLines& ahead) {
  using O = OperandOf<P, S>;
  using W = Weights<P, S>;
  constexpr int kRows = 8 / S::kParts;
  const uint8_t* operand = panel.operand(0, tile);
  const float* scale = panel.scale(0, tile);
  const uint8_t* next = ahead.next;
  const int each = ahead.each;
  V sum[R][T];
  if constexpr (kIntegerTiles > 1) {
#pragma GCC unroll 12
    for (int m = 0; m < R; m++)
#pragma GCC unroll 2
      for (int t = 0; t < T; t++) sum[m][t] = first ? v_zero() : v_load(sums + m * 32 + t * 16);
  } else if (first) {
    for (int m = 0; m < R; m++) v_store(sums + m * 32, v_zero());
  }
#pragma GCC unroll 1
  for (int h = 0; h < halves; h++, x += 32 * code_bytes(P), groups += sizeof(RowGroup)) {
#pragma GCC unroll 1
    for (int i = 0; i < each; i++, next += 64) prefetch(next);
#pragma GCC unroll 2
    for (int p = 0; p < S::kParts; p++) {
      DotOf<P, S> dot[R][T];
#pragma GCC unroll 12
      for (int m = 0; m < R; m++) {
        dot[m][0].start(group_at(groups, m * stride), part_of<S>(p));
        if constexpr (T == 2) dot[m][1] = dot[m][0];
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) {
        O w[T];
#pragma GCC unroll 2
        for (int t = 0; t < T; t++) w[t] = O::load(operand + (t * 8 + p * kRows + r) * O::kBytes);
#pragma GCC unroll 12
        for (int m = 0; m < R; m++) {
          const Four<P> a = Four<P>::of(x + m * stride + (p * kRows + r) * 4 * code_bytes(P));
#pragma GCC unroll 2
          for (int t = 0; t < T; t++) dot[m][t].add(w[t], a);
        }
      }
#pragma GCC unroll 2
      for (int t = 0; t < T; t++) {
        const W w = W::load(scale + t * PanelOf<P, S>::kScales + p * W::kVectors * 16);
#pragma GCC unroll 12
        for (int m = 0; m < R; m++) {
          const RowGroup& g = group_at(groups, m * stride);
          if constexpr (kIntegerTiles > 1) {
            sum[m][t] = fold<P, S>(sum[m][t], dot[m][t], w, g, part_of<S>(p));
          } else {
            float* at = sums + m * 32 + t * 16;
            v_store(at, fold<P, S>(v_load(at), dot[m][t], w, g, part_of<S>(p)));
          }
        }
      }
    }
    operand += 2 * 8 * O::kBytes;
    scale += 2 * PanelOf<P, S>::kScales;
  }
  if constexpr (kIntegerTiles > 1) {
#pragma GCC unroll 12
    for (int m = 0; m < R; m++)
#pragma GCC unroll 2
      for (int t = 0; t < T; t++) v_store(sums + m * 32 + t * 16, sum[m][t]);
  }
  ahead.next = next;
}

// Register blocks are of equal height, so that the lowest are no lower than this.
constexpr int kIntegerLowest = kIntegerDirect + 1 < (kIntegerRows + 1) / 2 ? kIntegerDirect + 1 : (kIntegerRows + 1) / 2;

/// All rows [row, row + rows) against a panel, the last of which gives y.
template <Precision P, class S>
static void use_integer_panel(const IntegerArgs& args, const PackedBlock& block, const PanelOf<P, S>& panel, int row, int rows, int k0, int halves, float* sums,
                              const uint8_t* next, int lines) {
  const int columns = args.w->columns;
  const size_t stride = row_stride(P, columns);
  const bool first = k0 == 0, last = k0 + halves * 32 == columns;
  int blocks = (rows + kIntegerRows - 1) / kIntegerRows;
  const int places = blocks * halves * (2 / kIntegerTiles);
  NextLines ahead = {next, (lines + places - 1) / places};
  for (int i = 0; i < rows; blocks--) {
    const int take = (rows - i + blocks - 1) / blocks;
    const uint8_t* data = args.rows->data + (row + i) * stride;
    const uint8_t* x = data + (size_t)k0 * code_bytes(P);
    const uint8_t* groups = data + groups_offset(P, columns) + (size_t)(k0 / 32) * sizeof(RowGroup);
    // What is written comes from memory too, while it is computed.
    for (int m = 0; last && m < take; m++)
      for (int c = 0; c < block.channels; c += 16) prefetch_to_write(args.y + (row + i + m) * args.y_stride + block.channel + c);
    for (int t = 0; t < 2; t += kIntegerTiles) {
      float* at = sums + i * 32 + t * 16;
      switch (take) {
#define SGL_CASE(n) \
  case n: \
    if constexpr (n <= kIntegerRows && n >= kIntegerLowest) integer_tile<P, S, n, kIntegerTiles>(panel, t, halves, x, groups, stride, at, first, ahead); \
    break;
        SGL_CASE(1) SGL_CASE(2) SGL_CASE(3) SGL_CASE(4) SGL_CASE(5) SGL_CASE(6)
#undef SGL_CASE
      }
    }
    if (last) store_block(args, block, row + i, take, sums + i * 32);
    i += take;
  }
}

template <Precision P, PackedFormat F>
static void integer_panel_rows(const IntegerArgs& args, const PackedBlock* blocks, int count) {
  using Panel = PanelOf<P, ShapeOf<F>>;
  constexpr PackedLayout L = packed_layout(F);
  constexpr int kHalves = Panel::kColumns / 32;
  const int columns = args.w->columns;
  constexpr int kLines = (Panel::kColumns / 64 * L.step_bytes() + (Panel::kColumns / 64 / L.unit_steps + 1) * L.head_bytes + 63) / 64;
  const size_t block_bytes = L.block_bytes(columns);
  float* sums = (float*)args.scratch;
  float* scales = sums + kIntegerPass * 32;
  const Panel panel = {(uint8_t*)(scales + kHalves * 2 * Panel::kScales), scales};
  static_assert(kIntegerPass * 128 + kHalves * 2 * (Panel::kScales * 4 + 8 * Panel::O::kBytes) <= kScratchBytes, "scratch");
  const int passes = integer_passes(P, columns, args.m);
  for (int pass = 0; pass < passes; pass++) {
    const int row = (int)((int64_t)args.m * pass / passes), rows = (int)((int64_t)args.m * (pass + 1) / passes) - row;
    for (int b = 0; b < count; b++) {
      for (int k0 = 0; k0 < columns; k0 += Panel::kColumns) {
        const int k1 = lesser(k0 + Panel::kColumns, columns);
        fill_integer_panel<P, F>(blocks[b].data, k0, k1, panel);
        // Meanwhile the panel after this one comes from memory; the blocks of a run are one stream. Past its end the
        // prefetches fetch nothing that is needed, which does no harm.
        const uint8_t* next = blocks[b].data + (k1 < columns ? L.step_offset(k1 / 64) : block_bytes);
        use_integer_panel<P, ShapeOf<F>>(args, blocks[b], panel, row, rows, k0, (k1 - k0) / 32, sums, next, kLines);
      }
    }
  }
}
