// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

#include "fork_guard.hpp"

namespace bight::detail {

/// A T that each process has its own one of: after a fork the child starts with a new one. The parent's, in which
/// threads and fibers may wait that are not there, is forgotten without being destroyed; so T should not own much.
template <class T>
class PerProcess {
 public:
  PerProcess() : made_(done(forks_so_far())) { ::new (static_cast<void*>(memory_)) T(); }
  PerProcess(const PerProcess&) = delete;
  PerProcess& operator=(const PerProcess&) = delete;
  ~PerProcess() { get().~T(); }

  /// From any thread.
  [[nodiscard]] T& get() noexcept {
    if (made_.load(std::memory_order_acquire) != done(forks_so_far())) [[unlikely]]
      make_anew();
    return *std::launder(reinterpret_cast<T*>(memory_));
  }

 private:
  // Of each process two values: it is being made, it is there. Those of a parent's are others.
  static std::uint64_t done(std::uint64_t forks) noexcept { return 2 * forks + 1; }

  void make_anew() noexcept {
    const std::uint64_t wanted = done(forks_so_far());
    std::uint64_t seen = made_.load(std::memory_order_acquire);
    while (seen != wanted) {
      if (seen != wanted - 1 && made_.compare_exchange_weak(seen, wanted - 1, std::memory_order_acq_rel)) {
        ::new (static_cast<void*>(memory_)) T();
        made_.store(wanted, std::memory_order_release);
        return;
      }
      if (seen == wanted - 1) ::sched_yield();  // another thread is at it
      seen = made_.load(std::memory_order_acquire);
    }
  }

  std::atomic<std::uint64_t> made_;
  alignas(T) std::byte memory_[sizeof(T)];
};

}  // namespace bight::detail
