// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

#include <bight/stats.hpp>
#include <bight/time.hpp>

namespace bight::detail {

/// A loop's pulse in memory that a supervisor watches. It is the loop's own turns that beat: there is no timer, so an
/// idle loop sleeps undisturbed, and two plain stores a turn are all the cost.
class LoopBeat {
 public:
  LoopBeat(std::atomic<std::uint64_t>& beat, LoopStats& stats) noexcept : beat_(beat), stats_(stats) {}

  /// Fibers get their turn.
  void turn() noexcept { beat_.store(count_ = (count_ + 1) | 1U, std::memory_order_relaxed); }
  /// The loop is going to wait for the system, where nothing can hang it.
  void rest() noexcept { beat_.store(count_ = (count_ | 1U) + 1, std::memory_order_relaxed); }

  static constexpr Duration kStatsPeriod = std::chrono::milliseconds(100);
  [[nodiscard]] bool stats_due(TimePoint time) noexcept {
    if (time < stats_due_) return false;
    stats_due_ = time + kStatsPeriod;
    return true;
  }
  void publish(const LoopStats& stats) noexcept { stats_ = stats; }

 private:
  std::atomic<std::uint64_t>& beat_;
  LoopStats& stats_;
  std::uint64_t count_ = 0;
  TimePoint stats_due_{};
};

}  // namespace bight::detail
