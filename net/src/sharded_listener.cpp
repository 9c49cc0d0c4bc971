// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <string>
#include <utility>

#include <bight/check.hpp>
#include <bight/error.hpp>
#include <bight/net/tcp.hpp>
#include <bight/passed_sockets.hpp>

#include "listening.hpp"

// Everything here happens before there is a loop, or in a worker that is about to get one, so with plain system calls.

namespace bight::net {
namespace {

std::error_code outcome(int returned) noexcept {
  return returned < 0 ? std::error_code(errno, std::generic_category()) : std::error_code();
}

Fd bind_to(const Address& address, const ListenOptions& options, std::error_code& error) noexcept {
  Fd socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  error = outcome(socket.get());
  if (error) return {};
  error = detail::set_listening_options(options, address.family(), [&](int level, int name, int value) {
    return outcome(::setsockopt(socket.get(), level, name, &value, sizeof value));
  });
  if (!error) error = outcome(::bind(socket.get(), address.native(), address.native_size()));
  return socket;
}

Fd listen_on(const Address& address, const ListenOptions& options, std::error_code& error) noexcept {
  Fd socket = bind_to(address, options, error);
  if (!error) error = outcome(::listen(socket.get(), options.backlog));
  return socket;
}

Address address_of(const Fd& socket) {
  ::sockaddr_storage name{};
  ::socklen_t length = sizeof name;
  auto* native = reinterpret_cast<::sockaddr*>(&name);
  if (const std::error_code error = outcome(::getsockname(socket.get(), native, &length))) {
    bight::detail::throw_error(error, "find the address of a listener");
  }
  return Address::from_native(native, length);
}

/// Whether it listens, and there.
bool listens_at(int fd, const Address& address) noexcept {
  int listens = 0;
  ::socklen_t size = sizeof listens;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || listens == 0) return false;
  ::sockaddr_storage name{};
  ::socklen_t length = sizeof name;
  auto* native = reinterpret_cast<::sockaddr*>(&name);
  return ::getsockname(fd, native, &length) == 0 && (name.ss_family == AF_INET || name.ss_family == AF_INET6) &&
         Address::from_native(native, length) == address;
}

/// For the second and later ones with the same address (port 0, say), so that a successor asks in the same order.
std::string name_for(const Address& address) {
  static std::map<std::string, int> asked;
  const std::string text = address.to_string();
  const int before = asked[text]++;
  return before == 0 ? text : text + "#" + std::to_string(before);
}

}  // namespace

ShardedListener::ShardedListener(Fd socket, const ListenOptions& options, std::string name)
    : address_(address_of(socket)), options_(options), socket_(std::move(socket)), owner_(::getpid()) {
  passed_sockets::offer(std::move(name), socket_.get());
}

ShardedListener ShardedListener::bind(const Address& address, const ListenOptions& options) {
  std::string name = name_for(address);
  Fd socket = passed_sockets::take(name);
  if (!socket) socket = passed_sockets::take_if([&](int fd) { return listens_at(fd, address); });
  std::error_code error;
  if (socket) {
    static_cast<void>(::listen(socket.get(), options.backlog));  // for a backlog that has changed
  } else {
    socket = listen_on(address, options, error);
  }
  if (error) bight::detail::throw_error(error, "bind " + address.to_string());
  return {std::move(socket), options, std::move(name)};
}

ShardedListener ShardedListener::passed(std::string_view name, const ListenOptions& options) {
  Fd socket = passed_sockets::take(name);
  if (!socket) {
    bight::detail::throw_error(std::make_error_code(std::errc::no_such_device_or_address),
                               "take the socket '" + std::string(name) + "' that was to be passed");
  }
  return {std::move(socket), options, std::string(name)};
}

TcpListener ShardedListener::listener(const Shard&) {
  BIGHT_CHECK(socket_, "a worker's listener can be had once, and not after close()");
  if (::getpid() != owner_) {
    passed_sockets::withdraw(socket_.get());
    return TcpListener::share(std::move(socket_), options_);
  }
  Fd own(::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0));
  if (const std::error_code error = outcome(own.get())) {
    bight::detail::throw_error(error, "take over the listener of " + address_.to_string());
  }
  return TcpListener::share(std::move(own), options_);
}

void ShardedListener::close() noexcept {
  if (socket_) passed_sockets::withdraw(socket_.get());
  socket_.reset();
}

}  // namespace bight::net
