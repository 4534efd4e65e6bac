// Paged attention: exact softmax, computed online over blocks of 32 positions aligned at absolute multiples of 32.
//
// A row (one query head of one token) goes through the blocks of its range in order: scores by fma over the head
// dimension, one maximum, one correction of what was summed before, then fma over the block's positions in order.
// Nothing in that sequence depends on the tile, the page size or the order of page ids: prefill, decode and any split
// between them give the same bits. A tile only shares the conversion of each block to f32 between its rows.

constexpr int kBlock = 32;           // positions per block
constexpr int kMaxLines = 2 * kMaxHeadDim * kBlock * 4 / 64 + 2 * kMaxHeadDim + 64;  // cache lines of one block, at most
constexpr int kBurst = 64;           // most of them asked for at once
constexpr int kAttentionRows = 192;  // rows per tile at most
constexpr size_t kAttentionRowBytes = 576 << 10;  // scratch for q, output sums and state of a tile's rows
static_assert((size_t)kMaxHeadDim * (2 * kBlock + 16) * 4 + kMaxLines * 8 + kTileRows * kBlock * 4 + kAttentionRowBytes <=
                  kScratchBytes,
              "a tile must fit the scratch");

SGL_INLINE V load_kv(const uint8_t* p, bool f16) { return f16 ? v_load_f16(p) : v_load((const float*)p); }
SGL_INLINE float read_kv(const uint8_t* p, bool f16) {
  float v;
  if (f16) return read_f16(p);
  memcpy(&v, p, 4);
  return v;
}

static void kv_write(uint8_t* kv, const KvLayout& layout, int layer, int page, int slot, int kv_head, const float* k,
                     const float* v) {
  const int dim = layout.head_dim, size = layout.page_size;
  const size_t element = layout.f16 ? 2 : 4;
  uint8_t* keys = kv + layout.page_offset(layer, page, kv_head);
  uint8_t* values = keys + (size_t)dim * size * element + (size_t)slot * dim * element;
  keys += slot * element;
  if (!layout.f16) {
    for (int d = 0; d < dim; d++) memcpy(keys + (size_t)d * size * 4, k + d, 4);
    memcpy(values, v, (size_t)dim * 4);
    return;
  }
  for (int d = 0; d < dim; d += 16) {
    const int n = lanes_at(d, dim);
    uint16_t half[16];
    v_store_f16((uint8_t*)half, v_load_n(k + d, n));
    for (int i = 0; i < n; i++) memcpy(keys + (size_t)(d + i) * size * 2, half + i, 2);
    v_store_f16((uint8_t*)half, v_load_n(v + d, n));
    memcpy(values + (size_t)d * 2, half, (size_t)n * 2);
  }
}

struct KvBlock {
  float* keys;    // [head_dim][32]
  float* values;  // [32][padded head_dim]
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
  const size_t element = l.f16 ? 2 : 4, keys = (size_t)l.head_dim * size * element;
  ahead.count = ahead.next = 0;
  for (int values = 0; values < 2; values++)
    for (int p = from; p < to;) {
      const int end = lesser((p / size + 1) * size, to), slot = p % size, n = end - p;
      const uint8_t* page = a.kv + l.page_offset(a.layer, a.pages[p / size], a.kv_head);
      if (values)
        ahead.add(page + keys + (size_t)slot * l.head_dim * element, (size_t)n * l.head_dim * element);
      else if (n == size || size * element <= 64)
        ahead.add(page, keys);
      else
        for (int d = 0; d < l.head_dim; d++) ahead.add(page + ((size_t)d * size + slot) * element, n * element);
      p = end;
    }
}

/// n neighbouring elements to f32.
SGL_INLINE void load_row(const uint8_t* p, int n, bool f16, float* out) {
  const size_t element = f16 ? 2 : 4;
  int i = 0;
  for (; i + 16 <= n; i += 16) v_store(out + i, load_kv(p + i * element, f16));
  for (; i < n; i++) out[i] = read_kv(p + i * element, f16);
}

/// Positions [from, to) of one block, all in one page, to f32. `at` is the place of `from` in the block.
static void load_page_part(const AttentionArgs& a, KvBlock block, int padded, int from, int to, Ahead& ahead) {
  const KvLayout& l = *a.layout;
  const int dim = l.head_dim, size = l.page_size, slot = from % size, at = from % kBlock, count = to - from;
  const size_t element = l.f16 ? 2 : 4;
  const uint8_t* page = a.kv + l.page_offset(a.layer, a.pages[from / size], a.kv_head);
  const uint8_t* k = page + slot * element;
  const uint8_t* v = page + ((size_t)dim * size + (size_t)slot * dim) * element;
  if (size % 16 == 0) {  // whole vectors may be read: lanes past `to` are still in the page, and are masked later
    for (int d = 0; d < dim; d++) {
      ahead.some(1);
      for (int i = 0; i < count; i += 16)
        v_store(block.keys + d * kBlock + at + i, load_kv(k + ((size_t)d * size + i) * element, l.f16));
    }
  } else if (size < 16) {
    load_row(page, dim * size, l.f16, block.page);
    ahead.some(4 * count);
    for (int d = 0; d < dim; d++)
      for (int i = 0; i < count; i++) block.keys[d * kBlock + at + i] = block.page[d * size + slot + i];
  } else {
    for (int d = 0; d < dim; d++)
      for (int i = 0; i < count; i++) block.keys[d * kBlock + at + i] = read_kv(k + ((size_t)d * size + i) * element, l.f16);
  }
  for (int i = 0; i < count; i++) {
    ahead.some(1);
    load_row(v + (size_t)i * dim * element, dim, l.f16, block.values + (at + i) * padded);
  }
}

