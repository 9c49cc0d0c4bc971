// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "engine/engine.hpp"

namespace bight::detail {

/// The kernel's sockets, for the engines that use them.
class SystemSockets final : public SocketCalls {
 public:
  int socket(int domain, int type, int protocol) noexcept override;
  int pipe(int (&ends)[2]) noexcept override;
  int adopt(int fd) noexcept override;
  int bind(int fd, const ::sockaddr* address, ::socklen_t length) noexcept override;
  int listen(int fd, int backlog) noexcept override;
  int shutdown(int fd, int how) noexcept override;
  int close(int fd) noexcept override;
  int set_option(int fd, int level, int name, const void* value, ::socklen_t length) noexcept override;
  int get_option(int fd, int level, int name, void* value, ::socklen_t* length) noexcept override;
  int local_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept override;
  int peer_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept override;
  int poll(int fd, short events) noexcept override;
};

/// As SocketCalls::poll.
[[nodiscard]] int is_ready(int fd, short events) noexcept;

}  // namespace bight::detail
