// SPDX-License-Identifier: Apache-2.0
#pragma once

// A name server that does next to nothing: 192.0.2.1 for every name, no address of another kind.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "../common/error.hpp"

namespace bench {

class NameServer {
 public:
  explicit NameServer(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    if (fd_ < 0) fail("make a socket");
    const int buffer = 4 * 1024 * 1024;
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ::socklen_t size = sizeof address;
    if (::bind(fd_, reinterpret_cast<const ::sockaddr*>(&address), size) != 0) fail("bind a UDP socket");
    ::getsockname(fd_, reinterpret_cast<::sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  NameServer(const NameServer&) = delete;
  NameServer& operator=(const NameServer&) = delete;
  ~NameServer() { ::close(fd_); }

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

  // Answers one question after the other, for ever, or until there has been none for a second (`once_asked`).
  void serve(bool once_asked) {
    const ::timeval limit{1, 0};
    if (once_asked) ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    std::array<unsigned char, 1024> packet{};
    for (;;) {
      ::sockaddr_in peer{};
      ::socklen_t peer_size = sizeof peer;
      const ::ssize_t size = ::recvfrom(fd_, packet.data(), 512, 0, reinterpret_cast<::sockaddr*>(&peer), &peer_size);
      if (size < 0 && errno == EAGAIN) return;
      if (size < 17) continue;
      const std::size_t length = answer(packet.data(), static_cast<std::size_t>(size));
      ::sendto(fd_, packet.data(), length, 0, reinterpret_cast<const ::sockaddr*>(&peer), peer_size);
    }
  }

 private:
  // Turns a question into its answer, in place.
  static std::size_t answer(unsigned char* packet, std::size_t size) {
    static constexpr std::array<unsigned char, 16> kRecord{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1};
    std::size_t at = 12;
    while (at < size && packet[at] != 0) at += packet[at] + std::size_t{1};
    const std::size_t end = at + 5;
    if (end > size) return 12;
    const bool address = packet[at + 1] == 0 && packet[at + 2] == 1;
    packet[2] = 0x81;
    packet[3] = 0x80;
    std::memset(packet + 6, 0, 6);
    if (!address) return end;
    packet[7] = 1;
    std::memcpy(packet + end, kRecord.data(), kRecord.size());
    return end + kRecord.size();
  }

  int fd_;
  std::uint16_t port_ = 0;
};

}  // namespace bench
