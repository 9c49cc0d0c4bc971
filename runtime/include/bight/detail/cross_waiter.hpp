// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include <bight/detail/fiber_control.hpp>
#include <bight/detail/remote_wake.hpp>
#include <bight/error.hpp>
#include <bight/time.hpp>

namespace bight::detail {

/// Somebody who waits for another thread: a fiber, whose loop goes on meanwhile, or a thread without a loop, which
/// sleeps in the kernel. Lives in the waiting function's frame, belongs to an object that threads share, and is
/// notified at most once.
///
/// The protocol, which loses nothing: under the object's lock the waiter links itself into the object's list; whoever
/// has something for it unlinks it under the lock, gives it that something, lets go of the lock and notifies it. Who
/// was timed out or cancelled takes the lock: still linked, it unlinks itself and leaves empty-handed; otherwise the
/// notification is certain to come, must be awaited, and what was given is its own.
///
///     std::unique_lock lock(mutex_);
///     CrossWaiter waiter("a permit");
///     waiters_.push(waiter);
///     const Outcome outcome = settle(waiter, waiters_, lock, until);   // all of the above
class CrossWaiter : private RemoteWake {
 public:
  enum class Outcome : std::uint8_t { notified, timed_out, cancelled };
  struct AsThread {};

  /// For the calling fiber, or the calling thread if it has no loop. A callback of a loop can not wait: aborts with a
  /// sentence. `what`: what is waited for, for reports; a literal.
  explicit CrossWaiter(const char* what) noexcept;
  /// For the calling thread, whatever runs on it.
  CrossWaiter(const char* what, AsThread) noexcept : RemoteWake(&deliver_wake), what_(what) {}

  /// Ends the wait. Any thread; once; touches nothing of the waiter that may be gone as soon as it can know. Costs a
  /// short lock and, if the waiter's loop or thread sleeps, a system call.
  void notify() noexcept;

  /// Waits for notify(), or until `until`, or until the fiber is cancelled. Notified wins over the others.
  [[nodiscard]] Outcome wait(TimePoint until = TimePoint::max()) noexcept;
  /// Waits for a notify() that is certain to come; not to be cut short.
  void wait_certain() noexcept;

  /// Whether it is in a CrossWaiters.
  [[nodiscard]] bool linked() const noexcept { return linked_; }

 private:
  friend class CrossWaiters;
  friend class CrossNotices;
  struct FiberParking;
  struct ParkingTimer;

  static void deliver_wake(RemoteWake& wake) noexcept;
  [[nodiscard]] Outcome wait_in_fiber(TimePoint until) noexcept;
  [[nodiscard]] Outcome wait_in_thread(TimePoint until) noexcept;
  [[nodiscard]] bool spin_in_thread() noexcept;
  void park(const ParkingKind& kind, TimePoint until) noexcept;
  void unpark() noexcept;

  static constexpr std::uint32_t kAwake = 0;
  static constexpr std::uint32_t kAsleep = 1;
  static constexpr std::uint32_t kNotified = 2;

  FiberControl* fiber_ = nullptr;  // null: a thread
  const char* what_;
  CrossWaiter* next_ = nullptr;  // in a CrossWaiters, as are the next two
  CrossWaiter* previous_ = nullptr;
  bool linked_ = false;
  bool notified_ = false;  // these three on the fiber's own thread
  bool parked_ = false;
  bool timed_out_ = false;
  std::atomic<std::uint32_t> word_{kAwake};  // what a thread sleeps on
};

/// Waiters in the order in which they came. Intrusive; protected by the lock of the object that has it.
class CrossWaiters {
 public:
  CrossWaiters() noexcept = default;
  CrossWaiters(const CrossWaiters&) = delete;
  CrossWaiters& operator=(const CrossWaiters&) = delete;

  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  void push(CrossWaiter& waiter) noexcept;
  /// One that is in the list.
  void remove(CrossWaiter& waiter) noexcept;
  /// Takes out the first one, or the last one; null when there is none.
  CrossWaiter* pop() noexcept;
  CrossWaiter* pop_last() noexcept;

 private:
  friend class CrossNotices;
  CrossWaiter* first_ = nullptr;
  CrossWaiter* last_ = nullptr;
};

/// Waiters that have been unlinked under a lock and are to be notified when it has been let go of: by then the object
/// may be gone, for those who wait may own it.
class CrossNotices {
 public:
  CrossNotices() noexcept = default;
  CrossNotices(const CrossNotices&) = delete;
  CrossNotices& operator=(const CrossNotices&) = delete;
  ~CrossNotices() { send(); }

  void add(CrossWaiter& unlinked) noexcept;
  void send() noexcept;

 private:
  CrossWaiters waiters_;  // in which they do not count as linked
};

/// Before anything that may wait: throws Cancelled if the calling fiber has been cancelled. Nothing outside of a fiber.
void enter_cross_wait();
/// After something that might have waited but had not to: gives other fibers their turn when the slice is used up, so
/// that a fiber that never has to wait does not keep the loop to itself. Nothing outside of a fiber.
void charge_cross_wait() noexcept;

/// Waits with `waiter`, which is in `list`, as the protocol says. `lock` protects the list and is held; afterwards it
/// is not. Notified: something was given, though there may have been a timeout or a cancellation, too.
template <class Lock>
[[nodiscard]] CrossWaiter::Outcome settle(CrossWaiter& waiter, CrossWaiters& list, Lock& lock,
                                          TimePoint until = TimePoint::max()) noexcept {
  lock.unlock();
  const CrossWaiter::Outcome outcome = waiter.wait(until);
  if (outcome == CrossWaiter::Outcome::notified) return outcome;
  lock.lock();
  const bool linked = waiter.linked();
  if (linked) list.remove(waiter);
  lock.unlock();
  if (linked) return outcome;
  waiter.wait_certain();
  return CrossWaiter::Outcome::notified;
}

/// What a wait that may time out returns: whether it got what it waited for. Throws Cancelled.
[[nodiscard]] inline bool granted_or_throw(CrossWaiter::Outcome outcome) {
  if (outcome == CrossWaiter::Outcome::cancelled) throw Cancelled{};
  return outcome == CrossWaiter::Outcome::notified;
}

}  // namespace bight::detail
