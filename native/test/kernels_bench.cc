// Times the matmul kernels (attention_bench.cc has the others): Gop/s and the share of what registers alone can do, GB/s of packed weights
// and the share of what a plain read of memory gives. SHAPE=896x4864 times one shape, rows x columns. kernels_bench [tier] [threads] [filter] [f32 | s16 | s8 | rotated8]
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ctime>
#include <thread>
#include <vector>

#include "../src/kernel_table.h"
#include "../src/pack.h"
#include "../src/packed_format.h"
#include "../src/quant.h"
#include "roofline.h"

using namespace sgl;

namespace {

const KernelTable* table;
int threads = 1;
std::vector<uint8_t*> scratch;

// One thread is timed by its CPU clock, so that other programs on the machine disturb less; several by the wall clock.
double now() {
  if (threads > 1) return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Threads that stay: each run hands all of them the same function with their index.
struct Pool {
  std::vector<std::thread> list;
  std::atomic<int> epoch{0}, left{0};
  std::atomic<bool> stop{false};
  std::function<void(int)> job;
  void start(int n) {
    for (int i = 1; i < n; i++)
      list.emplace_back([this, i] {
        for (int seen = 0;;) {
          while (epoch.load(std::memory_order_acquire) == seen) {
            if (stop) return;
            std::this_thread::yield();
          }
          seen++;
          job(i);
          left.fetch_sub(1, std::memory_order_acq_rel);
        }
      });
  }
  void run(const std::function<void(int)>& f) {
    job = f;
    left = (int)list.size();
    epoch.fetch_add(1, std::memory_order_release);
    f(0);
    while (left.load(std::memory_order_acquire) > 0) {}
  }
  ~Pool() {
    stop = true;
    for (auto& t : list) t.join();
  }
} pool;

double best_of(int rounds, const std::function<void()>& f) {
  double best = 1e9;
  for (int i = 0; i < rounds; i++) {
    const double t = now();
    f();
    best = std::min(best, now() - t);
  }
  return best;
}

Precision precision = Precision::f32;
std::vector<uint8_t> quantised;

void multiply(const PackedMatrix& w, const float* x, int m, float* y) {
  const size_t stride = row_stride(precision, w.columns);
  if (precision != Precision::f32) {
    quantised.resize((size_t)m * stride + 64);
    uint8_t* data = quantised.data() + (64 - (uintptr_t)quantised.data() % 64) % 64;
    pool.run([&](int thread) {
      for (int i = thread; i < m; i += threads) {
        const float* row = x + (size_t)i * w.columns;
        if (is_rotated(precision))
          table->quantise_rotated(precision, row, w.columns, data + i * stride, scratch[thread]);
        else
          table->quantise(precision, row, w.columns, 0, w.columns, data + i * stride);
      }
    });
  }
  const QuantisedRows rows = {precision, quantised.data() + (64 - (uintptr_t)quantised.data() % 64) % 64, x, (size_t)w.columns};
  std::atomic<int> next{0};
  // As Plan::linear does it.
  const int chunk = table->matmul_chunk(w, m), blocks = (int)w.blocks.size(), chunks = (blocks + chunk - 1) / chunk;
  const int passes = table->matmul_passes(w, precision, m);
  pool.run([&](int thread) {
    for (;;) {
      const int item = next.fetch_add(1);
      if (item >= passes * chunks) break;
      const int b = item % chunks * chunk, end = std::min(blocks, b + chunk), pass = item / chunks;
      const int from = (int)((int64_t)m * pass / passes), to = (int)((int64_t)m * (pass + 1) / passes);
      float* out = y + (size_t)from * w.rows;
      if (precision == Precision::f32) {
        table->matmul(w, b, end, x + (size_t)from * w.columns, w.columns, to - from, nullptr, out, w.rows, scratch[thread]);
      } else {
        const QuantisedRows part = {precision, rows.data + from * stride, x + (size_t)from * w.columns, (size_t)w.columns};
        const auto product = is_rotated(precision) ? table->matmul_rotated : table->matmul_quantised;
        product(w, b, end, part, to - from, nullptr, out, w.rows, scratch[thread]);
      }
    }
  });
}

// Gop/s of multiply-adds from registers alone; 0 where unknown.
double peak() {
#if defined(__x86_64__)
#if defined(SGL_HAS_TILES)
  if (strcmp(table->name, "amx") == 0 && is_rotated(precision)) {
    double best = 0;
    for (int i = 0; i < 5; i++) {
      const double t = now(), work = roofline::int8_amx();
      best = std::max(best, work / (now() - t) / 1e9);
    }
    return best * threads;
  }
#endif
  const bool wide = strncmp(table->name, "avx512", 6) == 0 || strcmp(table->name, "amx") == 0, vnni = strstr(table->name, "vnni") != nullptr || strcmp(table->name, "amx") == 0;
  double (*loop)() = wide ? roofline::f32_avx512 : roofline::f32_avx2;
  if (precision != Precision::f32) loop = !vnni ? (wide ? nullptr : roofline::int8_avx2) : wide ? roofline::int8_vnni : roofline::int8_avxvnni;
  if (loop == nullptr || strcmp(table->name, "portable") == 0) return 0;
  double best = 0;
  for (int i = 0; i < 5; i++) {
    const double t = now(), work = loop();
    best = std::max(best, work / (now() - t) / 1e9);
  }
  return best * threads / (precision == Precision::s16 && vnni ? 2 : 1);
#else
  return 0;
#endif
}

double read_bandwidth() {
  const size_t bytes = (size_t)512 << 20;
  uint8_t* p = (uint8_t*)aligned_alloc(2 << 20, bytes);
  memset(p, 1, bytes);
  const double t = best_of(5, [&] {
    pool.run([&](int thread) {
      const uint64_t* from = (const uint64_t*)(p + bytes / threads * thread);
      uint64_t sum[32] = {0};
      for (size_t i = 0; i + 32 <= bytes / threads / 8; i += 32) {
        __builtin_prefetch(from + i + 1024);
        __builtin_prefetch(from + i + 1032);
        __builtin_prefetch(from + i + 1040);
        __builtin_prefetch(from + i + 1048);
        for (int j = 0; j < 32; j++) sum[j] += from[i + j];
      }
      volatile uint64_t sink = 0;
      for (uint64_t v : sum) sink = sink + v;
    });
  });
  free(p);
  return bytes / t / 1e9;
}

struct Shape {
  int rows, columns;
};

PackedMatrix* make(GgmlType type, Shape s, int copies) {
  std::vector<uint8_t> data(row_bytes(type, s.columns) * s.rows);
  uint64_t state = 88172645463325252ull;
  for (size_t i = 0; i + 8 <= data.size(); i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    memcpy(&data[i], &state, 8);
  }
  // Small values everywhere: random scales may be NaN or subnormal, which would time something else.
  const BlockShape shape = block_shape(type);
  const uint16_t half = f32_to_f16(0.01f);
  for (size_t at = 0; at < data.size(); at += shape.bytes) {
    const int offset = type == GgmlType::Q6_K ? 208 : type == GgmlType::Q3_K ? 108 : type == GgmlType::Q2_K ? 80 : 0;
    if (type == GgmlType::F32 || type == GgmlType::BF16) data[at + shape.bytes - 1] = 0x3c;
    else if (type == GgmlType::F16) memcpy(&data[at], &half, 2);
    else memcpy(&data[at + offset], &half, 2);
    if (type == GgmlType::Q4_1 || type == GgmlType::Q5_1 || type == GgmlType::Q4_K || type == GgmlType::Q5_K || type == GgmlType::Q2_K) memcpy(&data[at + offset + 2], &half, 2);
  }
  const std::vector<PackSource> sources(copies, {data.data(), type, s.rows, nullptr, is_rotated(precision)});
  const char* error;
  PackedMatrix* m = pack_prepare(s.columns, sources.data(), sources.size(), nullptr, &error);
  if (m == nullptr) {
    printf("%s\n", error);
    exit(1);
  }
  pack_blocks(*m, sources.data(), sources.size(), 0, (int)m->blocks.size());
  return m;
}

}  // namespace

int main(int argc, char** argv) {
  const char* reason;
  table = select_tier(argc > 1 ? argv[1] : nullptr, &reason);
  if (table == nullptr) {
    printf("%s\n", reason);
    return 1;
  }
  threads = argc > 2 ? atoi(argv[2]) : 1;
  const char* filter = argc > 3 ? argv[3] : "";
  const char* name = argc > 4 ? argv[4] : "f32";
  precision = strcmp(name, "s8") == 0 ? Precision::s8 : strcmp(name, "s16") == 0 ? Precision::s16 : strcmp(name, "rotated8") == 0 ? Precision::rotated8 : Precision::f32;
  pool.start(threads);
  for (int i = 0; i < threads; i++) scratch.push_back((uint8_t*)aligned_alloc(64, kScratchBytes));
  const double top = peak(), memory = read_bandwidth();
  printf("tier %s, %d threads: %s peak %.0f Gop/s, memory read %.1f GB/s\n", table->name, threads, name, top, memory);
  const struct {
    GgmlType type;
    const char* name;
  } types[] = {{GgmlType::Q4_0, "Q4_0"}, {GgmlType::Q4_1, "Q4_1"}, {GgmlType::Q5_0, "Q5_0"}, {GgmlType::Q8_0, "Q8_0"}, {GgmlType::Q4_K, "Q4_K"},
               {GgmlType::Q5_K, "Q5_K"}, {GgmlType::Q6_K, "Q6_K"}, {GgmlType::Q2_K, "Q2_K"}, {GgmlType::IQ4_NL, "IQ4_NL"}, {GgmlType::BF16, "BF16"}, {GgmlType::F16, "F16"}, {GgmlType::F32, "F32"}};
  for (const auto& type : types) {
    if (strstr(filter, type.name) == nullptr && *filter != 0) continue;
    if (precision != Precision::f32 && block_shape(type.type).elements == 1) continue;
    for (const Shape s : {Shape{896, 896}, Shape{9728, 896}, Shape{896, 4864}, Shape{151936, 896}}) {
      const char* only = getenv("SHAPE");
      if (only != nullptr && std::to_string(s.rows) + "x" + std::to_string(s.columns) != only) continue;
      const Shape shape = {s.rows, block_shape(type.type).elements == 256 ? (s.columns + 255) / 256 * 256 : s.columns};
      // Copies until nothing but memory can hold them, as all layers of a model are.
      const size_t bytes = block_bytes(is_rotated(precision) ? PackedFormat::Rotated8 : type.type, shape.columns) * (shape.rows / 32);
      const int copies = getenv("CACHED") != nullptr ? 1 : (int)std::max<size_t>(1, ((size_t)160 << 20) / bytes);
      std::vector<PackedMatrix*> list;
      for (int i = 0; i < copies; i++) list.push_back(make(type.type, shape, 1));
      std::vector<float> x((size_t)512 * shape.columns), y((size_t)512 * shape.rows);
      for (size_t i = 0; i < x.size(); i++) x[i] = (float)(i % 17) - 8;
      printf("%-6s %6d x %-5d", type.name, shape.rows, shape.columns);
      for (int m : {1, 2, 4, 8, 12, 16, 32, 128, 512}) {
        if (shape.rows > 100000 && m > 16) continue;
        const double work = 2.0 * shape.rows * shape.columns * m * copies;
        const double worth = is_rotated(precision) ? 4e11 : 4e10;
        const int use = m >= 128 ? std::max(1, (int)(copies * std::min(1.0, worth / work))) : copies;
        const int repeats = copies == 1 && shape.rows < 100000 ? 50 : 1;  // CACHED: the same weights again and again
        const double t = 1.0 / repeats * best_of(m >= 128 ? 3 : 5, [&] {
          for (int j = 0; j < repeats; j++)
            for (int i = 0; i < use; i++) multiply(*list[i], x.data(), m, y.data());
        });
        const double flops = 2.0 * shape.rows * shape.columns * m * use / t / 1e9, gb = (double)bytes * use / t / 1e9;
        if (m <= 8)
          printf(" |%d: %.1f GB/s %.0f%%", m, gb, gb / memory * 100);
        else
          printf(" |%d: %.0f %.0f%%", m, flops, top > 0 ? flops / top * 100 : 0);
        fflush(stdout);
      }
      printf("\n");
      for (PackedMatrix* m : list) pack_free(m);
    }
  }
  return 0;
}
