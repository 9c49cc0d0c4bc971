// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <limits>

#include <bight/error.hpp>
#include <bight/net/tcp.hpp>

#include "bytes.hpp"
#include "describe.hpp"
#include "stream_calls.hpp"

namespace bight::net {
namespace {

using detail::fill;
using detail::throw_not_filled;
using detail::throw_with_local;
using detail::throw_with_peer;

constexpr const char* kRead = "read from";
constexpr const char* kWrite = "write to";

int clamp_to_int(std::chrono::seconds time) noexcept {
  return static_cast<int>(std::clamp<std::chrono::seconds::rep>(time.count(), 0, std::numeric_limits<int>::max()));
}

}  // namespace

// --- Reading ---------------------------------------------------------------------------------------------------------

std::size_t TcpStream::read(std::span<std::byte> buffer) {
  std::error_code error;
  const std::size_t count = socket_.read(buffer, error);
  if (error) throw_with_peer(error, kRead, socket_);
  return count;
}

std::size_t TcpStream::read(std::span<std::byte> buffer, std::error_code& error) { return socket_.read(buffer, error); }

Chunk TcpStream::read() {
  std::error_code error;
  Chunk chunk = socket_.read(error);
  if (error) throw_with_peer(error, kRead, socket_);
  return chunk;
}

Chunk TcpStream::read(std::error_code& error) { return socket_.read(error); }

void TcpStream::read_exactly(std::span<std::byte> buffer) {
  std::error_code error;
  const std::size_t filled = fill(socket_, buffer, error);
  if (error) throw_not_filled(error, socket_, filled, buffer.size());
}

void TcpStream::read_exactly(std::span<std::byte> buffer, std::error_code& error) { fill(socket_, buffer, error); }

// --- Writing ---------------------------------------------------------------------------------------------------------

std::size_t TcpStream::write(std::span<const std::byte> data) {
  std::error_code error;
  const std::size_t count = socket_.write(data, error);
  if (error) throw_with_peer(error, kWrite, socket_);
  return count;
}

std::size_t TcpStream::write(std::span<const std::byte> data, std::error_code& error) {
  return socket_.write(data, error);
}

void TcpStream::write_all(std::span<const std::byte> data) {
  std::error_code error;
  socket_.write_all(data, error);
  if (error) throw_with_peer(error, kWrite, socket_);
}

void TcpStream::write_all(std::span<const std::byte> data, std::error_code& error) { socket_.write_all(data, error); }

void TcpStream::write_all(std::string_view text) { write_all(bytes_of(text)); }

void TcpStream::write_all(std::string_view text, std::error_code& error) { write_all(bytes_of(text), error); }

void TcpStream::write_all(std::span<const std::span<const std::byte>> pieces) {
  std::error_code error;
  write_all(pieces, error);
  if (error) throw_with_peer(error, kWrite, socket_);
}

void TcpStream::write_all(std::span<const std::span<const std::byte>> pieces, std::error_code& error) {
  detail::write_pieces(socket_, pieces, error);
}

// --- Ending ----------------------------------------------------------------------------------------------------------

void TcpStream::shutdown_write() {
  std::error_code error;
  shutdown_write(error);
  if (error) throw_with_peer(error, "end the stream to", socket_);
}

void TcpStream::shutdown_write(std::error_code& error) noexcept { socket_.shutdown(SHUT_WR, error); }

void TcpStream::close() noexcept { socket_.close(); }

void TcpStream::reset() noexcept {
  if (!socket_) return;
  const ::linger at_once{.l_onoff = 1, .l_linger = 0};
  std::error_code ignored;  // then it is closed the usual way
  socket_.set_option(SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once, ignored);
  socket_.close();
}

// --- Settings --------------------------------------------------------------------------------------------------------

void TcpStream::set_timeout(Duration limit) noexcept {
  set_read_timeout(limit);
  set_write_timeout(limit);
}

void TcpStream::set_read_timeout(Duration limit) noexcept { socket_.set_read_timeout(limit); }

void TcpStream::set_write_timeout(Duration limit) noexcept { socket_.set_write_timeout(limit); }

void TcpStream::set_nodelay(bool on) {
  std::error_code error;
  set_nodelay(on, error);
  if (error) throw_with_peer(error, "set TCP_NODELAY of the connection to", socket_);
}

void TcpStream::set_nodelay(bool on, std::error_code& error) noexcept {
  socket_.set_option(IPPROTO_TCP, TCP_NODELAY, on ? 1 : 0, error);
}

void TcpStream::set_keepalive(const KeepAlive& options) {
  std::error_code error;
  set_keepalive(options, error);
  if (error) throw_with_peer(error, "set keep-alive of the connection to", socket_);
}

void TcpStream::set_keepalive(const KeepAlive& options, std::error_code& error) noexcept {
  socket_.set_option(IPPROTO_TCP, TCP_KEEPIDLE, clamp_to_int(options.idle), error);
  if (!error) socket_.set_option(IPPROTO_TCP, TCP_KEEPINTVL, clamp_to_int(options.interval), error);
  if (!error) socket_.set_option(IPPROTO_TCP, TCP_KEEPCNT, options.probes, error);
  if (!error) socket_.set_option(SOL_SOCKET, SO_KEEPALIVE, 1, error);
}

// --- Questions -------------------------------------------------------------------------------------------------------

Address TcpStream::local_address() const {
  std::error_code error;
  const Address address = local_address(error);
  if (error) throw_with_peer(error, "find the local address of the connection to", socket_);
  return address;
}

Address TcpStream::local_address(std::error_code& error) const noexcept {
  ::sockaddr_storage address{};
  const ::socklen_t length = socket_.local_name(address, error);
  return error ? Address() : Address::from_native(reinterpret_cast<const ::sockaddr*>(&address), length);
}

Address TcpStream::peer_address() const {
  std::error_code error;
  const Address address = peer_address(error);
  if (error) throw_with_local(error, "find the peer's address of the connection at", socket_);
  return address;
}

Address TcpStream::peer_address(std::error_code& error) const noexcept {
  if (proxy_ != nullptr && proxy_->source) {
    error.clear();
    return *proxy_->source;
  }
  ::sockaddr_storage address{};
  const ::socklen_t length = socket_.peer_name(address, error);
  return error ? Address() : Address::from_native(reinterpret_cast<const ::sockaddr*>(&address), length);
}

}  // namespace bight::net
