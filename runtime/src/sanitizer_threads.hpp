// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace bight::detail {

/// Threads that a program has without having started them.
#if defined(BIGHT_TSAN)
inline constexpr std::size_t sanitizer_threads = 1;  // in the background
#else
inline constexpr std::size_t sanitizer_threads = 0;
#endif

}  // namespace bight::detail
