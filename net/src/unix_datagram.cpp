// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include <bight/error.hpp>
#include <bight/net/unix.hpp>

#include "describe.hpp"
#include "unix_messages.hpp"
#include "unix_naming.hpp"

namespace bight::net {
namespace {

Socket open_socket(const UnixDatagramOptions& options, std::error_code& error) noexcept {
  Socket socket = Socket::open(AF_UNIX, SOCK_DGRAM, 0, error);
  if (!error && options.credentials) socket.set_option(SOL_SOCKET, SO_PASSCRED, 1, error);
  return socket;
}

}  // namespace

UnixDatagram UnixDatagram::open(const UnixDatagramOptions& options) {
  std::error_code error;
  UnixDatagram made;
  made.socket_ = open_socket(options, error);
  if (error) bight::detail::throw_error(error, "make a Unix datagram socket");
  return made;
}

UnixDatagram UnixDatagram::bind(const UnixAddress& address, const UnixDatagramOptions& options,
                                std::error_code& error) {
  UnixDatagram made;
  Socket socket = open_socket(options, error);
  if (!error) detail::bind_name(socket, SOCK_DGRAM, address, options.mode, options.remove_stale, error);
  if (error) return made;
  made.path_ = detail::BoundPath(socket, options.remove_on_close, error);
  if (!error) made.socket_ = std::move(socket);
  return made;
}

UnixDatagram UnixDatagram::bind(const UnixAddress& address, const UnixDatagramOptions& options) {
  std::error_code error;
  UnixDatagram made = bind(address, options, error);
  if (error) bight::detail::throw_error(error, "bind " + address.to_string());
  return made;
}

std::pair<UnixDatagram, UnixDatagram> UnixDatagram::pair(const UnixDatagramOptions& options) {
  std::error_code error;
  std::pair<UnixDatagram, UnixDatagram> ends;
  auto [one, other] = Socket::open_pair(AF_UNIX, SOCK_DGRAM, 0, error);
  for (Socket* each : {&one, &other}) {
    if (!error && options.credentials) each->set_option(SOL_SOCKET, SO_PASSCRED, 1, error);
  }
  if (error) bight::detail::throw_error(error, "make a pair of Unix datagram sockets");
  ends.first.socket_ = std::move(one);
  ends.second.socket_ = std::move(other);
  return ends;
}

void UnixDatagram::connect_to(const UnixAddress& peer, std::error_code& error) {
  ::sockaddr_un native;
  const ::socklen_t length = peer.to_native(native);
  socket_.connect(reinterpret_cast<const ::sockaddr*>(&native), length, error);
}

void UnixDatagram::connect_to(const UnixAddress& peer) {
  std::error_code error;
  connect_to(peer, error);
  if (error) bight::detail::throw_error(error, "connect to " + peer.to_string());
}

void UnixDatagram::send_message(std::span<const std::byte> data, const UnixAddress* peer, std::span<const int> fds,
                                std::error_code& error) {
  detail::send_with_fds(socket_, data, peer, fds, error);
}

void UnixDatagram::send(std::span<const std::byte> data, std::span<const int> fds, std::error_code& error) {
  send_message(data, nullptr, fds, error);
}

void UnixDatagram::send(std::span<const std::byte> data, std::span<const int> fds) {
  std::error_code error;
  send(data, fds, error);
  if (error) detail::throw_with_peer(error, "send to", socket_);
}

void UnixDatagram::send_to(std::span<const std::byte> data, const UnixAddress& peer, std::span<const int> fds,
                           std::error_code& error) {
  send_message(data, &peer, fds, error);
}

void UnixDatagram::send_to(std::span<const std::byte> data, const UnixAddress& peer, std::span<const int> fds) {
  std::error_code error;
  send_to(data, peer, fds, error);
  if (error == std::errc::bad_file_descriptor) detail::throw_with_peer(error, "send to", socket_);
  if (error) bight::detail::throw_error(error, "send to " + peer.to_string());
}

UnixReceived UnixDatagram::receive(std::span<std::byte> buffer, std::vector<Fd>* fds, std::error_code& error) {
  if (fds != nullptr) fds->clear();
  UnixReceived got;
  detail::Ancillary along;
  got.full_size = detail::receive_with_ancillary(socket_, buffer, MSG_TRUNC, along, error);
  got.size = std::min(got.full_size, buffer.size());
  got.peer = std::move(along.peer);
  got.credentials = along.credentials;
  if (fds != nullptr) *fds = std::move(along.fds);
  return got;
}

UnixReceived UnixDatagram::receive(std::span<std::byte> buffer, std::vector<Fd>* fds) {
  std::error_code error;
  UnixReceived got = receive(buffer, fds, error);
  if (error) detail::throw_with_local(error, "receive on", socket_);
  return got;
}

void UnixDatagram::close() noexcept {
  if (!socket_) return;
  path_.remove();
  socket_.close();
}

}  // namespace bight::net
