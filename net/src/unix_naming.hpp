// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <system_error>

#include <sys/types.h>

#include <bight/net/unix.hpp>
#include <bight/socket.hpp>

namespace bight::net::detail {

/// Binds, with the permissions wanted, and removes what a killed server has left behind if that is wanted.
void bind_name(Socket& socket, int type, const UnixAddress& address, std::optional<::mode_t> mode, bool remove_stale,
               std::error_code& error);

/// Which file a path leads to, so that another one by this name can be told. Zeros: none; in a simulated world.
struct FileIdentity {
  ::dev_t device = 0;
  ::ino_t inode = 0;
};
[[nodiscard]] FileIdentity identity_of(const UnixAddress& address) noexcept;

/// Removes the path, if this is the process that made it and it still leads to the same file.
void remove_own_name(const UnixAddress& address, ::pid_t owner, const FileIdentity& identity) noexcept;

}  // namespace bight::net::detail
