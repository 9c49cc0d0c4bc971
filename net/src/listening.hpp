// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <system_error>

#include <bight/net/tcp.hpp>

namespace bight::net::detail {

/// Gives a socket the options it needs before bind(2), by `set(level, name, value)`, which returns an error.
template <class Set>
[[nodiscard]] std::error_code set_listening_options(const ListenOptions& options, int family, Set&& set) {
  if (const std::error_code error = set(SOL_SOCKET, SO_REUSEADDR, options.reuse_address ? 1 : 0)) return error;
  if (options.reuse_port) {
    if (const std::error_code error = set(SOL_SOCKET, SO_REUSEPORT, 1)) return error;
  }
  if (family == AF_INET6) {  // said either way, for the system's default can be changed
    if (const std::error_code error = set(IPPROTO_IPV6, IPV6_V6ONLY, options.v6only ? 1 : 0)) return error;
  }
  // Accepted sockets inherit it: one system call less for each.
  return set(IPPROTO_TCP, TCP_NODELAY, 1);
}

}  // namespace bight::net::detail
