// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "buffers.hpp"

namespace bight::detail {

/// The loop's receive buffers as a provided-buffer ring (io_uring_register_buf_ring(3)): the kernel takes one when data
/// has come.
class ReceiveRing {
 public:
  static constexpr std::uint16_t kGroup = 0;

  /// Hands all of the pool's buffers to the kernel. Empty, or why the engine can not work. A kernel that refuses the
  /// ring alone is no reason: available() is false then, and lent receives use buffers from the heap.
  [[nodiscard]] std::string init(io_uring& ring, BufferPool& buffers) noexcept;
  void close(io_uring& ring, BufferPool& buffers) noexcept;

  [[nodiscard]] bool available() const noexcept { return ring_ != nullptr; }

  /// Gives a buffer (back) to the kernel.
  void give(std::uint32_t id) noexcept;

 private:
  io_uring_buf_ring* ring_ = nullptr;
  std::size_t bytes_ = 0;
  int mask_ = 0;
  const BufferPool* buffers_ = nullptr;
};

}  // namespace bight::detail
