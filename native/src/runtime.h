// Kernel tier + thread pool + the runner: one thread that executes queued tasks in the order of submission and is
// thread 0 of the pool. JavaScript submits; a thread-safe function brings finished tasks back to its thread.
//
// Threads and ownership: tasks are created, settled and deleted on the JavaScript thread, so the last reference to
// anything a task keeps alive is dropped there too. The runner only runs them.
#pragma once
#define NAPI_VERSION 8
#include <node_api.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernel_table.h"
#include "memory.h"
#include "thread_pool.h"

namespace sgl {

class Runtime;

// Work for the runner: one or more queue entries that run in order, then a settled promise.
class Task {
 public:
  virtual ~Task() = default;
  virtual int entries() const { return 1; }
  // Runner thread. Checks pool().cancelled() between pieces of work.
  virtual void run(int entry) = 0;
  // JavaScript thread, after the last entry or, with `dropped` (why), without having run.
  virtual void settle(napi_env env, const char* dropped) = 0;

  std::shared_ptr<Runtime> runtime;
};

class Runtime : public std::enable_shared_from_this<Runtime> {
 public:
  // Null when the thread-safe function can't be made or memory is short; *error says which.
  static std::shared_ptr<Runtime> create(napi_env env, int threads, int nice, const KernelTable* kernels, std::string reason,
                                         std::string* error);
  ~Runtime();

  const KernelTable& kernels() const { return *kernels_; }
  const std::string& reason() const { return reason_; }
  ThreadPool& pool() { return pool_; }
  // kScratchBytes for one pool thread.
  uint8_t* scratch(int thread) { return scratch_.data() + static_cast<size_t>(thread) * kScratchBytes; }
  bool closed() const { return closed_; }

  // JavaScript thread; the runtime must not be closed. Takes the task. One queue entry per entry of the task.
  void submit(std::unique_ptr<Task> task);

  // JavaScript thread: runs f on the runner after everything submitted before, and waits for it.
  template <class F>
  void run_now(const F& f) {
    call_now([](void* context) { (*static_cast<const F*>(context))(); }, const_cast<void*>(static_cast<const void*>(&f)));
  }

  // The gate: what the runner waits for in the middle of a task and JavaScript supplies.
  // Runner: waits until ready() or until the runtime closes; returns ready(). Called under the gate's lock.
  template <class F>
  bool await(const F& ready) {
    std::unique_lock<std::mutex> lock(gate_mutex_);
    gate_.wait(lock, [&] { return gate_closed_ || ready(); });
    return ready();
  }
  // JavaScript thread: f() under the gate's lock, then the runner looks again.
  template <class F>
  void change(const F& f) {
    {
      std::lock_guard<std::mutex> lock(gate_mutex_);
      f();
    }
    gate_.notify_all();
  }
  // JavaScript thread: queued steps whose masks were not supplied yet. While there are any, run_now() would wait for ever.
  int unsupplied = 0;

  // JavaScript thread: finishes the task under way, joins the threads and rejects what had not begun. With env = null
  // (the environment is going away) it stops at the next chunk of work and settles nothing. Idempotent.
  void close(napi_env env);

 private:
  struct Call;  // a blocking call
  struct Entry {
    Task* task;  // or
    Call* call;
    int index;
    bool last;
  };

  Runtime(int threads, int nice, const KernelTable* kernels, std::string reason)
      : kernels_(kernels), reason_(std::move(reason)), nice_(nice), pool_(threads, nice) {}
  void runner();
  void call_now(void (*f)(void*), void* context);
  void settled(napi_env env);
  static void deliver(napi_env env, napi_value callback, void* context, void* data);
  static void on_environment_exit(void* self);

  const KernelTable* kernels_;
  std::string reason_;
  int nice_;
  ThreadPool pool_;
  Memory scratch_;
  std::thread runner_;

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Entry> queue_;
  bool stopping_ = false;

  std::mutex gate_mutex_;
  std::condition_variable gate_;
  bool gate_closed_ = false;

  // JavaScript thread only.
  napi_env env_ = nullptr;
  napi_threadsafe_function tsfn_ = nullptr;
  int64_t unsettled_ = 0;
  bool closed_ = false;
};

}  // namespace sgl
