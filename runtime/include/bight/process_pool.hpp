// SPDX-License-Identifier: Apache-2.0
#pragma once

/// A pool of worker processes that run functions of this program: multiprocessing.Pool, for work that is to use all
/// processors, or that must not bring this process down with it.
///
///     bight::ProcessPool pool({.workers = 2});
///     const int nine = pool.apply([](int x) { return x * x; }, 3);
///     const std::vector<Image> small = pool.map(images, shrink);

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <bight/codec.hpp>
#include <bight/detail/exchange.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/future.hpp>
#include <bight/pool.hpp>
#include <bight/run.hpp>

namespace bight {

/// What a function has thrown in a worker. Not of the type that it threw, which may not exist here: its name is kept,
/// its what(), and the code of a std::system_error of the generic or the system category.
class RemoteError : public std::runtime_error {
 public:
  RemoteError(std::string type, const std::string& what, std::error_code code)
      : std::runtime_error(what), type_(std::move(type)), code_(code) {}
  [[nodiscard]] const std::string& type() const noexcept { return type_; }  ///< "std::out_of_range"
  [[nodiscard]] std::error_code code() const noexcept { return code_; }     ///< zero if it had none

 private:
  std::string type_;
  std::error_code code_;
};

/// The worker that ran the task is gone: killed, crashed, or ended by the task. Or no worker can be started any more.
class WorkerLost : public std::runtime_error {
 public:
  WorkerLost(const std::string& what, pid_t pid, int signal) : std::runtime_error(what), pid_(pid), signal_(signal) {}
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  [[nodiscard]] int signal() const noexcept { return signal_; }  ///< that killed it; 0: none, or it is not known

 private:
  pid_t pid_;
  int signal_;
};

/// A task was given to a pool that has been closed or terminated, or has not been done when its pool was terminated.
class PoolClosed : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct ProcessPoolOptions {
  std::size_t workers = 0;              ///< processes; 0: cpu_count()
  std::function<void()> initializer{};  ///< run in each worker before its first task
  std::size_t tasks_per_child_max = 0;  ///< a worker is replaced after so many tasks; 0: never
  std::size_t queue_max = 65'536;       ///< tasks that wait to be sent to a worker; who has one more waits for room
  std::size_t message_max = std::size_t{64} * 1024 * 1024;  ///< bytes of a task's arguments, or of its result
  std::string name = "pool";                                ///< for reports and top(1)
  RunOptions run{};                                         ///< of each worker's loop
};

/// As they were at one moment.
struct ProcessPoolStats {
  std::size_t workers = 0;            ///< that there are, those being started included
  std::size_t queued = 0;             ///< tasks not sent yet
  std::size_t sent = 0;               ///< tasks that workers have, running ones included
  std::uint64_t completed = 0;        ///< tasks, ever, failed ones included
  std::uint64_t workers_lost = 0;     ///< ever, that ended before they were to
  std::uint64_t workers_started = 0;  ///< ever
};

/// How ProcessPool::imap goes on.
struct ProcessImapOptions {
  bool ordered = true;         ///< outcomes in the range's order; else in that of their completion
  std::size_t look_ahead = 0;  ///< elements begun and not yet read, at most; 0: eight times the workers, in chunks
  std::size_t chunk = 1;       ///< elements sent as one task
};

/// What to do when a task has ended; on_done() makes one.
template <class OnResult, class OnError>
struct PoolCallbacks {
  OnResult on_result;
  OnError on_error;
};
template <class OnResult, class OnError = decltype([](const std::exception_ptr&) {})>
[[nodiscard]] PoolCallbacks<std::decay_t<OnResult>, std::decay_t<OnError>> on_done(OnResult&& on_result,
                                                                                   OnError&& on_error = {}) {
  return {std::forward<OnResult>(on_result), std::forward<OnError>(on_error)};
}

}  // namespace bight

#include <bight/detail/pool_task.hpp>

namespace bight {

template <class Range, class F>
class ProcessImap;

/// The workers are forked when the pool is made, and so is a small process that forks their replacements from then on:
/// all of them are copies of this process as it was at that moment, whatever threads, memory and descriptors it has
/// come to have since. So make pools early, before threads above all (see Process). What loops have open is closed in
/// them.
///
/// A function is a pointer to one, or a lambda without captures: what runs in the worker is the same code at the same
/// address. (A library that was loaded after the pool was made is not there.) Arguments and results are values that
/// have a Codec. What the function throws comes out as RemoteError. Each worker runs one task at a time, in the main
/// fiber of a loop of its own; fibers that a task leaves behind go on while the worker waits for the next. It may have
/// no children, and ends when this process does, however that dies.
///
/// Tasks begin about in the order in which they were given. A worker is sent some ahead, to save the way; what it has
/// not begun is taken back when another one has nothing to do, or when it dies. The task that it had begun then fails
/// with WorkerLost, at once, and another worker takes its place. Who waits for a task and is cancelled withdraws it if
/// it has not begun; one that runs is let run, and its result is dropped. SIGTERM and SIGINT do not end workers, since
/// they often go to all processes of a service: this process decides. When five workers in a row end before they have
/// begun to serve, the pool gives up: all tasks fail with WorkerLost, which says why.
///
/// Made and used in fibers of one loop. Left without join(), it terminates.
class ProcessPool {
 public:
  /// Throws std::system_error (as Process; operation_not_supported in a simulated world).
  explicit ProcessPool(ProcessPoolOptions options = {});
  ProcessPool(const ProcessPool&) = delete;
  ProcessPool& operator=(const ProcessPool&) = delete;
  ~ProcessPool();

