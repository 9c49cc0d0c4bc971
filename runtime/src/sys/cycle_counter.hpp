// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace bight::detail::sys {

/// Whether there is a counter that is cheaper to read than the clock (10 ns against 23) and never slower than 1 GHz.
#if defined(__x86_64__)
inline constexpr bool kHasCycleCounter = true;
[[nodiscard]] inline std::uint64_t cycles() noexcept { return __rdtsc(); }
#else
inline constexpr bool kHasCycleCounter = false;
[[nodiscard]] inline std::uint64_t cycles() noexcept { return 0; }
#endif

}  // namespace bight::detail::sys
