// SPDX-License-Identifier: Apache-2.0
#include "fork_guard.hpp"

#include <pthread.h>

#include <atomic>

namespace bight::detail {

void forget_loop_in_forked_children(void (*forget)()) noexcept {
  [[maybe_unused]] static const int registered = ::pthread_atfork(nullptr, nullptr, forget);
}

std::uint32_t forks_so_far() noexcept {
  static std::atomic<std::uint32_t> forks{0};
  [[maybe_unused]] static const int registered =
      ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
  return forks.load(std::memory_order_relaxed);
}

std::mutex& fork_mutex() noexcept {
  static constinit std::mutex mutex;  // never destroyed in effect: it needs no destructor
  [[maybe_unused]] static const int registered =
      ::pthread_atfork([] { mutex.lock(); }, [] { mutex.unlock(); }, [] { mutex.unlock(); });
  return mutex;
}

}  // namespace bight::detail
