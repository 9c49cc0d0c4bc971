// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <system_error>
#include <utility>

#include <sys/socket.h>
#include <sys/uio.h>

#include <bight/chunk.hpp>
#include <bight/descriptor.hpp>

namespace bight {

/// A socket on this thread's loop: the system calls of its name, except that they park the fiber instead of the thread.
/// Knows no address family; net/ builds TCP on it. The lowest layer, so it has the std::error_code forms only; they
/// never throw. What Descriptor says of threads, of cancellation, of closing and of timeouts holds here. Out of memory
/// for what the loop keeps of each descriptor is not_enough_memory, and the new connection or socket is closed. Data
/// that was moved before is never dropped: it is reported as success, and the next call fails.
class Socket : public Descriptor {
 public:
  Socket() noexcept = default;
  /// Takes over a descriptor: from here on it is closed by this object, through this loop.
  explicit Socket(int fd);

  /// socket(2), close-on-exec, in the non-blocking state that the engine wants.
  [[nodiscard]] static Socket open(int domain, int type, int protocol, std::error_code& error);

  /// socketpair(2), likewise: two ends, connected to each other. Of AF_UNIX, as Linux has no others.
  [[nodiscard]] static std::pair<Socket, Socket> open_pair(int domain, int type, int protocol, std::error_code& error);

  // Data. All wait.

  /// At least one byte into `buffer`; 0: the peer has ended its side, or the buffer is empty.
  std::size_t read(std::span<std::byte> buffer, std::error_code& error);
  /// What there is, in a buffer of the loop's that is taken only when data has come.
  [[nodiscard]] Chunk read(std::error_code& error);
  /// Some of `data`, at least one byte.
  std::size_t write(std::span<const std::byte> data, std::error_code& error);
  /// All of it, or an error; the error does not tell how much went out.
  void write_all(std::span<const std::byte> data, std::error_code& error);
  /// All pieces in order, gathered into as few packets as may be. The array is used as scratch space.
  void write_all(std::span<::iovec> pieces, std::error_code& error);

  /// What the system takes of `data` at once; 0: nothing now, or a fiber is writing. Does not wait, nor mind
  /// cancellations: for last words, in destructors.
  std::size_t try_write(std::span<const std::byte> data, std::error_code& error) noexcept;

  /// For who reads by other means, as splice(2): on, and it returns true: what comes stays in the system until it is
  /// read, by whatever means. It returns false when something has been taken in already, or is just being: then read()
  /// first, and ask again. Off: as before.
  [[nodiscard]] bool set_direct(bool on) noexcept;

  // Messages: datagrams, and what comes with a stream's bytes. All wait. What a `message` names has to stay where it is
  // until the call returns.

  /// recvmsg(2): returns how many bytes came (of a datagram that did not fit into the pieces: with MSG_TRUNC among the
  /// flags, its true size; msg_flags tells that it was cut in any case). Descriptors that come along are close-on-exec,
  /// and the caller's to close. 0: an empty datagram, or a stream's end.
  std::size_t receive_message(::msghdr& message, int flags, std::error_code& error);
  /// sendmsg(2): returns how many bytes went out; a datagram goes whole or not at all.
  std::size_t send_message(const ::msghdr& message, std::error_code& error);
  /// recvmmsg(2), sendmmsg(2): many with one call. At least one, if there is no error; returns how many. Waits for the
  /// first one only. An error of a later one is told by the next call.
  std::size_t receive_messages(std::span<::mmsghdr> messages, std::error_code& error);
  std::size_t send_messages(std::span<::mmsghdr> messages, std::error_code& error);

  /// recvmsg(2) of the error queue (MSG_ERRQUEUE: ip(7), IP_RECVERR): the same, but never waits;
  /// resource_unavailable_try_again when it is empty. Under the sim engine it always is.
  std::size_t receive_error(::msghdr& message, std::error_code& error) noexcept;

  // Connections. accept and connect wait.

  [[nodiscard]] Socket accept(std::error_code& error);
  void connect(const ::sockaddr* address, ::socklen_t length, std::error_code& error);

  void bind(const ::sockaddr* address, ::socklen_t length, std::error_code& error) noexcept;
  /// unlink(2) of a Unix socket's path, which closing it leaves behind; not_a_socket: it is something else's.
  static void remove_name(const char* path, std::error_code& error) noexcept;
  void listen(int backlog, std::error_code& error) noexcept;
  /// SHUT_RD, SHUT_WR or SHUT_RDWR. Waiting readers and writers see its effect as the kernel has it: end of stream, or
  /// broken_pipe.
  void shutdown(int how, std::error_code& error) noexcept;
  void set_option(int level, int name, int value, std::error_code& error) noexcept;
  void set_option(int level, int name, const void* value, ::socklen_t size, std::error_code& error) noexcept;
  [[nodiscard]] int option(int level, int name, std::error_code& error) const noexcept;
  void option(int level, int name, void* value, ::socklen_t& size, std::error_code& error) const noexcept;
  /// getsockname, getpeername. Returns the length of what was put into `address`.
  ::socklen_t local_name(::sockaddr_storage& address, std::error_code& error) const noexcept;
  ::socklen_t peer_name(::sockaddr_storage& address, std::error_code& error) const noexcept;
};

}  // namespace bight
