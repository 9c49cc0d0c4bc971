// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bight/time.hpp>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace bight::detail {

/// Whether this process may use more than one processor; on one, who spins only keeps away whom it waits for.
[[nodiscard]] bool can_spin() noexcept;

/// Tells the processor that this is a spin.
inline void spin_pause() noexcept {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Spins until `over()` or, about, until `until`. Whether it was over.
template <class Over>
[[nodiscard]] bool spin_until(TimePoint until, Over&& over) noexcept {
  constexpr int kLooks = 16;  // between two looks at the clock
  for (;;) {
    for (int i = 0; i < kLooks; ++i) {
      if (over()) return true;
      spin_pause();
    }
    if (Clock::now() >= until) return over();
  }
}

}  // namespace bight::detail
