// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <system_error>

#include <bight/socket.hpp>

namespace bight::net::detail {

// What all streams over sockets do alike.

/// Reads until `buffer` is full, the stream ends (connection_aborted) or an error comes. Returns how much was read.
std::size_t fill(Socket& socket, std::span<std::byte> buffer, std::error_code& error);

/// What a fill() that has failed throws.
[[noreturn]] void throw_not_filled(std::error_code error, const Socket& socket, std::size_t filled, std::size_t wanted);

void write_pieces(Socket& socket, std::span<const std::span<const std::byte>> pieces, std::error_code& error);

}  // namespace bight::net::detail
