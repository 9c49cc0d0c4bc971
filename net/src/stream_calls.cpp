// SPDX-License-Identifier: Apache-2.0
#include "stream_calls.hpp"

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <string>

#include <bight/error.hpp>

#include "describe.hpp"

namespace bight::net::detail {

std::size_t fill(Socket& socket, std::span<std::byte> buffer, std::error_code& error) {
  error.clear();
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    const std::size_t count = socket.read(buffer.subspan(filled), error);
    if (error) break;
    if (count == 0) {
      error = std::make_error_code(std::errc::connection_aborted);
      break;
    }
    filled += count;
  }
  return filled;
}

void throw_not_filled(std::error_code error, const Socket& socket, std::size_t filled, std::size_t wanted) {
  if (error == std::errc::operation_canceled || error == std::errc::bad_file_descriptor)
    throw_with_peer(error, "read from", socket);
  std::string what = std::string("read from") + ' ' + describe_peer(socket);
  what += error == std::errc::connection_aborted ? ": end of stream after " : ": after ";
  what += std::to_string(filled) + " of " + std::to_string(wanted) + " bytes";
  bight::detail::throw_error(error, what);
}

void write_pieces(Socket& socket, std::span<const std::span<const std::byte>> pieces, std::error_code& error) {
  error.clear();
  std::array<::iovec, 128> gathered;  // 2 KiB of the fiber's stack
  while (!pieces.empty() && !error) {
    const std::size_t count = std::min(pieces.size(), gathered.size());
    std::transform(pieces.begin(), pieces.begin() + static_cast<std::ptrdiff_t>(count), gathered.begin(),
                   [](auto piece) {
                     // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): an iovec is for reading, too
                     return ::iovec{const_cast<std::byte*>(piece.data()), piece.size()};
                   });
    socket.write_all(std::span(gathered.data(), count), error);
    pieces = pieces.subspan(count);
  }
}

}  // namespace bight::net::detail
