// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <bight/fiber.hpp>
#include <bight/socket.hpp>

#include "bytes.hpp"

namespace bight::test {

inline void require_ok(std::error_code error, const char* what) {
  if (error) throw std::system_error(error, what);
}

/// A socket that listens on a free port of 127.0.0.1, and its address.
struct LoopbackListener {
  Socket socket;
  ::sockaddr_in address{};

  explicit LoopbackListener(int backlog = 128) {
    std::error_code error;
    socket = Socket::open(AF_INET, SOCK_STREAM, 0, error);
    require_ok(error, "socket");
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socket.bind(reinterpret_cast<const ::sockaddr*>(&address), sizeof address, error);
    require_ok(error, "bind");
    ::sockaddr_storage bound{};
    socket.local_name(bound, error);
    require_ok(error, "getsockname");
    std::memcpy(&address, &bound, sizeof address);
    socket.listen(backlog, error);
    require_ok(error, "listen");
  }

  [[nodiscard]] const ::sockaddr* name() const noexcept { return reinterpret_cast<const ::sockaddr*>(&address); }
};

/// Both ends of a TCP connection over 127.0.0.1.
struct SocketPair {
  Socket client;
  Socket server;
};

inline SocketPair connect_pair(LoopbackListener& listener, int send_buffer = 0, int receive_buffer = 0) {
  SocketPair pair;
  std::error_code error;
  if (receive_buffer != 0) listener.socket.set_option(SOL_SOCKET, SO_RCVBUF, receive_buffer, error);
  pair.client = Socket::open(AF_INET, SOCK_STREAM, 0, error);
  require_ok(error, "socket");
  if (send_buffer != 0) pair.client.set_option(SOL_SOCKET, SO_SNDBUF, send_buffer, error);
  auto accepting = spawn([&] {
    std::error_code accept_error;
    Socket accepted = listener.socket.accept(accept_error);
    require_ok(accept_error, "accept");
    return accepted;
  });
  pair.client.connect(listener.name(), sizeof listener.address, error);
  require_ok(error, "connect");
  pair.server = accepting.get();
  return pair;
}

inline SocketPair connect_pair() {
  LoopbackListener listener;
  return connect_pair(listener);
}

/// Small buffers on the way from client to server, so that little fills them.
inline SocketPair connect_narrow_pair() {
  LoopbackListener listener;
  return connect_pair(listener, 4096, 4096);
}

}  // namespace bight::test
