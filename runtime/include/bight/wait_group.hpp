// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <utility>

#include <bight/event.hpp>

namespace bight {

/// Go's sync.WaitGroup for the fibers of one loop: counts what is under way, and can be used again. Where the work is
/// fibers, a Scope or a Group does this and more.
class WaitGroup {
 public:
  WaitGroup() noexcept { none_.set(); }

  /// Counts up before the work begins, or down with a negative number. Aborts with a sentence below zero. Does not
  /// wait.
  void add(std::ptrdiff_t by = 1) noexcept;
  void done() noexcept { add(-1); }
  /// Waits until the count is, or meanwhile was, zero. Throws Cancelled.
  void wait() { none_.wait(); }
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(const std::chrono::duration<Rep, Period>& limit) {
    return none_.wait_for(limit);
  }
  template <class C, class D>
  [[nodiscard]] bool wait_until(const std::chrono::time_point<C, D>& when) {
    return none_.wait_until(when);
  }

  [[nodiscard]] std::ptrdiff_t count() const noexcept { return count_; }
  /// A case of select(), see there.
  template <class F>
  [[nodiscard]] auto on_zero(F&& handler) {
    return none_.on_set(std::forward<F>(handler));
  }
  /// For wait_any and its kin.
  [[nodiscard]] bool is_set() const noexcept { return none_.is_set(); }
  [[nodiscard]] detail::WaitList& waiters() noexcept { return none_.waiters(); }

 private:
  std::ptrdiff_t count_ = 0;
  Event none_;
};

}  // namespace bight
