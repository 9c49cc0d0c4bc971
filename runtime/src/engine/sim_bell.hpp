// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <system_error>

#include <bight/fd.hpp>

namespace bight::detail {

/// What other threads and signal handlers ring.
class SimBell {
 public:
  SimBell() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (!fd_) throw std::system_error(errno, std::generic_category(), "make the sim engine: eventfd");
  }

  void ring() noexcept {
    if (rung_.exchange(true)) return;
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(fd_.get(), &one, sizeof one);
  }

  /// Whether it has been rung since the last time.
  [[nodiscard]] bool answer() noexcept {
    if (!rung_.load(std::memory_order_relaxed)) return false;
    silence();
    return rung_.exchange(false);
  }

  /// Sleeps, in real time, until it rings. May return early.
  void wait() noexcept {
    ::pollfd waited{fd_.get(), POLLIN, 0};
    ::poll(&waited, 1, -1);
    silence();
    rung_.store(false);
  }

 private:
  /// Before rung_ is cleared: whoever rings after that writes again. A ring that comes between is not lost, for the
  /// caller returns from wait() either way, and the loop looks at everything anew.
  void silence() noexcept {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto read = ::read(fd_.get(), &count, sizeof count);
  }

  Fd fd_;
  std::atomic<bool> rung_{false};
};

}  // namespace bight::detail
