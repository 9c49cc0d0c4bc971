// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>

namespace bight::detail {

/// Threads that the runtime has started (offload, watchdogs): what they may hold at a fork is taken care of.
inline constinit std::atomic<std::size_t> own_threads{0};

/// In such a thread's frame.
class OwnThread {
 public:
  OwnThread() noexcept { own_threads.fetch_add(1, std::memory_order_relaxed); }
  OwnThread(const OwnThread&) = delete;
  OwnThread& operator=(const OwnThread&) = delete;
  ~OwnThread() { own_threads.fetch_sub(1, std::memory_order_relaxed); }
};

}  // namespace bight::detail
