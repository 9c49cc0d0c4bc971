// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <system_error>

#include <bight/socket.hpp>

namespace bight::net::detail {

/// Who is, or was, at the other end of a connection: "127.0.0.1:4711", or words when that is not known.
[[nodiscard]] std::string describe_peer(const Socket& socket);
/// This end's address, likewise.
[[nodiscard]] std::string describe_local(const Socket& socket);

// What the throwing forms throw: "ATTEMPT PEER: REASON", or Cancelled. A socket that was closed (bad_file_descriptor)
// is not looked at.
[[noreturn]] void throw_with_peer(std::error_code error, std::string_view attempt, const Socket& socket);
[[noreturn]] void throw_with_local(std::error_code error, std::string_view attempt, const Socket& socket);

}  // namespace bight::net::detail
