// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <system_error>
#include <vector>

#include <sys/socket.h>

#include <bight/fd.hpp>
#include <bight/net/unix.hpp>
#include <bight/socket.hpp>

namespace bight::net::detail {

/// sendmsg(2) with descriptors. Returns how many bytes went out.
std::size_t send_with_fds(Socket& socket, std::span<const std::byte> data, const UnixAddress* peer,
                          std::span<const int> fds, std::error_code& error);

/// What came beside the bytes.
struct Ancillary {
  std::vector<Fd> fds;
  std::optional<Credentials> credentials;
  UnixAddress peer;
};

/// recvmsg(2) with all that can come along. Returns its result. No descriptor is ever lost track of.
std::size_t receive_with_ancillary(Socket& socket, std::span<std::byte> buffer, int flags, Ancillary& along,
                                   std::error_code& error);

}  // namespace bight::net::detail
