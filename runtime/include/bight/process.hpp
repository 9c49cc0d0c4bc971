// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Child processes that run a function of this program: Python's multiprocessing.Process. For other programs there is
/// Subprocess, for many small tasks ProcessPool.
///
///     bight::Process child([] { return serve_reports(); });
///     ...
///     child.join();                     // only this fiber waits
///     if (child.exit_code() != 0) ...

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include <bight/detail/readiness_case.hpp>
#include <bight/run.hpp>
#include <bight/time.hpp>

namespace bight {

struct ProcessOptions {
  std::string name{};  ///< for reports and top(1); empty: "process-1" and so on
  bool daemon =
      false;  ///< terminated, not waited for, when its Process goes; may have no children; dies with the parent
  /// SIGKILL when the parent has died, however it died; true for daemons in any case. Mind that Linux takes the parent
  /// *thread* for the parent: a child that was started on a thread which ends before the process dies then, too.
  bool dies_with_parent = false;
  Duration patience = std::chrono::seconds(5);  ///< from SIGTERM to SIGKILL, when its Process goes and terminates it
  RunOptions run{};                             ///< of the child's loop
};

namespace detail {

/// What a child is to run: returns its exit status.
struct ProcessBody {
  int (*call)(void* callable);
  void* callable;
  bool bare = false;  // without a loop
};

class PoolCore;

template <class F>
[[nodiscard]] ProcessBody process_body(F& f) noexcept {
  const auto call = [](void* callable) -> int {
    using R = std::invoke_result_t<F&>;
    auto& function = *reinterpret_cast<F*>(callable);  // F may be a function, whose address is no object's
    if constexpr (std::is_convertible_v<R, int> && !std::is_same_v<R, bool>) {
      return std::invoke(function);
    } else {
      static_cast<void>(std::invoke(function));
      return 0;
    }
  };
  if constexpr (std::is_function_v<F>) {
    return {call, reinterpret_cast<void*>(&f)};
  } else {
    return {call, const_cast<void*>(static_cast<const void*>(std::addressof(f)))};
  }
}

struct ProcessState;

/// A descriptor of its own for one wait for a process.
class ExitWatch {
 public:
  explicit ExitWatch(const ProcessState& process);
  ~ExitWatch();
  ExitWatch(const ExitWatch&) = delete;
  ExitWatch& operator=(const ExitWatch&) = delete;
  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] FdState* state() const noexcept { return state_; }

 private:
  int fd_ = -1;
  FdState* state_ = nullptr;
};

template <class F>
class ExitCase final : private ExitWatch, public ReadinessCaseBase {
 public:
  template <class G>
  ExitCase(const ProcessState& process, G&& handler)
      : ExitWatch(process),
        ReadinessCaseBase(ExitWatch::fd(), ExitWatch::state(), Readiness::readable),
        handler_(std::forward<G>(handler)) {}
  void run() override { std::invoke(handler_); }

 private:
  F handler_;
};

}  // namespace detail

/// A child process, forked from this one, that runs `f` in the main fiber of a loop of its own. Made started. Its exit
/// status is what `f` returns if that is a number, else 0; 1 when `f` throws, which is reported on standard error.
///
/// The child is a copy of this process as it was: `f` and all it refers to are there, but what the child changes is
/// changed in the child alone. Of this process's fibers none runs there, no destructor of theirs, and none of its
/// atexit handlers. What this process's loops have open (sockets, streams, listeners) is closed in the child; what
/// belongs to no loop (an Fd, shared memory) is open in both. Signals have their default actions, those that were
/// ignored excepted, and none is blocked. SIGTERM has the child drain (RunOptions::stop_on_signals); if that cancels
/// `f`, the child dies of it.
///
/// Make processes before threads. In the child there is only the thread that forked: locks that others held at that
/// moment stay locked for ever, those of malloc and stdio excepted. One warning says so; threads of bight's own (loops,
/// offload, watchdogs) are not counted, but what runs on them may hold locks all the same.
///
/// Handles are movable, belong to the process that made them, and are used by one fiber or thread at a time, except
/// that any number of fibers may wait. Those of a loop wait without holding it up, a thread without a loop waits
/// itself. Ended children are reaped by pidfd: SIGCHLD is not needed, and no zombie is left when the
/// handle goes. (If the program ignores SIGCHLD, the kernel drops exit statuses: exit_code() is 255 then, with a
/// warning.)
///
/// The destructor of a handle whose child runs waits for its end (daemons: terminates it first). So does it when it is
/// left by an exception, or when the fiber that waits in it is cancelled: SIGTERM, and SIGKILL `patience` later. In a
/// callback of a loop, which can not wait, SIGKILL at once.
///
/// In a simulated world there are no processes: std::errc::operation_not_supported.
class Process {
 public:
  /// No process.
  Process() noexcept;

