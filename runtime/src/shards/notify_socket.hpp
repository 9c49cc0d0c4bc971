// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include <bight/fd.hpp>
#include <bight/time.hpp>

namespace bight::detail {

/// Where a service manager wants to hear how the service does: sd_notify(3)'s protocol, a datagram of VARIABLE=value
/// lines to the Unix socket that NOTIFY_SOCKET names ('@' at the front: an abstract one). Does nothing without one;
/// whoever does not listen is no reason to stop.
class NotifySocket {
 public:
  /// `upgraded`: WATCHDOG_PID names the predecessor.
  explicit NotifySocket(bool upgraded) noexcept;

  void send(std::string_view lines) const noexcept;
  /// How often WATCHDOG=1 is expected; zero: never.
  [[nodiscard]] Duration watchdog() const noexcept { return watchdog_; }
  void close() noexcept { socket_.reset(); }

 private:
  Fd socket_;
  std::string path_;
  Duration watchdog_{0};
};

/// For RELOADING=1: the monotonic clock, "MONOTONIC_USEC=1234".
[[nodiscard]] std::string monotonic_usec();

}  // namespace bight::detail
