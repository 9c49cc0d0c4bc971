// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>

namespace bight::detail {

/// ThreadSanitizer puts off the handler of a signal until the fiber that it came to is next in, or leaves, a libc
/// function that the sanitizer has replaced. So one is called before a fiber is left, and before a loop waits in a
/// system call that the sanitizer does not know: else the signal is lost for as long as that fiber waits. One that
/// comes in the instant between still is.
inline void run_put_off_signals() noexcept {
#if defined(BIGHT_TSAN)
  ::timespec unused{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &unused);
#endif
}

}  // namespace bight::detail
