// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <limits>
#include <utility>

#include <bight/deadline.hpp>
#include <bight/detail/loop_bound.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/error.hpp>
#include <bight/time.hpp>

namespace bight {

/// A condition variable for the fibers of one loop: std::condition_variable_any, with any lock of theirs
/// (std::unique_lock<Mutex> mostly). There are no spurious wake-ups; but between the notification and the waiter's turn
/// others may have run, so the predicate forms are the ones to use.
///
/// A wait gives the lock up, waits for a notification, and owns the lock again when it returns or throws, whatever
/// happened: getting the lock back is not cut short by cancellation or limits. A waiter that is cancelled or timed out
/// takes no notification with it; one that has been notified first returns as notified. Waiters are notified in the
/// order in which they came. Throws Cancelled. O(1), but for notify of several.
class Condition {
 public:
  constexpr Condition() noexcept = default;
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;
  ~Condition();

  template <class Lock>
  void wait(Lock& lock) {
    wait_until_time(lock, TimePoint::max());
  }
  /// Returns when `ready()` holds, which is asked with the lock owned.
  template <class Lock, class Predicate>
  void wait(Lock& lock, Predicate ready) {
    while (!ready()) wait(lock);
  }

  template <class Lock, class Rep, class Period>
  std::cv_status wait_for(Lock& lock, const std::chrono::duration<Rep, Period>& limit) {
    return status(wait_until_time(lock, detail::limit_from_now(detail::saturating_duration(limit))));
  }
  /// Whether `ready()` holds at the end.
  template <class Lock, class Rep, class Period, class Predicate>
  [[nodiscard]] bool wait_for(Lock& lock, const std::chrono::duration<Rep, Period>& limit, Predicate ready) {
    return wait_until_true(lock, detail::limit_from_now(detail::saturating_duration(limit)), std::move(ready));
  }
  template <class Lock, class C, class D>
  std::cv_status wait_until(Lock& lock, const std::chrono::time_point<C, D>& when) {
    return status(wait_until_time(lock, detail::loop_time(when)));
  }
  template <class Lock, class C, class D, class Predicate>
  [[nodiscard]] bool wait_until(Lock& lock, const std::chrono::time_point<C, D>& when, Predicate ready) {
    return wait_until_true(lock, detail::loop_time(when), std::move(ready));
  }

  /// Notifies the `count` fibers that have waited longest; later ones are not concerned. Does not wait; the lock need
  /// not be owned. May be called from callbacks.
  void notify(std::size_t count) noexcept;
  void notify_one() noexcept { notify(1); }
  void notify_all() noexcept { notify(std::numeric_limits<std::size_t>::max()); }

  /// How many fibers wait.
  [[nodiscard]] std::size_t waiting() const noexcept { return waiters_.size(); }

 private:
  /// Whether the fiber was notified.
  template <class Lock>
  bool wait_until_time(Lock& lock, TimePoint until) {
    struct Relock {
      Lock& lock;
      ~Relock() noexcept(false) {
        const Shield shield;
        lock.lock();
      }
    };
    bound_.enter();
    detail::WaitEnd end{};
    {
      lock.unlock();  // which wakes, but does not switch: nobody can notify before this fiber is in the list
      const Relock relock{lock};
      end = wait_notified(until);
    }
    if (end == detail::WaitEnd::cancelled) throw Cancelled{};
    return end == detail::WaitEnd::woken;
  }

  template <class Lock, class Predicate>
  bool wait_until_true(Lock& lock, TimePoint until, Predicate ready) {
    while (!ready()) {
      if (!wait_until_time(lock, until)) return ready();
    }
    return true;
  }

  [[nodiscard]] static std::cv_status status(bool notified) noexcept {
    return notified ? std::cv_status::no_timeout : std::cv_status::timeout;
  }

  [[nodiscard]] detail::WaitEnd wait_notified(TimePoint until) noexcept;

  detail::LoopBound bound_;
  detail::WaitList waiters_;
};

}  // namespace bight
