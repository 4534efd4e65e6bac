// y = x W^T over packed blocks: f32 activations, weights dequantised to f32 in registers.
//
// Every output has one accumulator that starts at 0 and takes fma(x[k], w[k], acc) for k = 0, 1, 2, ...; the bias is
// added last. Both paths do just that, so they give the same bits and m may choose between them:
// direct.inl for few rows, panel.inl for many.

template <PackedFormat F>
static void matmul_run(const MatmulArgs& args, const PackedBlock* blocks, int count) {
  if constexpr (kDirectLimit > 0)
    if (args.m <= kDirectLimit) return direct_rows<F>(args, blocks, count);
  panel_rows<F>(args, blocks, count);
}

static void matmul(const PackedMatrix& w, int block0, int block1, const float* x, size_t x_stride, int m, const float* bias,
                   float* y, size_t y_stride, uint8_t* scratch) {
  const MatmulArgs args = {&w, x, x_stride, m, bias, y, y_stride, scratch};
  int all;
  const PackedBlock* blocks = matrix_blocks(w, &all);
  for (int b = block0; b < block1;) {
    const int end = run_end(blocks, b, block1);
    switch ((PackedFormat)blocks[b].format) {
#define SGL_CASE(F) \
  case PackedFormat::F: matmul_run<PackedFormat::F>(args, blocks + b, end - b); break;
      SGL_CASE(F32) SGL_CASE(F16) SGL_CASE(BF16) SGL_CASE(Q4_0) SGL_CASE(Q4_1) SGL_CASE(Q5_0) SGL_CASE(Q5_1) SGL_CASE(Q8_0)
      SGL_CASE(Q2_K) SGL_CASE(Q3_K) SGL_CASE(Q4_K) SGL_CASE(Q5_K) SGL_CASE(Q6_K) SGL_CASE(IQ4_NL)
#undef SGL_CASE
      case PackedFormat::Rotated8: break;  // has products of its own (rotated.inl)
    }
    b = end;
  }
}

static int matmul_chunk(const PackedMatrix& w, int m) {
  int blocks;
  matrix_blocks(w, &blocks);
  (void)m;  // many rows suit the same ranges: a panel of x is reused by every block of one
  const int chunk = blocks / 48 * 2;  // an even number: single rows take blocks in pairs; some 24 items balance well
  return chunk < 2 ? 2 : chunk > 32 ? 32 : chunk;
}
