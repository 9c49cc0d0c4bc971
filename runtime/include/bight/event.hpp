// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Flags that fibers of one loop wait for. For threads: SharedEvent.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <bight/detail/loop_bound.hpp>
#include <bight/detail/select_case.hpp>
#include <bight/detail/wait_list.hpp>
#include <bight/time.hpp>

namespace bight {

/// A flag that stays up until it is taken down. set() wakes all who wait, in the order in which they came, and they
/// have been woken even if clear() follows at once.
///
/// All but the waits may also be called from callbacks, and where there is no loop. An Event may be destroyed right
/// after set(), while those it woke have yet to run; while fibers wait that aborts with a sentence. Waiting is O(1),
/// set() is O(waiters).
class Event {
 public:
  constexpr Event() noexcept = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event();

  void set() noexcept;
  void clear() noexcept { set_ = false; }
  [[nodiscard]] bool is_set() const noexcept { return set_; }

  /// Returns when the flag is up, or was up at any time while waiting. When it is up, returns at once; but after
  /// earlier waiters who have been woken and have yet to run. Throws Cancelled if it has to wait.
  void wait() {
    if (!is_open()) [[unlikely]]
      wait_slow(TimePoint::max());
  }
  /// The same for `limit` at most. Whether the flag was up.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& limit) {
    return is_open() || wait_slow(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<C, D>& when) {
    return is_open() || wait_slow(detail::loop_time(when));
  }

  /// How many fibers wait.
  [[nodiscard]] std::size_t waiting() const noexcept { return waiters_.size(); }

  /// A case of select(), see there.
  template <class F>
  [[nodiscard]] auto on_set(F&& handler) {
    return detail::FlagCase<Event&, std::decay_t<F>>(*this, std::forward<F>(handler));
  }
  /// For select and wait_any.
  [[nodiscard]] detail::WaitList& waiters() noexcept {
    bound_.enter();
    return waiters_;
  }

 private:
  [[nodiscard]] bool is_open() const noexcept { return set_ && mark_ == 0 && bound_.here(); }
  bool wait_slow(TimePoint until);
  void let_earlier_ones_pass() noexcept;

  detail::LoopBound bound_;
  bool set_ = false;
  std::uint64_t mark_ = 0;  // behind those that set() woke, in the run queue; 0: they have run
  detail::WaitList waiters_;
};

/// A flag that goes down with the first who passes. set() lets one waiter through, the one that has waited longest, or
/// else the next one to come; setting it again before that changes nothing.
class AutoResetEvent {
 public:
  constexpr AutoResetEvent() noexcept = default;
  AutoResetEvent(const AutoResetEvent&) = delete;
  AutoResetEvent& operator=(const AutoResetEvent&) = delete;
  ~AutoResetEvent();

  void set() noexcept;
  void clear() noexcept { set_ = false; }
  [[nodiscard]] bool is_set() const noexcept { return set_; }

  /// Takes the flag down, waits for it if it is not up. Throws Cancelled, having taken nothing.
  void wait() {
    if (!try_wait()) wait_slow(TimePoint::max());
  }
  /// Does not wait. Whether it was up, and has been taken down.
  [[nodiscard]] bool try_wait() noexcept {
    const bool passed = set_;
    set_ = false;
    return passed;
  }
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& limit) {
    return try_wait() || wait_slow(detail::limit_from_now(detail::saturating_duration(limit)));
  }
  template <class C, class D>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<C, D>& when) {
    return try_wait() || wait_slow(detail::loop_time(when));
  }
  [[nodiscard]] std::size_t waiting() const noexcept { return waiters_.size(); }

  /// A case of select(), see there; the flag is taken down when it is chosen.
  template <class F>
  [[nodiscard]] auto on_set(F&& handler) {
    return detail::FlagCase<AutoResetEvent&, std::decay_t<F>>(*this, std::forward<F>(handler));
  }
  void consume() noexcept { set_ = false; }  // for select
  [[nodiscard]] detail::WaitList& waiters() noexcept {
    bound_.enter();
    return waiters_;
  }

 private:
  bool wait_slow(TimePoint until);

  detail::LoopBound bound_;
  bool set_ = false;
  detail::WaitList waiters_;
};

}  // namespace bight
