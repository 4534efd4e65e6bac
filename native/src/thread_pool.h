// Fork-join over [0, n): the caller is thread 0, the workers join when they are awake, chunks come from one counter.
//
// The caller waits only for workers that have entered a run, never for one that still sleeps or was descheduled: a
// third busy thread on the machine slows a run by at most the chunk it interrupts, and worker_placement.h gets that one
// done. Workers spin for tens of microseconds between runs (the instructions of a step follow each other that closely),
// then sleep.
//
// One thread calls run() (the runner of runtime.h); poolStats may be read from any.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "worker_placement.h"

namespace sgl {

class ThreadPool {
 public:
  // Computes items [begin, end) on pool thread `thread` in [0, threads()).
  using Body = void (*)(void* context, int begin, int end, int thread);

  // `threads` includes the caller. `nice` is added to the niceness of the workers, as far as the system lets us.
  ThreadPool(int threads, int nice);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body for disjoint ranges of at most `chunk` items that cover [0, n); returns when all are done. After
  // cancel() or close() the ranges not yet begun are left out.
  void run(int n, int chunk, Body body, void* context);

  template <class F>
  void parallel_for(int n, int chunk, const F& f) {
    run(n, chunk, [](void* context, int begin, int end, int thread) { (*static_cast<const F*>(context))(begin, end, thread); },
        const_cast<void*>(static_cast<const void*>(&f)));
  }

  // Any thread: runs from now on, and the one under way, stop at the next chunk.
  void cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  // Joins the workers. Not while another thread is inside run(). Idempotent.
  void close();

  // Runs of two chunks or more, and their chunks. Independent of the number of threads.
  uint64_t runs() const { return runs_.load(std::memory_order_relaxed); }
  uint64_t chunks() const { return chunks_.load(std::memory_order_relaxed); }
  // Times that a worker without a core was brought to the caller's.
  uint64_t moves() const { return moves_.load(std::memory_order_relaxed); }

 private:
  void worker(int thread, int nice);
  void work(int thread);
  bool await_run(uint32_t seen);
  void leave();
  void await_workers();
  void bring_stalled();
  void restore_placements();

  // state_: epoch << 32 | open << 31 | workers inside. The epoch rises with each run; workers enter while it is open.
  static constexpr uint64_t kOpen = uint64_t{1} << 31;
  static constexpr uint64_t kInside = kOpen - 1;
  alignas(64) std::atomic<uint64_t> state_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  // The run under way. Written while the state is closed and nobody is inside.
  alignas(64) Body body_ = nullptr;
  void* context_ = nullptr;
  int64_t n_ = 0, chunk_ = 1;

  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> caller_waits_{false};
  std::atomic<bool> stop_{false};
  std::atomic<bool> cancelled_{false};
  std::atomic<uint64_t> runs_{0}, chunks_{0}, moves_{0};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  int spin_us_;
  // One of each worker; where they may run is restored when none was brought for a while.
  std::deque<WorkerPlacement> placements_;
  bool is_moved_ = false;
  std::chrono::steady_clock::time_point last_move_;
  std::vector<std::thread> workers_;
};

// Lowers the calling thread's priority by `nice` (Linux; elsewhere does nothing) and names it for debuggers.
void prepare_thread(int nice, const char* name);

}  // namespace sgl
