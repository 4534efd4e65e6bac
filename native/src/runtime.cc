#include "runtime.h"

namespace sgl {

struct Runtime::Call {
  void (*f)(void*);
  void* context;
  std::mutex mutex;
  std::condition_variable done_signal;
  bool done = false;
};

std::shared_ptr<Runtime> Runtime::create(napi_env env, int threads, int nice, const KernelTable* kernels, std::string reason,
                                         std::string* error) {
  std::shared_ptr<Runtime> self(new Runtime(threads, nice, kernels, std::move(reason)));
  self->closed_ = true;  // until the runner exists
  if (!self->scratch_.allocate(static_cast<size_t>(threads) * kScratchBytes)) {
    *error = "out of memory: the scratch of " + std::to_string(threads) + " threads could not be allocated";
    return nullptr;
  }
  napi_value name;
  if (napi_create_string_utf8(env, "sglang", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, deliver, &self->tsfn_) != napi_ok) {
    *error = "the thread-safe function of the runtime could not be created";
    return nullptr;
  }
  // Only unsettled promises keep the event loop alive, an idle runtime does not.
  napi_unref_threadsafe_function(env, self->tsfn_);
  self->env_ = env;
  self->closed_ = false;
  self->runner_ = std::thread([raw = self.get()] { raw->runner(); });
  // Hooks run in reverse order: ours joins the threads before Node frees the thread-safe function under them.
  napi_add_env_cleanup_hook(env, on_environment_exit, self.get());
  return self;
}

Runtime::~Runtime() { close(nullptr); }

void Runtime::on_environment_exit(void* self) { static_cast<Runtime*>(self)->close(nullptr); }

void Runtime::submit(std::unique_ptr<Task> owned) {
  Task* task = owned.release();
  task->runtime = shared_from_this();
  if (unsettled_++ == 0) napi_ref_threadsafe_function(env_, tsfn_);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const int entries = task->entries();
    for (int i = 0; i < entries; i++) queue_.push_back({task, nullptr, i, i + 1 == entries});
  }
  wake_.notify_one();
}

void Runtime::call_now(void (*f)(void*), void* context) {
  Call call;
  call.f = f;
  call.context = context;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back({nullptr, &call, 0, true});
  }
  wake_.notify_one();
  std::unique_lock<std::mutex> lock(call.mutex);
  call.done_signal.wait(lock, [&] { return call.done; });
}

void Runtime::runner() {
  prepare_thread(nice_, "sgl-runner");
  for (;;) {
    Entry entry;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      // A task that has begun is finished; one that has not is left for close() to reject.
      if (queue_.empty() || (stopping_ && queue_.front().index == 0)) return;
      entry = queue_.front();
      queue_.pop_front();
    }
    if (entry.call) {
      entry.call->f(entry.call->context);
      std::lock_guard<std::mutex> lock(entry.call->mutex);
      entry.call->done = true;
      entry.call->done_signal.notify_one();
      continue;
    }
    entry.task->run(entry.index);
    // The queue of the thread-safe function is unbounded and alive until close() has joined this thread.
    if (entry.last) (void)napi_call_threadsafe_function(tsfn_, entry.task, napi_tsfn_nonblocking);
  }
}

// JavaScript thread. env is null while the environment goes away.
void Runtime::deliver(napi_env env, napi_value, void*, void* data) {
  std::unique_ptr<Task> task(static_cast<Task*>(data));
  if (!env) return;
  const std::shared_ptr<Runtime> runtime = task->runtime;
  task->settle(env, nullptr);
  runtime->settled(env);
}

void Runtime::settled(napi_env env) {
  if (--unsettled_ == 0) napi_unref_threadsafe_function(env, tsfn_);
}

void Runtime::close(napi_env env) {
  if (closed_) return;
  closed_ = true;
  if (!env) pool_.cancel();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  change([&] { gate_closed_ = true; });
  runner_.join();
  pool_.close();
  std::deque<Entry> dropped;
  dropped.swap(queue_);
  // Dropping the tasks may drop the last handles on this runtime.
  const std::shared_ptr<Runtime> self = weak_from_this().lock();
  for (const Entry& entry : dropped) {
    if (!entry.last) continue;
    std::unique_ptr<Task> task(entry.task);
    if (!env) continue;
    task->settle(env, "the runtime was closed before it ran");
    settled(env);
  }
  napi_remove_env_cleanup_hook(env_, on_environment_exit, this);
  // Finished tasks that are still in its queue are delivered first; Node then frees it.
  napi_release_threadsafe_function(tsfn_, napi_tsfn_release);
}

}  // namespace sgl
