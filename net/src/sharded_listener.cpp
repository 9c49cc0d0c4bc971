// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include <bight/check.hpp>
#include <bight/error.hpp>
#include <bight/net/tcp.hpp>

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

}  // namespace

ShardedListener ShardedListener::bind(const Address& address, std::size_t count, const ListenOptions& options) {
  BIGHT_CHECK(count > 0, "a ShardedListener needs one shard at least");
  ShardedListener result;
  result.address_ = address;
  result.options_ = options;
  result.options_.reuse_port = true;
  result.owner_ = ::getpid();
  std::error_code error;
  // Sockets that share their port do not mind those of others. One that does not share it finds out, and goes.
  if (address.port() != 0 && !options.reuse_port) static_cast<void>(bind_to(address, options, error));
  for (std::size_t i = 0; i < count && !error; ++i) {
    result.sockets_.push_back(listen_on(result.address_, result.options_, error));
    if (i == 0 && !error) result.address_ = address_of(result.sockets_.front());  // the port, where there was none
  }
  if (error) bight::detail::throw_error(error, "bind " + result.address_.to_string());
  return result;
}

TcpListener ShardedListener::listener(const Shard& shard) {
  BIGHT_CHECK(shard.index() < sockets_.size(),
              "this ShardedListener was bound for fewer shards than run_shards has, or its sockets are gone already");
  if (::getpid() != owner_) {
    Fd own = std::move(sockets_[shard.index()]);
    close();
    return TcpListener::adopt(std::move(own), options_);
  }
  Fd own(::fcntl(sockets_[shard.index()].get(), F_DUPFD_CLOEXEC, 0));
  if (const std::error_code error = outcome(own.get())) {
    bight::detail::throw_error(error, "take over the listener of " + address_.to_string());
  }
  return TcpListener::adopt(std::move(own), options_);
}

}  // namespace bight::net
