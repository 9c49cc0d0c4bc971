// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include <bight/time.hpp>

namespace bight::detail {

/// Whether to spin for a while before sleeping in the kernel. Waking a thread that sleeps on another core costs some
/// 5 µs, on a virtual machine 50; then spinning wins if the answer is near. On the same core it costs 2 µs; then who
/// spins only keeps away whom it waits for. Which it is depends on where the scheduler puts threads, on the load, and
/// on how long what is waited for takes; so both ways are timed, and the cheaper one is taken. One thread's, or
/// protected by a lock.
class SpinJudge {
 public:
  /// The longest that a spin may take.
  static constexpr Duration kBudget = std::chrono::microseconds(50);

  [[nodiscard]] bool worth_it() noexcept {
    if (spinning_ <= sleeping_) return true;
    // Now and then it is tried again, unless waits take so long that it can not help.
    if (sleeping_ >= kTooLong || ++since_try_ < try_every_) return false;
    since_try_ = 0;
    try_every_ = std::min<std::uint32_t>(2 * try_every_, 1024);
    return true;
  }
  /// Spinning, what was waited for came after so long.
  void hit(Duration time) noexcept {
    note(spinning_, time);
    if (spinning_ <= sleeping_) try_every_ = kTryFirst;
  }
  /// The spin was in vain: what it burnt counts, too.
  void miss() noexcept { note(spinning_, kMost); }
  /// A sleep, without a spin before it, took so long until it was ended by what was waited for.
  void slept(Duration time) noexcept { note(sleeping_, time); }

 private:
  static constexpr Duration kMost = 4 * kBudget;  // one wait among many that takes much longer says nothing
  static constexpr Duration kTooLong = 3 * kBudget;
  static constexpr std::uint32_t kTryFirst = 32;

  static void note(Duration& average, Duration time) noexcept { average += (std::min(time, kMost) - average) / 8; }

  Duration spinning_{0};        // both are moving averages
  Duration sleeping_{kBudget};  // until it is known
  std::uint32_t since_try_ = 0;
  std::uint32_t try_every_ = kTryFirst;
};

}  // namespace bight::detail
