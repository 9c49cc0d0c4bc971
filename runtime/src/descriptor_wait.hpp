// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <system_error>

#include <bight/detail/loop_bound.hpp>
#include <bight/detail/readiness_case.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/fd_watch.hpp>
#include <bight/time.hpp>

namespace bight::detail {

/// A descriptor's watch in the loop that waits for it, made at the first wait there. For what may have been made before
/// the loop, or before a fork: a watch in the parent's loop, or in one that has ended, is let go of untouched.
class LazyWatch {
 public:
  LazyWatch() noexcept;
  LazyWatch(const LazyWatch&) = delete;
  LazyWatch& operator=(const LazyWatch&) = delete;

  /// In a loop only. Null with an error: no memory, or a loop that has no real descriptors. Aborts with a sentence when
  /// another living loop of this process has it.
  [[nodiscard]] FdWatch* attach(int fd, std::error_code& error) noexcept;
  /// Has the calling fiber carry out an operation that reads, attached. As the system call's result, or -errno:
  /// ECANCELED, ETIMEDOUT and the others of wait_ready().
  [[nodiscard]] int read(Op& op, TimePoint until) noexcept;
  /// Before the descriptor is closed: who waits for it wakes with bad_file_descriptor.
  void detach() noexcept;

 private:
  void drop_what_is_stale() noexcept;

  std::optional<FdWatch> watch_;
  std::uint32_t forks_;
  LoopBound bound_;
};

/// Waits until `fd` is readable (or writable), or has nothing to wait for any more: an end, an error. A fiber waits in
/// its loop, a thread that has none in poll(2). TimePoint::min(): does not wait, and says so. The error: timed_out,
/// operation_canceled, bad_file_descriptor (detached meanwhile), device_or_resource_busy (there is one who waits).
[[nodiscard]] std::error_code wait_ready(LazyWatch& watch, int fd, Readiness what, TimePoint until) noexcept;

/// One wait for readability, of which there is one at a time on each loop: nothing is kept afterwards.
[[nodiscard]] std::error_code wait_readable_once(int fd, TimePoint until) noexcept;
/// The same for as many as like, each fiber with a copy of the descriptor: too_many_files_open besides.
[[nodiscard]] std::error_code wait_ready_aside(int fd, Readiness what, TimePoint until) noexcept;

/// Several at once, by threads without a loop and fibers alike, with what each of them takes. Which one, or the error.
struct ReadyOne {
  std::error_code error;
  int which = -1;
};
[[nodiscard]] ReadyOne wait_readable_either(int first, int second, TimePoint until) noexcept;

/// Whether it is now. Does not wait.
[[nodiscard]] bool is_readable(int fd) noexcept;

/// Whether the calling fiber (if it is one) has been cancelled.
[[nodiscard]] bool cancelled_here() noexcept;
/// Counts what could be had at once against the fiber's slice, so that others have their turn.
void charge_here() noexcept;
/// Whether the calling thread's loop lives in a world of its own, which knows no other process.
[[nodiscard]] bool in_simulated_world() noexcept;

/// Fibers of one loop take turns, in the order in which they came: for a descriptor that one can wait for at a time.
/// Threads without a loop do not ask.
class Turn {
 public:
  /// Whether it is the caller's turn now. Otherwise the error says why not.
  [[nodiscard]] bool take(TimePoint until, DescribeWait describe, std::error_code& error) noexcept;
  void give() noexcept;
  /// In a forked child: those who wait are the parent's.
  void forget() noexcept;

 private:
  bool taken_ = false;
  WaitList waiters_;
};

}  // namespace bight::detail
