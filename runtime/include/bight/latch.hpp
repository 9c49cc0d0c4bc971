// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <utility>

#include <bight/event.hpp>

namespace bight {

/// Opens once, after so many count_down(); std::latch for the fibers of one loop. It may be destroyed right after the
/// last count_down(), while those it woke have yet to run.
class Latch {
 public:
  /// Aborts with a sentence if `expected` is negative. With 0 it is open.
  explicit Latch(std::ptrdiff_t expected);

  /// Aborts with a sentence when it would count below zero. Does not wait. May be called from callbacks.
  void count_down(std::ptrdiff_t by = 1) noexcept;
  [[nodiscard]] bool try_wait() const noexcept { return open_.is_set(); }
  /// Waits until it is open. Throws Cancelled.
  void wait() { open_.wait(); }
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& limit) {
    return open_.wait_for(limit);
  }
  template <class C, class D>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<C, D>& when) {
    return open_.wait_until(when);
  }
  void arrive_and_wait(std::ptrdiff_t by = 1) {
    count_down(by);
    wait();
  }

  /// A case of select(), see there.
  template <class F>
  [[nodiscard]] auto on_open(F&& handler) {
    return open_.on_set(std::forward<F>(handler));
  }
  /// For wait_any and its kin.
  [[nodiscard]] bool is_set() const noexcept { return open_.is_set(); }
  [[nodiscard]] detail::WaitList& waiters() noexcept { return open_.waiters(); }

 private:
  std::ptrdiff_t left_;
  Event open_;
};

}  // namespace bight
