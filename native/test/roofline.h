// What this machine can do at most, measured: reading memory and L2, and multiply-adds of each kind its registers know.
// Every figure is for all threads of the pool at once.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "../src/thread_pool.h"
#include "../src/tile_amx.h"

namespace roofline {

inline double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

inline double median_of(int rounds, const std::function<void()>& f) {
  std::vector<double> seconds;
  for (int i = 0; i < rounds; i++) {
    const double start = now();
    f();
    seconds.push_back(now() - start);
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

// f(thread) on every thread of the pool at once: as many chunks as threads, each long enough that none gets two.
inline void on_all(sgl::ThreadPool& pool, const std::function<void(int)>& f) {
  pool.parallel_for(pool.threads(), 1, [&](int begin, int end, int) {
    for (int i = begin; i < end; i++) f(i);
  });
}

inline void read_all(const uint8_t* from, size_t bytes) {
  const auto* p = reinterpret_cast<const uint64_t*>(from);
  uint64_t sum[32] = {0};
  for (size_t i = 0; i + 32 <= bytes / 8; i += 32) {
    for (int line = 0; line < 4; line++) __builtin_prefetch(p + i + 1024 + line * 8);
    for (int j = 0; j < 32; j++) sum[j] += p[i + j];
  }
  volatile uint64_t sink = 0;
  for (const uint64_t v : sum) sink = sink + v;
}

// GB/s of reading `bytes` per thread again and again: more than any cache holds for DRAM, a third of L2 for L2.
inline double read_bandwidth(sgl::ThreadPool& pool, size_t bytes, int repeats) {
  const size_t all = bytes * static_cast<size_t>(pool.threads());
  auto* data = static_cast<uint8_t*>(std::aligned_alloc(2 << 20, (all + (2 << 20) - 1) / (2 << 20) * (2 << 20)));
  std::memset(data, 1, all);
  const double seconds = median_of(7, [&] {
    on_all(pool, [&](int thread) {
      for (int i = 0; i < repeats; i++) read_all(data + bytes * static_cast<size_t>(thread), bytes);
    });
  });
  std::free(data);
  return static_cast<double>(all) * repeats / seconds / 1e9;
}

#if defined(__x86_64__)
constexpr int kSteps = 4000000;  // a few milliseconds

// Twelve independent accumulators: more than latency times ports. `a` changes in the compiler's eyes every time round.
// Returns operations; a multiply-add counts as two. Names, not an array, which g++ would keep in memory.
#define ROOFLINE_LOOP(name, features, type, reg, start, step, per_step)                                                                      \
  __attribute__((target(features))) inline double name() {                                                                                   \
    type a = start, s0 = a, s1 = a, s2 = a, s3 = a, s4 = a, s5 = a, s6 = a, s7 = a, s8 = a, s9 = a, s10 = a, s11 = a;                        \
    for (int i = 0; i < kSteps; i++) {                                                                                                       \
      asm volatile("" : "+" reg(a));                                                                                                         \
      step(s0); step(s1); step(s2); step(s3); step(s4); step(s5); step(s6); step(s7); step(s8); step(s9); step(s10); step(s11);              \
    }                                                                                                                                        \
    asm volatile("" : : reg(s0), reg(s1), reg(s2), reg(s3), reg(s4), reg(s5), reg(s6), reg(s7), reg(s8), reg(s9), reg(s10), reg(s11));        \
    return 12.0 * (per_step)*kSteps;                                                                                                         \
  }
#define STEP_FMA256(s) s = _mm256_fmadd_ps(s, a, a)
ROOFLINE_LOOP(f32_avx2, "avx2,fma", __m256, "x", _mm256_set1_ps(0.999f), STEP_FMA256, 16)
#define STEP_FMA512(s) s = _mm512_fmadd_ps(s, a, a)
ROOFLINE_LOOP(f32_avx512, "avx512f", __m512, "v", _mm512_set1_ps(0.999f), STEP_FMA512, 32)
// u8 x s8 to s16 pairs, to s32, added: three instructions for 32 products.
#define STEP_INT8_AVX2(s) s = _mm256_add_epi32(s, _mm256_madd_epi16(_mm256_maddubs_epi16(s, a), a))
ROOFLINE_LOOP(int8_avx2, "avx2", __m256i, "x", _mm256_set1_epi8(1), STEP_INT8_AVX2, 64)
#define STEP_INT8_VNNI(s) asm volatile("vpdpbusd %1, %1, %0" : "+v"(s) : "v"(a))
ROOFLINE_LOOP(int8_vnni, "avx512f,avx512vnni", __m512i, "v", _mm512_set1_epi8(1), STEP_INT8_VNNI, 128)
#define STEP_INT8_AVXVNNI(s) asm volatile("%{vex%} vpdpbusd %1, %1, %0" : "+x"(s) : "x"(a))
ROOFLINE_LOOP(int8_avxvnni, "avx2", __m256i, "x", _mm256_set1_epi8(1), STEP_INT8_AVXVNNI, 64)
#define STEP_BF16(s) s = _mm512_dpbf16_ps(s, (__m512bh)a, (__m512bh)a)
ROOFLINE_LOOP(bf16_avx512, "avx512f,avx512bf16", __m512, "v", _mm512_set1_ps(1), STEP_BF16, 64)
#if defined(SGL_HAS_TILES)
// Tiles of 16 x 16 sums by 64 products each, from registers alone, over numbers that change as a model's do: power is part of
// the limit. Only where the amx tier is supported.
inline double int8_amx() {
  alignas(64) static uint8_t bytes[2][1024];
  for (int i = 0; i < 2048; i++) bytes[i / 1024][i % 1024] = static_cast<uint8_t>(i * 2654435761u >> 24);
  sgl::TileConfig config;
  for (int t = 0; t < 8; t++) config.set(t, 16, 64);
  sgl::tile_configure(config);
  sgl::tile_load<4>(bytes[0], 64);
  sgl::tile_load<5>(bytes[1], 64);
  sgl::tile_load<6>(bytes[0], 64);
  sgl::tile_load<7>(bytes[1], 64);
  constexpr int kRounds = 200000;
  for (int i = 0; i < kRounds; i++) {
    sgl::tile_dot_su<0, 4, 6>();
    sgl::tile_dot_su<1, 4, 7>();
    sgl::tile_dot_su<2, 5, 6>();
    sgl::tile_dot_su<3, 5, 7>();
  }
  sgl::tile_release();
  return 4.0 * 2 * 16 * 16 * 64 * kRounds;
}
#endif
#undef STEP_FMA256
#undef STEP_FMA512
#undef STEP_INT8_AVX2
#undef STEP_INT8_VNNI
#undef STEP_INT8_AVXVNNI
#undef STEP_BF16
#undef ROOFLINE_LOOP
#endif

#if defined(__x86_64__)
inline bool has_avxvnni() {
  unsigned a, b, c, d;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}
#endif

struct Peak {
  const char* name;  // "f32", "int8", "bf16"
  const char* by;    // the instruction
  double rate;       // Gop/s, a multiply-add is two
};

inline std::vector<Peak> peaks(sgl::ThreadPool& pool) {
  std::vector<Peak> found;
#if defined(__x86_64__)
  const auto add = [&](const char* name, const char* by, double (*loop)()) {
    double work = 0;
    const double seconds = median_of(5, [&] {
      on_all(pool, [&](int thread) {
        const double done = loop();
        if (thread == 0) work = done;
      });
    });
    found.push_back({name, by, work * pool.threads() / seconds / 1e9});
  };
  const bool wide = __builtin_cpu_supports("avx512f");
  if (wide) add("f32", "AVX-512 vfmadd", f32_avx512);
  else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) add("f32", "AVX2 vfmadd", f32_avx2);
  if (wide && __builtin_cpu_supports("avx512vnni")) add("int8", "AVX-512 vpdpbusd", int8_vnni);
  else if (has_avxvnni()) add("int8", "AVX-VNNI vpdpbusd", int8_avxvnni);
  else if (__builtin_cpu_supports("avx2")) add("int8", "AVX2 vpmaddubsw", int8_avx2);
  if (wide && __builtin_cpu_supports("avx512bf16")) add("bf16", "AVX-512 vdpbf16ps", bf16_avx512);
#endif
  return found;
}

}  // namespace roofline