struct Range {
  int lo, hi;  // positions [lo, hi)
};
SGL_INLINE Range visible(const AttentionArgs& a, int token) {
  const int position = a.first_position + token;
  const int hi = a.causal ? lesser(position + 1, a.kv_length) : a.kv_length;
  return {a.window > 0 ? greater(position + 1 - a.window, 0) : 0, hi};
}

/// Scores of one row to probabilities against its running maximum; returns the correction of earlier sums.
SGL_INLINE float soften(float* s, int lo, int hi, float scale, float& top, float& sum) {
  const V none = v_set(-__builtin_inff()), by = v_set(scale);
  const V s0 = v_keep(v_mul(v_load(s), by), lo, hi, none), s1 = v_keep(v_mul(v_load(s + 16), by), lo - 16, hi - 16, none);
  const float before = top, now = v_max_lane(v_max(s0, s1));
  top = now > before ? now : before;
  const V m = v_set(top);
  const V p0 = v_keep(v_exp(v_sub(s0, m)), lo, hi, v_zero()), p1 = v_keep(v_exp(v_sub(s1, m)), lo - 16, hi - 16, v_zero());
  v_store(s, p0);
  v_store(s + 16, p1);
  const float correction = top > before ? scalar_exp(before - top) : 1.0f;
  sum = sum * correction + v_sum(v_add(p0, p1));
  return correction;
}

/// Rows [row0, row0 + rows) of the call, row = token * heads_per_kv + head.
static void attention_tile(const AttentionArgs& a, int row0, int rows, uint8_t* scratch) {
  const int dim = a.layout->head_dim, padded = (dim + 15) / 16 * 16, heads = a.heads_per_kv;
  float* at = (float*)scratch;
  const KvBlock block = {at, at + dim * kBlock, at + dim * kBlock + padded * kBlock};
  at += dim * kBlock + padded * kBlock + dim * 16;
  float* scores = at;  // [kTileRows][32]
  at += kTileRows * kBlock;
  Ahead ahead = {(const uint8_t**)at, 0, 0};
  at += kMaxLines * 2;
  float *q = at, *sums = q + (size_t)rows * padded, *top = sums + (size_t)rows * padded, *total = top + rows;
  for (int i = 0; i < rows; i++) {
    const int token = (row0 + i) / heads, head = a.kv_head * heads + (row0 + i) % heads;
    memcpy(q + (size_t)i * padded, a.q + token * a.q_stride + (size_t)head * dim, (size_t)dim * 4);
    memset(sums + (size_t)i * padded, 0, (size_t)padded * 4);
    top[i] = -__builtin_inff();
    total[i] = 0;
  }
  if (padded > dim)
    for (int i = 0; i < kBlock; i++) memset(block.values + i * padded + dim, 0, (size_t)(padded - dim) * 4);
  const int lo = visible(a, row0 / heads).lo, hi = visible(a, (row0 + rows - 1) / heads).hi;
  const int size = a.layout->page_size;
  for (int base = lo / kBlock * kBlock; base < hi; base += kBlock) {
    const int from = greater(lo, base) / 16 * 16, to = lesser(hi, base + kBlock), next = base + kBlock;
    ahead.count = ahead.next = 0;
    if (next < hi) list_lines(a, next, lesser(next + kBlock, hi), ahead);
    for (int p = from; p < to;) {
      const int end = lesser((p / size + 1) * size, to);
      load_page_part(a, block, padded, p, end, ahead);
      p = end;
    }
    for (int i = 0; i < rows;) {
      // Rows with the same range in this block go together, up to a register block.
      const Range range = visible(a, (row0 + i) / heads);
      const int first = greater(range.lo - base, 0), last = lesser(range.hi - base, kBlock);
      int count = 1;
      while (count < kTileRows && i + count < rows) {
        const Range other = visible(a, (row0 + i + count) / heads);
        if (greater(other.lo - base, 0) != first || lesser(other.hi - base, kBlock) != last) break;
        count++;
      }
      if (first < last) {
        float* sum = sums + (size_t)i * padded;
        tiles(q + (size_t)i * padded, padded, count, block.keys, kBlock, dim, scores, kBlock, 2, true);
        ahead.some(kBurst);
        for (int r = 0; r < count; r++) {
          const float correction = soften(scores + r * kBlock, first, last, a.scale, top[i + r], total[i + r]);
          if (correction != 1.0f)  // times 1 would change nothing
            for (int d = 0; d < padded; d += 16)
              v_store(sum + r * padded + d, v_mul(v_load(sum + r * padded + d), v_set(correction)));
        }
        ahead.some(kBurst);
        tiles(scores + first, kBlock, count, block.values + first * padded, padded, last - first, sum, padded, padded / 16,
              false);
      }
      i += count;
    }
  }
  for (int i = 0; i < rows; i++) {
    const int token = (row0 + i) / heads, head = a.kv_head * heads + (row0 + i) % heads;
    float* out = a.out + token * a.out_stride + (size_t)head * dim;
    const V by = v_set(1.0f / total[i]);
    for (int d = 0; d < dim; d += 16) v_store_n(out + d, v_mul(v_load(sums + (size_t)i * padded + d), by), lanes_at(d, dim));
  }
}

static void attention(const AttentionArgs& a, uint8_t* scratch) {
  const size_t row_bytes = (size_t)((a.layout->head_dim + 15) / 16 * 16 * 2 + 2) * 4;
  const int most = lesser((int)(kAttentionRowBytes / row_bytes), kAttentionRows);
  const int rows = a.tokens * a.heads_per_kv;
  for (int row = 0; row < rows; row += most) attention_tile(a, row, lesser(rows - row, most), scratch);
}
