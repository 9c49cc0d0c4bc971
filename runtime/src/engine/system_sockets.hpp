// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "engine/engine.hpp"

namespace bight::detail {

/// The kernel's sockets, for the engines that use them.
class SystemSockets final : public SocketCalls {
 public:
  int socket(int domain, int type, int protocol) noexcept override;
  int pipe(int (&ends)[2]) noexcept override;
  int socket_pair(int domain, int type, int protocol, int (&ends)[2]) noexcept override;
  int adopt(int fd) noexcept override;
  int bind(int fd, const ::sockaddr* address, ::socklen_t length) noexcept override;
  int remove_name(const char* path) noexcept override;
  int listen(int fd, int backlog) noexcept override;
  int shutdown(int fd, int how) noexcept override;
  int close(int fd) noexcept override;
  int set_option(int fd, int level, int name, const void* value, ::socklen_t length) noexcept override;
  int get_option(int fd, int level, int name, void* value, ::socklen_t* length) noexcept override;
  int local_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept override;
  int peer_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept override;
  int receive_error(int fd, ::msghdr* message) noexcept override;
  int poll(int fd, short events) noexcept override;
};

/// recvmsg(2), sendmsg(2), recvmmsg(2) or sendmmsg(2), as the operation says, without waiting. The call's result, or
/// -errno.
[[nodiscard]] int transfer_messages(const Op& op) noexcept;

/// As SocketCalls::poll.
[[nodiscard]] int is_ready(int fd, short events) noexcept;

}  // namespace bight::detail
