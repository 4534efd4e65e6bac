// Products of rotated rows (ops/rotated.inl) by the tiles of AMX (tile_amx.h): 32 lines by 32 channels at a time, the packed
// codes being tiles as they lie. Sums are folded while the tiles of the next 32 lines are under way.

constexpr int kGroupLines = 32;                   // two tiles of lines
constexpr int kGroupSums = 4 * 256;               // [tile of lines][tile of channels][16][16]
constexpr int kTileSteps = 14;                    // steps of 64 k whose weights stay in L1: 28 KiB
constexpr int kGroups = 64;                       // groups of lines per pass over the blocks, at most
static_assert((size_t)kGroups * kGroupSums * 4 <= kScratchBytes, "scratch");

/// Sums that are still to be folded, a few lines at a time.
template <int L> struct Folding {
  const RotatedArgs* args;
  const PackedBlock* block;
  const int32_t* sums;
  int line, next, count;  // of the first line; lines of the group folded, and all of them

  SGL_MEMBER V value(int m, int t, V a) const {
    const RowLine& end = line_at(*args, line + m);
    const __m512i sum = _mm512_load_si512(sums + (m / 16 * 2 + t) * 256 + m % 16 * 16);
    return v_mul(v_mul(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(128 * end.sum))), a), v_set(end.scale));
  }
  SGL_MEMBER void some(int n) {
    const int end = lesser(next + n, count);
    if (next >= end) return;
    const float* scales = block_scales(*args, *block);
    for (; next < end; next += L)
#pragma GCC unroll 2
      for (int t = 0; t < 2; t++) {
        const V a = v_load(scales + t * 16);
        V v = value(next, t, a);
        if constexpr (L == 2) v = v_add(v, value(next + 1, t, a));
        store_rotated(*args, *block, (line + next) / L, t * 16, v);
      }
  }
};

/// Weights to ask for meanwhile, `each` lines of the cache per step.
struct Stream {
  const uint8_t* next;
  int each;
  SGL_MEMBER void some() {
    for (int i = 0; i < each; i++, next += 64) prefetch(next);
  }
};

/// Adds the products of a group's lines, T tiles of them, with `steps` steps of a block to its sums.
template <int T, int L>
static __attribute__((noinline)) void tile_steps(const uint8_t* x, size_t stride, const uint8_t* w, int steps, int32_t* sums, bool first,
                                                 Stream& stream, Folding<L>& folding) {
  if (first) {
    tile_zero<0>();
    tile_zero<1>();
    if constexpr (T == 2) {
      tile_zero<2>();
      tile_zero<3>();
    }
  } else {
    tile_load<0>(sums, 64);
    tile_load<1>(sums + 256, 64);
    if constexpr (T == 2) {
      tile_load<2>(sums + 512, 64);
      tile_load<3>(sums + 768, 64);
    }
  }
  const int each = (folding.count - folding.next + steps - 1) / steps, fold = (each + 1) / 2 * 2;
  for (int s = 0; s < steps; s++, x += 64, w += 2048) {
    tile_load_once<4>(x, stride);
    tile_load<6>(w, 64);
    tile_dot_su<0, 4, 6>();
    if constexpr (T == 2) {
      tile_load_once<5>(x + 16 * stride, stride);
      tile_dot_su<2, 5, 6>();
    }
    tile_load<7>(w + 1024, 64);
    tile_dot_su<1, 4, 7>();
    if constexpr (T == 2) tile_dot_su<3, 5, 7>();
    stream.some();
    folding.some(fold);
  }
  tile_store<0>(sums, 64);
  tile_store<1>(sums + 256, 64);
  if constexpr (T == 2) {
    tile_store<2>(sums + 512, 64);
    tile_store<3>(sums + 768, 64);
  }
}

/// Tiles for a group of `lines`.
SGL_INLINE void configure_group(int lines) {
  const int low = lesser(lines, 16), high = lines > 16 ? lines - 16 : 16;
  TileConfig config;
  for (int t = 0; t < 8; t++) config.set(t, 16, 64);
  for (int t : {0, 1, 4}) config.set(t, low, 64);
  for (int t : {2, 3, 5}) config.set(t, high, 64);
  tile_configure(config);
}

