// y = x W^T over packed blocks with activations as integers (quantised_rows.h).
//
// A weight is a * (code - zero) + b, with a and b per channel and 16 or 32 k: a part. Every output has one f32 sum that
// takes, for each part in order of k,
//     sum = fma(scale, a * dot, sum)                    dot: the part's exact integer sum of (code - zero) * activation
//     sum = fma(scale, fma(b, codes, a * dot), sum)     codes: sum of the activations' codes, in formats with b
// and the bias is added last.

/// What of a format decides how its integers become f32; formats that agree here share code.
template <int Parts, bool Offset, int Zero, bool Wide> struct Shape {
  static constexpr int kParts = Parts;      // per half step
  static constexpr bool kOffset = Offset;   // has b
  static constexpr int kZero = Zero;
  static constexpr bool kWide = Wide;       // 8-bit codes
};
constexpr int zero_of(PackedFormat f) {
  const PackedLayout L = packed_layout(f);
  // Five unsigned bits are taken around 16, so that sums fit 16 bits; b makes up for it.
  if (L.scale == Scale::DM || L.scale == Scale::K45) return L.high_bits == 1 ? 16 : 0;
  return L.zero;
}
template <PackedFormat F>
using ShapeOf = Shape<packed_layout(F).groups(), packed_layout(F).scale == Scale::DM || packed_layout(F).scale == Scale::K45 || packed_layout(F).scale == Scale::K2,
                      zero_of(F), packed_layout(F).code_bits == 8 || F == PackedFormat::IQ4_NL>;

/// a and b of 16 channels.
template <PackedFormat F> SGL_INLINE void load_scales(const uint8_t* unit, const uint8_t* step, int half, int part, int tile, V& a, V& b) {
  load_affine<F>(unit, step, half, part, tile, a, b);
  using S = ShapeOf<F>;
  if constexpr (S::kOffset && S::kZero != 0) b = v_fma(v_set((float)S::kZero), a, b);
}

struct IntegerArgs {
  const PackedMatrix* w;
  const QuantisedRows* rows;
  int m;
  const float* bias;
  float* y;
  size_t y_stride;
  uint8_t* scratch;
};

SGL_INLINE const RowGroup& group_at(const uint8_t* groups, size_t bytes) { return *(const RowGroup*)(groups + bytes); }

/// Adds a part's dot products to the sums of R rows. groups: RowGroup of row 0.
template <Precision P, class S, int R>
SGL_INLINE void fold(const Dot<P, S::kZero, S::kWide> (&dot)[R], V a, V b, const uint8_t* groups, size_t stride, int part, float* sums) {
#pragma GCC unroll 12
  for (int m = 0; m < R; m++) {
    const RowGroup& g = group_at(groups, m * stride);
    V t = v_mul(a, dot[m].floats());
    if constexpr (S::kOffset) t = v_fma(b, code_sum<P>(g, part), t);
    v_store(sums + m * 32, v_fma(v_set(g.scale), t, v_load(sums + m * 32)));
  }
}

/// The sums of a block's rows, [rows][32], to y.
SGL_INLINE void store_block(const IntegerArgs& args, const PackedBlock& block, int row, int rows, const float* sums) {
  const float* bias = args.bias == nullptr ? nullptr : args.bias + block.channel;
  for (int m = 0; m < rows; m++)
    for (int at = 0; at < block.channels; at += 16)
      store_sums(args.y + (row + m) * args.y_stride + block.channel + at, v_load(sums + m * 32 + at), bias == nullptr ? nullptr : bias + at,
                 block.channels - at);
}

// A panel of operands and scales is unpacked into L1 and used by all rows, be they few or many: at one row the memory the
// weights come from is slower than this detour.

constexpr int kIntegerPass = 256;  // rows per pass over the blocks: their slice of a panel's k stays in L2

/// Operands as [half][tile][8], scales as [half][tile][part] a or a, b.
template <Precision P, class S> struct PanelOf {
  using O = Operand<P, S::kWide>;
  static constexpr int kColumns = P == Precision::s8 ? kIntegerPanelK : kIntegerPanelK16;
  static constexpr int kScales = S::kParts * (S::kOffset ? 2 : 1) * 16;  // floats per tile of a half
  uint8_t* operands;
  float* scales;
  SGL_MEMBER uint8_t* operand(int half, int tile) const { return operands + (half * 2 + tile) * 8 * O::kBytes; }
  SGL_MEMBER float* scale(int half, int tile) const { return scales + (half * 2 + tile) * kScales; }
};

