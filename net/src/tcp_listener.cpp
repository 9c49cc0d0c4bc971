// SPDX-License-Identifier: Apache-2.0
#include <poll.h>

#include <bight/error.hpp>
#include <bight/net/tcp.hpp>

#include "describe.hpp"
#include "listening.hpp"

namespace bight::net {
namespace {

auto option_setter(Socket& socket) noexcept {
  return [&socket](int level, int name, int value) {
    std::error_code error;
    socket.set_option(level, name, value, error);
    return error;
  };
}

}  // namespace

// --- Making one ------------------------------------------------------------------------------------------------------

TcpListener::TcpListener(Socket socket, const ListenOptions& options) noexcept
    : acceptor_(std::move(socket), options.accept_budget, options.exhausted_pause), options_(options) {}

TcpListener TcpListener::bind(const Address& address, const ListenOptions& options, std::error_code& error) noexcept {
  Socket socket = Socket::open(address.family(), SOCK_STREAM, IPPROTO_TCP, error);
  if (error) return {};
  error = detail::set_listening_options(options, address.family(), option_setter(socket));
  if (!error) socket.bind(address.native(), address.native_size(), error);
  if (!error) socket.listen(options.backlog, error);
  if (error) return {};
  return {std::move(socket), options};
}

TcpListener TcpListener::bind(const Address& address, const ListenOptions& options) {
  std::error_code error;
  TcpListener listener = bind(address, options, error);
  if (error) bight::detail::throw_error(error, "bind " + address.to_string());
  return listener;
}

TcpListener TcpListener::bind(std::string_view address, const ListenOptions& options) {
  return bind(Address::parse(address), options);
}

TcpListener TcpListener::adopt(Fd listening, const ListenOptions& options) {
  const std::string what = "adopt descriptor " + std::to_string(listening.get()) + " as a listener";
  if (!listening) bight::detail::throw_error(std::make_error_code(std::errc::bad_file_descriptor), what);
  Socket socket(listening.get());
  static_cast<void>(listening.release());
  std::error_code error;
  if (socket.option(SOL_SOCKET, SO_ACCEPTCONN, error) == 0 && !error) {
    error = std::make_error_code(std::errc::invalid_argument);
  }
  if (error) bight::detail::throw_error(error, what);
  // A Unix socket has no such options and needs none.
  static_cast<void>(detail::set_inherited_options(option_setter(socket)));
  return {std::move(socket), options};
}

TcpListener TcpListener::share(Fd listening, const ListenOptions& options) {
  TcpListener listener = adopt(std::move(listening), options);
  listener.shared_ = true;
  return listener;
}

// --- Accepting -------------------------------------------------------------------------------------------------------

TcpStream TcpListener::accept() {
  std::error_code error;
  TcpStream stream = accept(error);
  if (error) detail::throw_with_local(error, "accept on", acceptor_.socket());
  return stream;
}

TcpStream TcpListener::accept(std::error_code& error) { return TcpStream(acceptor_.accept(error)); }

// --- The rest --------------------------------------------------------------------------------------------------------

void TcpListener::close() noexcept { acceptor_.close(); }

Address TcpListener::local_address() const {
  std::error_code error;
  const Address address = local_address(error);
  if (error) bight::detail::throw_error(error, "find the address of a listener");
  return address;
}

Address TcpListener::local_address(std::error_code& error) const noexcept {
  ::sockaddr_storage address{};
  const ::socklen_t length = acceptor_.socket().local_name(address, error);
  return error ? Address() : Address::from_native(reinterpret_cast<const ::sockaddr*>(&address), length);
}

bool TcpListener::has_waiting() const noexcept {
  ::pollfd poll{acceptor_.socket().fd(), POLLIN, 0};
  return is_open() && ::poll(&poll, 1, 0) > 0;
}

void TcpListener::set_timeout(Duration limit) noexcept { acceptor_.socket().set_read_timeout(limit); }

}  // namespace bight::net
