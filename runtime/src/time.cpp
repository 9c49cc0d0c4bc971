// SPDX-License-Identifier: Apache-2.0
#include <bight/time.hpp>

#include <cstdio>

#include <bight/error.hpp>

#include "loop.hpp"

namespace bight {
namespace {

using detail::Loop;

struct SleepParking : detail::Parking, detail::Timer {
  static const detail::ParkingKind kKind;
  explicit SleepParking(detail::FiberControl& who) noexcept
      : Parking(who, kKind), Timer([](Timer& timer) noexcept {
          detail::FiberControl& sleeper = *static_cast<SleepParking&>(timer).fiber;
          sleeper.loop->make_ready(sleeper);
        }) {}
};

const detail::ParkingKind SleepParking::kKind{
    [](Parking& parking) noexcept {
      Loop& loop = *parking.fiber->loop;
      loop.timers().disarm(static_cast<SleepParking&>(parking));
      loop.make_ready(*parking.fiber);
    },
    [](const Parking& parking, std::string& text) {
      const auto& self = static_cast<const SleepParking&>(parking);
      char line[64];
      const double left = std::chrono::duration<double>(self.deadline - self.fiber->loop->now()).count();
      std::snprintf(line, sizeof line, "a time %.3f s from now", left);
      text += line;
    }};

}  // namespace

TimePoint now() noexcept {
  const Loop* loop = Loop::current();
  return loop != nullptr ? loop->now() : std::chrono::time_point_cast<Duration>(Clock::now());
}

void sleep_until(TimePoint when) {
  Loop& loop = Loop::require();
  detail::FiberControl& self = loop.require_fiber();
  if (self.cancel_pending()) throw Cancelled{};
  if (when <= loop.now()) {
    loop.pass();
    return;
  }
  SleepParking parking(self);
  loop.timers().arm(parking, when);
  loop.park(parking);
  if (parking.interrupted) throw Cancelled{};
}

void sleep_for(Duration duration) { sleep_until(detail::saturating_add(now(), duration)); }

}  // namespace bight
