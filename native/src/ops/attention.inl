// Paged attention: exact softmax, computed online over blocks of 32 positions aligned at absolute multiples of 32.
// Longer than other ops because the two ways to one result stand side by side.
//
// A row (one query head of one token) goes through the blocks that it sees something of, in order: scores by fma over
// the head dimension, one maximum, one correction of what was summed before, then fma over all 32 positions of the
// block, those it does not see with probability 0. Nothing in that sequence depends on the tile, the page size, the
// order of page ids or where the way was cut: prefill, decode, shared and own pages give the same bits. A tile only
// shares the conversion of each block to f32 between its rows. Few rows (decode) read whole blocks straight from the
// pages, converting in registers; many rows, and blocks that are not whole, go through a converted copy.

#include "kv_page.inl"

constexpr int kBlock = 32;           // positions per block
constexpr int kMaxLines = 2 * kMaxHeadDim * kBlock * 4 / 64 + 2 * kMaxHeadDim + 64;  // cache lines of one block, at most
constexpr int kBurst = 64;           // most of them asked for at once
constexpr int kAttentionRows = 192;  // rows per tile at most
constexpr size_t kAttentionRowBytes = 576 << 10;  // scratch for q, output sums and state of a tile's rows
static_assert((size_t)kMaxHeadDim * (2 * kBlock + 16) * 4 + kMaxLines * 8 + kAttentionRows * (kBlock + 1) * 4 + 2 * kBlock * 4 +
                      kAttentionRowBytes <=
                  kScratchBytes,
              "a tile must fit the scratch");

/// One block in f32.
struct KvBlock {
  float* keys;    // [head_dim][32]
  float* values;  // [32][padded head_dim]
  float* scales;  // [32] of keys, [32] of values; only of scaled dtypes
  float* page;    // keys of one small page as they lie there
};

/// The cache lines of a block that will be loaded soon. They are asked for a few at a time, between other work: all at
/// once they would fill the queue to memory, and the loads of the present block would wait behind them.
struct Ahead {
  const uint8_t** lines;
  int count, next;
  SGL_MEMBER void add(const uint8_t* from, size_t bytes) {
    for (const uint8_t* end = from + bytes; from < end; from += 64) lines[count++] = from;
  }
  SGL_MEMBER void some(int n) {
    const int end = lesser(next + n, count);
    while (next < end) prefetch(lines[next++]);
  }
};

/// Lists the lines of positions [from, to), in the order in which they will be loaded.
static void list_lines(const AttentionArgs& a, int from, int to, Ahead& ahead) {
  const KvLayout& l = *a.layout;
  const int size = l.page_size;
  const size_t element = l.element_bytes(), keys = l.values_offset();
  ahead.count = ahead.next = 0;
  for (int values = 0; values < 2; values++)
    for (int p = from; p < to;) {
      const int end = lesser((p / size + 1) * size, to), slot = p % size, n = end - p;
      const uint8_t* page = a.kv + l.page_offset(a.layer, a.pages[p / size], a.kv_head);
      if (values) {
        ahead.add(page + keys + (size_t)slot * l.head_dim * element, (size_t)n * l.head_dim * element);
        for (int i = 0; l.scaled() && i < 2; i++) ahead.add(page + l.scales_offset() + (size_t)(i * size + slot) * 4, (size_t)n * 4);
      } else if (n == size || size * element <= 64) {
        ahead.add(page, keys);
      } else {
        for (int d = 0; d < l.head_dim; d++) ahead.add(page + ((size_t)d * size + slot) * element, n * element);
      }
      p = end;
    }
}

