// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <system_error>

#include <bight/net/tcp.hpp>

namespace bight::net::detail {

/// How much of what was written may wait in the kernel for its turn, beside what is on its way. Without a limit, that
/// is megabytes, of which a third has to leave before a writer goes on: from a client that reads slowly, no progress
/// could be seen for as long.
inline constexpr int kNotSentMax = 128 * 1024;

/// What accepted sockets inherit: some system calls less for each.
template <class Set>
[[nodiscard]] std::error_code set_inherited_options(Set&& set) {
  if (const std::error_code error = set(IPPROTO_TCP, TCP_NODELAY, 1)) return error;
  return set(IPPROTO_TCP, TCP_NOTSENT_LOWAT, kNotSentMax);
}

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
  return set_inherited_options(set);
}

}  // namespace bight::net::detail
