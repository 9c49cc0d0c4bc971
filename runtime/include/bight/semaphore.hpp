// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Counting permits between the fibers of one loop: at most so many at a time. For threads: SharedSemaphore.

#include <chrono>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <bight/detail/loop_bound.hpp>
#include <bight/detail/select_case.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/time.hpp>

namespace bight {

/// A number of permits. release() hands a permit to the fiber that has waited longest; nobody overtakes it. A permit
/// may be released by another fiber than took it, and there may come to be more than at the start.
///
/// The verbs are those of std::counting_semaphore. release() and try_acquire() may also be called from callbacks, and
/// where there is no loop. To destroy it while fibers wait aborts with a sentence. O(1), but for release(n): O(n).
class Semaphore {
 public:
  /// Aborts with a sentence if `permits` is negative.
  explicit Semaphore(std::ptrdiff_t permits);
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;
  ~Semaphore();

  /// Takes a permit, waits for one if there is none. Throws Cancelled, having taken none; one that is free is taken
  /// even so.
  void acquire() {
    if (bound_.here() && permits_ > 0) [[likely]] {
      --permits_;
    } else {
      acquire_slow(TimePoint::max());
    }
  }
  /// Does not wait. Whether it has taken one.
  [[nodiscard]] bool try_acquire() noexcept;
  /// Waits for `limit` at most. Whether it has taken one. Throws Cancelled.
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(const std::chrono::duration<Rep, Period>& limit) {
    return try_acquire() || acquire_slow(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] bool try_acquire_until(const std::chrono::time_point<C, D>& when) {
    return try_acquire() || acquire_slow(detail::loop_time(when));
  }
  /// Gives back `count` permits. Does not wait.
  void release(std::ptrdiff_t count = 1) noexcept {
    if (bound_.here() && waiters_.empty() && count >= 0) [[likely]] {
      permits_ += count;
    } else {
      release_slow(count);
    }
  }

  /// How many are free now.
  [[nodiscard]] std::ptrdiff_t available() const noexcept { return permits_; }
  /// How many fibers wait.
  [[nodiscard]] std::size_t waiting() const noexcept { return waiters_.size(); }

  /// A case of select(), see there; the permit is taken when it is chosen.
  template <class F>
  [[nodiscard]] auto on_acquire(F&& handler) {
    return detail::FlagCase<Semaphore&, std::decay_t<F>>(*this, std::forward<F>(handler));
  }
  [[nodiscard]] bool is_set() const noexcept { return permits_ > 0; }  // for select
  void consume() noexcept { static_cast<void>(try_acquire()); }
  [[nodiscard]] detail::WaitList& waiters() noexcept {
    bound_.enter();
    return waiters_;
  }

 private:
  bool acquire_slow(TimePoint until);
  void release_slow(std::ptrdiff_t count) noexcept;

  detail::LoopBound bound_;
  std::ptrdiff_t permits_;
  detail::WaitList waiters_;
};

/// A Semaphore that never has more permits than at the start: to release one too many is an error. The one to use,
/// unless permits are made on purpose.
class BoundedSemaphore : private Semaphore {
 public:
  using Semaphore::acquire;
  using Semaphore::available;
  using Semaphore::on_acquire;
  using Semaphore::try_acquire;
  using Semaphore::try_acquire_for;
  using Semaphore::try_acquire_until;
  using Semaphore::waiting;

  explicit BoundedSemaphore(std::ptrdiff_t permits) : Semaphore(permits), bound_(permits) {}

  /// As Semaphore::release. Throws std::logic_error, with nothing released, if that would make more permits than there
  /// were at the start.
  void release(std::ptrdiff_t count = 1);

 private:
  std::ptrdiff_t bound_;
};

}  // namespace bight
