// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bight::detail {

// A std::mutex that is held across a wait is a deadlock to come: the next fiber that locks it blocks the thread, and
// with it the one that could unlock it. In debug builds (BIGHT_DEBUG: no optimization, no sanitizer) the program's
// calls to pthread_mutex_lock and its kin therefore pass through mutex_watch.cpp, which counts them per thread, and a
// fiber that waits, yields or ends with more of them held than when the loop let fibers run aborts with a sentence.
//
// Counted are mutexes that the program and its shared libraries lock through the dynamic linker. What libc locks for
// itself never is, nor are reader-writer locks, spin locks, std::call_once and C11's mtx_t.

#if defined(BIGHT_DEBUG)
inline constexpr bool kWatchMutexes = true;
#else
inline constexpr bool kWatchMutexes = false;  // and what follows is not defined
#endif

/// How many the calling thread has locked and not unlocked; a recursive one counts as often as it is locked.
[[nodiscard]] int mutexes_held() noexcept;
/// Says where, and aborts.
[[noreturn]] void refuse_held_mutex() noexcept;

}  // namespace bight::detail