  /// Runs `f(args...)` in a worker, waits, and returns its result or throws RemoteError, WorkerLost, PoolClosed,
  /// DecodeError. std::system_error (message_size): the arguments are larger than message_max. Throws Cancelled.
  template <class F, class... Args>
  detail::ProcessCallResult<F, Args...> apply(F f, const Args&... args) {
    using R = detail::ProcessCallResult<F, Args...>;
    auto task = std::make_shared<detail::ApplyTask<R>>(detail::encode_call<R>(f, args...));
    Future<R> result = task->promise.future();
    submit(task);
    try {
      return result.take();
    } catch (const Cancelled&) {
      withdraw(*task);
      throw;
    }
  }
  /// The same without waiting for the end, but for room in the queue (in a callback, which can not wait: throws
  /// std::system_error, EAGAIN). What apply() throws, the Future does.
  template <class F, class... Args>
  Future<detail::ProcessCallResult<F, Args...>> apply_async(F f, const Args&... args) {
    using R = detail::ProcessCallResult<F, Args...>;
    auto task = std::make_shared<detail::ApplyTask<R>>(detail::encode_call<R>(f, args...));
    submit(task);
    return task->promise.future();
  }
  /// The same, and has the result, or the error, handed to a function, in a fiber of its own on this loop.
  ///
  ///     pool.apply_async(on_done([&](int sum) { total += sum; }), add, 1, 2);
  template <class OnResult, class OnError, class F, class... Args>
  Future<detail::ProcessCallResult<F, Args...>> apply_async(PoolCallbacks<OnResult, OnError> callbacks, F f,
                                                            const Args&... args) {
    using R = detail::ProcessCallResult<F, Args...>;
    auto task = std::make_shared<detail::CallbackTask<R, OnResult, OnError>>(detail::encode_call<R>(f, args...),
                                                                             std::move(callbacks));
    submit(task);
    return task->promise.future();
  }

  /// Calls `f(element)` for each element, `chunk` of them as one task, waits for all, and returns the results in the
  /// range's order. If some failed, throws the error of the first of them in that order, when all have ended. When the
  /// caller is cancelled, or going through the range throws, what has not begun is withdrawn.
  template <std::ranges::input_range Range, class F>
  auto map(Range&& range, F f, std::size_t chunk = 1) {
    return map_with<detail::CallElement>(std::forward<Range>(range), f, chunk);
  }
  /// The same for a range of tuples, of which each is the arguments of a call.
  template <std::ranges::input_range Range, class F>
  auto starmap(Range&& range, F f, std::size_t chunk = 1) {
    return map_with<detail::ApplyElement>(std::forward<Range>(range), f, chunk);
  }
  /// The outcomes one by one, for ranges that are long or endless: begins elements as the reader reads, `look_ahead` of
  /// them ahead of it at most. Used as Pool::imap, by the one fiber that made it.
  ///
  ///     for (auto& outcome : pool.imap(urls, fetch)) try { use(outcome.get()); } catch (const RemoteError&) ...
  template <std::ranges::input_range Range, class F>
  [[nodiscard]] ProcessImap<Range, F> imap(Range&& range, F f, ProcessImapOptions options = {}) {
    return ProcessImap<Range, F>(*this, std::forward<Range>(range), f, options);
  }
  template <std::ranges::input_range Range, class F>
  [[nodiscard]] ProcessImap<Range, F> imap_unordered(Range&& range, F f, ProcessImapOptions options = {}) {
    options.ordered = false;
    return imap(std::forward<Range>(range), f, options);
  }

  /// No more tasks: from now on PoolClosed. Those there are will be done. Does not wait.
  void close() noexcept;
  /// Kills the workers; what has not been done fails with PoolClosed. Does not wait.
  void terminate() noexcept;
  /// After close() or terminate(): waits until all is done and all processes have ended. Before, it is an error:
  /// std::system_error (operation_not_permitted). Throws Cancelled.
  void join();

  [[nodiscard]] std::size_t workers() const noexcept;
  [[nodiscard]] ProcessPoolStats stats() const noexcept;
  /// Of those workers that are there.
  [[nodiscard]] std::vector<pid_t> worker_pids() const;

 private:
  template <class Range, class F>
  friend class ProcessImap;

  void submit(std::shared_ptr<detail::PoolTask> task);
  void withdraw(detail::PoolTask& task) noexcept;
  template <class Element, class Range, class F>
  auto map_with(Range&& range, F f, std::size_t chunk);

