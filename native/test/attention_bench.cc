// The machine's limits (roofline.h), then attention, row operations and sampling against them: one JSON object per line.
// attention_bench [tier] [threads]. Shapes are those of Qwen2.5-0.5B: 24 layers, 14 query heads over 2 kv heads of 64.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "../src/kernel_table.h"
#include "../src/quant.h"
#include "roofline.h"

using namespace sgl;
using roofline::median_of;

namespace {

constexpr int kLayers = 24, kDim = 64, kKvHeads = 2, kGroup = 7, kHeads = kKvHeads * kGroup, kHidden = 896, kInner = 4864, kVocab = 151936;

const KernelTable* table;
ThreadPool* pool;
std::vector<uint8_t*> scratch;

// `limit`: "dram" or "l2" (GB/s) or "f32" (Gop/s): what bounds the kernel; rate in the same unit.
void report(const std::string& name, double seconds, double rate, const char* limit) {
  printf("{\"kernel\": \"%s\", \"ms\": %.4f, \"rate\": %.3f, \"limit\": \"%s\"}\n", name.c_str(), seconds * 1e3, rate, limit);
  fflush(stdout);
}

struct Pages {
  KvLayout layout;
  std::vector<uint8_t> kv;
  std::vector<int32_t> ids;  // shuffled

  Pages(KvDtype dtype, int page, int positions) : layout{kLayers, kKvHeads, kDim, page, positions / page, dtype}, kv(layout.total_bytes()) {
    std::vector<float> x(kDim);
    pool->parallel_for(kLayers, 1, [&](int begin, int end, int) {
      std::vector<float> values(kDim);
      for (int l = begin; l < end; l++)
        for (int p = 0; p < layout.pages; p++)
          for (int slot = 0; slot < page; slot++)
            for (int h = 0; h < kKvHeads; h++) {
              for (int d = 0; d < kDim; d++) values[d] = (float)((d * 7 + slot * 13 + p * 29 + l) % 101) * 0.02f - 1;
              table->kv_write(kv.data(), layout, l, p, slot, h, values.data(), values.data());
            }
    });
    for (int64_t i = 0; i < layout.pages; i++) ids.push_back((int32_t)(i * 7919 % layout.pages));
  }
};

struct Tokens {
  std::vector<float> q, out, state;
  explicit Tokens(int n) : q((size_t)n * kHeads * kDim), out(q.size()), state((size_t)n * kHeads * 2) {
    for (size_t i = 0; i < q.size(); i++) q[i] = (float)(i * 31 % 97) * 0.02f - 1;
  }
  AttentionArgs args(const Pages& pages, int layer, int kv_head) {
    AttentionArgs a = {};
    a.q = q.data();
    a.out = out.data();
    a.state = state.data();
    a.q_stride = a.out_stride = kHeads * kDim;
    a.state_stride = kHeads * 2;
    a.kv = pages.kv.data();
    a.layout = &pages.layout;
    a.layer = layer;
    a.kv_head = kv_head;
    a.heads_per_kv = kGroup;
    a.pages = pages.ids.data();
    a.scale = 0.125f;
    a.causal = true;
    return a;
  }
};

// One step of `sequences` tokens, each with `length` positions of its own, the first `shared` of which are in common.
void decode(const char* label, KvDtype dtype, int page, int sequences, int length, int shared) {
  const Pages pages(dtype, page, shared + sequences * (length - shared));
  Tokens tokens(sequences);
  std::vector<std::vector<int32_t>> own(sequences);
  std::vector<int32_t> rows(sequences);
  for (int s = 0; s < sequences; s++) {
    rows[s] = s;
    own[s].assign(pages.ids.begin(), pages.ids.begin() + shared / page);
    const auto from = pages.ids.begin() + (shared + s * (length - shared)) / page;
    own[s].insert(own[s].end(), from, from + (length - shared) / page);
  }
  const double seconds = median_of(7, [&] {
    for (int layer = 0; layer < kLayers; layer++) {
      const int parts = shared > 0 ? std::min(sequences, 2 * pool->threads() / kKvHeads) : 0;
      pool->parallel_for(parts * kKvHeads, 1, [&](int begin, int end, int thread) {
        for (int item = begin; item < end; item++) {
          AttentionArgs a = tokens.args(pages, layer, item % kKvHeads);
          const int first = sequences * (item / kKvHeads) / parts;
          a.rows = rows.data() + first;
          a.tokens = sequences * (item / kKvHeads + 1) / parts - first;
          a.end = shared;
          table->attention(a, scratch[thread]);
        }
      });
      pool->parallel_for(sequences * kKvHeads, 1, [&](int begin, int end, int thread) {
        for (int item = begin; item < end; item++) {
          const int s = item / kKvHeads;
          AttentionArgs a = tokens.args(pages, layer, item % kKvHeads);
          a.q += (size_t)s * a.q_stride;
          a.out += (size_t)s * a.out_stride;
          a.state += (size_t)s * a.state_stride;
          a.pages = own[s].data();
          a.begin = shared;
          a.first_position = length - 1;
          a.kv_length = length;
          a.tokens = 1;
          table->attention(a, scratch[thread]);
        }
      });
    }
  });
  report(std::string(label) + ", " + kKvDtypeNames[(int)dtype] + ", page " + std::to_string(page), seconds, (double)pages.layout.total_bytes() / seconds / 1e9, "dram");
}

void prefill(KvDtype dtype, int length, int tile) {
  const Pages pages(dtype, 16, length);
  Tokens tokens(length);
  const double seconds = median_of(5, [&] {
    for (int layer = 0; layer < kLayers; layer++)
      pool->parallel_for(length / tile * kKvHeads, 1, [&](int begin, int end, int thread) {
        for (int item = begin; item < end; item++) {
          AttentionArgs a = tokens.args(pages, layer, item % kKvHeads);
          const int first = length - (item / kKvHeads + 1) * tile;  // longest first
          a.q += (size_t)first * a.q_stride;
          a.out += (size_t)first * a.out_stride;
          a.first_position = first;
          a.kv_length = first + tile;
          a.tokens = tile;
          table->attention(a, scratch[thread]);
        }
      });
  });
  const double work = 4.0 * kHeads * kDim * length * (length + 1) / 2 * kLayers;
  report("attention, prefill " + std::to_string(length) + ", " + kKvDtypeNames[(int)dtype], seconds, work / seconds / 1e9, "f32");
}

// A row operation over 512 rows on all threads; `bytes`: read and written per row.
template <class F>
void rows_of(const char* name, double bytes, const F& f) {
  const int rows = 512;
  const double seconds = median_of(9, [&] { pool->parallel_for(rows, 8, [&](int begin, int end, int) { for (int r = begin; r < end; r++) f(r); }); });
  report(std::string(name) + ", 512 rows", seconds, bytes * rows / seconds / 1e9, "dram");
}

void row_ops() {
  std::vector<float> a((size_t)512 * 2 * kInner, 0.5f), b((size_t)512 * kInner, 0.25f), weight(kInner, 1.0f), angles(kDim, 0.7f);
  rows_of("rms_norm 896", 8.0 * kHidden, [&](int r) { table->rms_norm(&b[(size_t)r * kHidden], &a[(size_t)r * kHidden], weight.data(), kHidden, 1e-6f); });
  rows_of("add_rms_norm 896", 16.0 * kHidden, [&](int r) {
    float* x = &a[(size_t)r * kHidden];
    table->add_rms_norm(x, &b[(size_t)(512 + r) * kHidden], x, &b[(size_t)r * kHidden], weight.data(), kHidden, 1e-6f);
  });
  rows_of("gated_act 4864", 12.0 * kInner, [&](int r) { table->gated_act(&b[(size_t)r * kInner], &a[(size_t)r * 2 * kInner], &a[(size_t)r * 2 * kInner + kInner], kInner, 0); });
  rows_of("rope 16 heads", 8.0 * 16 * kDim, [&](int r) { table->rope(&a[(size_t)r * 16 * kDim], angles.data(), 16, kDim, kDim / 2); });
}

// What sampling does with rows of 151,936 logits, 32 of them.
void sampling() {
  const int rows = 32;
  std::vector<float> logits((size_t)rows * kVocab), out(logits.size());
  for (size_t i = 0; i < logits.size(); i++) logits[i] = (float)(i * 7919 % 1000) * 0.02f - 10;
  std::vector<uint32_t> mask((kVocab + 31) / 32, 0x5555ffffu);
  volatile double sink = 0;
  const auto each = [&](const char* name, double bytes, const auto& f) {
    const double seconds = median_of(7, [&] { pool->parallel_for(rows, 1, [&](int begin, int end, int) { for (int r = begin; r < end; r++) f(&logits[(size_t)r * kVocab], &out[(size_t)r * kVocab]); }); });
    report(std::string(name) + ", 32 rows of 151936", seconds, bytes * rows * kVocab / seconds / 1e9, "dram");
  };
  each("argmax", 4, [&](const float* x, float*) { sink = sink + table->argmax(x, kVocab); });
  each("check, mask and copy", 8, [&](const float* x, float* y) { table->checked_copy(y, x, kVocab, mask.data()); });
  each("exp_sum", 8, [&](const float* x, float* y) { sink = sink + table->exp_sum(y, x, kVocab, 10, 1.25f, nullptr); });
}

}  // namespace

