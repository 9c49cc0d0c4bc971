// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include <bight/check.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/net/unix.hpp>

#include "bytes.hpp"
#include "describe.hpp"
#include "stream_calls.hpp"
#include "unix_messages.hpp"

namespace bight::net {
namespace {

using detail::throw_with_local;
using detail::throw_with_peer;

constexpr const char* kRead = "read from";
constexpr const char* kWrite = "write to";
// Between attempts to connect to a listener whose queue is full: the system has no way to wait for that.
constexpr Duration kRetry = std::chrono::milliseconds(1);
constexpr Duration kRetryMax = std::chrono::milliseconds(50);

}  // namespace

// --- Making one ------------------------------------------------------------------------------------------------------

UnixStream UnixStream::connect(const UnixAddress& peer, Duration timeout, std::error_code& error) {
  Socket socket = Socket::open(AF_UNIX, SOCK_STREAM, 0, error);
  if (error) return {};
  ::sockaddr_un native;
  const ::socklen_t length = peer.to_native(native);
  socket.set_write_timeout(timeout);
  const TimePoint end = timeout > Duration::zero() ? bight::detail::saturating_add(now(), timeout) : TimePoint::max();
  for (Duration pause = kRetry;; pause = std::min(pause * 2, kRetryMax)) {
    socket.connect(reinterpret_cast<const ::sockaddr*>(&native), length, error);
    if (error.value() != EAGAIN) break;
    if (now() >= end) {
      error = std::make_error_code(std::errc::timed_out);
      break;
    }
    try {
      sleep_until(std::min(end, now() + pause));
    } catch (const Cancelled&) {
      error = std::make_error_code(std::errc::operation_canceled);
      break;
    }
  }
  if (error) return {};
  socket.set_write_timeout(Duration::zero());
  return UnixStream(std::move(socket));
}

UnixStream UnixStream::connect(const UnixAddress& peer, Duration timeout) {
  std::error_code error;
  UnixStream stream = connect(peer, timeout, error);
  if (error) bight::detail::throw_error(error, "connect to " + peer.to_string());
  return stream;
}

std::pair<UnixStream, UnixStream> UnixStream::pair() {
  std::error_code error;
  auto [one, other] = Socket::open_pair(AF_UNIX, SOCK_STREAM, 0, error);
  if (error) bight::detail::throw_error(error, "make a pair of Unix streams");
  return {UnixStream(std::move(one)), UnixStream(std::move(other))};
}

// --- Reading ---------------------------------------------------------------------------------------------------------

std::size_t UnixStream::read(std::span<std::byte> buffer, std::error_code& error) {
  return socket_.read(buffer, error);
}

std::size_t UnixStream::read(std::span<std::byte> buffer) {
  std::error_code error;
  const std::size_t count = socket_.read(buffer, error);
  if (error) throw_with_peer(error, kRead, socket_);
  return count;
}

Chunk UnixStream::read(std::error_code& error) { return socket_.read(error); }

Chunk UnixStream::read() {
  std::error_code error;
  Chunk chunk = socket_.read(error);
  if (error) throw_with_peer(error, kRead, socket_);
  return chunk;
}

void UnixStream::read_exactly(std::span<std::byte> buffer, std::error_code& error) {
  detail::fill(socket_, buffer, error);
}

void UnixStream::read_exactly(std::span<std::byte> buffer) {
  std::error_code error;
  const std::size_t filled = detail::fill(socket_, buffer, error);
  if (error) detail::throw_not_filled(error, socket_, filled, buffer.size());
}

// --- Writing ---------------------------------------------------------------------------------------------------------

std::size_t UnixStream::write(std::span<const std::byte> data, std::error_code& error) {
  return socket_.write(data, error);
}

std::size_t UnixStream::write(std::span<const std::byte> data) {
  std::error_code error;
  const std::size_t count = socket_.write(data, error);
  if (error) throw_with_peer(error, kWrite, socket_);
  return count;
}

void UnixStream::write_all(std::span<const std::byte> data, std::error_code& error) { socket_.write_all(data, error); }

void UnixStream::write_all(std::span<const std::byte> data) {
  std::error_code error;
  socket_.write_all(data, error);
  if (error) throw_with_peer(error, kWrite, socket_);
}

void UnixStream::write_all(std::string_view text) { write_all(bytes_of(text)); }

void UnixStream::write_all(std::string_view text, std::error_code& error) { write_all(bytes_of(text), error); }

void UnixStream::write_all(std::span<const std::span<const std::byte>> pieces, std::error_code& error) {
  detail::write_pieces(socket_, pieces, error);
}

void UnixStream::write_all(std::span<const std::span<const std::byte>> pieces) {
  std::error_code error;
  write_all(pieces, error);
  if (error) throw_with_peer(error, kWrite, socket_);
}

void UnixStream::shutdown_write(std::error_code& error) noexcept { socket_.shutdown(SHUT_WR, error); }

void UnixStream::shutdown_write() {
  std::error_code error;
  shutdown_write(error);
  if (error) throw_with_peer(error, "end the stream to", socket_);
}

// --- Descriptors -----------------------------------------------------------------------------------------------------

void UnixStream::send_with_fds(std::span<const std::byte> data, std::span<const int> fds, std::error_code& error) {
  BIGHT_CHECK(!data.empty(), "descriptors are sent with one byte at least");
  const std::size_t sent = detail::send_with_fds(socket_, data, nullptr, fds, error);
  if (!error && sent < data.size()) socket_.write_all(data.subspan(sent), error);
}

void UnixStream::send_with_fds(std::span<const std::byte> data, std::span<const int> fds) {
  std::error_code error;
  send_with_fds(data, fds, error);
  if (error) throw_with_peer(error, "send descriptors to", socket_);
}

std::size_t UnixStream::receive_with_fds(std::span<std::byte> buffer, std::vector<Fd>& fds, std::error_code& error) {
  fds.clear();
  error.clear();
  if (buffer.empty()) return 0;
  detail::Ancillary along;
  const std::size_t size = detail::receive_with_ancillary(socket_, buffer, 0, along, error);
  fds = std::move(along.fds);
  return size;
}

std::size_t UnixStream::receive_with_fds(std::span<std::byte> buffer, std::vector<Fd>& fds) {
  std::error_code error;
  const std::size_t size = receive_with_fds(buffer, fds, error);
  if (error) throw_with_peer(error, "receive descriptors from", socket_);
  return size;
}

// --- Questions -------------------------------------------------------------------------------------------------------

Credentials UnixStream::peer_credentials(std::error_code& error) const noexcept {
  ::ucred peer{};
  ::socklen_t length = sizeof peer;
  socket_.option(SOL_SOCKET, SO_PEERCRED, &peer, length, error);
  return error ? Credentials{} : Credentials{peer.pid, peer.uid, peer.gid};
}

Credentials UnixStream::peer_credentials() const {
  std::error_code error;
  const Credentials peer = peer_credentials(error);
  if (error) throw_with_local(error, "find out who is the peer at", socket_);
  return peer;
}

UnixAddress UnixStream::local_address(std::error_code& error) const {
  ::sockaddr_storage address{};
  const ::socklen_t length = socket_.local_name(address, error);
  return error ? UnixAddress() : UnixAddress::from_native(reinterpret_cast<const ::sockaddr*>(&address), length);
}

UnixAddress UnixStream::local_address() const {
  std::error_code error;
  UnixAddress address = local_address(error);
  if (error) throw_with_peer(error, "find the local address of the connection to", socket_);
  return address;
}

UnixAddress UnixStream::peer_address(std::error_code& error) const {
  ::sockaddr_storage address{};
  const ::socklen_t length = socket_.peer_name(address, error);
  return error ? UnixAddress() : UnixAddress::from_native(reinterpret_cast<const ::sockaddr*>(&address), length);
}

UnixAddress UnixStream::peer_address() const {
  std::error_code error;
  UnixAddress address = peer_address(error);
  if (error) throw_with_local(error, "find the peer's address of the connection at", socket_);
  return address;
}

}  // namespace bight::net
