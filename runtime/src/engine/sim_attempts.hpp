// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <climits>
#include <cstddef>
#include <cstdint>
#include <span>

#include "buffers.hpp"
#include "engine/op.hpp"
#include "engine/sim_world.hpp"

namespace bight::detail {

/// Tries operations: what the system calls of their names would do to a non-blocking socket.
class SimAttempts {
 public:
  static constexpr int kWait = kSimWait;

  SimAttempts(SimWorld& world, BufferPool& buffers) noexcept
      : world_(world), core_(world.core), net_(world.net), buffers_(buffers) {}

  /// The operation's result, or kWait.
  [[nodiscard]] int attempt(SimSocket& socket, Op& op);

 private:
  [[nodiscard]] int attempt_messages(SimSocket& socket, Op& op);
  [[nodiscard]] int receive_message(SimSocket& socket, ::msghdr& message, int flags);
  [[nodiscard]] int send_message(SimSocket& socket, const ::msghdr& message);
  [[nodiscard]] int transfer_many(SimSocket& socket, const Op& op);
  [[nodiscard]] int lend_message(SimSocket& socket, Op& op);
  [[nodiscard]] int attempt_pipe(SimSocket& socket, Op& op);
  [[nodiscard]] int read_pipe(SimPipe& pipe, std::span<std::byte> buffer);
  [[nodiscard]] int write_pipe(SimPipe& pipe, std::span<const std::byte> data);
  [[nodiscard]] int receive(SimSocket& socket, std::span<std::byte> buffer, bool peeks = false);
  [[nodiscard]] int receive_lent(SimSocket& socket, Op& op);
  [[nodiscard]] int send(SimSocket& socket, std::span<const ::iovec> pieces);
  [[nodiscard]] int accept(SimSocket& socket);
  [[nodiscard]] int accept_fault(SimSocket& socket);
  [[nodiscard]] int connect(SimSocket& socket, Op& op);
  [[nodiscard]] int begin_connect(SimSocket& socket, const Op& op);
  [[nodiscard]] int failed_connect(SimSocket& socket) noexcept;
  [[nodiscard]] std::size_t shorten(std::size_t count, double probability, std::uint64_t& counter) noexcept;

  SimWorld& world_;
  SimCore& core_;
  SimNet& net_;
  BufferPool& buffers_;
  TimePoint exhausted_until_{};
};

}  // namespace bight::detail
