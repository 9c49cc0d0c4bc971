// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include <bight/detail/loop_bound.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/time.hpp>

namespace bight {

/// A readers-writer lock for the fibers of one loop: many readers at a time, or one writer. (It is shared by readers,
/// as std::shared_mutex is; not by threads.)
///
/// Prefers writers: while one waits, readers who come are made to wait, however many have it now. Those who wait take
/// their turns in the order in which they came, readers next to each other together; so neither readers nor writers can
/// be starved, and a reader must not lock it again, for a writer may stand between. (A try_lock() may overtake a
/// waiting writer once, as that of Mutex.) lock() and unlock() are the writer's, lock_shared() and unlock_shared() the
/// readers': SharedTimedLockable, for std::unique_lock and std::shared_lock. unlock() by another fiber than the writer,
/// unlock_shared() without readers, and to destroy it while fibers wait abort with a sentence.
class SharedMutex {
 public:
  constexpr SharedMutex() noexcept = default;
  SharedMutex(const SharedMutex&) = delete;
  SharedMutex& operator=(const SharedMutex&) = delete;
  ~SharedMutex();

  /// Waits until the fiber is the writer. Throws Cancelled.
  void lock() { lock_limited(TimePoint::max()); }
  [[nodiscard]] bool try_lock() noexcept;
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& limit) {
    return try_lock() || lock_limited(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<C, D>& when) {
    return try_lock() || lock_limited(detail::loop_time(when));
  }
  void unlock() noexcept;

  /// Waits until the fiber is one of the readers. Throws Cancelled.
  void lock_shared() { lock_shared_limited(TimePoint::max()); }
  [[nodiscard]] bool try_lock_shared() noexcept;
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_shared_for(const std::chrono::duration<Rep, Period>& limit) {
    return try_lock_shared() || lock_shared_limited(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] bool try_lock_shared_until(const std::chrono::time_point<C, D>& when) {
    return try_lock_shared() || lock_shared_limited(detail::loop_time(when));
  }
  void unlock_shared() noexcept;

  [[nodiscard]] bool locked() const noexcept { return writer_ != nullptr; }
  [[nodiscard]] std::size_t readers() const noexcept { return readers_; }

 private:
  struct Link;

  bool lock_limited(TimePoint until);
  bool lock_shared_limited(TimePoint until);
  bool wait_turn(Link& link, TimePoint until);
  void admit() noexcept;
  static void describe(const detail::WaitLink& link, std::string& text);

  detail::LoopBound bound_;
  detail::FiberControl* writer_ = nullptr;
  Link* heir_ = nullptr;  // the writer's, when it has waited and has not run since
  std::size_t readers_ = 0;
  std::size_t visitors_ = 0;  // fibers that have come to wait and have not left
  detail::WaitList waiters_;
};

}  // namespace bight