/// Lines [line, line + count) against blocks of whole rows.
template <int L> static void tile_blocks(const RotatedArgs& args, const PackedBlock* blocks, int block_count, int line, int count, int32_t* sums) {
  const int steps = rotated_columns(args.w->columns) / 64, groups = (count + kGroupLines - 1) / kGroupLines;
  const int parts = (steps + kTileSteps - 1) / kTileSteps, last = count - (groups - 1) * kGroupLines;
  const size_t stride = line_stride(args.w->columns);
  constexpr size_t kNear = 8192;  // how far ahead a single group asks for weights; more have the time of all of them
  Folding<L> folding = {};
  int configured = 0;
  for (size_t at = 0; at < kNear; at += 64) prefetch(blocks[0].data + at);
  for (int b = 0; b < block_count; b++)
    for (int p = 0; p < parts; p++) {
      const int s0 = (int)((int64_t)steps * p / parts), s1 = (int)((int64_t)steps * (p + 1) / parts), n = s1 - s0;
      const uint8_t* w = blocks[b].data + (size_t)s0 * 2048;
      // Blocks are neighbours: after one's codes and scales come the next one's. Past the last this asks in vain, without harm.
      Stream stream = {groups == 1 ? w + kNear : w + (size_t)n * 2048, (32 + groups - 1) / groups};
      for (int g = 0; g < groups; g++) {
        const int lines = g == groups - 1 ? last : kGroupLines;
        int32_t* at = sums + (size_t)(parts == 1 ? (b * groups + g) % 2 : g) * kGroupSums;
        if (lines != configured) configure_group(configured = lines);
        const uint8_t* x = args.lines + (size_t)(line + g * kGroupLines) * stride + (size_t)s0 * 64;
        if (lines > 16)
          tile_steps<2, L>(x, stride, w, n, at, p == 0, stream, folding);
        else
          tile_steps<1, L>(x, stride, w, n, at, p == 0, stream, folding);
        folding.some(kGroupLines);
        if (p == parts - 1) folding = {&args, &blocks[b], at, line + g * kGroupLines, 0, lines};
      }
      // With several parts the next block overwrites the sums of the last group.
      if (parts > 1 && groups == 1) folding.some(kGroupLines);
    }
  folding.some(kGroupLines);
  tile_release();
}

/// Rows of rotated lines that stay in L2, 2 MiB where there are tiles, beside the weights that come and the sums that go.
constexpr size_t kPassBytes = 1280 << 10;
int matmul_passes(const PackedMatrix& w, Precision precision, int m) {
  if (!is_rotated(precision)) return base().matmul_passes(w, precision, m);
  const int most = (int)(kPassBytes / row_stride(precision, w.columns)), height = most < kGroupLines ? kGroupLines : most;
  return (m + height - 1) / height;
}

constexpr int kRotatedTiles = 4;  // lines for which tiles beat registers

void matmul_rotated_tiles(const PackedMatrix& w, int block0, int block1, const QuantisedRows& rows, int m, const float* bias, float* y, size_t y_stride,
                          uint8_t* scratch) {
  const int lines = line_count(rows.precision);
  if (m * lines < kRotatedTiles) return base().matmul_rotated(w, block0, block1, rows, m, bias, y, y_stride, scratch);
  const RotatedArgs args = {&w, rows.data, m * lines, bias, y, y_stride};
  int all;
  const PackedBlock* blocks = matrix_blocks(w, &all);
  for (int line = 0, take; line < args.count; line += take) {
    take = lesser(args.count - line, kGroups * kGroupLines);
    if (lines == 2)
      tile_blocks<2>(args, blocks + block0, block1 - block0, line, take, (int32_t*)scratch);
    else
      tile_blocks<1>(args, blocks + block0, block1 - block0, line, take, (int32_t*)scratch);
  }
}
