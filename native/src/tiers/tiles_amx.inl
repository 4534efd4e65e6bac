// The use of a panel by the tiles of AMX (tile_amx.h), for 8-bit rows. The sums of a part are exact integers however they
// are added, and they are folded as sums from registers are (integer.inl).

/// A sum of registers (dot_avx512vnni.inl) that has taken the products of a part.
template <class S> SGL_INLINE DotOf<Precision::s8, S> resumed(const int32_t* products, const RowGroup& g, int part) {
  return {_mm512_add_epi32(_mm512_load_si512(products), _mm512_set1_epi32(g.start[part]))};
}

/// Adds the products of up to 16 rows with a panel to sums, [rows][32]. Tiles are configured for just these rows.
template <class S>
static __attribute__((noinline)) void tile_block(const PanelOf<Precision::s8, S>& panel, int rows, int halves, const uint8_t* x, const uint8_t* groups,
                                                 size_t stride, float* sums, NextLines& ahead) {
  constexpr Precision P = Precision::s8;
  using W = Weights<P, S>;
  constexpr int kParts = S::kParts, kRows = 8 / kParts;
  alignas(64) int32_t products[2][kParts][2][16][16];  // of one half step and the next
  for (int h = 0; h <= halves; h++) {
    // The tiles of a half step are under way while the integers of the one before are folded.
    if (h < halves) {
      const uint8_t *from = x + h * 32, *w0 = panel.operand(h, 0), *w1 = panel.operand(h, 1);
      tile_zero<0>();
      tile_zero<1>();
      tile_load<4>(from, stride);
      tile_load<6>(w0, 64);
      tile_dot_su<0, 4, 6>();
      tile_load<7>(w1, 64);
      tile_dot_su<1, 4, 7>();
      tile_store<0>(products[h % 2][0][0], 64);
      tile_store<1>(products[h % 2][0][1], 64);
      if constexpr (kParts == 2) {
        tile_zero<2>();
        tile_zero<3>();
        tile_load<5>(from + 16, stride);
        tile_load<6>(w0 + kRows * 64, 64);
        tile_dot_su<2, 5, 6>();
        tile_load<7>(w1 + kRows * 64, 64);
        tile_dot_su<3, 5, 7>();
        tile_store<2>(products[h % 2][1][0], 64);
        tile_store<3>(products[h % 2][1][1], 64);
      }
      for (int i = 0; i < ahead.each; i++, ahead.next += 64) prefetch(ahead.next);
    }
    if (h == 0) continue;
#pragma GCC unroll 2
    for (int t = 0; t < 2; t++) {
      const float* scale = panel.scale(h - 1, t);
      const W w0 = W::load(scale), w1 = kParts == 2 ? W::load(scale + W::kVectors * 16) : w0;
      const int32_t* product = products[(h - 1) % 2][0][t][0];
      for (int m = 0; m < rows; m++, product += 16) {
        const RowGroup& g = group_at(groups, m * stride + (size_t)(h - 1) * sizeof(RowGroup));
        float* at = sums + m * 32 + t * 16;
        V sum = fold<P, S>(v_load(at), resumed<S>(product, g, part_of<S>(0)), w0, g, part_of<S>(0));
        if constexpr (kParts == 2) sum = fold<P, S>(sum, resumed<S>(product + 2 * 256, g, part_of<S>(1)), w1, g, part_of<S>(1));
        v_store(at, sum);
      }
    }
  }
}

/// All rows [row, row + rows) against a panel, the last of which gives y.
template <Precision P, class S>
static void use_integer_panel(const IntegerArgs& args, const PackedBlock& block, const PanelOf<P, S>& panel, int row, int rows, int k0, int halves, float* sums,
                              const uint8_t* next, int lines) {
  static_assert(P == Precision::s8, "tiles multiply bytes");
  const int columns = args.w->columns;
  const size_t stride = row_stride(P, columns);
  const int places = (rows + 15) / 16 * halves;
  NextLines ahead = {next, (lines + places - 1) / places};
  if (k0 == 0) memset(sums, 0, (size_t)rows * 128);
  for (int i = 0, take; i < rows; i += take) {
    take = lesser(rows - i, 16);
    if (i == 0 || take < 16) {
      TileConfig config;
      for (int t = 0; t < 4; t++) config.set(t, take, 64);
      for (int t = 4; t < 6; t++) config.set(t, take, 32 / S::kParts);
      for (int t = 6; t < 8; t++) config.set(t, 8 / S::kParts, 64);
      tile_configure(config);
    }
    const uint8_t* data = args.rows->data + (row + i) * stride;
    tile_block<S>(panel, take, halves, data + k0, data + groups_offset(P, columns) + (size_t)(k0 / 32) * sizeof(RowGroup), stride, sums + i * 32, ahead);
  }
  tile_release();
  if (k0 + halves * 32 == columns) store_block(args, block, row, rows, sums);
}
