// SPDX-License-Identifier: Apache-2.0
#pragma once

/// Orderly ends. A stop is requested once per loop: by SIGTERM or SIGINT (RunOptions::stop_on_signals), by the shard
/// supervisor, or by request_stop(). Those who serve wait for it, finish what they have begun, and return.

#include <bight/detail/fiber_control.hpp>

namespace bight {

/// Requests the stop. Call on the loop's thread. Harmless when repeated.
void request_stop() noexcept;

/// Whether a stop has been requested.
[[nodiscard]] bool stop_requested() noexcept;

/// Parks until a stop is requested. Throws Cancelled.
void wait_for_stop();

}  // namespace bight
