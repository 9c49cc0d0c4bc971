// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

#include <bight/detail/loop_bound.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/time.hpp>

namespace bight {

/// A Barrier was aborted, or reset while this fiber waited at it, or another one's limit ran out, or the action threw:
/// the others will not come.
class BrokenBarrier : public std::runtime_error {
 public:
  BrokenBarrier() : std::runtime_error("the barrier is broken") {}
};

/// A place where a fixed number of fibers meet, again and again: nobody goes on before all are there. As Python's
/// threading.Barrier, which std::barrier has no abort of. Fibers of one loop.
class Barrier {
 public:
  /// For `parties` fibers (at least 1, else it aborts with a sentence). `action`, if there is one, is called by the
  /// last one to come, before any goes on. It may wait; who comes meanwhile belongs to the next meeting, and who is
  /// cancelled meanwhile leaves, without keeping the others from going on. It must not wait at this Barrier.
  explicit Barrier(std::size_t parties, std::function<void()> action = {});
  Barrier(const Barrier&) = delete;
  Barrier& operator=(const Barrier&) = delete;
  ~Barrier();

  /// Waits until all parties are there. Returns in which place the caller came, 0 the first. Throws BrokenBarrier (at
  /// once when it is broken already); what the action throws, after breaking the barrier; and Cancelled: then the
  /// caller has not come, and the others go on waiting.
  std::size_t wait() { return wait_limited(TimePoint::max()); }
  /// The same; when the limit runs out the barrier is broken for all, the caller included.
  template <class Rep, class Period>
  std::size_t wait_for(const std::chrono::duration<Rep, Period>& limit) {
    return wait_limited(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  std::size_t wait_until(const std::chrono::time_point<C, D>& when) {
    return wait_limited(detail::loop_time(when));
  }

  /// Breaks it: all who wait, and all who come later, get BrokenBarrier. Does not wait.
  void abort() noexcept;
  /// Makes it as new. Who waits gets BrokenBarrier. Does not wait.
  void reset() noexcept;

  [[nodiscard]] bool broken() const noexcept { return broken_; }
  [[nodiscard]] std::size_t parties() const noexcept { return parties_; }
  /// How many have come and wait for the others.
  [[nodiscard]] std::size_t waiting() const noexcept { return waiters_.size(); }

 private:
  struct Link;

  std::size_t wait_limited(TimePoint until);
  [[noreturn]] void break_for_timeout();
  std::size_t meet();
  void act();
  void let_go(bool broken) noexcept;
  static void describe_meeting(const detail::WaitLink& link, std::string& text);
  static void describe_action(const detail::WaitLink& link, std::string& text);

  detail::LoopBound bound_;
  const std::size_t parties_;
  const std::function<void()> action_;
  std::uint64_t meetings_ = 0;
  bool broken_ = false;
  bool acting_ = false;
  detail::WaitList waiters_;
  detail::WaitList next_meeting_;  // who came while the action of this one waited
};

}  // namespace bight
