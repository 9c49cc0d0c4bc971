// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Blocking calls, made on threads where they block nobody.
///
///     const std::string text = bight::offload([&] { return read_it_all(path); });   // only this fiber waits

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <ranges>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/detail/cross_waiter.hpp>
#include <bight/detail/returned.hpp>
#include <bight/detail/spin_judge.hpp>
#include <bight/time.hpp>

namespace bight {

namespace detail {

/// Jobs that somebody waits for together. In the waiter's frame, as are the jobs, so offloading allocates nothing.
struct OffloadGroup {
  CrossWaiter waiter{"an offloaded call"};
  std::size_t open = 0;                // jobs that are queued or run; protected by the pool's lock
  std::atomic<bool> cancelled{false};  // the waiter has no more use for what has not begun
  std::error_code refused;             // why the jobs that did not run did not
};

struct OffloadJob {
  using Run = void (*)(OffloadJob&) noexcept;
  OffloadJob(OffloadGroup& whose, Run what) noexcept : group(&whose), run(what) {}

  OffloadGroup* group;
  Run run;
  OffloadJob* group_next = nullptr;  // the group's next one
  OffloadJob* next = nullptr;        // in the pool's queue, as are the others
  OffloadJob* previous = nullptr;
  bool queued = false;
};

[[nodiscard]] std::size_t default_offload_threads() noexcept;  // max(4, 4 × processors)

}  // namespace detail

struct OffloadOptions {
  std::size_t threads_min = 0;  ///< kept, once they have been started, though they have nothing to do
  std::size_t threads_max = detail::default_offload_threads();
  std::size_t queue_max = 1024;  ///< jobs that may be queued; beyond, try_run() refuses and run() waits
  Duration idle_timeout = std::chrono::seconds(5);  ///< a thread that has had nothing to do for so long leaves
  std::string name = "offload";                     ///< the threads', for top(1) and the like: 15 bytes of it
};

/// As they were at one moment.
struct OffloadStats {
  std::size_t threads = 0;       ///< that there are, those being started included
  std::size_t threads_idle = 0;  ///< of those, asleep
  std::size_t running = 0;       ///< jobs
  std::size_t queued = 0;        ///< jobs; at most queue_max
  std::size_t waiting = 0;       ///< jobs whose callers wait for room in the queue
  std::uint64_t completed = 0;   ///< jobs, ever
  std::uint64_t withdrawn = 0;   ///< jobs that were cancelled before they began, ever
  std::uint64_t threads_started = 0;
};

/// Threads that make blocking calls for fibers of any loop and for threads without one, all at once.
///
/// Threads are started as jobs need them, up to threads_max, and leave when idle. They have all signals blocked, so
/// that those reach loops. Jobs begin in the order in which they came. A job and what it returns are in its caller's
/// frame; a hop to a thread and back costs microseconds where threads spin for a while before they sleep, which they
/// do as long as it pays (never on a single processor).
///
/// Ended by whoever made it, in a fiber or in a thread without a loop, when nobody calls any more; the destructor waits
/// for the jobs and the threads (a fiber's loop goes on). Jobs of two pools that call each other may wait for ever. In
/// a forked child a pool that was made before the fork aborts with a sentence when it is used, and its destructor does
/// nothing: its threads are not there. shared() is a fresh one there.
///
/// Under the sim engine jobs take no virtual time, yet virtual time stands still for none of them: while a loop waits
/// for one it jumps to its next timer.
class OffloadPool {
 public:
  /// Throws std::invalid_argument (threads_max is 0 or below threads_min, or queue_max is 0). Starts no thread.
  explicit OffloadPool(OffloadOptions options = {});
  OffloadPool(const OffloadPool&) = delete;
  OffloadPool& operator=(const OffloadPool&) = delete;
  ~OffloadPool();

  /// The process's own. Made when first asked for; never ended, so that it may be used until the process exits.
  [[nodiscard]] static OffloadPool& shared();
  /// Makes shared() with these options. Before its first use; aborts with a sentence afterwards. A forked child's has
  /// them, too.
  static void configure_shared(OffloadOptions options);

