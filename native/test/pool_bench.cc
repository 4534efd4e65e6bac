// What the pool of threads costs, as one JSON object: pool_bench THREADS.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "roofline.h"

using roofline::median_of;
using sgl::ThreadPool;

// The pool: what handing out work costs, and what is left of it when one more thread than there are cores is busy. A run
// is 64 chunks of about 20 us, as an instruction's are.
static void sharing_out(ThreadPool* pool) {
  const auto chunk = [](int units) {
    volatile float x = 1;
    for (int i = 0; i < units * 1000; i++) x = x * 0.999f + 0.001f;
  };
  const auto runs = [&](int n, int units) {
    return median_of(7, [&] {
      for (int run = 0; run < n; run++) pool->parallel_for(64, 1, [&](int begin, int end, int) { for (int i = begin; i < end; i++) chunk(units); });
    });
  };
  const double empty = runs(2000, 0) / 2000;
  const double alone = runs(100, 5);
  std::atomic<bool> stop{false};
  std::vector<std::thread> busy;
  const int extra = std::max(1, (int)std::thread::hardware_concurrency() - pool->threads() + 1);
  for (int i = 0; i < extra; i++)
    busy.emplace_back([&] {
      while (!stop) {
      }
    });
  const double crowded = runs(100, 5);
  stop = true;
  for (auto& thread : busy) thread.join();
  printf("{\"pool\": {\"emptyRunMicroseconds\": %.2f, \"lossWithOneMoreBusyThread\": %.3f}}\n", empty * 1e6, 1 - alone / crowded);
}

int main(int argc, char** argv) {
  ThreadPool pool(argc > 1 ? std::max(1, atoi(argv[1])) : 1, 0);
  sharing_out(&pool);
}
