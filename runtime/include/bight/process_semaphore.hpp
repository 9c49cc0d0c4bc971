// SPDX-License-Identifier: Apache-2.0
#pragma once

/// A number of permits that several processes share.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include <bight/time.hpp>

namespace bight {

/// How many processes may use a ProcessSemaphore at a time, unless it is told otherwise.
inline constexpr std::size_t process_semaphore_processes_max = 256;
/// How late the permits of a process that has died may be found.
inline constexpr Duration process_semaphore_recheck = std::chrono::milliseconds(100);

/// At most so many are inside at a time. Made before the fork, used by reference on both sides.
///
/// What a process holds is written down: when it dies, its permits are given back, and counted in lost_permits(). So a
/// permit is released by the process that has acquired it (by whichever fiber or thread); more than it holds aborts
/// with a sentence. After a fork the child holds none.
///
/// Waiters of one process get theirs in the order in which they came; which process is next, nobody says. A fiber waits
/// in its loop, of whichever thread; a thread without one in poll(2). Without waiting there is no system call.
class ProcessSemaphore {
 public:
  /// `permits` of them, one at least. Throws std::system_error.
  explicit ProcessSemaphore(std::size_t permits, std::size_t processes_max = process_semaphore_processes_max);
  ProcessSemaphore(const ProcessSemaphore&) = delete;
  ProcessSemaphore& operator=(const ProcessSemaphore&) = delete;
  ~ProcessSemaphore();

  /// Waits for a permit. Throws Cancelled, without one, and std::system_error: no_buffer_space when more than
  /// processes_max processes hold some, operation_not_supported under the sim engine, which has no other processes.
  void acquire() { static_cast<void>(acquire_until(TimePoint::max())); }
  /// Waits at most for the fibers of this and other processes that are changing the count just now.
  [[nodiscard]] bool try_acquire() { return acquire_until(TimePoint::min()); }
  /// Waits for `limit` at most. Whether there is a permit now.
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(const std::chrono::duration<Rep, Period>& limit) {
    return acquire_until(limit <= limit.zero() ? TimePoint::min()
                                               : detail::saturating_add(now(), detail::saturating_duration(limit)));
  }
  /// Gives one back. Does not wait for permits, and is not cut short by a cancellation.
  void release();

  /// How many are free now; those of dead processes are, once somebody has looked for them.
  [[nodiscard]] std::size_t available() const noexcept;
  /// How many have been taken back from dead processes so far.
  [[nodiscard]] std::uint64_t lost_permits() const noexcept;

 private:
  struct Impl;
  [[nodiscard]] bool acquire_until(TimePoint until);
  std::unique_ptr<Impl> impl_;
};

}  // namespace bight
