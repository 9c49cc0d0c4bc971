// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <mutex>

#include <bight/detail/cross_waiter.hpp>
#include <bight/time.hpp>

namespace bight {

/// Something that has happened or not, for fibers of any loop and for threads without one, all at once. (Within one
/// loop an Event costs less.) A fiber that waits lets its loop go on; a thread that waits sleeps.
///
/// Whoever made it ends it, when nobody waits any more; a waiter may do that as soon as its wait returns, though set()
/// has not. While a fiber waits its loop does not take itself for deadlocked, even if nobody is left to set this.
/// Under the sim engine a limit is in virtual time, which stands still for no other thread: a loop that waits for
/// nothing else sleeps in real time, but one with a timer jumps to it at once.
class SharedEvent {
 public:
  explicit SharedEvent(bool set = false) noexcept : set_(set) {}
  SharedEvent(const SharedEvent&) = delete;
  SharedEvent& operator=(const SharedEvent&) = delete;
  ~SharedEvent();

  /// Lets all who wait go, in the order in which they came, and those who come until clear(). Never waits. Costs a
  /// short lock, and one system call per sleeping loop or thread that is woken.
  void set() noexcept;
  /// From now on wait() waits again. Those whom a set() let go are gone, even if they have not run yet.
  void clear() noexcept;
  [[nodiscard]] bool is_set() const noexcept;

  /// Waits until it is set, or was for a moment. Throws Cancelled if it has to wait.
  void wait() { static_cast<void>(wait_until(TimePoint::max())); }
  /// The same with a limit. Whether it was set.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& limit) {
    return wait_until(detail::saturating_add(now(), detail::saturating_duration(limit)));
  }
  [[nodiscard]] bool wait_until(TimePoint when);

 private:
  mutable std::mutex mutex_;
  bool set_;
  detail::CrossWaiters waiters_;
};

}  // namespace bight
