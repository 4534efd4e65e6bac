// Where a worker of the pool may run, when somebody else's busy thread has taken its core.
//
// The system shares cores in slices of milliseconds, and a worker may lose its core in the middle of a chunk for which
// everybody else waits. Left alone, a thread that waits for it sleeps, the worker moves to the free core, and from then on
// both share that one while the stranger keeps the other: half of the machine is lost. So who waits brings the stalled
// worker to its own core (bring_here), and the worker, when it is through, leaves that core again and shares the other with
// the stranger (leave_core): the pool keeps one and a half cores of two. restore() ends that when the stranger is gone.
//
// Only where a thread may run is touched, never beyond what the process was given. Linux; elsewhere nothing happens.
#pragma once
#include <atomic>
#include <mutex>
#include <thread>

#ifdef __linux__
#include <sched.h>
#endif

namespace sgl {

class WorkerPlacement {
 public:
  // The worker: it holds a chunk, or no longer does.
  void begin_work() { working_.store(true); }
  void end_work() { working_.store(false); }
  // The worker, after end_work: leaves the core that it was brought to, if it was.
  void leave_core();

  // The thread that waits: brings the worker to its core if it holds a chunk and gets no time. True when it did.
  bool bring_here(std::thread& worker);
  // The same thread: where the worker may run is up to the system again.
  void restore(std::thread& worker);

 private:
  // Either bring_here sees that the work is over, or the worker sees that it is being moved and waits for the mutex.
  std::atomic<bool> working_{false}, moving_{false};
  std::mutex mutex_;
#ifdef __linux__
  bool moved_ = false;
  int core_ = 0;
  // Where the worker might run before it was moved, and where we let it run since.
  cpu_set_t before_{}, given_{};
#endif
};

}  // namespace sgl
