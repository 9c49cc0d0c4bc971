// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

namespace bight {

/// The clock of every deadline: monotonic, nanoseconds. Setting the machine's wall clock changes nothing here. Under
/// the sim engine it is virtual: it stands still while fibers run and jumps to the next timer when all of them wait.
using Clock = std::chrono::steady_clock;
using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<Clock, Duration>;

/// The loop's time now. May also be called outside a loop (then it is the real clock). About 25 ns.
[[nodiscard]] TimePoint now() noexcept;

/// Parks the calling fiber until `when`, or for `duration`; never wakes early. A time that has passed is a yield.
/// Sleepers with equal times wake in the order in which they went to sleep. Throws Cancelled. O(1).
void sleep_until(TimePoint when);
void sleep_for(Duration duration);

namespace detail {

/// Adds without overflowing: a deadline too far away to be represented is TimePoint::max(), which never comes.
[[nodiscard]] constexpr TimePoint saturating_add(TimePoint base, Duration duration) noexcept {
  if (duration > Duration::zero() && base > TimePoint::max() - duration) return TimePoint::max();
  return base + duration;
}

/// Any duration in nanoseconds: rounded up, for nothing may end early, and the longest there is when it is longer.
template <class Rep, class Period>
[[nodiscard]] constexpr Duration saturating_duration(const std::chrono::duration<Rep, Period>& duration) noexcept {
  using Seconds = std::chrono::duration<double>;
  if (Seconds(duration) >= Seconds(Duration::max())) return Duration::max();
  if (Seconds(duration) <= Seconds(Duration::min())) return Duration::min();
  return std::chrono::ceil<Duration>(duration);
}

}  // namespace detail
}  // namespace bight