template <Precision P, PackedFormat F, int H>
SGL_INLINE void fill_integer_half(const uint8_t* unit, const uint8_t* step, const uint8_t* ahead, const PanelOf<P, ShapeOf<F>>& panel, int half) {
  using S = ShapeOf<F>;
  using O = Operand<P, S::kWide>;
  constexpr PackedLayout L = packed_layout(F);
  constexpr int kLines = ((L.step_bytes() + L.head_bytes) / 64 + 31) / 32;  // to prefetch per row; a step has 32 rows
#pragma GCC unroll 1
  for (int t = 0; t < 2; t++) {
    uint8_t* out = panel.operand(half, t);
    float* scale = panel.scale(half, t);
#pragma GCC unroll 2
    for (int g = 0; g < 2; g++) {
      if (g < S::kParts) {
        V a, b;
        load_scales<F>(unit, step, H, g, t, a, b);
        v_store(scale, a);
        if constexpr (S::kOffset) v_store(scale + 16, b);
        scale += S::kOffset ? 32 : 16;
      }
      Q plane = load_plane<F>(step, H, g, t);
#pragma GCC unroll 4
      for (int r = 0; r < 4; r++, out += O::kBytes) {
#pragma GCC unroll 2
        for (int l = 0; l < kLines; l++) prefetch_near(ahead + (((H * 2 + t) * 8 + g * 4 + r) * kLines + l) * 64);
        O::of(load_codes<F, H>(step, g * 4 + r, t, plane)).store(out);
        plane = next_plane<F>(plane);
      }
    }
  }
}

/// Weights [k0, k1) of a block. k0 is a multiple of 64. Asks for what lies kPrefetchBytes ahead, line by line: the
/// blocks of a run are one stream. Past its end the prefetches fetch nothing that is needed, which does no harm.
template <Precision P, PackedFormat F>
static __attribute__((noinline)) void fill_integer_panel(const uint8_t* block, int k0, int k1, const PanelOf<P, ShapeOf<F>>& panel) {
  constexpr PackedLayout L = packed_layout(F);
  for (int k = k0, half = 0; k < k1; k += 64, half += 2) {
    const uint8_t *unit = block + L.unit_offset(k / 64), *step = block + L.step_offset(k / 64);
    fill_integer_half<P, F, 0>(unit, step, step + kPrefetchBytes, panel, half);
    if (k1 - k > 32) fill_integer_half<P, F, 1>(unit, step, step + kPrefetchBytes, panel, half + 1);
  }
}

/// Adds the products of R rows with one tile of a panel to sums, [R][32].
template <Precision P, class S, int R>
static __attribute__((noinline)) void integer_tile(const PanelOf<P, S>& panel, int tile, int halves, const uint8_t* x, const uint8_t* groups, size_t stride,
                                                   float* sums) {
  using O = Operand<P, S::kWide>;
  constexpr int kRows = 8 / S::kParts;
  const uint8_t* operand = panel.operand(0, tile);
  const float* scale = panel.scale(0, tile);
#pragma GCC unroll 1
  for (int h = 0; h < halves; h++, x += 32 * code_bytes(P), groups += sizeof(RowGroup)) {
#pragma GCC unroll 2
    for (int p = 0; p < S::kParts; p++) {
      const int part = S::kParts == 1 ? 0 : p + 1;
      Dot<P, S::kZero, S::kWide> dot[R];
#pragma GCC unroll 12
      for (int m = 0; m < R; m++) dot[m].start(group_at(groups, m * stride), part);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) {
        const O w = O::load(operand + (p * kRows + r) * O::kBytes);
#pragma GCC unroll 12
        for (int m = 0; m < R; m++) dot[m].add(w, x + m * stride + (p * kRows + r) * 4 * code_bytes(P));
      }
      const float* a = scale + p * (S::kOffset ? 32 : 16);
      fold<P, S, R>(dot, v_load(a), S::kOffset ? v_load(a + 16) : v_zero(), groups, stride, part, sums);
    }
    operand += 2 * 8 * O::kBytes;
    scale += 2 * PanelOf<P, S>::kScales;
  }
}

