// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <system_error>

#include <bight/file.hpp>
#include <bight/socket.hpp>
#include <bight/stream.hpp>

namespace bight {

/// One end of a copy: a File (at its cursor), a Stream, a Socket, or what has one, as a net::TcpStream does. Refers to
/// it.
class CopyEnd {
 public:
  // NOLINTBEGIN(google-explicit-constructor): an argument of copy_data(), nothing else
  CopyEnd(File& file) noexcept : file_(&file) {}
  CopyEnd(Stream& stream) noexcept : stream_(&stream) {}
  CopyEnd(Socket& socket) noexcept : socket_(&socket) {}
  template <class Owner>
  requires requires(Owner& owner) {
    { owner.socket() } -> std::same_as<Socket&>;
  }
  CopyEnd(Owner& owner) noexcept : socket_(&owner.socket()) {}
  // NOLINTEND(google-explicit-constructor)

  [[nodiscard]] File* file() const noexcept { return file_; }
  [[nodiscard]] Stream* stream() const noexcept { return stream_; }
  [[nodiscard]] Socket* socket() const noexcept { return socket_; }
  /// The stream or the socket.
  [[nodiscard]] Descriptor* descriptor() const noexcept {
    return socket_ != nullptr ? static_cast<Descriptor*>(socket_) : stream_;
  }

 private:
  File* file_ = nullptr;
  Stream* stream_ = nullptr;
  Socket* socket_ = nullptr;
};

inline constexpr std::uint64_t kCopyAll = std::numeric_limits<std::uint64_t>::max();

/// Moves bytes from one to the other until `from` ends or `limit` bytes have been moved; returns how many. Waits for
/// either side, as slow as it may be, with their timeouts; with_timeout limits the whole. Where the kernel can move the
/// bytes by itself it does (copy_file_range(2), sendfile(2), splice(2)), else they pass through a buffer of 256 KiB.
///
/// Neither end is closed. Other fibers must not use these directions of the two meanwhile (a file's cursor is theirs
/// when the copy is over).
///
/// When it fails or is cancelled, the cursor of a `from` that is a File is behind what `to` has taken. What had been
/// read from a socket or a pipe and was not taken any more is lost: up to the size of the buffer. The form with an
/// error returns how much was taken in any case. The other throws std::system_error, Cancelled. (Not called copy:
/// std::copy would be found, and preferred, for the sake of the error.)
std::uint64_t copy_data(CopyEnd from, CopyEnd to, std::uint64_t limit = kCopyAll);
std::uint64_t copy_data(CopyEnd from, CopyEnd to, std::error_code& error);
std::uint64_t copy_data(CopyEnd from, CopyEnd to, std::uint64_t limit, std::error_code& error);

}  // namespace bight