/// Positions [from, to) of one block, all in one page, to f32.
template <KvDtype D>
static void load_page_part(const AttentionArgs& a, KvBlock block, int padded, int from, int to, Ahead& ahead) {
  const KvLayout& l = *a.layout;
  constexpr size_t element = kv_bytes(D);
  const int dim = l.head_dim, size = l.page_size, slot = from % size, at = from % kBlock, count = to - from;
  const uint8_t* page = a.kv + l.page_offset(a.layer, a.pages[from / size], a.kv_head);
  const uint8_t* k = page + slot * element;
  const uint8_t* v = page + l.values_offset() + (size_t)slot * dim * element;
  if (size % 16 == 0) {  // whole vectors may be read: lanes past `to` are still in the page, and are masked later
    for (int d = 0; d < dim; d++) {
      ahead.some(1);
      for (int i = 0; i < count; i += 16)
        v_store(block.keys + d * kBlock + at + i, load_kv<D>(k + ((size_t)d * size + i) * element));
    }
  } else if (size < 16) {
    load_row<D>(page, dim * size, block.page);
    ahead.some(4 * count);
    for (int d = 0; d < dim; d++)
      for (int i = 0; i < count; i++) block.keys[d * kBlock + at + i] = block.page[d * size + slot + i];
  } else {
    for (int d = 0; d < dim; d++)
      for (int i = 0; i < count; i++) block.keys[d * kBlock + at + i] = read_kv<D>(k + ((size_t)d * size + i) * element);
  }
  for (int i = 0; i < count; i++) {
    ahead.some(1);
    load_row<D>(v + (size_t)i * dim * element, dim, block.values + (at + i) * padded);
  }
  if constexpr (kv_scaled(D)) {
    const uint8_t* scales = page + l.scales_offset() + (size_t)slot * 4;
    memcpy(block.scales + at, scales, (size_t)count * 4);
    memcpy(block.scales + kBlock + at, scales + (size_t)size * 4, (size_t)count * 4);
  }
}

/// Positions [from, to) of the block at `base`. Values of the others are 0: rows multiply them by 0.
template <KvDtype D>
static void load_block(const AttentionArgs& a, KvBlock block, int padded, int base, int from, int to, Ahead& ahead) {
  const int size = a.layout->page_size;
  for (int p = from; p < to;) {
    const int end = lesser((p / size + 1) * size, to);
    load_page_part<D>(a, block, padded, p, end, ahead);
    p = end;
  }
  const auto blank = [&](int first, int last) {
    memset(block.values + first * padded, 0, (size_t)(last - first) * padded * 4);
    if (kv_scaled(D)) memset(block.scales + kBlock + first, 0, (size_t)(last - first) * 4);
  };
  if (from > base) blank(0, from - base);
  if (to < base + kBlock) blank(to - base, kBlock);
}

struct Range {
  int lo, hi;  // positions [lo, hi)
};
SGL_INLINE Range visible(const AttentionArgs& a, int token) {
  if (a.end > 0) return {0, a.end};
  const int position = a.first_position + token;
  const int hi = a.causal ? lesser(position + 1, a.kv_length) : a.kv_length;
  return {a.window > 0 ? greater(position + 1 - a.window, 0) : 0, hi};
}

/// Register blocks of about equal height: two of 4 and 3 rows are faster than one of 6 and one of 1.
SGL_INLINE void even_tiles(const float* x, size_t x_stride, int rows, const float* panel, size_t panel_stride, int n, float* y,
                           size_t y_stride, int vecs, bool first) {
  for (int left = (rows + kTileRows - 1) / kTileRows; left > 0; left--) {
    const int take = (rows + left - 1) / left;
    tiles(x, x_stride, take, panel, panel_stride, n, y, y_stride, vecs, first);
    x += take * x_stride;
    y += take * y_stride;
    rows -= take;
  }
}

// ---- few rows: 16 positions at a time, straight from their page

constexpr int kDirectHeight = kTileRows < 8 ? kTileRows : 8;  // rows per register block
constexpr int kDirectMost = 2 * kDirectHeight;                // rows for which converting twice beats a copy

/// 16 neighbouring positions of a page, and those that come a block later.
struct Chunk {
  const uint8_t *keys, *values;
  const uint8_t *next_keys, *next_values;  // null at the end
};

/// scores[i][0 .. 16) = sum over d of q[i][d] * key[d][..], i < R.
template <int R, KvDtype D>
static __attribute__((noinline)) void direct_scores(const float* q, int padded, const Chunk& chunk, size_t stride, int dim,
                                                    float* scores, bool ahead) {
  V sum[R];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) sum[i] = v_zero();
  const uint8_t* k = chunk.keys;
  const uint8_t* next = ahead ? chunk.next_keys : k;
#pragma GCC unroll 2
  for (int d = 0; d < dim; d++, k += stride, next += stride) {
    prefetch(next);
    const V key = load_kv<D>(k);
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) sum[i] = v_fma(broadcast(q + d, i * (size_t)padded * 4), key, sum[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) v_store(scores + i * kBlock, sum[i]);
}

