// SPDX-License-Identifier: Apache-2.0
#include <sys/socket.h>
#include <unistd.h>

#include <bight/error.hpp>
#include <bight/net/unix.hpp>

#include "describe.hpp"
#include "unix_naming.hpp"

namespace bight::net {

UnixListener::UnixListener(Socket socket, UnixAddress address, const UnixListenOptions& options)
    : acceptor_(std::move(socket), options.accept_budget, options.exhausted_pause),
      options_(options),
      address_(std::move(address)),
      owner_(options.remove_on_close ? ::getpid() : 0) {
  const detail::FileIdentity identity = detail::identity_of(address_);
  device_ = identity.device;
  inode_ = identity.inode;
}

UnixListener& UnixListener::operator=(UnixListener&& other) noexcept {
  if (this != &other) {
    close();
    acceptor_ = std::move(other.acceptor_);
    options_ = other.options_;
    address_ = std::move(other.address_);
    owner_ = other.owner_;
    device_ = other.device_;
    inode_ = other.inode_;
  }
  return *this;
}

UnixListener UnixListener::bind(const UnixAddress& address, const UnixListenOptions& options, std::error_code& error) {
  Socket socket = Socket::open(AF_UNIX, SOCK_STREAM, 0, error);
  if (error) return {};
  detail::bind_name(socket, SOCK_STREAM, address, options.mode, options.remove_stale, error);
  if (!error) socket.listen(options.backlog, error);
  if (error) return {};
  ::sockaddr_storage bound{};  // which a system chooses that is given no name
  const ::socklen_t length = socket.local_name(bound, error);
  if (error) return {};
  return {std::move(socket), UnixAddress::from_native(reinterpret_cast<const ::sockaddr*>(&bound), length), options};
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
  // First, so that a server that comes after this one does not find a path that is about to go.
  detail::remove_own_name(address_, owner_, {device_, inode_});
  acceptor_.close();
}

}  // namespace bight::net