int main(int argc, char** argv) {
  const char* reason;
  table = select_tier(argc > 1 && *argv[1] != 0 ? argv[1] : nullptr, &reason);
  if (table == nullptr) {
    fprintf(stderr, "%s\n", reason);
    return 1;
  }
  const int threads = argc > 2 ? atoi(argv[2]) : 1;
  ThreadPool threads_pool(threads, 0);
  pool = &threads_pool;
  for (int i = 0; i < threads; i++) scratch.push_back((uint8_t*)aligned_alloc(64, kScratchBytes));
  printf("{\"tier\": \"%s\", \"threads\": %d}\n", table->name, threads);
  printf("{\"limit\": \"dram\", \"by\": \"reading 256 MiB per thread\", \"rate\": %.2f}\n", roofline::read_bandwidth(threads_pool, (size_t)256 << 20, 1));
  printf("{\"limit\": \"l2\", \"by\": \"reading 160 KiB per thread\", \"rate\": %.2f}\n", roofline::read_bandwidth(threads_pool, (size_t)160 << 10, 400));
  for (const roofline::Peak& peak : roofline::peaks(threads_pool)) printf("{\"limit\": \"%s\", \"by\": \"%s\", \"rate\": %.2f}\n", peak.name, peak.by, peak.rate);
  fflush(stdout);
  for (int d = 0; d < kKvDtypes; d++) decode("attention, 8 x 1024 positions", (KvDtype)d, 16, 8, 1024, 0);
  decode("attention, 8 x 1024 positions", KvDtype::f16, 64, 8, 1024, 0);
  decode("attention, 1 x 8192 positions", KvDtype::f16, 16, 1, 8192, 0);
  decode("attention, 32 x 1024 positions", KvDtype::f16, 16, 32, 1024, 0);
  decode("attention, 32 x 1024 positions, 768 shared", KvDtype::f16, 16, 32, 1024, 768);
  for (const KvDtype dtype : {KvDtype::f16, KvDtype::int8}) prefill(dtype, 512, 16);
  prefill(KvDtype::f16, 2048, 16);
  row_ops();
  sampling();
  return 0;
}
