// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <system_error>
#include <type_traits>
#include <utility>

#include <sys/socket.h>
#include <sys/uio.h>

#include <bight/chunk.hpp>
#include <bight/detail/readiness_case.hpp>
#include <bight/time.hpp>

namespace bight {

namespace detail {
struct FdState;
}

/// A socket on this thread's loop: the system calls of its name, except that they park the fiber instead of the thread.
/// Knows no address family; net/ builds TCP on it. The lowest layer, so it has the std::error_code forms only; they
/// never throw. Every one of them that waits reports operation_canceled when the fiber was cancelled (also when it
/// would not have had to wait), timed_out when the socket's timeout passed, bad_file_descriptor when the socket was
/// closed meanwhile. Out of memory for what the loop keeps of each descriptor is not_enough_memory, and the new
/// connection or socket is closed. Data that was moved before is never dropped: it is reported as success, and the next
/// call fails.
///
/// Move-only, owns the descriptor. Belongs to the loop it was made on. One fiber may read while another writes, but two
/// that read (or two that write) at a time are refused with device_or_resource_busy. A Socket may be closed, moved or
/// destroyed while fibers wait on it: they wake with bad_file_descriptor.
class Socket {
 public:
  Socket() noexcept = default;
  /// Takes over a descriptor: from here on it is closed by this object, through this loop.
  explicit Socket(int fd);
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)), state_(std::exchange(other.state_, nullptr)) {}
  Socket& operator=(Socket&& other) noexcept {
    Socket(std::move(other)).swap(*this);
    return *this;
  }
  ~Socket() { close(); }
  void swap(Socket& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(state_, other.state_);
  }

  /// socket(2), close-on-exec, in the non-blocking state that the engine wants.
  [[nodiscard]] static Socket open(int domain, int type, int protocol, std::error_code& error);

  [[nodiscard]] int fd() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }

  /// Wakes who waits on it, then closes. Does not wait. Harmless when closed.
  void close() noexcept;

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

  // Connections. accept and connect wait.

  [[nodiscard]] Socket accept(std::error_code& error);
  void connect(const ::sockaddr* address, ::socklen_t length, std::error_code& error);
  void wait_readable(std::error_code& error);
  void wait_writable(std::error_code& error);
  /// Cases of select(), see there. While it waits, the select is the one reader (or writer) of the socket. An error, as
  /// of a socket that is closed meanwhile, is thrown by select() as std::system_error; timeouts of the socket do not
  /// count.
  template <class F>
  [[nodiscard]] auto on_readable(F&& handler) {
    return detail::ReadinessCase<std::decay_t<F>>(fd_, state_, detail::Readiness::readable, std::forward<F>(handler));
  }
  template <class F>
  [[nodiscard]] auto on_writable(F&& handler) {
    return detail::ReadinessCase<std::decay_t<F>>(fd_, state_, detail::Readiness::writable, std::forward<F>(handler));
  }

  void bind(const ::sockaddr* address, ::socklen_t length, std::error_code& error) noexcept;
  void listen(int backlog, std::error_code& error) noexcept;
  /// SHUT_RD, SHUT_WR or SHUT_RDWR. Waiting readers and writers see its effect as the kernel has it: end of stream, or
  /// broken_pipe.
  void shutdown(int how, std::error_code& error) noexcept;
  void set_option(int level, int name, int value, std::error_code& error) noexcept;
  void set_option(int level, int name, const void* value, ::socklen_t size, std::error_code& error) noexcept;
  [[nodiscard]] int option(int level, int name, std::error_code& error) const noexcept;
  /// getsockname, getpeername. Returns the length of what was put into `address`.
  ::socklen_t local_name(::sockaddr_storage& address, std::error_code& error) const noexcept;
  ::socklen_t peer_name(::sockaddr_storage& address, std::error_code& error) const noexcept;

  /// How long one read (or accept), one write (or connect) may wait; zero, the default: for ever. For write_all:
  /// without progress.
  void set_read_timeout(Duration limit) noexcept;
  void set_write_timeout(Duration limit) noexcept;
  /// Has the read (or accept) that a fiber waits in now end at once, as if its timeout had passed: with timed_out,
  /// unless data came first. Without one, nothing. Does not wait.
  void expire_read() noexcept;
  [[nodiscard]] Duration read_timeout() const noexcept;
  [[nodiscard]] Duration write_timeout() const noexcept;

 private:
  int fd_ = -1;
  detail::FdState* state_ = nullptr;
};

}  // namespace bight
