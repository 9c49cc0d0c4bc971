// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>

#include <bight/time.hpp>

namespace bight::detail {

/// Whether it pays to spin for a while before sleeping in the kernel. Waking a thread that sleeps on another core costs
/// some 5 µs, on a virtual machine 50; so where wake-ups have lately come sooner than that, spinning is both faster and
/// cheaper. Learns from how its advice turned out. One thread's, or protected by a lock.
class SpinJudge {
 public:
  /// The longest that a spin may take.
  static constexpr Duration kBudget = std::chrono::microseconds(50);

  [[nodiscard]] bool worth_it() const noexcept { return score_ > 0; }
  /// What was waited for came during the spin.
  void hit() noexcept { score_ = std::min(score_ + 1, kMost); }
  /// It did not.
  void miss() noexcept { score_ = std::max(score_ - 2, kLeast); }
  /// A sleep without a spin took so long. (Short includes the wake-up itself.)
  void slept(Duration time) noexcept {
    if (time < 2 * kBudget) hit();
  }

 private:
  static constexpr int kMost = 8;
  static constexpr int kLeast = -4;
  int score_ = 2;
};

}  // namespace bight::detail
