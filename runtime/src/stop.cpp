// SPDX-License-Identifier: Apache-2.0
#include <bight/stop.hpp>

#include <string>

#include <bight/error.hpp>
#include <bight/this_shard.hpp>

#include "loop.hpp"

namespace bight {

namespace {

using detail::Loop;

void describe_stop(const detail::WaitLink&, std::string& text) { text += "a request to stop"; }

}  // namespace

void request_stop() noexcept { Loop::require().request_stop(); }

bool stop_requested() noexcept { return Loop::require().stop_requested(); }

void wait_for_stop() {
  Loop& loop = Loop::require();
  detail::FiberControl& self = loop.require_fiber();
  this_shard::ready();
  if (self.cancel_pending()) throw Cancelled{};
  if (loop.stop_requested()) return;
  detail::WaitLink link;
  detail::wait_or_throw(loop.stop_waiters(), link, describe_stop);
}

}  // namespace bight
