// SPDX-License-Identifier: Apache-2.0
#include <bight/socket.hpp>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <new>
#include <string>

#include <bight/check.hpp>

#include "descriptor_use.hpp"
#include "fd_table.hpp"
#include "loop.hpp"
#include "perform.hpp"

namespace bight {
namespace {

using detail::admit;
using detail::Direction;
using detail::kLargestTransfer;
using detail::Loop;
using detail::Op;
using detail::OpKind;
using detail::settle;
using detail::to_error;
using detail::Use;

void describe(detail::FdState& state, int domain, int type) noexcept {
  state.datagrams = (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != SOCK_STREAM;
  state.untaken = state.datagrams || domain == AF_UNIX;
}

/// Drops from the front of `pieces` what has been written.
std::span<::iovec> drop_written(std::span<::iovec> pieces, std::size_t written) noexcept {
  while (!pieces.empty() && written >= pieces.front().iov_len) {
    written -= pieces.front().iov_len;
    pieces = pieces.subspan(1);
  }
  if (!pieces.empty()) {
    pieces.front().iov_base = static_cast<std::byte*>(pieces.front().iov_base) + written;
    pieces.front().iov_len -= written;
  }
  return pieces;
}

}  // namespace

Socket::Socket(int fd) : Descriptor(fd, &Loop::require().descriptors().open(fd)) {
  state_->shared = true;
  detail::SocketCalls& calls = Loop::require().engine().sockets();
  calls.adopt(fd);
  int type = SOCK_STREAM;
  ::socklen_t length = sizeof type;
  calls.get_option(fd, SOL_SOCKET, SO_TYPE, &type,
                   &length);  // fails for what is no socket, which then has no datagrams
  int domain = AF_UNSPEC;
  length = sizeof domain;
  calls.get_option(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
  describe(*state_, domain, type);
}

Socket Socket::open(int domain, int type, int protocol, std::error_code& error) {
  Loop& loop = Loop::require();
  const int fd = loop.engine().sockets().socket(domain, type, protocol);
  error = to_error(fd);
  Socket socket;
  if (!error) socket.state_ = admit(loop, fd, error);
  if (!error) {
    socket.fd_ = fd;
    describe(*socket.state_, domain, type);
  }
  return socket;
}

std::pair<Socket, Socket> Socket::open_pair(int domain, int type, int protocol, std::error_code& error) {
  Loop& loop = Loop::require();
  int fds[2] = {-1, -1};
  error = to_error(loop.engine().sockets().socket_pair(domain, type, protocol, fds));
  std::pair<Socket, Socket> ends;
  if (error) return ends;
  for (Socket* end : {&ends.first, &ends.second}) {
    const int fd = end == &ends.first ? fds[0] : fds[1];
    if (error) {  // there was no memory for the first
      loop.engine().sockets().close(fd);
      continue;
    }
    end->state_ = admit(loop, fd, error);
    if (error) continue;
    end->fd_ = fd;
    describe(*end->state_, domain, type);
  }
  if (error) ends = {};
  return ends;
}

std::size_t Socket::read(std::span<std::byte> buffer, std::error_code& error) {
  Op op(OpKind::recv, fd_);
  op.data = buffer.data();
  op.size = std::min(buffer.size(), kLargestTransfer);
  if (op.size == 0) {
    error.clear();
    return 0;
  }
  return static_cast<std::size_t>(perform(op, Direction::reading, error));
}

Chunk Socket::read(std::error_code& error) {
  Op op(OpKind::recv_lent, fd_);
  const int result = perform(op, Direction::reading, error);
  if (result == 0) return {};
  return {static_cast<std::byte*>(op.data), static_cast<std::uint32_t>(result), op.buffer_id,
          Loop::current()->buffers()};
}

std::size_t Socket::write(std::span<const std::byte> data, std::error_code& error) {
  Op op(OpKind::send, fd_);
  op.data = const_cast<std::byte*>(data.data());  // NOLINT(cppcoreguidelines-pro-type-const-cast): a send only reads
  op.size = std::min(data.size(), kLargestTransfer);
  if (op.size == 0) {
    error.clear();
    return 0;
  }
  return static_cast<std::size_t>(perform(op, Direction::writing, error));
}

void Socket::write_all(std::span<const std::byte> data, std::error_code& error) {
  error.clear();
  const Use use(fd_, state_);
  while (!data.empty() && !error) {
    Op op(OpKind::send, use.fd);
    op.data = const_cast<std::byte*>(data.data());  // NOLINT(cppcoreguidelines-pro-type-const-cast): a send only reads
    op.size = std::min(data.size(), kLargestTransfer);
    data = data.subspan(static_cast<std::size_t>(settle(use.perform(op, Direction::writing), error)));
  }
}

void Socket::write_all(std::span<::iovec> pieces, std::error_code& error) {
  error.clear();
  const Use use(fd_, state_);
  pieces = drop_written(pieces, 0);
  while (!pieces.empty() && !error) {
    ::msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = std::min<std::size_t>(pieces.size(), IOV_MAX);
    Op op(OpKind::send_message, use.fd);
    op.data = &message;
    pieces = drop_written(pieces, static_cast<std::size_t>(settle(use.perform(op, Direction::writing), error)));
  }
}

std::size_t Socket::try_write(std::span<const std::byte> data, std::error_code& error) noexcept {
  error.clear();
  if (state_ == nullptr) error = std::make_error_code(std::errc::bad_file_descriptor);
  if (error || data.empty() || state_->writer != nullptr) return 0;
  Op op(OpKind::send, fd_);
  op.data = const_cast<std::byte*>(data.data());  // NOLINT(cppcoreguidelines-pro-type-const-cast): a send only reads
  op.size = std::min(data.size(), kLargestTransfer);
  const int result = Loop::require().engine().send_now(op);
  return result == -EAGAIN ? 0 : static_cast<std::size_t>(settle(result, error));
}

bool Socket::set_direct(bool on) noexcept {
  if (state_ == nullptr || (on && Loop::require().engine().takes_ahead(fd_))) return false;
  state_->direct = on;
  return true;
}

std::size_t Socket::receive_message(::msghdr& message, int flags, std::error_code& error) {
  Op op(OpKind::recv_message, fd_);
  op.data = &message;
  op.size = static_cast<unsigned>(flags);
  return static_cast<std::size_t>(perform(op, Direction::reading, error));
}

std::size_t Socket::send_message(const ::msghdr& message, std::error_code& error) {
  Op op(OpKind::send_message, fd_);
  op.data = const_cast<::msghdr*>(&message);  // NOLINT(cppcoreguidelines-pro-type-const-cast): a send only reads
  return static_cast<std::size_t>(perform(op, Direction::writing, error));
}

std::size_t Socket::receive_messages(std::span<::mmsghdr> messages, std::error_code& error) {
  error.clear();
  if (messages.empty()) return 0;
  Op op(OpKind::recv_many, fd_);
  op.data = messages.data();
  op.size = messages.size();
  return static_cast<std::size_t>(perform(op, Direction::reading, error));
}

std::size_t Socket::send_messages(std::span<::mmsghdr> messages, std::error_code& error) {
  error.clear();
  if (messages.empty()) return 0;
  Op op(OpKind::send_many, fd_);
  op.data = messages.data();
  op.size = messages.size();
  return static_cast<std::size_t>(perform(op, Direction::writing, error));
}

std::size_t Socket::receive_error(::msghdr& message, std::error_code& error) noexcept {
  return static_cast<std::size_t>(settle(Loop::require().engine().sockets().receive_error(fd_, &message), error));
}

Socket Socket::accept(std::error_code& error) {
  const bool datagrams = state_ != nullptr && state_->datagrams;  // now, as it may be gone afterwards
  const bool untaken = state_ != nullptr && state_->untaken;
  Op op(OpKind::accept, fd_);
  const int fd = perform(op, Direction::reading, error);
  Socket accepted;
  if (!error) accepted.state_ = admit(*Loop::current(), fd, error);
  if (!error) {
    accepted.fd_ = fd;
    accepted.state_->datagrams = datagrams;
    accepted.state_->untaken = untaken;
  }
  return accepted;
}

void Socket::connect(const ::sockaddr* address, ::socklen_t length, std::error_code& error) {
  Op op(OpKind::connect, fd_);
  op.data = const_cast<::sockaddr*>(address);  // NOLINT(cppcoreguidelines-pro-type-const-cast): connect(2) only reads
  op.size = length;
  perform(op, Direction::writing, error);
}

void Socket::bind(const ::sockaddr* address, ::socklen_t length, std::error_code& error) noexcept {
  settle(Loop::require().engine().sockets().bind(fd_, address, length), error);
}

void Socket::listen(int backlog, std::error_code& error) noexcept {
  settle(Loop::require().engine().sockets().listen(fd_, backlog), error);
}

void Socket::remove_name(const char* path, std::error_code& error) noexcept {
  settle(Loop::require().engine().sockets().remove_name(path), error);
}

void Socket::shutdown(int how, std::error_code& error) noexcept {
  settle(Loop::require().engine().sockets().shutdown(fd_, how), error);
}

void Socket::set_option(int level, int name, const void* value, ::socklen_t size, std::error_code& error) noexcept {
  settle(Loop::require().engine().sockets().set_option(fd_, level, name, value, size), error);
}

void Socket::set_option(int level, int name, int value, std::error_code& error) noexcept {
  set_option(level, name, &value, sizeof value, error);
}

int Socket::option(int level, int name, std::error_code& error) const noexcept {
  int value = 0;
  ::socklen_t length = sizeof value;
  settle(Loop::require().engine().sockets().get_option(fd_, level, name, &value, &length), error);
  return value;
}

void Socket::option(int level, int name, void* value, ::socklen_t& size, std::error_code& error) const noexcept {
  settle(Loop::require().engine().sockets().get_option(fd_, level, name, value, &size), error);
}

::socklen_t Socket::local_name(::sockaddr_storage& address, std::error_code& error) const noexcept {
  ::socklen_t length = sizeof address;
  settle(Loop::require().engine().sockets().local_name(fd_, reinterpret_cast<::sockaddr*>(&address), &length), error);
  return length;
}

::socklen_t Socket::peer_name(::sockaddr_storage& address, std::error_code& error) const noexcept {
  ::socklen_t length = sizeof address;
  settle(Loop::require().engine().sockets().peer_name(fd_, reinterpret_cast<::sockaddr*>(&address), &length), error);
  return length;
}

}  // namespace bight