  /// Starts it. From a fiber (which waits while its loop forks), a callback, or a thread without a loop. Throws
  /// std::system_error: no more processes (EAGAIN), no memory, no descriptor for the pidfd, operation_not_permitted in
  /// a daemon.
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, Process> &&
           std::is_invocable_v<std::remove_reference_t<F>&>) explicit Process(F&& f)
      : Process(ProcessOptions{}, std::forward<F>(f)) {}
  template <class F>
  requires(std::is_invocable_v<std::remove_reference_t<F>&>) Process(ProcessOptions options, F&& f)
      : Process(std::move(options), detail::process_body(f)) {}
  /// The same; with an error there is no process, and `f` has not run.
  template <class F>
  requires(std::is_invocable_v<std::remove_reference_t<F>&>) [[nodiscard]] static Process
      start(const ProcessOptions& options, F&& f, std::error_code& error) {
    return start_body(options, detail::process_body(f), error);
  }

  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  /// Waits for the end. Throws Cancelled, and std::system_error when there is no descriptor to wait with. Not in a
  /// callback.
  void join() { static_cast<void>(join_until(TimePoint::max())); }
  void join(std::error_code& error) { static_cast<void>(join_until(TimePoint::max(), error)); }
  /// For `limit` at most. Whether it has ended.
  template <class Rep, class Period>
  [[nodiscard]] bool join_for(const std::chrono::duration<Rep, Period>& limit) {
    return join_until(detail::saturating_add(now(), detail::saturating_duration(limit)));
  }
  [[nodiscard]] bool join_until(TimePoint when);
  [[nodiscard]] bool join_until(TimePoint when, std::error_code& error);
  /// Whether it has ended. Does not wait.
  [[nodiscard]] bool try_join() noexcept { return !is_alive(); }

  [[nodiscard]] bool is_alive() noexcept;
  /// How it ended: its exit status, or -signal; nothing as long as it runs.
  [[nodiscard]] std::optional<int> exit_code() noexcept;

  /// SIGTERM, SIGKILL, any signal. To the process itself, never to another one that has got its number; nothing when it
  /// has ended. Do not wait.
  void terminate() noexcept;
  void kill() noexcept;
  void send_signal(int number) noexcept;

  /// 0 for a handle without a process.
  [[nodiscard]] pid_t pid() const noexcept;
  [[nodiscard]] const std::string& name() const noexcept;
  [[nodiscard]] bool is_daemon() const noexcept;
  /// The pidfd: readable when the process has ended, for epoll and the like. Belongs to the handle.
  [[nodiscard]] int sentinel() const noexcept;
  explicit operator bool() const noexcept { return state_ != nullptr; }

  /// A case of select(), see there: the process has ended.
  template <class F>
  [[nodiscard]] auto on_exit(F&& handler) {
    return detail::ExitCase<std::decay_t<F>>(state(), std::forward<F>(handler));
  }

 private:
  Process(ProcessOptions options, detail::ProcessBody body);
  [[nodiscard]] static Process start_body(ProcessOptions options, detail::ProcessBody body, std::error_code& error);
  explicit Process(std::unique_ptr<detail::ProcessState> state) noexcept;
  [[nodiscard]] detail::ProcessState& state() const noexcept;
  void finish() noexcept;

  friend class detail::PoolCore;

  std::unique_ptr<detail::ProcessState> state_;
};

/// Waits until one of them has ended, or `when`: its place; nothing when the time has passed. Throws Cancelled, and
/// std::system_error.
[[nodiscard]] std::optional<std::size_t> wait_any_exit(std::span<Process* const> processes,
                                                       TimePoint when = TimePoint::max());

namespace this_process {

/// Whether this process is the daemon of another one (or a worker of a ProcessPool), and may have no children.
[[nodiscard]] bool is_daemon() noexcept;

}  // namespace this_process
}  // namespace bight
