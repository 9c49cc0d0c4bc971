// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <system_error>

#include <bight/deadline.hpp>
#include <bight/time.hpp>

namespace bight {
class Socket;
}

namespace bight::detail {

/// What a copy has come to.
struct CopyProgress {
  std::uint64_t limit = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t copied = 0;  // taken by the other side
  bool over = false;         // `from` has ended
  Deadline* idle = nullptr;  // is put off whenever something moves
  Duration idle_limit{};

  [[nodiscard]] std::uint64_t left() const noexcept { return limit - copied; }
  [[nodiscard]] bool goes_on(const std::error_code& error) const noexcept { return !error && !over && left() != 0; }
  void moved() const noexcept {
    if (idle != nullptr) idle->reset(idle_limit);
  }
  void add(std::size_t count) noexcept {
    copied += count;
    moved();
  }
};

/// Moves bytes from one socket to the other until `from` ends, an error comes, or fewer than 64 KiB are left to be
/// moved; by splice(2) while large pieces come in a row, which then do not pass through this process. What has been
/// read and is not taken any more is lost.
void copy_sockets(Socket& from, Socket& to, CopyProgress& progress, std::error_code& error);

}  // namespace bight::detail
