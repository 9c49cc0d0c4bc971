// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <mutex>
#include <type_traits>

#include <bight/detail/cross_waiter.hpp>
#include <bight/time.hpp>

namespace bight {

/// Mutual exclusion between fibers of any loop and threads without one, all at once. Unlike a std::mutex it may be held
/// while the owner waits for something else: a fiber that waits for it lets its loop go on. (Within one loop a Mutex
/// costs less.) First come, first served: unlock() hands it to the first who waits, so nobody starves. Not recursive.
///
/// A TimedLockable of the standard: std::lock_guard, std::unique_lock and std::scoped_lock work. About its end,
/// deadlocks and virtual time see SharedEvent.
class CrossThreadMutex {
 public:
  CrossThreadMutex() noexcept = default;
  CrossThreadMutex(const CrossThreadMutex&) = delete;
  CrossThreadMutex& operator=(const CrossThreadMutex&) = delete;
  ~CrossThreadMutex();

  /// Waits until it is the caller's. Throws Cancelled if it has to wait (then it is not). Aborts with a sentence if the
  /// caller has it.
  void lock() { static_cast<void>(lock_until(TimePoint::max())); }
  /// Never waits.
  [[nodiscard]] bool try_lock() noexcept;
  /// With a limit. Whether it is the caller's now. Throw Cancelled.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& limit) {
    return lock_until(detail::saturating_add(now(), detail::saturating_duration(limit)));
  }
  template <class OtherClock, class OtherDuration>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<OtherClock, OtherDuration>& when) {
    if constexpr (std::is_same_v<OtherClock, Clock>) {
      return lock_until(TimePoint(detail::saturating_duration(when.time_since_epoch())));
    } else {
      return try_lock_for(when - OtherClock::now());
    }
  }
  /// By the fiber or the thread that locked it; aborts with a sentence otherwise. Never waits.
  void unlock() noexcept;

 private:
  struct Waiter;

  [[nodiscard]] bool lock_until(TimePoint when);

  std::mutex mutex_;  // protects what follows; never held during a wait
  const void* owner_ = nullptr;
  detail::CrossWaiters waiters_;
};

}  // namespace bight
