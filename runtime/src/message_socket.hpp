// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include <bight/connection.hpp>
#include <bight/fd.hpp>

// Messages through a SOCK_SEQPACKET socket, without waiting. What Connection and ProcessQueue have in common.
//
// On the wire: four bytes (what follows, how many descriptors the sender added, two zeros), then the bytes themselves,
// or, for what is large, their number, with a memfd as the last descriptor.

namespace bight::detail {

enum class MessageKind : std::uint8_t { whole = 'b', in_memory = 'm' };

struct MessageHeader {
  MessageKind kind;
  std::uint8_t fds;  // the sender's own
  std::uint16_t zero;
};
static_assert(sizeof(MessageHeader) == 4);

/// SOCK_SEQPACKET, both close-on-exec.
[[nodiscard]] std::pair<Fd, Fd> make_message_sockets(std::error_code& error) noexcept;

/// A message ready to be sent: whatever it needs has been made, so that it can be tried again.
class OutgoingMessage {
 public:
  /// `bytes` and `fds` must stay. The error: not_enough_memory and the like, argument_list_too_long.
  OutgoingMessage(std::span<const std::byte> bytes, std::span<const int> fds, std::error_code& error);

  /// Whether it has been sent. Without an error: there is no room now.
  [[nodiscard]] bool try_send(int socket, std::error_code& error);
  /// How many bytes it takes in the socket.
  [[nodiscard]] std::size_t wire_size() const noexcept;

 private:
  void put_into_memory(std::error_code& error);

  std::span<const std::byte> bytes_;
  std::span<const int> fds_;
  Fd memory_;
};

/// What came of a look at a socket.
enum class Arrival : unsigned char { message, nothing, end, failed };

/// Receives messages into a buffer of its own.
class IncomingBuffer {
 public:
  /// One receive, which points into itself.
  struct Look {
    Look() noexcept {}  // NOLINT(modernize-use-equals-default): what the kernel fills in is not cleared before
    Look(const Look&) = delete;
    Look& operator=(const Look&) = delete;

    MessageHeader header;
    std::array<::iovec, 2> pieces;
    alignas(::cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(int) * (connection_fds_max + 1))> control;
    ::msghdr message;
    std::unique_ptr<std::byte[]> buffer;  // lent: others may look while this one is under way
  };

  /// Takes the next message if there is one. `received.bytes` are good until the next call.
  [[nodiscard]] Arrival try_receive(int socket, std::size_t message_max, Received& received, std::error_code& error);
  /// In two steps: has `look` receive into the buffer, by somebody else's recvmsg(2), and takes what that has brought:
  /// its result, or -errno.
  void prepare(Look& look);
  [[nodiscard]] Arrival finish(Look& look, std::ptrdiff_t result, std::size_t message_max, Received& received,
                               std::error_code& error);

 private:
  std::unique_ptr<std::byte[]> buffer_;
};

}  // namespace bight::detail
