// The thread pool alone, for TSan and plain runs: scripts/test-sanitized.mjs compiles and runs it. Exits 0 when every
// run covered its range exactly once, whatever the threads did; prints the first failure and exits 1 otherwise.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

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
  std::puts("pool ok");
}
