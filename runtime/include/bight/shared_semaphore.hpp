// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>

#include <bight/detail/cross_waiter.hpp>
#include <bight/time.hpp>

namespace bight {

/// So many permits, for fibers of any loop and for threads without one, all at once. (Within one loop a Semaphore costs
/// less.) First come, first served: a permit that is given back while somebody waits goes to the first who does, and
/// nobody who comes later gets in between. A waiter that times out or is cancelled takes no permit with it.
///
/// About its end, deadlocks and virtual time see SharedEvent.
class SharedSemaphore {
 public:
  explicit SharedSemaphore(std::size_t permits) noexcept : permits_(permits) {}
  SharedSemaphore(const SharedSemaphore&) = delete;
  SharedSemaphore& operator=(const SharedSemaphore&) = delete;
  ~SharedSemaphore();

  /// Takes a permit, waiting for one if need be; then it throws Cancelled. Without waiting: a short lock.
  void acquire() { static_cast<void>(try_acquire_until(TimePoint::max())); }
  /// The same with a limit. Whether there is a permit.
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(const std::chrono::duration<Rep, Period>& limit) {
    return try_acquire_until(detail::saturating_add(now(), detail::saturating_duration(limit)));
  }
  [[nodiscard]] bool try_acquire_until(TimePoint when);
  /// Takes a permit if one is free. Never waits; may also be called from callbacks.
  [[nodiscard]] bool try_acquire() noexcept;

  /// Gives back, or adds, `permits`. Never waits; any fiber, thread or callback, whoever acquired them.
  void release(std::size_t permits = 1) noexcept;

  /// How many are free; out of date at once.
  [[nodiscard]] std::size_t available() const noexcept;

 private:
  mutable std::mutex mutex_;
  std::size_t permits_;  // 0 while somebody waits
  detail::CrossWaiters waiters_;
};

}  // namespace bight
