// SPDX-License-Identifier: Apache-2.0
#include <bight/detail/cross_waiter.hpp>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <string>

#include <bight/detail/spin_judge.hpp>
#include <bight/detail/timer.hpp>

#include "loop.hpp"
#include "remote_queue.hpp"
#include "spin.hpp"

namespace bight::detail {
namespace {

thread_local constinit SpinJudge thread_judge;

void futex_wake(std::atomic<std::uint32_t>& word) noexcept {
  ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

/// Until `until` on the monotonic clock, or until woken, or for no reason.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, TimePoint until) noexcept {
  timespec limit{};
  const timespec* timeout = nullptr;
  if (until != TimePoint::max()) {
    const Duration since = std::max(until.time_since_epoch(), Duration::zero());
    limit.tv_sec = since / std::chrono::seconds(1);
    limit.tv_nsec = (since % std::chrono::seconds(1)).count();
    timeout = &limit;
  }
  ::syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, value, timeout, nullptr, FUTEX_BITSET_MATCH_ANY);
}

}  // namespace

struct CrossWaiter::FiberParking : Parking {
  static const ParkingKind kKind;
  static const ParkingKind kCertain;
  FiberParking(CrossWaiter& who, const ParkingKind& what) noexcept : Parking(*who.fiber_, what), waiter(who) {}
  CrossWaiter& waiter;

  static void describe(const Parking& parking, std::string& text) {
    text.append(static_cast<const FiberParking&>(parking).waiter.what_).append(", from another thread");
  }
};

const ParkingKind CrossWaiter::FiberParking::kKind{
    [](Parking& parking) noexcept { static_cast<FiberParking&>(parking).waiter.unpark(); }, &describe};
const ParkingKind CrossWaiter::FiberParking::kCertain{nullptr, &describe};

struct CrossWaiter::ParkingTimer : Timer {
  explicit ParkingTimer(CrossWaiter& who) noexcept
      : Timer([](Timer& timer) noexcept {
          CrossWaiter& timed = static_cast<ParkingTimer&>(timer).waiter;
          timed.timed_out_ = timed.parked_;
          timed.unpark();
        }),
        waiter(who) {}
  CrossWaiter& waiter;
};

CrossWaiter::CrossWaiter(const char* what) noexcept : CrossWaiter(what, AsThread{}) {
  const Loop* loop = Loop::current();
  if (loop != nullptr) fiber_ = &loop->require_fiber();
}

void CrossWaiter::notify() noexcept {
  if (fiber_ == nullptr) {
    // The frame may be gone after the exchange; the address is then nobody's, or another's who has to bear a wake-up
    // without a reason anyway.
    if (word_.exchange(kNotified, std::memory_order_acq_rel) == kAsleep) futex_wake(word_);
    return;
  }
  Loop& loop = *fiber_->loop;
  if (&loop == Loop::current()) {
    deliver_wake(*this);
  } else {
    loop.remote()->wake(*this);  // the fiber keeps the loop, and with it the queue, until this has been delivered
  }
}

void CrossWaiter::deliver_wake(RemoteWake& wake) noexcept {
  auto& self = static_cast<CrossWaiter&>(wake);
  self.notified_ = true;
  self.unpark();
}

/// Makes the fiber ready, unless somebody has already.
void CrossWaiter::unpark() noexcept {
  if (!parked_) return;
  parked_ = false;
  fiber_->loop->make_ready(*fiber_);
}

CrossWaiter::Outcome CrossWaiter::wait(TimePoint until) noexcept {
  return fiber_ != nullptr ? wait_in_fiber(until) : wait_in_thread(until);
}

void CrossWaiter::wait_certain() noexcept {
  if (fiber_ == nullptr) {
    static_cast<void>(wait_in_thread(TimePoint::max()));
  } else if (!notified_) {
    park(FiberParking::kCertain, TimePoint::max());
  }
}

// --- A fiber ---------------------------------------------------------------------------------------------------------

