// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>

#include <bight/error.hpp>
#include <bight/net/unix.hpp>

#include "describe.hpp"
#include "unix_naming.hpp"

namespace bight::net {

UnixListener::UnixListener(Socket socket, detail::BoundPath path, const UnixListenOptions& options) noexcept
    : acceptor_(std::move(socket), options.accept_budget, options.exhausted_pause),
      options_(options),
      path_(std::move(path)) {}

UnixListener UnixListener::bind(const UnixAddress& address, const UnixListenOptions& options, std::error_code& error) {
  Socket socket = Socket::open(AF_UNIX, SOCK_STREAM, 0, error);
  if (error) return {};
  detail::bind_name(socket, SOCK_STREAM, address, options.mode, options.remove_stale, error);
  if (!error) socket.listen(options.backlog, error);
  if (error) return {};
  detail::BoundPath path(socket, options.remove_on_close, error);
  if (error) return {};
  return {std::move(socket), std::move(path), options};
}

UnixListener UnixListener::bind(const UnixAddress& address, const UnixListenOptions& options) {
  std::error_code error;
  UnixListener listener = bind(address, options, error);
  if (error) bight::detail::throw_error(error, "bind " + address.to_string());
  return listener;
}

UnixStream UnixListener::accept(std::error_code& error) { return UnixStream(acceptor_.accept(error)); }

UnixStream UnixListener::accept() {
  std::error_code error;
  UnixStream stream = accept(error);
  if (error) detail::throw_with_local(error, "accept on", acceptor_.socket());
  return stream;
}

void UnixListener::close() noexcept {
  if (!is_open()) return;
  path_.remove();
  acceptor_.close();
}

}  // namespace bight::net
