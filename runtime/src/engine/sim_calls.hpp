// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

#include <cerrno>

#include "engine/engine.hpp"
#include "engine/sim_core.hpp"
#include "engine/sim_net.hpp"
#include "engine/sim_socket.hpp"
#include "engine/sim_udp.hpp"
#include "engine/sim_unix.hpp"

namespace bight::detail {

/// The system calls on sockets that never wait, answered by the simulated kernel as Linux does.
class SimCalls final : public SocketCalls {
 public:
  SimCalls(SimCore& core, SimDescriptors& descriptors, SimNet& net, SimUdp& udp, SimUnix& unix_sockets) noexcept
      : core_(core), descriptors_(descriptors), net_(net), udp_(udp), unix_(unix_sockets) {}

  int socket(int domain, int type, int protocol) noexcept override;
  int pipe(int (&ends)[2]) noexcept override;
  int socket_pair(int domain, int type, int protocol, int (&ends)[2]) noexcept override;
  int adopt(int fd) noexcept override { return descriptors_.find(fd) != nullptr ? 0 : unknown(fd); }
  int bind(int fd, const ::sockaddr* address, ::socklen_t length) noexcept override;
  int remove_name(const char* path) noexcept override { return unix_.remove_name(path); }
  int listen(int fd, int backlog) noexcept override;
  int shutdown(int fd, int how) noexcept override;
  int close(int fd) noexcept override;
  int set_option(int fd, int level, int name, const void* value, ::socklen_t length) noexcept override;
  int get_option(int fd, int level, int name, void* value, ::socklen_t* length) noexcept override;
  int local_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept override;
  int peer_name(int fd, ::sockaddr* address, ::socklen_t* length) noexcept override;

 private:
  /// Numbers below the world's own are the real kernel's, with which there is nothing to do here.
  static int unknown(int fd) noexcept { return fd >= 0 && fd < SimDescriptors::kFirst ? -EOPNOTSUPP : -EBADF; }
  [[nodiscard]] SimSocket* make(int domain, int type) noexcept;
  int bind_to(SimSocket& socket, const ::sockaddr* address, ::socklen_t length);
  void close_pipe_end(SimSocket& end) noexcept;
  int listen_on(SimSocket& socket, int backlog);
  int end_sides(SimSocket& socket, int how);

  SimCore& core_;
  SimDescriptors& descriptors_;
  SimNet& net_;
  SimUdp& udp_;
  SimUnix& unix_;
};

}  // namespace bight::detail
