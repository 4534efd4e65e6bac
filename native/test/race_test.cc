// Everything that several threads compute together, under ThreadSanitizer: scripts/test-sanitized.mjs compiles and runs it.
// Products in every precision, keys and values of every type, runs of pages that sequences share, rows of sampling and the
// best ids of a row are computed by several threads and by one; bits must be equal, and TSan must see no race. Kernels of
// the portable tier: the others share its bodies and its division of work.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../src/kernel_table.h"
#include "../src/pack.h"
#include "../src/sampler.h"
#include "../src/thread_pool.h"
#include "../src/tiers/tiers.h"

using namespace sgl;

namespace {

constexpr int kThreads = 4;

void expect(bool ok, const std::string& what) {
  if (ok) return;
  std::fprintf(stderr, "failed: %s\n", what.c_str());
  std::exit(1);
}

float noise(size_t i) { return (float)(i * 2654435761u % 2003) * 0.001f - 1; }

std::vector<float> noises(size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; i++) x[i] = noise(i);
  return x;
}

struct Scratch {
  std::vector<std::vector<uint8_t>> memory;
  explicit Scratch(int threads) : memory((size_t)threads, std::vector<uint8_t>(kScratchBytes + 64)) {}
  uint8_t* of(int thread) {
    uint8_t* data = memory[(size_t)thread].data();
    return data + (64 - (uintptr_t)data % 64) % 64;
  }
};

// Runs `work` with one thread and with several and compares what it returns.
template <class F>
void alike(const std::string& what, const F& work) {
  ThreadPool one(1, 0), several(kThreads, 0);
  const auto expected = work(one), found = work(several);
  expect(found.size() == expected.size() && std::memcmp(found.data(), expected.data(), found.size() * sizeof(found[0])) == 0, what);
}

// Q8_0 and Q4_0 rows: a scale of 2^-7 and any codes.
std::vector<uint8_t> file_rows(GgmlType type, int rows, int columns) {
  const size_t bytes = row_bytes(type, columns) * (size_t)rows, block = type == GgmlType::Q8_0 ? 34 : 18;
  std::vector<uint8_t> data(bytes);
  for (size_t i = 0; i < bytes; i++) data[i] = i % block == 0 ? 0 : i % block == 1 ? 0x20 : (uint8_t)(i * 89 + i / 7);
  return data;
}

void products(const KernelTable& k, GgmlType type, Precision precision, int m) {
  constexpr int kRows = 200, kColumns = 96;
  const std::vector<uint8_t> data = file_rows(type, kRows, kColumns);
  const PackSource source = {data.data(), type, kRows, nullptr};
  const std::vector<float> x = noises((size_t)m * kColumns);
  alike("a product of " + std::to_string(m) + " rows, precision " + std::to_string((int)precision), [&](ThreadPool& pool) {
    const char* error = nullptr;
    PackedMatrix* w = pack_prepare(kColumns, &source, 1, nullptr, &error);
    expect(w != nullptr, "packing");
    pool.parallel_for((int)w->blocks.size(), 1, [&](int begin, int end, int) { pack_blocks(*w, &source, 1, begin, end); });
    Scratch scratch(pool.threads());
    const size_t stride = precision == Precision::f32 ? 0 : row_stride(precision, kColumns);
    std::vector<uint8_t> integers((size_t)m * stride + 64);
    uint8_t* aligned = integers.data() + (64 - (uintptr_t)integers.data() % 64) % 64;
    // Columns of a row are made by different threads, as after a gated product.
    if (precision != Precision::f32)
      pool.parallel_for(m * (kColumns / 32), 1, [&](int begin, int end, int) {
        for (int i = begin; i < end; i++) {
          const int r = i / (kColumns / 32), k0 = i % (kColumns / 32) * 32;
          k.quantise(precision, &x[(size_t)r * kColumns], kColumns, k0, k0 + 32, aligned + (size_t)r * stride);
        }
      });
    std::vector<float> y((size_t)m * kRows);
    const QuantisedRows rows = {precision, aligned, x.data(), kColumns};
    pool.parallel_for((int)w->blocks.size(), 2, [&](int begin, int end, int thread) {
      if (precision == Precision::f32)
        k.matmul(*w, begin, end, x.data(), kColumns, m, nullptr, y.data(), kRows, scratch.of(thread));
      else
        k.matmul_quantised(*w, begin, end, rows, m, nullptr, y.data(), kRows, scratch.of(thread));
    });
    pack_free(w);
    return y;
  });
}

