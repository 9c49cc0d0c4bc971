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

}  // namespace bight::net::detail