/// sums[i][0 .. 16) += sum over 16 positions of p[i] * value[..], i < R.
template <int R, KvDtype D>
static __attribute__((noinline)) void direct_sums(const float* p, const Chunk& chunk, size_t stride, size_t column, float* sums,
                                                  int padded, bool ahead) {
  V sum[R];
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) sum[i] = v_load(sums + i * padded);
  const uint8_t* v = chunk.values + column;
  const uint8_t* next = ahead ? chunk.next_values + column : v;
#pragma GCC unroll 2
  for (int at = 0; at < 16; at++, v += stride, next += stride) {
    prefetch(next);
    const V value = load_kv<D>(v);
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) sum[i] = v_fma(broadcast(p + at, i * (size_t)kBlock * 4), value, sum[i]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < R; i++) v_store(sums + i * padded, sum[i]);
}

/// f(std::integral_constant-like R) for 1 <= rows <= kDirectHeight.
template <int R> struct Height {
  static constexpr int value = R;
};
template <class F> SGL_INLINE void with_height(int rows, const F& f) {
  switch (rows) {
#define SGL_CASE(r) \
  case r: \
    if constexpr (r <= kDirectHeight) f(Height<r>()); \
    break;
    SGL_CASE(1) SGL_CASE(2) SGL_CASE(3) SGL_CASE(4) SGL_CASE(5) SGL_CASE(6) SGL_CASE(7) SGL_CASE(8)
#undef SGL_CASE
  }
}

/// f(first row, rows) for register blocks of about equal height.
template <class F> SGL_INLINE void each_height(int rows, const F& f) {
  int row = 0;
  for (int left = (rows + kDirectHeight - 1) / kDirectHeight; left > 0; left--) {
    const int take = (rows - row + left - 1) / left;
    f(row, take);
    row += take;
  }
}

template <KvDtype D> static Chunk chunk_at(const AttentionArgs& a, int position, bool ahead) {
  const KvLayout& l = *a.layout;
  const auto find = [&](int p, const uint8_t*& keys, const uint8_t*& values) {
    const int slot = p % l.page_size;
    const uint8_t* page = a.kv + l.page_offset(a.layer, a.pages[p / l.page_size], a.kv_head);
    keys = page + slot * kv_bytes(D);
    values = page + l.values_offset() + (size_t)slot * l.head_dim * kv_bytes(D);
  };
  Chunk chunk = {};
  find(position, chunk.keys, chunk.values);
  if (ahead) find(position + kBlock, chunk.next_keys, chunk.next_values);
  return chunk;
}

// ---- all rows

/// A tile's rows and what they have summed so far.
struct AttentionRows {
  const AttentionArgs& a;
  int row0, count;  // rows [row0, row0 + count) of the call, row = token * heads_per_kv + head
  float *q, *sums;  // [count][padded]
  float *top, *total;
  float* correction;
  float* scores;  // [count][32]

  SGL_MEMBER int token(int i) const { return (row0 + i) / a.heads_per_kv; }
  SGL_MEMBER int head(int i) const { return a.kv_head * a.heads_per_kv + (row0 + i) % a.heads_per_kv; }
  /// The row of q, out and state.
  SGL_MEMBER size_t place(int i) const { return (size_t)(a.rows == nullptr ? token(i) : a.rows[token(i)]); }

  SGL_MEMBER void enter(int padded) {
    const int dim = a.layout->head_dim;
    const float* key_scale = a.layout->key_scale(a.layer, a.kv_head);
    for (int i = 0; i < count; i++) {
      float *to = q + (size_t)i * padded, *sum = sums + (size_t)i * padded;
      const float* from = a.q + place(i) * a.q_stride + (size_t)head(i) * dim;
      if (key_scale == nullptr) {
        memcpy(to, from, (size_t)dim * 4);
      } else {
        for (int d = 0; d < dim; d++) to[d] = from[d] * key_scale[d];
      }
      if (a.begin > 0) {
        const float* state = a.state + place(i) * a.state_stride + 2 * head(i);
        top[i] = state[0];
        total[i] = state[1];
        memcpy(sum, a.out + place(i) * a.out_stride + (size_t)head(i) * dim, (size_t)dim * 4);
        memset(sum + dim, 0, (size_t)(padded - dim) * 4);
      } else {
        top[i] = -__builtin_inff();
        total[i] = 0;
        memset(sum, 0, (size_t)padded * 4);
      }
    }
  }

