// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include <bight/time.hpp>

#include "loop.hpp"

namespace bight::detail {

/// When a limit that is counted from now ends. A look at the clock costs more than all the rest of setting a limit that
/// will not expire, so long limits are counted from the loop's last look at it, plus what may have passed since: they
/// end up to 1 % late, never early. Virtual time costs nothing to look at, and is exact.
[[nodiscard]] inline TimePoint end_of(Loop& loop, Duration limit) noexcept {
  constexpr Duration kLong = Loop::kRoughness * 100;
  if (limit < kLong || loop.engine_is_virtual()) return saturating_add(loop.now(), std::max(limit, Duration::zero()));
  return saturating_add(loop.rough_now() + Loop::kRoughness, limit);
}

}  // namespace bight::detail
