// Products of rotated rows (ops/rotated.inl) by the tiles of AMX (tile_amx.h): 32 lines by 32 channels at a time, the packed
// codes being tiles as they lie. Sums are folded while the tiles of the next 32 lines are under way.

constexpr int kGroupLines = 32;                   // two tiles of lines
constexpr int kGroupSums = 4 * 256;               // [tile of lines][tile of channels][16][16]
constexpr int kTileSteps = 14;                    // steps of 64 k for which a group's lines stay in L1: 28 KiB
constexpr int kTileBlocks = 64;                   // blocks that a group meets part by part
static_assert((size_t)kTileBlocks * kGroupSums * 4 <= kScratchBytes, "scratch");

/// Sums that are still to be folded, a few lines at a time.
template <int L> struct Folding {
  const RotatedArgs* args;
  const PackedBlock* block;
  const int32_t* sums;
  int line, next, count;  // of the first line; lines of the group folded, and all of them

  /// 16 channels of a line whose sums are at p; codes of weights are around 128.
  SGL_MEMBER static V value(const int32_t* p, const RowLine& end, V a) {
    const __m512i sum = _mm512_sub_epi32(_mm512_load_si512(p), _mm512_set1_epi32(128 * end.sum));
    return v_mul(v_mul(_mm512_cvtepi32_ps(sum), a), v_set(end.scale));
  }
  SGL_MEMBER void some(int n) {
    const int end = lesser(next + n, count);
    if (next >= end) return;
    const V a0 = v_load(block_scales(*block)), a1 = v_load(block_scales(*block) + 16);
    const size_t stride = line_stride(args->w->columns);
    const uint8_t* tail = args->lines + (size_t)(line + next) * stride + line_end(args->w->columns);
    const bool plain = block->channels == 32 && args->bias == nullptr;
    for (; next < end; next += L, tail += L * stride) {
      const int32_t* p = sums + next / 16 * 512 + next % 16 * 16;
      V v0 = value(p, *(const RowLine*)tail, a0), v1 = value(p + 256, *(const RowLine*)tail, a1);
      if constexpr (L == 2) {
        const RowLine& second = *(const RowLine*)(tail + stride);
        v0 = v_add(v0, value(p + 16, second, a0));
        v1 = v_add(v1, value(p + 272, second, a1));
      }
      const int row = (line + next) / L;
      if (plain) {
        float* y = args->y + row * args->y_stride + block->channel;
        v_store(y, v0);
        v_store(y + 16, v1);
      } else {
        store_rotated(*args, *block, row, 0, v0);
        store_rotated(*args, *block, row, 16, v1);
      }
    }
  }
};

/// The weights of a call in the order in which they are first used: part by part of all blocks. They are asked for a little ahead.
struct Stream {
  const PackedBlock* blocks;
  int block_count, steps, parts;
  int block, part;  // at hand
  const uint8_t *next, *end;  // end: null when all were asked for

  SGL_MEMBER int step_of(int p) const { return (int)((int64_t)steps * p / parts); }
  SGL_MEMBER void enter() {
    next = part == 0 ? blocks[block].data : block_codes(blocks[block], step_of(part));  // with the scales
    end = block_codes(blocks[block], step_of(part + 1));
  }
  SGL_MEMBER void some(int lines) {
    for (int i = 0; i < lines && end != nullptr; i++, next += 64) {
      if (next == end) {
        if (++block == block_count) block = 0, part++;
        end = nullptr;
        if (part == parts) return;
        enter();
      }
      prefetch(next);
    }
  }
};

/// Adds the products of a group's lines, T tiles of them, with `steps` steps of a block to its sums.
template <int T, int L>
static __attribute__((noinline)) void tile_steps(const uint8_t* x, size_t stride, const uint8_t* w, int steps, int32_t* sums, bool first,
                                                 Stream* stream, Folding<L>& folding) {
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
    tile_load<4>(x, stride);
    tile_load_once<6>(w, 64);
    tile_dot_su<0, 4, 6>();
    if constexpr (T == 2) {
      tile_load<5>(x + 16 * stride, stride);
      tile_dot_su<2, 5, 6>();
    }
    tile_load_once<7>(w + 1024, 64);
    tile_dot_su<1, 4, 7>();
    if constexpr (T == 2) tile_dot_su<3, 5, 7>();
    if (stream != nullptr) stream->some(32);
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

/// All lines against blocks. A group's lines stay in L1, a part of their columns at a time, while the blocks go by.
template <int L> static void tile_blocks(const RotatedArgs& args, const PackedBlock* blocks, int block_count, int32_t* sums) {
  const int steps = rotated_columns(args.w->columns) / 64, groups = (args.count + kGroupLines - 1) / kGroupLines;
  // A single group waits for weights from memory, which are best read in one go.
  const int parts = groups == 1 ? 1 : (steps + kTileSteps - 1) / kTileSteps;
  const size_t stride = line_stride(args.w->columns);
  constexpr int kNear = 128;  // cache lines
  Stream stream = {blocks, block_count, steps, parts, 0, 0, nullptr, nullptr};
  stream.enter();
  stream.some(kNear);
  Folding<L> folding = {};
  for (int g = 0, turn = 0; g < groups; g++) {
    const int lines = lesser(args.count - g * kGroupLines, kGroupLines);
    if (g == 0 || lines < kGroupLines) configure_group(lines);
    for (int p = 0; p < parts; p++) {
      const int s0 = stream.step_of(p), n = stream.step_of(p + 1) - s0;
      const uint8_t* x = args.lines + (size_t)g * kGroupLines * stride + (size_t)s0 * 64;
      for (int b = 0; b < block_count; b++) {
        int32_t* at = sums + (size_t)(parts == 1 ? turn++ % 2 : b) * kGroupSums;
        const uint8_t* w = block_codes(blocks[b], s0);
        Stream* ahead = g == 0 ? &stream : nullptr;
        if (lines > 16)
          tile_steps<2, L>(x, stride, w, n, at, p == 0, ahead, folding);
        else
          tile_steps<1, L>(x, stride, w, n, at, p == 0, ahead, folding);
        folding.some(kGroupLines);
        if (p < parts - 1) continue;
        folding = {&args, &blocks[b], at, g * kGroupLines, 0, lines};
        // The next sums would lie over these.
        if (parts > 1 && block_count == 1) folding.some(kGroupLines);
      }
    }
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
  for (int b = block0, take; b < block1; b += take) {
    take = lesser(block1 - b, kTileBlocks);
    if (lines == 2)
      tile_blocks<2>(args, blocks + b, take, (int32_t*)scratch);
    else
      tile_blocks<1>(args, blocks + b, take, (int32_t*)scratch);
  }
}
