// SPDX-License-Identifier: Apache-2.0
#include <bight/stop.hpp>

#include <string>

#include <bight/error.hpp>

#include "loop.hpp"

namespace bight {

namespace {

using detail::Loop;

constexpr detail::ParkingKind kWaitForStop{
    [](detail::Parking& waiting) noexcept {
      waiting.fiber->loop->stop_waiters().remove(waiting);
      waiting.fiber->loop->make_ready(*waiting.fiber);
    },
    [](const detail::Parking&, std::string& text) { text += "a request to stop"; }};

}  // namespace

void request_stop() noexcept { Loop::require().request_stop(); }

bool stop_requested() noexcept { return Loop::require().stop_requested(); }

void wait_for_stop() {
  Loop& loop = Loop::require();
  detail::FiberControl& self = loop.require_fiber();
  if (self.cancel_pending()) throw Cancelled{};
  if (loop.stop_requested()) return;
  detail::Parking parking(self, kWaitForStop);
  loop.stop_waiters().push(parking);
  loop.park(parking);
  if (parking.interrupted) throw Cancelled{};
}

}  // namespace bight
