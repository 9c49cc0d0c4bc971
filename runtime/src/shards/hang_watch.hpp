// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>

#include <bight/time.hpp>

namespace bight::detail {

/// Judges by a worker's pulse (WorkerSlot::beat) whether its loop hangs: it runs fibers, and the same turn lasts for
/// too long. Time counts in looks that followed each other as planned: when the supervisor itself was stopped, or the
/// machine asleep, a worker had no time to move either, so the watch begins anew.
class HangWatch {
 public:
  static constexpr int kLooks = 8;  // per limit

  /// Looks; `limit` is how long one turn may take. True: it hangs.
  [[nodiscard]] bool look(std::uint64_t beat, TimePoint time, Duration limit) noexcept;
  /// When to look next.
  [[nodiscard]] TimePoint next() const noexcept { return next_; }
  void start_over() noexcept { looks_ = 0; }

 private:
  std::uint64_t beat_ = 0;
  int looks_ = 0;
  TimePoint next_{};
};

/// Whether somebody has stopped the process or traces it: then it stands still for a reason that is none of ours.
[[nodiscard]] bool is_stopped_or_traced(pid_t pid) noexcept;

}  // namespace bight::detail
