// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <bight/time.hpp>

namespace bight::detail {

/// One entry of the loop's timer wheel, owned by whoever waits (usually a frame on a parked fiber's stack). The owner
/// disarms it before it goes away; a timer that has fired is no longer armed.
struct Timer {
  using Fire = void (*)(Timer&) noexcept;

  explicit Timer(Fire on_fire) noexcept : fire(on_fire) {}
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  [[nodiscard]] bool armed() const noexcept { return place != kIdle; }

  static constexpr std::uint32_t kIdle = 0xffffffff;

  Fire fire;
  Timer* previous = nullptr;
  Timer* next = nullptr;
  Timer* child = nullptr;  // in the near heap only
  TimePoint deadline{};
  std::uint64_t sequence = 0;   // breaks ties: equal deadlines fire in the order in which they were armed
  std::uint32_t place = kIdle;  // which wheel slot, or where in the near heap: see timers.hpp
};

}  // namespace bight::detail