// Eight sequences of 80 positions, the first 64 in the same pages.
void attention(const KernelTable& k, KvDtype dtype) {
  constexpr int kKvHeads = 2, kGroup = 2, kHeads = kKvHeads * kGroup, kDim = 16, kPage = 16, kShared = 64, kLength = 80, kSequences = 8;
  constexpr int kPages = kShared / kPage + kSequences * (kLength - kShared) / kPage;
  const KvLayout layout = {1, kKvHeads, kDim, kPage, kPages, dtype};
  const std::vector<float> q = noises((size_t)kSequences * kHeads * kDim);
  alike(std::string("shared pages of ") + kKvDtypeNames[(int)dtype], [&](ThreadPool& pool) {
    std::vector<uint8_t> kv(layout.total_bytes());
    Scratch scratch(pool.threads());
    // Positions of a page are written by different threads.
    pool.parallel_for(kPages * kPage, 1, [&](int begin, int end, int) {
      for (int i = begin; i < end; i++) {
        std::vector<float> values(kDim);
        for (int h = 0; h < kKvHeads; h++) {
          for (int d = 0; d < kDim; d++) values[(size_t)d] = noise((size_t)((i * kKvHeads + h) * kDim + d));
          k.kv_write(kv.data(), layout, 0, i / kPage, i % kPage, h, values.data(), values.data());
        }
      }
    });
    std::vector<float> out(q.size()), state((size_t)kSequences * kHeads * 2);
    std::vector<int32_t> rows(kSequences), pages(kLength / kPage);
    for (int s = 0; s < kSequences; s++) rows[(size_t)s] = s;
    AttentionArgs all = {};
    all.q = q.data();
    all.out = out.data();
    all.state = state.data();
    all.q_stride = all.out_stride = kHeads * kDim;
    all.state_stride = kHeads * 2;
    all.kv = kv.data();
    all.layout = &layout;
    all.heads_per_kv = kGroup;
    all.scale = 0.25f;
    all.causal = true;
    for (int p = 0; p < kShared / kPage; p++) pages[(size_t)p] = p;
    pool.parallel_for(4 * kKvHeads, 1, [&](int begin, int end, int thread) {
      for (int item = begin; item < end; item++) {
        AttentionArgs a = all;
        a.rows = rows.data() + item / kKvHeads * 2;
        a.tokens = 2;
        a.kv_head = item % kKvHeads;
        a.pages = pages.data();
        a.end = kShared;
        k.attention(a, scratch.of(thread));
      }
    });
    pool.parallel_for(kSequences * kKvHeads, 1, [&](int begin, int end, int thread) {
      for (int item = begin; item < end; item++) {
        const int s = item / kKvHeads;
        std::vector<int32_t> own(pages);
        own.back() = kShared / kPage + s;
        AttentionArgs a = all;
        a.q += (size_t)s * a.q_stride;
        a.out += (size_t)s * a.out_stride;
        a.state += (size_t)s * a.state_stride;
        a.tokens = 1;
        a.kv_head = item % kKvHeads;
        a.pages = own.data();
        a.begin = kShared;
        a.first_position = kLength - 1;
        a.kv_length = kLength;
        k.attention(a, scratch.of(thread));
      }
    });
    return out;
  });
}

void sampling(const KernelTable& k) {
  constexpr int kRows = 24, kVocab = 3000, kRange = 256, kRanges = (kVocab + kRange - 1) / kRange;
  const std::vector<float> logits = noises((size_t)kRows * kVocab);
  const std::vector<uint32_t> mask(kVocab / 32 + 1, 0x5a5a5a5a);
  const std::vector<int32_t> seen = {1, 7, 2000}, counts = {1, 2, 3};
  alike("rows of sampling", [&](ThreadPool& pool) {
    std::vector<SamplerScratch> scratch((size_t)pool.threads());
    std::vector<BestIds> best(kRows);
    for (int r = 0; r < kRows; r++) best[(size_t)r].begin(r % 3 == 0 ? 1 : 20, kRanges);
    pool.parallel_for(kRanges, 1, [&](int begin, int end, int thread) {
      for (int range = begin; range < end; range++)
        for (int r = 0; r < kRows; r++)
          best[(size_t)r].take(k, range, range * kRange, &logits[(size_t)r * kVocab + (size_t)range * kRange], std::min(kRange, kVocab - range * kRange),
                               scratch[(size_t)thread]);
    });
    std::vector<int32_t> ids(kRows * 2);
    pool.parallel_for(kRows * 2, 1, [&](int begin, int end, int thread) {
      for (int i = begin; i < end; i++) {
        const int r = i / 2;
        SampleRow row = {};
        row.logits = &logits[(size_t)r * kVocab];
        row.vocab = kVocab;
        row.target = row.newest = -1;
        row.temperature = r % 3 == 0 ? 0.0f : 0.8f;
        row.top_p = r % 2 ? 0.9f : 1.0f;
        row.top_k = r % 3 == 0 ? -1 : 20;
        row.seed = (uint64_t)r;
        row.repetition = 1;
        if (i % 2 == 0) {
          row.best = &best[(size_t)r];
        } else if (r % 4 == 1) {
          row.mask = mask.data();
          row.frequency = 0.5f;
          row.seen_ids = seen.data();
          row.seen_counts = counts.data();
          row.seen = 3;
          row.top_k = -1;
        }
        SampleFault fault;
        ids[(size_t)i] = sample_row(k, row, scratch[(size_t)thread], &fault);
        expect(fault == SampleFault::none, "a row can be sampled");
      }
    });
    for (int r = 0; r < kRows; r++)
      expect(r % 4 == 1 || ids[(size_t)r * 2] == ids[(size_t)r * 2 + 1], "the best ids say what the logits say");
    return ids;
  });
}

}  // namespace

int main() {
  const KernelTable& k = *portable_table();
  for (const GgmlType type : {GgmlType::Q8_0, GgmlType::Q4_0})
    for (const Precision precision : {Precision::f32, Precision::s16, Precision::s8})
      for (const int m : {1, 5, 40}) products(k, type, precision, m);
  for (int dtype = 0; dtype < kKvDtypes; dtype++) attention(k, (KvDtype)dtype);
  sampling(k);
  std::puts("races ok");
}
