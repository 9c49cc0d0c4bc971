// SPDX-License-Identifier: Apache-2.0
#include "engine/system_sockets.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace bight::detail {
namespace {

int outcome(int returned) noexcept { return returned < 0 ? -errno : returned; }

}  // namespace

int is_ready(int fd, short events) noexcept {
  pollfd poll{fd, events, 0};
  int count = 0;
  do count = ::poll(&poll, 1, 0);  // which a signal may interrupt, though it does not wait: that is no answer
  while (count < 0 && errno == EINTR);
  if (count < 0) return -errno;
  return count > 0 ? 0 : -EAGAIN;
}

int transfer_messages(const Op& op) noexcept {
  auto* many = static_cast<::mmsghdr*>(op.data);
  const auto count = static_cast<unsigned>(std::min<std::size_t>(op.size, INT_MAX));
  ssize_t result = 0;
  do {
    switch (op.kind) {
      case OpKind::recv_message:
        result = ::recvmsg(op.fd, static_cast<::msghdr*>(op.data),
                           static_cast<int>(op.size) | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        break;
      case OpKind::send_message:
        result = ::sendmsg(op.fd, static_cast<const ::msghdr*>(op.data), MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
      case OpKind::recv_many: result = ::recvmmsg(op.fd, many, count, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, nullptr); break;
      default: result = ::sendmmsg(op.fd, many, count, MSG_DONTWAIT | MSG_NOSIGNAL); break;
    }
  } while (result < 0 && errno == EINTR);
  return result >= 0 ? static_cast<int>(std::min<ssize_t>(result, INT_MAX)) : -errno;
}

int SystemSockets::receive_error(int fd, ::msghdr* message) noexcept {
  return outcome(static_cast<int>(::recvmsg(fd, message, MSG_ERRQUEUE | MSG_DONTWAIT | MSG_CMSG_CLOEXEC)));
}

int SystemSockets::poll(int fd, short events) noexcept { return is_ready(fd, events); }

int SystemSockets::socket(int domain, int type, int protocol) noexcept {
  return outcome(::socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
}

int SystemSockets::pipe(int (&ends)[2]) noexcept { return outcome(::pipe2(ends, O_CLOEXEC | O_NONBLOCK)); }

int SystemSockets::socket_pair(int domain, int type, int protocol, int (&ends)[2]) noexcept {
  return outcome(::socketpair(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol, ends));
}

int SystemSockets::adopt(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return -errno;
  return (flags & O_NONBLOCK) != 0 ? 0 : outcome(::fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

int SystemSockets::bind(int fd, const ::sockaddr* address, ::socklen_t length) noexcept {
  return outcome(::bind(fd, address, length));
}

int SystemSockets::remove_name(const char* path) noexcept {
  struct ::stat found {};
  if (::lstat(path, &found) != 0) return -errno;
  return S_ISSOCK(found.st_mode) ? outcome(::unlink(path)) : -ENOTSOCK;
}

int SystemSockets::listen(int fd, int backlog) noexcept { return outcome(::listen(fd, backlog)); }

int SystemSockets::shutdown(int fd, int how) noexcept { return outcome(::shutdown(fd, how)); }

// EINTR from close(2) on Linux: the descriptor is gone all the same.
int SystemSockets::close(int fd) noexcept { return outcome(::close(fd)); }

int SystemSockets::set_option(int fd, int level, int name, const void* value, ::socklen_t length) noexcept {
  return outcome(::setsockopt(fd, level, name, value, length));
}

int SystemSockets::get_option(int fd, int level, int name, void* value, ::socklen_t* length) noexcept {
  return outcome(::getsockopt(fd, level, name, value, length));
}

int SystemSockets::local_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept {
  return outcome(::getsockname(fd, address, length));
}

int SystemSockets::peer_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept {
  return outcome(::getpeername(fd, address, length));
}

int Engine::send_now(const Op& op) noexcept {
  ::ssize_t count = -1;
  do count = ::send(op.fd, op.data, op.size, MSG_DONTWAIT | MSG_NOSIGNAL);
  while (count < 0 && errno == EINTR);
  return count < 0 ? -errno : static_cast<int>(count);
}

}  // namespace bight::detail