  SGL_MEMBER void leave(int padded) const {
    const int dim = a.layout->head_dim;
    for (int i = 0; i < count; i++) {
      float* out = a.out + place(i) * a.out_stride + (size_t)head(i) * dim;
      const float* sum = sums + (size_t)i * padded;
      if (a.end > 0) {
        float* state = a.state + place(i) * a.state_stride + 2 * head(i);
        state[0] = top[i];
        state[1] = total[i];
        memcpy(out, sum, (size_t)dim * 4);
        continue;
      }
      const V by = v_set(1.0f / total[i]);
      for (int d = 0; d < dim; d += 16) v_store_n(out + d, v_mul(v_load(sum + d), by), lanes_at(d, dim));
    }
  }

  /// Scores of rows [from, to) to probabilities against their running maxima; corrects the sums before them. In passes,
  /// so that the long chains of one row overlap with those of the next.
  template <bool Scaled> SGL_MEMBER void soften(int from, int to, int base, const float* scales, int padded) const {
    V by0 = v_set(a.scale), by1 = by0;
    if (Scaled) by0 = v_mul(by0, v_load(scales)), by1 = v_mul(by1, v_load(scales + 16));
    const V none = v_set(-__builtin_inff());
    for (int i = from; i < to; i++) {
      float* s = scores + i * kBlock;
      V s0 = v_mul(v_load(s), by0), s1 = v_mul(v_load(s + 16), by1);
      const Range range = visible(a, token(i));
      if (range.lo > base || range.hi < base + kBlock) {
        s0 = v_keep(s0, range.lo - base, range.hi - base, none);
        s1 = v_keep(s1, range.lo - base - 16, range.hi - base - 16, none);
      }
      v_store(s, s0);
      v_store(s + 16, s1);
      const float before = top[i], now = v_max_lane(v_max(s0, s1));
      top[i] = now > before ? now : before;
      correction[i] = before - top[i];
    }
    for (int i = from; i < to; i++) {
      float* s = scores + i * kBlock;
      const V m = v_set(top[i]);
      V p0 = v_exp(v_sub(v_load(s), m)), p1 = v_exp(v_sub(v_load(s + 16), m));
      const float sum = v_sum(v_add(p0, p1));
      if (Scaled) p0 = v_mul(p0, v_load(scales + kBlock)), p1 = v_mul(p1, v_load(scales + kBlock + 16));
      v_store(s, p0);
      v_store(s + 16, p1);
      if (correction[i] == 0.0f) {  // times 1 would change nothing
        total[i] += sum;
        continue;
      }
      const float by = scalar_exp(correction[i]);
      total[i] = total[i] * by + sum;
      float* old = sums + (size_t)i * padded;
      for (int d = 0; d < padded; d += 16) v_store(old + d, v_mul(v_load(old + d), v_set(by)));
    }
  }
};

/// A whole block for a few rows.
template <KvDtype D>
static void direct_block(const AttentionArgs& a, const AttentionRows& rows, KvBlock block, int base, bool ahead) {
  const KvLayout& l = *a.layout;
  const int dim = l.head_dim, n = rows.count;
  constexpr size_t element = kv_bytes(D);
  const Chunk chunks[2] = {chunk_at<D>(a, base, ahead), chunk_at<D>(a, base + 16, ahead)};
  for (int c = 0; c < 2; c++) {
    if (kv_scaled(D)) {
      const int p = base + c * 16, slot = p % l.page_size;
      const uint8_t* scales = a.kv + l.page_offset(a.layer, a.pages[p / l.page_size], a.kv_head) + l.scales_offset() + (size_t)slot * 4;
      memcpy(block.scales + c * 16, scales, 64);
      memcpy(block.scales + kBlock + c * 16, scales + (size_t)l.page_size * 4, 64);
    }
    each_height(n, [&](int row, int take) {
      with_height(take, [&](auto height) {
        direct_scores<decltype(height)::value, D>(rows.q + row * dim, dim, chunks[c], l.page_size * element, dim,
                                                  rows.scores + row * kBlock + c * 16, ahead && row == 0);
      });
    });
  }
  rows.soften<kv_scaled(D)>(0, n, base, block.scales, dim);
  for (int c = 0; c < 2; c++)
    for (int d = 0; d < dim; d += 16)
      each_height(n, [&](int row, int take) {
        with_height(take, [&](auto height) {
          direct_sums<decltype(height)::value, D>(rows.scores + row * kBlock + c * 16, chunks[c], dim * element, d * element,
                                                  rows.sums + row * dim + d, dim, ahead && row == 0);
        });
      });
}

