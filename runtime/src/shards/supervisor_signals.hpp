// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <cstdint>

#include <bight/fd.hpp>

namespace bight::detail {

/// The signals the supervisor lives by, blocked and read as a descriptor. The mask and the disposition of SIGCHLD that
/// were there before come back at the end, and are given to the workers.
class SupervisorSignals {
 public:
  /// Throws std::system_error.
  SupervisorSignals();
  ~SupervisorSignals();
  SupervisorSignals(const SupervisorSignals&) = delete;
  SupervisorSignals& operator=(const SupervisorSignals&) = delete;

  void restore() const noexcept;
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  void close() noexcept { fd_.reset(); }

  /// Those that have come, each once however often it came: bit n is signal n. Does not wait.
  [[nodiscard]] std::uint64_t take() const noexcept;

 private:
  sigset_t mask_{};
  sigset_t before_{};
  struct sigaction child_before_ {};
  Fd fd_;
};

[[nodiscard]] constexpr bool has_signal(std::uint64_t signals, int number) noexcept {
  return (signals >> static_cast<unsigned>(number) & 1U) != 0;
}

}  // namespace bight::detail
