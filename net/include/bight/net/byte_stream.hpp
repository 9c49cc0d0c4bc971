// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <span>
#include <system_error>

namespace bight::net {

/// Anything bytes can be read from: net::TcpStream, net::UnixStream, net::MemoryStream, bight::Stream, bight::File.
/// Waits for one at least; 0 is the end. Errors are reported, never thrown; a cancelled fiber's is operation_canceled.
template <class S>
concept ByteReader = requires(S& stream, std::span<std::byte> buffer, std::error_code& error) {
  { stream.read(buffer, error) } -> std::convertible_to<std::size_t>;
};

/// Anything bytes can be written to, all of them or an error.
template <class S>
concept ByteWriter = requires(S& stream, std::span<const std::byte> data, std::error_code& error) {
  stream.write_all(data, error);
};

/// Both, and it can be closed, which wakes who waits on it.
template <class S>
concept ByteStream = ByteReader<S> && ByteWriter<S> && requires(S& stream) {
  stream.close();
};

/// One whose sides end apart: after shutdown_write() the peer reads the end, and reading goes on.
template <class S>
concept HalfClosable = ByteStream<S> && requires(S& stream, std::error_code& error) {
  stream.shutdown_write(error);
};

}  // namespace bight::net
