// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <bight/error.hpp>
#include <bight/net/tcp.hpp>

namespace bight::net {
namespace {

void bind_local(Socket& socket, const Address& local, std::error_code& error) noexcept {
  // The port is picked when the peer is known, so that ports run out per peer rather than for all of them together.
  if (local.port() == 0) socket.set_option(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, error);
  socket.bind(local.native(), local.native_size(), error);
}

/// TCP connects a socket to itself when both ends' addresses are the same, which happens by chance when the peer's port
/// is one that may be picked for this end (as in RFC 9293, section 3.5, figure 8). Nobody who asks for a server wants
/// that, and it would keep the server, when it comes back, from binding.
void refuse_self(TcpStream& stream, const Address& peer, std::error_code& error) noexcept {
  // Not the address that was asked for: 0.0.0.0 leads here, too.
  if (stream.local_address(error).port() != peer.port() || error) return;
  if (stream.local_address(error) != stream.peer_address(error) || error) {
    error.clear();  // gone already, so reading will tell
    return;
  }
  stream.reset();
  error = std::make_error_code(std::errc::connection_refused);
}

}  // namespace

TcpStream connect(const Address& peer, const ConnectOptions& options, std::error_code& error) noexcept {
  Socket socket = Socket::open(peer.family(), SOCK_STREAM, IPPROTO_TCP, error);
  if (error) return {};
  socket.set_option(IPPROTO_TCP, TCP_NODELAY, 1, error);
  if (options.local) bind_local(socket, *options.local, error);
  if (error) return {};
  socket.set_write_timeout(options.timeout);
  socket.connect(peer.native(), peer.native_size(), error);
  if (error) return {};
  socket.set_write_timeout(Duration::zero());
  TcpStream stream(std::move(socket));
  refuse_self(stream, peer, error);
  return stream;
}

TcpStream connect(const Address& peer, std::error_code& error) noexcept { return connect(peer, {}, error); }

TcpStream connect(const Address& peer, const ConnectOptions& options) {
  std::error_code error;
  TcpStream stream = connect(peer, options, error);
  if (error == std::errc::operation_canceled) bight::detail::throw_error(error, {});
  if (error) {
    const std::string from = options.local ? " from " + options.local->to_string() : std::string();
    bight::detail::throw_error(error, "connect to " + peer.to_string() + from);
  }
  return stream;
}

TcpStream connect(std::string_view peer, const ConnectOptions& options) {
  return connect(Address::parse(peer), options);
}

}  // namespace bight::net