  std::unique_ptr<detail::PoolCore> core_;
};

template <class Element, class Range, class F>
auto ProcessPool::map_with(Range&& range, F f, std::size_t chunk) {
  using Item = std::ranges::range_value_t<Range>;
  using R = typename Element::template Result<F, Item>;
  auto state = std::make_shared<detail::MapState<R>>();
  std::vector<std::shared_ptr<detail::MapTask<R>>> tasks;
  try {
    auto at = std::ranges::begin(range);
    const auto end = std::ranges::end(range);
    while (at != end) {
      detail::ChunkWriter<Element, F, Item, R> writer(f);
      for (; at != end && writer.count() < std::max<std::size_t>(chunk, 1); ++at) writer.add(*at);
      auto task = std::make_shared<detail::MapTask<R>>(writer.finish(), state, state->count, writer.count());
      state->count += writer.count();
      ++state->open;
      submit(task);
      tasks.push_back(std::move(task));  // not before: what the pool has not got can not be withdrawn
    }
    state->values.reserve(state->count);
    while (state->open != 0) state->arrived.wait();
  } catch (...) {
    for (const auto& each : tasks) withdraw(*each);
    throw;
  }
  return state->take();
}

/// The outcomes of ProcessPool::imap, as they come. Stays where it is made; left early, it withdraws what has not
/// begun.
template <class Range, class F>
class ProcessImap {
 public:
  using Item = std::ranges::range_value_t<Range>;
  using R = detail::CallElement::Result<F, Item>;
  using Outcome = PoolOutcome<R>;

  ProcessImap(const ProcessImap&) = delete;
  ProcessImap& operator=(const ProcessImap&) = delete;
  ~ProcessImap() {
    for (const auto& each : tasks_) pool_.withdraw(*each);
  }

  /// The next outcome; nothing at the end. Throws what the range threw, at the end, and Cancelled.
  [[nodiscard]] std::optional<Outcome> next() {
    for (;;) {
      fill();
      if (std::optional<Outcome> outcome = state_->next(options_.ordered)) {
        ++read_;
        return outcome;
      }
      if (read_ == begun_) break;
      state_->arrived.wait();
    }
    if (range_error_ != nullptr) std::rethrow_exception(std::exchange(range_error_, nullptr));
    return std::nullopt;
  }
  [[nodiscard]] auto begin() { return detail::ReceiveIterator<ProcessImap, Outcome>(*this); }
  [[nodiscard]] std::default_sentinel_t end() const noexcept { return {}; }
  [[nodiscard]] std::optional<Outcome> next_value() { return next(); }
  /// How many elements have been begun.
  [[nodiscard]] std::size_t begun() const noexcept { return begun_; }

 private:
  friend class ProcessPool;
  using Task = detail::ImapTask<R>;

  ProcessImap(ProcessPool& pool, Range&& range, F f, ProcessImapOptions options)
      : pool_(pool), range_(std::forward<Range>(range)), f_(f), options_(options) {
    options_.chunk = std::max<std::size_t>(options_.chunk, 1);
    if (options_.look_ahead == 0) options_.look_ahead = 8 * pool.workers() * options_.chunk;
  }

  /// A task that could not be given, for the wait for room was cut short, is kept for the next time.
  void fill() {
    while (!tasks_.empty() && tasks_.front()->over) tasks_.pop_front();
    while (next_ != nullptr || make_next()) {
      try {
        pool_.submit(next_);
      } catch (const std::system_error&) {  // too large: that is these elements' outcome
        next_->fail(std::current_exception());
        next_->over = true;
      }
      begun_ += next_count_;
      tasks_.push_back(std::move(next_));
    }
  }

  [[nodiscard]] bool make_next() {
    if (fed_ || begun_ + options_.chunk > read_ + std::max(options_.look_ahead, options_.chunk)) return false;
    detail::ChunkWriter<detail::CallElement, F, Item, R> writer(f_);
    try {
      if (!at_) at_.emplace(std::ranges::begin(range_));
      for (; *at_ != std::ranges::end(range_) && writer.count() < options_.chunk; ++*at_) writer.add(**at_);
      fed_ = writer.count() < options_.chunk;
    } catch (...) {
      range_error_ = std::current_exception();
      fed_ = true;
    }
    next_count_ = writer.count();
    if (next_count_ != 0) next_ = std::make_shared<Task>(writer.finish(), state_, begun_, next_count_);
    return next_count_ != 0;
  }

  ProcessPool& pool_;
  Range range_;
  F f_;
  ProcessImapOptions options_;
  std::optional<std::ranges::iterator_t<Range>> at_;
  std::shared_ptr<detail::ImapState<R>> state_ = std::make_shared<detail::ImapState<R>>();
  std::deque<std::shared_ptr<Task>> tasks_;
  std::shared_ptr<Task> next_;
  std::size_t next_count_ = 0;
  std::exception_ptr range_error_;
  std::size_t begun_ = 0;
  std::size_t read_ = 0;
  bool fed_ = false;
};

}  // namespace bight