CrossWaiter::Outcome CrossWaiter::wait_in_fiber(TimePoint until) noexcept {
  if (notified_) return Outcome::notified;
  if (fiber_->cancel_pending()) return Outcome::cancelled;
  if (until != TimePoint::max() && until <= fiber_->loop->now()) return Outcome::timed_out;
  park(FiberParking::kKind, until);
  if (notified_) return Outcome::notified;
  return timed_out_ ? Outcome::timed_out : Outcome::cancelled;
}

void CrossWaiter::park(const ParkingKind& kind, TimePoint until) noexcept {
  Loop& loop = *fiber_->loop;
  FiberParking parking(*this, kind);
  ParkingTimer timer(*this);
  if (until != TimePoint::max()) loop.timers().arm(timer, until);
  parked_ = true;
  loop.remote()->expect_wake();
  loop.park(parking);
  loop.remote()->expect_no_longer();
  if (timer.armed()) loop.timers().disarm(timer);
}

// --- A thread --------------------------------------------------------------------------------------------------------

CrossWaiter::Outcome CrossWaiter::wait_in_thread(TimePoint until) noexcept {
  if (word_.load(std::memory_order_acquire) == kNotified) return Outcome::notified;
  if (until != TimePoint::max() && until <= Clock::now()) return Outcome::timed_out;
  const bool spins = until == TimePoint::max() && can_spin() && thread_judge.worth_it();
  if (spins && spin_in_thread()) return Outcome::notified;
  std::uint32_t seen = kAwake;
  if (!word_.compare_exchange_strong(seen, kAsleep, std::memory_order_acq_rel) && seen == kNotified) {
    return Outcome::notified;
  }
  const TimePoint start = Clock::now();
  for (;;) {
    futex_wait(word_, kAsleep, until);
    if (word_.load(std::memory_order_acquire) == kNotified) break;
    if (until != TimePoint::max() && until <= Clock::now()) return Outcome::timed_out;
  }
  if (!spins) thread_judge.slept(Clock::now() - start);
  return Outcome::notified;
}

bool CrossWaiter::spin_in_thread() noexcept {
  const TimePoint start = Clock::now();
  const bool came =
      spin_until(start + SpinJudge::kBudget, [this] { return word_.load(std::memory_order_acquire) == kNotified; });
  came ? thread_judge.hit(Clock::now() - start) : thread_judge.miss();
  return came;
}

// --- Lists -----------------------------------------------------------------------------------------------------------

void CrossWaiters::push(CrossWaiter& waiter) noexcept {
  waiter.next_ = nullptr;
  waiter.previous_ = last_;
  waiter.linked_ = true;
  (last_ != nullptr ? last_->next_ : first_) = &waiter;
  last_ = &waiter;
}

void CrossWaiters::remove(CrossWaiter& waiter) noexcept {
  (waiter.previous_ != nullptr ? waiter.previous_->next_ : first_) = waiter.next_;
  (waiter.next_ != nullptr ? waiter.next_->previous_ : last_) = waiter.previous_;
  waiter.linked_ = false;
}

CrossWaiter* CrossWaiters::pop() noexcept {
  CrossWaiter* popped = first_;
  if (popped != nullptr) remove(*popped);
  return popped;
}

CrossWaiter* CrossWaiters::pop_last() noexcept {
  CrossWaiter* popped = last_;
  if (popped != nullptr) remove(*popped);
  return popped;
}

void CrossNotices::add(CrossWaiter& unlinked) noexcept {
  waiters_.push(unlinked);
  unlinked.linked_ = false;
}

void CrossNotices::send() noexcept {
  CrossWaiter* each = std::exchange(waiters_.first_, nullptr);
  waiters_.last_ = nullptr;
  while (each != nullptr) {
    CrossWaiter* next = each->next_;  // notified, it may be gone
    each->notify();
    each = next;
  }
}

void enter_cross_wait() {
  const Loop* loop = Loop::current();
  if (loop != nullptr && loop->running() != nullptr && loop->running()->cancel_pending()) throw Cancelled{};
}

void charge_cross_wait() noexcept {
  Loop* loop = Loop::current();
  if (loop != nullptr && loop->running() != nullptr) loop->charge();
}

}  // namespace bight::detail