template <KvDtype D> static void attention_tile(const AttentionArgs& a, int row0, int count, uint8_t* scratch) {
  const int dim = a.layout->head_dim, padded = (dim + 15) / 16 * 16;
  float* at = (float*)scratch;
  const auto take = [&](size_t floats) {
    float* p = at;
    at += floats;
    return p;
  };
  const KvBlock block = {take((size_t)dim * kBlock), take((size_t)padded * kBlock), take(2 * kBlock), take((size_t)dim * 16)};
  Ahead ahead = {(const uint8_t**)take((size_t)kMaxLines * 2), 0, 0};
  float* q = take((size_t)count * padded);
  float* sums = take((size_t)count * padded);
  float* top = take((size_t)count);
  float* total = take((size_t)count);
  float* correction = take((size_t)count);
  AttentionRows rows = {a, row0, count, q, sums, top, total, correction, take((size_t)count * kBlock)};
  rows.enter(padded);
  if (padded > dim)
    for (int i = 0; i < kBlock; i++) memset(block.values + i * padded + dim, 0, (size_t)(padded - dim) * 4);
  // Lower tokens see lower positions: the rows that see something of a block are neighbours.
  const int lo = greater(visible(a, rows.token(0)).lo, a.begin), hi = visible(a, rows.token(count - 1)).hi;
  // Whole vectors of one page in whole blocks.
  const bool direct = count <= kDirectMost && dim % 16 == 0 && a.layout->page_size % 16 == 0;
  const int seen = visible(a, rows.token(0)).hi;
  int first = 0, last = 0;
  for (int base = lo / kBlock * kBlock; base < hi; base += kBlock) {
    const int from = greater(lo, base) / 16 * 16, to = lesser(hi, base + kBlock), next = base + kBlock;
    if (direct && lo <= base && next <= seen) {
      direct_block<D>(a, rows, block, base, next + kBlock <= hi);
      continue;
    }
    ahead.count = ahead.next = 0;
    if (next < hi) list_lines(a, next, lesser(next + kBlock, hi), ahead);
    load_block<D>(a, block, padded, base, from, to, ahead);
    while (first < count && visible(a, rows.token(first)).hi <= base) first++;
    if (last < first) last = first;
    while (last < count && visible(a, rows.token(last)).lo < base + kBlock) last++;
    const int n = last - first;
    even_tiles(q + (size_t)first * padded, padded, n, block.keys, kBlock, dim, rows.scores + first * kBlock, kBlock, 2, true);
    ahead.some(kBurst);
    rows.soften<kv_scaled(D)>(first, last, base, block.scales, padded);
    ahead.some(kBurst);
    even_tiles(rows.scores + first * kBlock, kBlock, n, block.values, padded, kBlock, sums + (size_t)first * padded, padded,
               padded / 16, false);
  }
  rows.leave(padded);
}

template <KvDtype D> static void attention_of(const AttentionArgs& a, uint8_t* scratch) {
  const size_t row_bytes = (size_t)((a.layout->head_dim + 15) / 16 * 16 * 2 + 2) * 4;
  const int most = lesser((int)(kAttentionRowBytes / row_bytes), kAttentionRows);
  const int rows = a.tokens * a.heads_per_kv;
  for (int row = 0; row < rows; row += most) attention_tile<D>(a, row, lesser(rows - row, most), scratch);
}

static void attention(const AttentionArgs& a, uint8_t* scratch) {
  switch (a.layout->dtype) {
#define SGL_CASE(D) case KvDtype::D: return attention_of<KvDtype::D>(a, scratch);
    SGL_CASE(f32) SGL_CASE(f16) SGL_CASE(bf16) SGL_CASE(int8) SGL_CASE(fp8_e4m3)
#undef SGL_CASE
  }
}
