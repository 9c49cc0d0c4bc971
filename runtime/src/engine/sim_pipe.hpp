// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <climits>
#include <cstddef>

#include "engine/sim_bytes.hpp"

namespace bight::detail {

struct SimSocket;

/// What is between the two ends of a pipe: pipe(7).
struct SimPipe {
  static constexpr std::size_t kCapacity = 64 * 1024;

  [[nodiscard]] std::size_t room() const noexcept { return kCapacity - bytes.size(); }
  /// Whether a write of `size` bytes may begin: up to PIPE_BUF they go in one piece.
  [[nodiscard]] bool accepts(std::size_t size) const noexcept {
    return room() > 0 && (size > PIPE_BUF || size <= room());
  }

  SimBytes bytes;
  SimSocket* reader = nullptr;  // null: closed
  SimSocket* writer = nullptr;
};

}  // namespace bight::detail
