// Products of rotated rows (rotated_args.inl) by registers.

using RotatedOperand = Operand<Precision::s8, 128, true>;
using RotatedDot = Dot<Precision::s8, 128, true>;

/// R lines, L of which make a row, against T tiles of a block at a time.
template <int L, int R, int T>
static __attribute__((noinline)) void rotated_lines(const RotatedArgs& args, const PackedBlock& block, int line) {
  constexpr size_t kAhead = 4096;  // how far ahead of the loads weights are asked for; after a block comes the next
  const int steps = rotated_columns(args.w->columns) / 64;
  const size_t stride = line_stride(args.w->columns);
#pragma GCC unroll 1
  for (int first = 0; first < 2; first += T) {
    const uint8_t *x = args.lines + line * stride, *w = block_codes(block, 0) + first * 1024;
    RotatedDot dot[R][T];
#pragma GCC unroll 12
    for (int m = 0; m < R; m++) {
      dot[m][0].begin(line_at(args, line + m).sum);
      if constexpr (T == 2) dot[m][1] = dot[m][0];
    }
#pragma GCC unroll 1
    for (int s = 0; s < steps; s++, w += 1024) {
      // Not unrolled: registers are full of sums.
#pragma GCC unroll 1
      for (int r = 0; r < 16; r++, x += 4, w += 64) {
        RotatedOperand operand[T];
#pragma GCC unroll 2
        for (int t = 0; t < T; t++) {
          prefetch_near(w + t * 1024 + kAhead);
          operand[t] = RotatedOperand::of(q_load(w + t * 1024));
        }
#pragma GCC unroll 12
        for (int m = 0; m < R; m++) {
          const Four<Precision::s8> four = Four<Precision::s8>::of(x + m * stride);
#pragma GCC unroll 2
          for (int t = 0; t < T; t++) dot[m][t].add(operand[t], four);
        }
      }
    }
#pragma GCC unroll 2
    for (int t = 0; t < T; t++) {
      const V a = v_load(block_scales(block) + (first + t) * 16);
#pragma GCC unroll 12
      for (int m = 0; m < R; m += L) {
        V value = v_mul(v_mul(dot[m][t].value(), a), v_set(line_at(args, line + m).scale));
        if constexpr (L == 2) value = v_add(value, v_mul(v_mul(dot[m + 1][t].value(), a), v_set(line_at(args, line + m + 1).scale)));
        store_rotated(args, block, (line + m) / L, (first + t) * 16, value);
      }
    }
  }
}

template <int L> static void rotated_block(const RotatedArgs& args, const PackedBlock& block) {
  static_assert(kRotatedLines % 2 == 0 && kRotatedLines <= 12, "heights");
  // Heights that are about equal.
  int left = (args.count + kRotatedLines - 1) / kRotatedLines;
  for (int line = 0, take; line < args.count; line += take, left--) {
    take = (args.count - line + left - 1) / left;
    if (L == 2) take += take % 2;
    switch (take) {
#define SGL_CASE(n) \
  case n: \
    if constexpr (n <= kRotatedLines && n % L == 0) rotated_lines<L, n, kIntegerTiles>(args, block, line); \
    break;
      SGL_CASE(1) SGL_CASE(2) SGL_CASE(3) SGL_CASE(4) SGL_CASE(5) SGL_CASE(6) SGL_CASE(7) SGL_CASE(8) SGL_CASE(9) SGL_CASE(10) SGL_CASE(11) SGL_CASE(12)
#undef SGL_CASE
    }
  }
}

static void matmul_rotated(const PackedMatrix& w, int block0, int block1, const QuantisedRows& rows, int m, const float* bias, float* y,
                           size_t y_stride, uint8_t*) {
  const RotatedArgs args = {&w, rows.data, m * line_count(rows.precision), bias, y, y_stride};
  int all;
  const PackedBlock* blocks = matrix_blocks(w, &all);
  for (int b = block0; b < block1; b++) {
    if (rows.precision == Precision::rotated16)
      rotated_block<2>(args, blocks[b]);
    else
      rotated_block<1>(args, blocks[b]);
  }
}
