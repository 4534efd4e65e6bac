#include "thread_pool.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#ifdef __linux__
#include <cerrno>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace sgl {
namespace {

// A run every few microseconds is the rule inside a step; longer pauses mean that the step is over.
constexpr int kSpinUs = 50;
// With more threads than cores a spinning worker takes the core from a working one.
constexpr int kSpinUsCrowded = 5;
// So long after a worker was last brought to the caller, the core is thought to be free again.
constexpr auto kCrowdedFor = std::chrono::milliseconds(100);

inline void pause_cpu() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until ready() or `us` microseconds are over; returns ready().
template <class F>
bool spin(int us, const F& ready) {
  using Clock = std::chrono::steady_clock;
  if (ready()) return true;
  const auto end = Clock::now() + std::chrono::microseconds(us);
  do {
    for (int i = 0; i < 32; i++) {
      if (ready()) return true;
      pause_cpu();
    }
  } while (Clock::now() < end);
  return ready();
}

}  // namespace

void prepare_thread(int nice, const char* name) {
#ifdef __linux__
  pthread_setname_np(pthread_self(), name);
  if (nice > 0) {
    const auto id = static_cast<id_t>(syscall(SYS_gettid));
    errno = 0;
    const int now = getpriority(PRIO_PROCESS, id);
    // Refused by a seccomp filter or an odd container: the pool works at normal priority, only less politely.
    if (errno == 0) (void)setpriority(PRIO_PROCESS, id, std::min(19, now + nice));
  }
#else
  (void)nice;
  (void)name;
#endif
}

ThreadPool::ThreadPool(int threads, int nice) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  spin_us_ = cores == 0 || threads <= cores ? kSpinUs : kSpinUsCrowded;
  placements_.resize(static_cast<size_t>(std::max(0, threads - 1)));
  workers_.reserve(static_cast<size_t>(std::max(0, threads - 1)));
  for (int thread = 1; thread < threads; thread++) workers_.emplace_back([this, thread, nice] { worker(thread, nice); });
}

ThreadPool::~ThreadPool() { close(); }

void ThreadPool::close() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_.store(true);
    cancelled_.store(true);
  }
  wake_.notify_all();
  for (auto& worker : workers_)
    if (worker.joinable()) worker.join();
}

void ThreadPool::run(int n, int chunk, Body body, void* context) {
  if (n <= 0) return;
  chunk = std::max(1, chunk);
  const int64_t count = (static_cast<int64_t>(n) + chunk - 1) / chunk;
  if (count > 1) {
    runs_.fetch_add(1, std::memory_order_relaxed);
    chunks_.fetch_add(static_cast<uint64_t>(count), std::memory_order_relaxed);
  }
  body_ = body;
  context_ = context;
  n_ = n;
  chunk_ = chunk;
  next_.store(0, std::memory_order_relaxed);
  if (is_moved_ && std::chrono::steady_clock::now() - last_move_ > kCrowdedFor) restore_placements();
  if (count == 1 || workers_.empty() || stop_.load(std::memory_order_relaxed)) return work(0);

  const uint64_t epoch = (state_.load(std::memory_order_relaxed) >> 32) + 1;
  state_.store(epoch << 32 | kOpen);
  if (sleepers_.load() > 0) {
    std::lock_guard<std::mutex> lock(mutex_);
    wake_.notify_all();
  }
  work(0);
  if ((state_.fetch_and(~kOpen) & kInside) != 0) await_workers();
}

void ThreadPool::work(int thread) {
  while (!cancelled()) {
    const int64_t begin = next_.fetch_add(chunk_, std::memory_order_relaxed);
    if (begin >= n_) return;
    body_(context_, static_cast<int>(begin), static_cast<int>(std::min(n_, begin + chunk_)), thread);
  }
}

void ThreadPool::worker(int thread, int nice) {
  char name[16];
  std::snprintf(name, sizeof name, "sgl-pool-%d", thread & 0xfff);
  prepare_thread(nice, name);
  WorkerPlacement& placement = placements_[static_cast<size_t>(thread - 1)];
  uint32_t seen = 0;
  while (await_run(seen)) {
    uint64_t state = state_.load();
    while (state & kOpen) {
      if (!state_.compare_exchange_weak(state, state + 1)) continue;
      placement.begin_work();
      work(thread);
      placement.end_work();
      leave();
      placement.leave_core();
      break;
    }
    seen = static_cast<uint32_t>(state >> 32);
  }
}

// True when a run other than `seen` is open, false when the pool closes.
bool ThreadPool::await_run(uint32_t seen) {
  const auto ready = [&] {
    const uint64_t state = state_.load();
    return stop_.load() || ((state & kOpen) && static_cast<uint32_t>(state >> 32) != seen);
  };
  if (!spin(spin_us_, ready)) {
    std::unique_lock<std::mutex> lock(mutex_);
    // Announced before the last look at the state: run() publishes first and then looks for sleepers.
    sleepers_.fetch_add(1);
    wake_.wait(lock, ready);
    sleepers_.fetch_sub(1);
  }
  return !stop_.load();
}

void ThreadPool::leave() {
  const uint64_t before = state_.fetch_sub(1);
  if ((before & kInside) == 1 && !(before & kOpen) && caller_waits_.load()) {
    std::lock_guard<std::mutex> lock(mutex_);
    done_.notify_one();
  }
}

// A worker that was taken off its core in the middle of a chunk would come back after milliseconds.
void ThreadPool::bring_stalled() {
  for (size_t i = 0; i < workers_.size(); i++) {
    if (!placements_[i].bring_here(workers_[i])) continue;
    is_moved_ = true;
    last_move_ = std::chrono::steady_clock::now();
    moves_.fetch_add(1, std::memory_order_relaxed);
  }
}

void ThreadPool::restore_placements() {
  for (size_t i = 0; i < workers_.size(); i++) placements_[i].restore(workers_[i]);
  is_moved_ = false;
}

void ThreadPool::await_workers() {
  const auto empty = [&] { return (state_.load() & kInside) == 0; };
  if (spin(spin_us_, empty)) return;
  bring_stalled();
  std::unique_lock<std::mutex> lock(mutex_);
  caller_waits_.store(true);
  done_.wait(lock, empty);
  caller_waits_.store(false);
}

}  // namespace sgl