  /// Runs `f()` on a thread of the pool and waits. Returns what it returns or throws what it throws. From fibers, from
  /// threads without a loop, and from inside a job of this very pool (there `f` is simply called, so that jobs never
  /// wait for each other; also in the fibers of a loop that the job runs, which `f` then blocks); not from callbacks.
  ///
  /// Cancelled: throws Cancelled, when `f` has not begun and never will. If it has begun it is waited for, its result
  /// is returned, and the next wait throws. So `f` may refer to the caller's variables in any case.
  /// Throws std::system_error when not a single thread can be started.
  template <class F>
  std::invoke_result_t<F> run(F&& f) {
    using R = std::invoke_result_t<F>;
    detail::Returned<R> returned;
    if (on_own_thread()) {
      returned.fill(std::forward<F>(f));
    } else {
      Call<F, R> call(f, returned);
      perform(call.group, call);
      if (!returned.ran()) fail(call.group);
    }
    if constexpr (std::is_void_v<R>) {
      static_cast<void>(returned.take());
    } else {
      return returned.take();
    }
  }

  /// The same if there is room in the queue; else nothing, and `f` is not called: for who would rather do without than
  /// add to a queue that is long already. Whether it has run, when `f` returns nothing.
  template <class F>
  auto try_run(F&& f)
      -> std::conditional_t<std::is_void_v<std::invoke_result_t<F>>, bool, std::optional<std::invoke_result_t<F>>> {
    using R = std::invoke_result_t<F>;
    if (!on_own_thread() && !has_room()) {
      if constexpr (std::is_void_v<R>) {
        return false;
      } else {
        return std::nullopt;
      }
    }
    if constexpr (std::is_void_v<R>) {
      run(std::forward<F>(f));
      return true;
    } else {
      return run(std::forward<F>(f));
    }
  }

  /// Calls `f(element)` for each element of a forward range, on as many threads as there may be, at once; so `f` must
  /// bear that. Returns the results in the order of the elements (void: nothing). If some calls throw, throws what the
  /// first of them (by position) threw, when all have ended. Cancelled: begins no more, waits for those that run,
  /// throws Cancelled. Otherwise as run(). Allocates.
  template <std::ranges::forward_range Range, class F>
  auto map(Range&& range, F&& f);

  /// Takes effect as threads become idle. 0 is refused, as is less than threads_min: std::invalid_argument.
  void set_threads_max(std::size_t threads);

  [[nodiscard]] OffloadStats stats() const noexcept;
  /// As given, with the threads_max of now.
  [[nodiscard]] OffloadOptions options() const;

 private:
  template <class F, class R>
  struct Call : detail::OffloadJob {
    Call(F& what, detail::Returned<R>& where) noexcept
        : OffloadJob(group,
                     [](OffloadJob& self) noexcept {
                       auto& call = static_cast<Call&>(self);
                       call.returned.fill(std::forward<F>(call.callable));
                     }),
          callable(what),
          returned(where) {}
    detail::OffloadGroup group;
    std::remove_reference_t<F>& callable;
    detail::Returned<R>& returned;
  };
  template <class It, class F, class R>
  struct Sharing;
  class JobList {
   public:
    void push(detail::OffloadJob& job) noexcept;
    void remove(detail::OffloadJob& job) noexcept;
    detail::OffloadJob* pop() noexcept;
    [[nodiscard]] std::size_t size() const noexcept { return size_.load(std::memory_order_relaxed); }

   private:
    detail::OffloadJob* first_ = nullptr;
    detail::OffloadJob* last_ = nullptr;
    std::atomic<std::size_t> size_{0};  // written under the lock; who spins looks at it without
  };
  using Lock = std::unique_lock<std::mutex>;

  [[nodiscard]] bool on_own_thread() const noexcept;
  void perform(detail::OffloadGroup& group, detail::OffloadJob& first);
  [[noreturn]] static void fail(const detail::OffloadGroup& group);
  void withdraw(detail::OffloadGroup& group, detail::OffloadJob& first) noexcept;
  [[nodiscard]] std::size_t match_demand(detail::CrossNotices& notices) noexcept;
  [[nodiscard]] bool in_demand() const noexcept;
  void wake_idle(detail::CrossNotices& notices) noexcept;
  void start_threads(std::size_t count) noexcept;
  void give_up_thread(int error) noexcept;
  static void* thread_main(void* pool) noexcept;
  void work() noexcept;
  [[nodiscard]] bool idle(Lock& lock) noexcept;
  void spin(Lock& lock) noexcept;
  void leave(Lock& lock) noexcept;
  [[nodiscard]] std::size_t threads_max() const noexcept;
  [[nodiscard]] bool has_room() const noexcept;
  void check_process() const noexcept;

