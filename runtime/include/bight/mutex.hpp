// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Mutual exclusion between the fibers of one loop, needed where a wait comes in the middle of a change. (Without a
/// wait in between no other fiber runs, and plain data needs no lock.) For threads: CrossThreadMutex.

#include <chrono>
#include <cstddef>
#include <string>

#include <bight/detail/loop_bound.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/time.hpp>

namespace bight {

/// A lock with one owner, a fiber. Handed to the waiters in the order in which they came: unlock() makes the first one
/// the owner, so no lock() overtakes it, not even that of who has just unlocked.
///
/// A try_lock() may still get it before a waiter that it was handed to, but who has not run since; once per waiter, and
/// until that waiter has run, others may lock it, too. So std::lock and std::scoped_lock make progress: they hold one
/// lock and try the next, and if what they tried were always handed on to another who does the same, three fibers could
/// take turns for ever.
///
/// TimedLockable: works with std::unique_lock, std::scoped_lock, std::lock. Fibers of one loop only. To lock twice, to
/// unlock what one does not own, and to destroy it while fibers wait abort with a sentence. Uncontended it costs a few
/// comparisons; everything is O(1).
class Mutex {
 public:
  constexpr Mutex() noexcept = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;
  ~Mutex();

  /// Waits until the calling fiber owns it. Throws Cancelled, not owning it; a free one is locked even so.
  void lock() {
    detail::FiberControl* self = detail::current_loop->running_fiber;
    if (bound_.here() && owner_ == nullptr && self != nullptr) [[likely]] {
      owner_ = self;
    } else {
      lock_slow(TimePoint::max());
    }
  }
  /// Does not wait. False if somebody else owns it, or the caller does.
  [[nodiscard]] bool try_lock() noexcept;
  /// Waits for `limit` at most. Whether the fiber owns it now. Throws Cancelled.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& limit) {
    return try_lock() || lock_slow(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<C, D>& when) {
    return try_lock() || lock_slow(detail::loop_time(when));
  }
  /// Hands it to the fiber that has waited longest, if one waits. Does not wait.
  void unlock() noexcept {
    if (owner_ != nullptr && owner_ == detail::current_loop->running_fiber && waiters_.empty()) [[likely]] {
      owner_ = nullptr;
    } else {
      unlock_slow();
    }
  }

  /// Whether some fiber owns it.
  [[nodiscard]] bool locked() const noexcept { return owner_ != nullptr; }
  /// Whether the calling fiber does.
  [[nodiscard]] bool locked_here() const noexcept {
    return owner_ != nullptr && owner_ == detail::current_loop->running_fiber;
  }

 private:
  bool lock_slow(TimePoint until);
  void unlock_slow() noexcept;
  struct Link;

  static void describe(const detail::WaitLink& link, std::string& text);

  detail::LoopBound bound_;
  detail::FiberControl* owner_ = nullptr;
  Link* heir_ = nullptr;      // the owner's, when it has waited and has not run since
  std::size_t visitors_ = 0;  // fibers that have come to wait and have not left
  detail::WaitList waiters_;
};

/// A Mutex that its owner may lock again, and has to unlock as often. Where it is needed, something is usually wrong
/// with the layers; but it is what much code ported from threads expects.
class RecursiveMutex {
 public:
  constexpr RecursiveMutex() noexcept = default;

  /// As Mutex::lock.
  void lock() {
    if (!mutex_.locked_here()) mutex_.lock();
    ++depth_;
  }
  [[nodiscard]] bool try_lock() noexcept {
    const bool ours = mutex_.locked_here() || mutex_.try_lock();
    if (ours) ++depth_;
    return ours;
  }
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& limit) {
    const bool ours = mutex_.locked_here() || mutex_.try_lock_for(limit);
    if (ours) ++depth_;
    return ours;
  }
  template <class C, class D>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<C, D>& when) {
    const bool ours = mutex_.locked_here() || mutex_.try_lock_until(when);
    if (ours) ++depth_;
    return ours;
  }
  void unlock() noexcept {
    if (!mutex_.locked_here() || --depth_ == 0) mutex_.unlock();  // which says so when it is not ours
  }

  [[nodiscard]] bool locked() const noexcept { return mutex_.locked(); }
  [[nodiscard]] bool locked_here() const noexcept { return mutex_.locked_here(); }

 private:
  Mutex mutex_;
  std::size_t depth_ = 0;
};

}  // namespace bight
