// SPDX-License-Identifier: Apache-2.0
#pragma once

// What this build makes slower, larger or impossible.

namespace bight::test {

#if defined(BIGHT_ASAN)
inline constexpr bool address_sanitized = true;
#else
inline constexpr bool address_sanitized = false;
#endif

/// Then every fiber counts as a thread, of which there can be 8128, and all takes ten to fifty times as long.
#if defined(BIGHT_TSAN)
inline constexpr bool thread_sanitized = true;
#else
inline constexpr bool thread_sanitized = false;
#endif

/// Then frames, stacks (four times) and resident memory are larger.
inline constexpr bool sanitized = address_sanitized || thread_sanitized;

/// `full` of something, or fewer where more would take too long.
constexpr int this_many(int full, int fewer) { return sanitized ? fewer : full; }

}  // namespace bight::test
