// SPDX-License-Identifier: Apache-2.0
#include "describe.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>

#include <bight/error.hpp>
#include <bight/net/address.hpp>
#include <bight/run.hpp>

namespace bight::net::detail {
namespace {

/// "/run/x.sock", "@abstract", or words.
std::string unix_text(const ::sockaddr_storage& address, ::socklen_t length) {
  const auto* path = reinterpret_cast<const char*>(&address) + offsetof(::sockaddr_un, sun_path);
  if (length <= offsetof(::sockaddr_un, sun_path)) return "an unnamed Unix socket";
  const std::size_t room = length - offsetof(::sockaddr_un, sun_path);
  if (*path == '\0') return '@' + std::string(path + 1, room - 1);
  return {path, ::strnlen(path, room)};
}

std::string to_text(const ::sockaddr_storage& address, ::socklen_t length) {
  if (address.ss_family == AF_UNIX) return unix_text(address, length);
  return Address::from_native(reinterpret_cast<const ::sockaddr*>(&address), length).to_string();
}

/// Returns the length of what was put into `address`; 0: the peer is not known.
::socklen_t peer_of(const Socket& socket, ::sockaddr_storage& address) noexcept {
  if (this_loop::engine_name() == "sim") {  // its descriptors mean nothing to the system
    std::error_code error;
    const ::socklen_t length = socket.peer_name(address, error);
    return error ? 0 : length;
  }
  // getpeername(2) forgets who the peer was when the connection is reset, which is when it is wanted most; SO_PEERNAME
  // does not. It fills what it is given whole or fails, so the shorter kind of address comes first.
  ::socklen_t length = sizeof(::sockaddr_in);
  if (::getsockopt(socket.fd(), SOL_SOCKET, SO_PEERNAME, &address, &length) != 0) return 0;
  if (address.ss_family == AF_UNIX) {
    length = sizeof address;
    return ::getpeername(socket.fd(), reinterpret_cast<::sockaddr*>(&address), &length) == 0 ? length : 0;
  }
  if (address.ss_family != AF_INET6) return length;
  length = sizeof(::sockaddr_in6);
  return ::getsockopt(socket.fd(), SOL_SOCKET, SO_PEERNAME, &address, &length) == 0 ? length : 0;
}

[[noreturn]] void throw_with(std::error_code error, std::string_view attempt, const Socket& socket,
                             std::string (*describe)(const Socket&)) {
  std::string what;
  if (error != std::errc::operation_canceled) {
    what = attempt;
    what.append(1, ' ').append(error == std::errc::bad_file_descriptor ? "a closed socket" : describe(socket));
  }
  bight::detail::throw_error(error, what);
}

}  // namespace

std::string describe_peer(const Socket& socket) {
  ::sockaddr_storage address{};
  const ::socklen_t length = peer_of(socket, address);
  return length != 0 ? to_text(address, length) : "a peer that is gone";
}

std::string describe_local(const Socket& socket) {
  ::sockaddr_storage address{};
  std::error_code error;
  const ::socklen_t length = socket.local_name(address, error);
  return !error ? to_text(address, length) : "an unknown address";
}

void throw_with_peer(std::error_code error, std::string_view attempt, const Socket& socket) {
  throw_with(error, attempt, socket, describe_peer);
}

void throw_with_local(std::error_code error, std::string_view attempt, const Socket& socket) {
  throw_with(error, attempt, socket, describe_local);
}

}  // namespace bight::net::detail
