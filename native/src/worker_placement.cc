#include "worker_placement.h"

#ifdef __linux__
#include <pthread.h>

#include <chrono>
#include <ctime>

namespace sgl {
namespace {

// A worker that runs gets as much time as has passed, one that waits for a core gets none.
constexpr auto kLook = std::chrono::microseconds(10);

// Nanoseconds of processor time the thread has had; -1 when the system does not say.
int64_t processor_time(std::thread& thread) {
  clockid_t clock;
  timespec time;
  if (pthread_getcpuclockid(thread.native_handle(), &clock) != 0 || clock_gettime(clock, &time) != 0) return -1;
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

bool gets_time(std::thread& thread) {
  using Clock = std::chrono::steady_clock;
  const int64_t before = processor_time(thread);
  const auto end = Clock::now() + kLook;
  while (Clock::now() < end) {
  }
  return before < 0 || processor_time(thread) > before;
}

}  // namespace

bool WorkerPlacement::bring_here(std::thread& worker) {
  if (!working_.load() || gets_time(worker)) return false;
  std::lock_guard<std::mutex> lock(mutex_);
  moving_.store(true);
  const int core = sched_getcpu();
  if (!working_.load() || core < 0) return false;
  cpu_set_t now;
  if (pthread_getaffinity_np(worker.native_handle(), sizeof now, &now) != 0) return false;
  // Somebody else may have set it meanwhile.
  if (!moved_ || !CPU_EQUAL(&now, &given_)) before_ = now;
  if (!CPU_ISSET(core, &before_)) return false;
  CPU_ZERO(&given_);
  CPU_SET(core, &given_);
  moved_ = pthread_setaffinity_np(worker.native_handle(), sizeof given_, &given_) == 0;
  core_ = core;
  return moved_;
}

void WorkerPlacement::leave_core() {
  if (!moving_.load()) return;
  std::lock_guard<std::mutex> lock(mutex_);
  moving_.store(false);
  if (!moved_) return;
  given_ = before_;
  CPU_CLR(core_, &given_);
  if (CPU_COUNT(&given_) == 0) given_ = before_;
  pthread_setaffinity_np(pthread_self(), sizeof given_, &given_);
}

void WorkerPlacement::restore(std::thread& worker) {
  std::lock_guard<std::mutex> lock(mutex_);
  cpu_set_t now;
  if (moved_ && pthread_getaffinity_np(worker.native_handle(), sizeof now, &now) == 0 && CPU_EQUAL(&now, &given_))
    pthread_setaffinity_np(worker.native_handle(), sizeof before_, &before_);
  moved_ = false;
}

}  // namespace sgl

#else

namespace sgl {
void WorkerPlacement::leave_core() {}
bool WorkerPlacement::bring_here(std::thread&) { return false; }
void WorkerPlacement::restore(std::thread&) {}
}  // namespace sgl

#endif
