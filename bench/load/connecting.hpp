// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "../common/sockets.hpp"

#include <cstdint>
#include <string>

namespace bench::load {

// Opens connections to one server. On loopback it can spread them over source addresses 127.0.0.1 to 127.0.0.64: one
// address has 28 thousand ephemeral ports, and a closed connection keeps its own for a while.
class Connecting {
 public:
  enum class Sources { one, many };

  Connecting(const Endpoint& server, Sources sources)
      : server_(server), spread_(sources == Sources::many && server.is_loopback()) {}

  // Waits until the server has accepted; throws what went wrong.
  [[nodiscard]] Descriptor connected(std::uint32_t number) const {
    Descriptor socket = open(number, 0);
    if (::connect(socket.get(), server_.raw(), Endpoint::raw_size()) != 0) {
      fail("connection " + std::to_string(number) + ": connect to " + server_.text());
    }
    return socket;
  }

  // Only begins to connect. What is sent at once waits, and what goes wrong shows at the next receive.
  [[nodiscard]] Descriptor connecting(std::uint32_t number) const {
    Descriptor socket = open(number, SOCK_NONBLOCK);
    if (::connect(socket.get(), server_.raw(), Endpoint::raw_size()) != 0 && errno != EINPROGRESS) {
      fail("connect to " + server_.text());
    }
    return socket;
  }

  [[nodiscard]] const Endpoint& server() const { return server_; }

 private:
  [[nodiscard]] Descriptor open(std::uint32_t number, int flags) const {
    Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
    if (socket.get() < 0) fail("connection " + std::to_string(number) + ": open a socket");
    set_option(socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
    if (spread_) bind_source(socket.get(), number);
    return socket;
  }

  // The port is left to connect(2), which knows that one port serves several destinations and bind(2) does not.
  static void bind_source(int fd, std::uint32_t number) {
    constexpr std::uint32_t kSources = 64;
    Endpoint source = Endpoint::of("127.0.0.1", 0);
    source.address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number % kSources);
    set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    if (::bind(fd, source.raw(), Endpoint::raw_size()) != 0) fail("bind source address " + source.text());
  }

  Endpoint server_;
  bool spread_;
};

}  // namespace bench::load