/// All rows [row, row + rows) against a panel, in register blocks of equal height.
template <Precision P, class S>
static void use_integer_panel(const IntegerArgs& args, const PanelOf<P, S>& panel, int row, int rows, int k0, int halves, float* sums) {
  const int columns = args.w->columns;
  const size_t stride = row_stride(P, columns);
  int blocks = (rows + kIntegerRows - 1) / kIntegerRows;
  for (int i = 0; i < rows; blocks--) {
    const int take = (rows - i + blocks - 1) / blocks;
    const uint8_t* data = args.rows->data + (row + i) * stride;
    const uint8_t* x = data + (size_t)k0 * code_bytes(P);
    const uint8_t* groups = data + groups_offset(P, columns) + (size_t)(k0 / 32) * sizeof(RowGroup);
    for (int t = 0; t < 2; t++) {
      float* at = sums + i * 32 + t * 16;
      switch (take) {
#define SGL_CASE(n) \
  case n: \
    if constexpr (n <= kIntegerRows) integer_tile<P, S, n>(panel, t, halves, x, groups, stride, at); \
    break;
        SGL_CASE(1) SGL_CASE(2) SGL_CASE(3) SGL_CASE(4) SGL_CASE(5) SGL_CASE(6)
#undef SGL_CASE
      }
    }
    i += take;
  }
}

template <Precision P, PackedFormat F>
static void integer_panel_rows(const IntegerArgs& args, const PackedBlock* blocks, int count) {
  using Panel = PanelOf<P, ShapeOf<F>>;
  constexpr int kHalves = Panel::kColumns / 32;
  const int columns = args.w->columns;
  float* sums = (float*)args.scratch;
  float* scales = sums + kIntegerPass * 32;
  const Panel panel = {(uint8_t*)(scales + kHalves * 2 * Panel::kScales), scales};
  static_assert(kIntegerPass * 128 + kHalves * 2 * (Panel::kScales * 4 + 8 * Panel::O::kBytes) <= kScratchBytes, "scratch");
  for (int row = 0; row < args.m; row += kIntegerPass) {
    const int rows = lesser(args.m - row, kIntegerPass);
    for (int b = 0; b < count; b++) {
      memset(sums, 0, (size_t)rows * 128);
      for (int k0 = 0; k0 < columns; k0 += Panel::kColumns) {
        const int k1 = lesser(k0 + Panel::kColumns, columns);
        fill_integer_panel<P, F>(blocks[b].data, k0, k1, panel);
        use_integer_panel<P, ShapeOf<F>>(args, panel, row, rows, k0, (k1 - k0) / 32, sums);
      }
      store_block(args, blocks[b], row, rows, sums);
    }
  }
}

template <Precision P>
static void matmul_integers(const PackedMatrix& w, int block0, int block1, const QuantisedRows& rows, int m, const float* bias, float* y,
                            size_t y_stride, uint8_t* scratch) {
  const IntegerArgs args = {&w, &rows, m, bias, y, y_stride, scratch};
  int all;
  const PackedBlock* blocks = matrix_blocks(w, &all);
  for (int b = block0; b < block1;) {
    const int end = run_end(blocks, b, block1);
    switch ((PackedFormat)blocks[b].format) {
#define SGL_CASE(F) \
  case PackedFormat::F: integer_panel_rows<P, PackedFormat::F>(args, blocks + b, end - b); break;
      SGL_CASE(Q4_0) SGL_CASE(Q4_1) SGL_CASE(Q5_0) SGL_CASE(Q5_1) SGL_CASE(Q8_0) SGL_CASE(Q2_K) SGL_CASE(Q3_K) SGL_CASE(Q4_K) SGL_CASE(Q5_K)
      SGL_CASE(Q6_K) SGL_CASE(IQ4_NL)
#undef SGL_CASE
      case PackedFormat::F32:
      case PackedFormat::F16:
      case PackedFormat::BF16: matmul(w, b, end, rows.x, rows.x_stride, m, bias, y, y_stride, scratch); break;
    }
    b = end;
  }
}

static void matmul_quantised(const PackedMatrix& w, int block0, int block1, const QuantisedRows& rows, int m, const float* bias, float* y,
                             size_t y_stride, uint8_t* scratch) {
  if (rows.precision == Precision::s8)
    matmul_integers<Precision::s8>(w, block0, block1, rows, m, bias, y, y_stride, scratch);
  else
    matmul_integers<Precision::s16>(w, block0, block1, rows, m, bias, y, y_stride, scratch);
}

/// Integers in every mode but f32: 8 bits, 16 where the promise needs them.
static Precision precision(Numerics numerics, bool head) {
  if (numerics == Numerics::f32) return Precision::f32;
  return numerics == Numerics::exact || head ? Precision::s16 : Precision::s8;
}
