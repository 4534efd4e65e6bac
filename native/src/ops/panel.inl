// The panel path of matmul: many rows. kPanelK x 32 weights are dequantised into scratch and multiplied with register
// blocks of rows (`tile`, which attention uses too); partial sums rest in y between panels.

constexpr int kPanelRows = 516;         // rows per pass over the blocks: their slice of x should stay in L2
constexpr size_t kStreamBytes = 512 << 10;  // of x that may be read again for every block

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
