// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <ctime>

namespace bench::load {

using Nanoseconds = std::uint64_t;  // on CLOCK_MONOTONIC when it names a moment

inline constexpr Nanoseconds kSecond = 1'000'000'000;

inline Nanoseconds now() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<Nanoseconds>(time.tv_sec) * kSecond + static_cast<Nanoseconds>(time.tv_nsec);
}

inline Nanoseconds nanoseconds(double seconds) { return static_cast<Nanoseconds>(seconds * 1e9); }

// How long from `start` to `end`, for the calls that want a timespec; nothing when it is over.
inline timespec between(Nanoseconds start, Nanoseconds end) {
  const Nanoseconds left = end > start ? end - start : 0;
  return {.tv_sec = static_cast<time_t>(left / kSecond), .tv_nsec = static_cast<long>(left % kSecond)};
}

}  // namespace bench::load
