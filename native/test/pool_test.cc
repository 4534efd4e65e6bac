// The thread pool alone, for TSan and plain runs: scripts/test-sanitized.mjs compiles and runs it. Exits 0 when every
// run covered its range exactly once, whatever the threads did; prints the first failure and exits 1 otherwise.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>
#ifdef __linux__
#include <pthread.h>
#include <sched.h>
#endif

#include "../src/thread_pool.h"

using sgl::ThreadPool;

static void expect(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

// Runs of many sizes back to back. Plain memory on purpose: TSan sees every missing hand-over.
static void covers_each_item_once(int threads) {
  ThreadPool pool(threads, 0);
  std::vector<int> hits(1000);
  uint64_t runs = 0, chunks = 0;
  for (int round = 0; round < 400; round++) {
    const int n = (round * 37) % 1000, chunk = 1 + round % 9;
    for (auto& hit : hits) hit = 0;
    pool.parallel_for(n, chunk, [&](int begin, int end, int thread) {
      expect(thread >= 0 && thread < threads && begin < end && end - begin <= chunk, "a chunk has its thread and its size");
      for (int i = begin; i < end; i++) hits[i]++;
    });
    for (int i = 0; i < 1000; i++) expect(hits[i] == (i < n ? 1 : 0), "each item once");
    if (n > chunk) {
      runs++;
      chunks += static_cast<uint64_t>((n + chunk - 1) / chunk);
    }
  }
  expect(pool.runs() == runs && pool.chunks() == chunks, "runs and chunks are counted");
}

// A run may use what the run before wrote, on any thread.
static void hands_results_on(int threads) {
  ThreadPool pool(threads, 0);
  std::vector<long> a(257, 1), b(257, 0);
  for (int round = 0; round < 500; round++) {
    pool.parallel_for(257, 3, [&](int begin, int end, int) {
      for (int i = begin; i < end; i++) b[i] = a[(i + 1) % 257] + a[(i + 100) % 257];
    });
    pool.parallel_for(257, 5, [&](int begin, int end, int) {
      for (int i = begin; i < end; i++) a[i] = b[256 - i] % 1000;
    });
  }
  std::vector<long> x(257, 1), y(257, 0);
  for (int round = 0; round < 500; round++) {
    for (int i = 0; i < 257; i++) y[i] = x[(i + 1) % 257] + x[(i + 100) % 257];
    for (int i = 0; i < 257; i++) x[i] = y[256 - i] % 1000;
  }
  expect(a == x, "chained runs compute what one thread computes");
}

// Workers that went to sleep between runs wake up; runs after a pause are complete.
static void wakes_sleepers(int threads) {
  ThreadPool pool(threads, 1);
  for (int round = 0; round < 30; round++) {
    std::this_thread::sleep_for(std::chrono::microseconds(round * 20));
    std::atomic<int> sum{0};
    pool.parallel_for(64, 1, [&](int begin, int, int) { sum += begin; });
    expect(sum == 64 * 63 / 2, "a run after a pause is complete");
  }
}

static void cancels(int threads) {
  ThreadPool pool(threads, 0);
  std::atomic<int> done{0};
  std::thread other([&] {
    while (done < 10) std::this_thread::yield();
    pool.cancel();
  });
  pool.parallel_for(1 << 30, 1, [&](int, int, int) { done++; });
  other.join();
  expect(done < 1 << 30, "a cancelled run ends early");
  pool.close();
  pool.close();
  pool.parallel_for(100, 1, [&](int, int, int) { expect(false, "no work after close"); });
}

// A worker that holds a chunk and gets no time goes on where the waiting thread runs, leaves that core when it is
// through, and may then run where it might before. Skipped where there is one core, or affinity cannot be set.
static bool brings_stalled_workers() {
#ifdef __linux__
  cpu_set_t all, now;
  pthread_getaffinity_np(pthread_self(), sizeof all, &all);
  if (CPU_COUNT(&all) < 2 || pthread_setaffinity_np(pthread_self(), sizeof all, &all) != 0) return false;
  sgl::WorkerPlacement placement;
  std::atomic<bool> stop{false}, through{false}, left{false};
  std::thread worker([&] {
    placement.begin_work();
    while (!through) {
    }
    placement.end_work();
    placement.leave_core();
    left = true;
    while (!stop) std::this_thread::yield();
  });
  // Enough busy threads that every core is shared.
  std::vector<std::thread> busy;
  for (int i = 0; i < 2 * CPU_COUNT(&all); i++)
    busy.emplace_back([&] {
      while (!stop) {
      }
    });
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  bool moved = false;
  while (!moved && std::chrono::steady_clock::now() < end) moved = placement.bring_here(worker);
  expect(moved, "a worker without a core is brought");
  pthread_getaffinity_np(worker.native_handle(), sizeof now, &now);
  expect(CPU_COUNT(&now) == 1, "it runs on one core");
  const cpu_set_t here = now;
  through = true;
  while (!left) std::this_thread::yield();
  pthread_getaffinity_np(worker.native_handle(), sizeof now, &now);
  cpu_set_t both;
  CPU_OR(&both, &now, &here);
  expect(CPU_COUNT(&now) == CPU_COUNT(&all) - 1 && CPU_EQUAL(&both, &all), "it may run on every core but that one");
  expect(!placement.bring_here(worker), "one that holds nothing is left alone");
  placement.restore(worker);
  pthread_getaffinity_np(worker.native_handle(), sizeof now, &now);
  expect(CPU_EQUAL(&now, &all), "it may run where it might before");
  stop = true;
  worker.join();
  for (auto& thread : busy) thread.join();
  return true;
#else
  return false;
#endif
}

static void opens_and_closes() {
  for (int i = 0; i < 50; i++) ThreadPool pool(1 + i % 5, 0);
}

int main() {
  for (int threads : {1, 2, 3, 5}) {
    covers_each_item_once(threads);
    hands_results_on(threads);
    wakes_sleepers(threads);
    cancels(threads);
  }
  // A third busy thread on a machine of any size.
  std::atomic<bool> stop{false};
  std::thread busy([&] {
    while (!stop) {
    }
  });
  covers_each_item_once(3);
  stop = true;
  busy.join();
  opens_and_closes();
  std::puts(brings_stalled_workers() ? "pool ok" : "pool ok; skipped: workers brought to a core (one core, or no affinity)");
}
