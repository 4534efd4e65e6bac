// y = x W^T with activations as integers: few rows by integer_direct.inl, many by integer_panel.inl, with the same bits.

template <Precision P, PackedFormat F>
static void integer_run(const IntegerArgs& args, const PackedBlock* blocks, int count) {
  if constexpr (kIntegerDirect > 0)
    if (args.m <= kIntegerDirect) return integer_direct_rows<P, F>(args, blocks, count);
  integer_panel_rows<P, F>(args, blocks, count);
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
  case PackedFormat::F: integer_run<P, PackedFormat::F>(args, blocks + b, end - b); break;
      SGL_CASE(Q4_0) SGL_CASE(Q4_1) SGL_CASE(Q5_0) SGL_CASE(Q5_1) SGL_CASE(Q8_0) SGL_CASE(Q2_K) SGL_CASE(Q3_K) SGL_CASE(Q4_K) SGL_CASE(Q5_K)
      SGL_CASE(Q6_K) SGL_CASE(IQ4_NL)
#undef SGL_CASE
      case PackedFormat::Rotated8: break;  // has products of its own (rotated.inl)
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

static int matmul_passes(const PackedMatrix& w, Precision precision, int m) {
  return precision == Precision::f32 ? 1 : integer_passes(precision, w.columns, m);
}

/// Integers in every mode but f32: 8 bits, 16 where the promise needs them.
static Precision precision(Numerics numerics, bool head) {
  if (numerics == Numerics::f32) return Precision::f32;
  if (numerics == Numerics::fast) return head ? Precision::rotated16 : Precision::rotated8;
  return numerics == Numerics::exact || head ? Precision::s16 : Precision::s8;
}