  const OffloadOptions options_;
  const std::uint32_t forks_;  // that lay behind this process when it was made

  mutable std::mutex mutex_;
  // Protected by mutex_:
  std::size_t threads_max_;
  JobList jobs_;
  detail::CrossWaiters idle_;
  std::size_t idle_count_ = 0;
  std::size_t threads_ = 0;
  std::size_t coming_ = 0;  // threads that have been woken or started and will look for a job
  bool spinning_ = false;   // so does one that spins
  detail::SpinJudge spin_judge_;
  bool closing_ = false;
  detail::CrossWaiter* closer_ = nullptr;  // waits for the last thread
  bool any_gone_ = false;
  pthread_t gone_{};  // the last thread that left while closing; it is yet to be joined
  std::size_t running_ = 0;
  std::uint64_t completed_ = 0;
  std::uint64_t withdrawn_ = 0;
  std::uint64_t threads_started_ = 0;
};

/// Runs the blocking call `f()` on a thread of OffloadPool::shared(); only the calling fiber waits. See
/// OffloadPool::run.
template <class F>
std::invoke_result_t<F> offload(F&& f) {
  return OffloadPool::shared().run(std::forward<F>(f));
}

/// What the jobs of one map() share: each takes the next element until there are no more.
template <class It, class F, class R>
struct OffloadPool::Sharing {
  struct Job : detail::OffloadJob {
    explicit Job(Sharing& what) noexcept
        : OffloadJob(what.group, [](OffloadJob& self) noexcept { static_cast<Job&>(self).sharing->work(); }),
          sharing(&what) {}
    Sharing* sharing;
  };

  Sharing(F& what, std::vector<It> where) : f(what), elements(std::move(where)), results(elements.size()) {}

  void work() noexcept {
    while (!group.cancelled.load(std::memory_order_relaxed)) {
      const std::size_t at = next.fetch_add(1, std::memory_order_relaxed);
      if (at >= elements.size()) return;
      results[at].fill([&]() -> R { return std::invoke(f, *elements[at]); });  // going through the range may throw, too
    }
  }

  detail::OffloadGroup group;
  F& f;
  std::vector<It> elements;
  std::vector<detail::Returned<R>> results;
  std::atomic<std::size_t> next{0};
};

template <std::ranges::forward_range Range, class F>
auto OffloadPool::map(Range&& range, F&& f) {
  using It = std::ranges::iterator_t<Range>;
  using Function = std::remove_reference_t<F>;
  using R = std::invoke_result_t<Function&, std::ranges::range_reference_t<Range>>;
  std::vector<It> elements;
  for (It at = std::ranges::begin(range); at != std::ranges::end(range); ++at) elements.push_back(at);
  Sharing<It, Function, R> sharing(f, std::move(elements));
  if (on_own_thread()) {
    sharing.work();
  } else if (!sharing.elements.empty()) {
    std::vector<typename Sharing<It, Function, R>::Job> jobs(std::min(threads_max(), sharing.elements.size()),
                                                             typename Sharing<It, Function, R>::Job(sharing));
    for (std::size_t i = 1; i < jobs.size(); ++i) jobs[i - 1].group_next = &jobs[i];
    perform(sharing.group, jobs.front());
    for (const auto& each : sharing.results) {
      if (!each.ran()) fail(sharing.group);
    }
  }
  for (const auto& each : sharing.results) each.rethrow();
  if constexpr (!std::is_void_v<R>) {
    std::vector<R> values;
    values.reserve(sharing.results.size());
    for (auto& each : sharing.results) values.push_back(each.take());
    return values;
  } else {
    for (auto& each : sharing.results) static_cast<void>(each.take());
  }
}

}  // namespace bight
