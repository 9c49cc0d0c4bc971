// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Mutual exclusion between processes, and between the fibers and threads of each, that survives the death of its
/// owner.

#include <chrono>
#include <memory>
#include <stdexcept>
#include <utility>

#include <sys/types.h>

#include <bight/time.hpp>

namespace bight {

/// The owner of a ProcessLock has died without unlocking it: what the lock protects may be half changed.
class OwnerDied : public std::runtime_error {
 public:
  explicit OwnerDied(pid_t owner);
  [[nodiscard]] pid_t owner() const noexcept { return owner_; }

 private:
  pid_t owner_;
};

/// How long a wake-up can be late when a process is killed between two instructions that belong together, and how long
/// the death of an owner can go unnoticed. Both are noticed at once but for rare cases.
inline constexpr Duration process_lock_recheck = std::chrono::milliseconds(100);

/// A lock with one owner, a fiber or a thread of some process. Made before the fork, used by reference on both sides.
///
///     ProcessLock lock;
///     Process child([&lock] { const std::lock_guard guard(lock); print(); });
///
/// When the owner's process dies, the lock stays locked for everybody: lock() and its kin throw OwnerDied, until
/// lock_or_repair() has had the data mended. Nobody waits for the dead. After a fork the parent is still the owner, and
/// the child is not. A fiber or thread that ends without unlocking, in a process that lives on, is not found out.
///
/// Waiters of one process get it in the order in which they came; which process is next, nobody says. A free one is
/// locked and unlocked without a system call. Each unlock wakes one fiber or thread of each process that waits. A fiber
/// waits in its loop, of whichever thread; a thread without one in poll(2).
///
/// TimedLockable: works with std::lock_guard and its kin. Not recursive. To unlock what another fiber or process owns,
/// and to destroy it while somebody in this process owns it, abort with a sentence. Waiting throws Cancelled in a
/// cancelled fiber, not owning it, and std::system_error: operation_not_supported under the sim engine, which has no
/// other processes; too few descriptors are no error. All processes are to see the same pids (one pid namespace).
class ProcessLock {
 public:
  /// Throws std::system_error.
  ProcessLock();
  ProcessLock(const ProcessLock&) = delete;
  ProcessLock& operator=(const ProcessLock&) = delete;
  ~ProcessLock();

  /// Waits until it is the caller's. Throws OwnerDied and Cancelled, not owning it.
  void lock() { static_cast<void>(lock_until(TimePoint::max())); }
  /// Does not wait. False: somebody has it. Throws OwnerDied.
  [[nodiscard]] bool try_lock() { return lock_until(TimePoint::min()); }
  /// Waits for `limit` at most. Whether it is the caller's now. Throws OwnerDied and Cancelled.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(const std::chrono::duration<Rep, Period>& limit) {
    return lock_until(detail::saturating_add(now(), detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] bool try_lock_until(const std::chrono::time_point<C, D>& when) {
    return try_lock_for(when - C::now());
  }
  /// By who owns it. Does not wait.
  void unlock() noexcept;

  /// Waits until it is the caller's; if an owner has died, calls `repair` first, which is to mend what the lock
  /// protects. If that throws, all is as before: the caller does not own it, and others get OwnerDied. Whether repair
  /// was called.
  template <class Repair>
  bool lock_or_repair(Repair&& repair) {
    if (!lock_despite_death()) return false;
    try {
      std::forward<Repair>(repair)();
    } catch (...) {
      give_up_repair();
      throw;
    }
    return true;
  }

  /// The process that owns it now, for reports. 0: none.
  [[nodiscard]] pid_t owner() const noexcept;

 private:
  struct Impl;

  bool lock_until(TimePoint until);
  bool lock_despite_death();
  void give_up_repair() noexcept;

  std::unique_ptr<Impl> impl_;
};

}  // namespace bight
