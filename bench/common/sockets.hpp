// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "error.hpp"

#include <cstdint>
#include <string>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench {

// Owns a descriptor.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// An IPv4 endpoint; a benchmark on loopback needs neither names nor IPv6.
struct Endpoint {
  sockaddr_in address{};

  static Endpoint of(const std::string& host, std::uint16_t port) {
    Endpoint endpoint;
    endpoint.address.sin_family = AF_INET;
    endpoint.address.sin_port = htons(port);
    if (::inet_pton(AF_INET, host.c_str(), &endpoint.address.sin_addr) != 1) {
      throw UsageError("--host wants an IPv4 address, not '" + host + "'");
    }
    return endpoint;
  }

  static Endpoint local_of(int fd) {
    Endpoint endpoint;
    socklen_t size = sizeof endpoint.address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&endpoint.address), &size) != 0) fail("getsockname");
    return endpoint;
  }

  [[nodiscard]] const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&address); }
  [[nodiscard]] static constexpr socklen_t raw_size() { return sizeof(sockaddr_in); }
  [[nodiscard]] bool is_loopback() const { return (ntohl(address.sin_addr.s_addr) >> 24) == 127; }

  [[nodiscard]] std::string text() const {
    char host[INET_ADDRSTRLEN] = "";
    ::inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
    return std::string(host) + ":" + std::to_string(ntohs(address.sin_port));
  }
};

inline void set_option(int fd, int level, int name, int value) {
  if (::setsockopt(fd, level, name, &value, sizeof value) != 0) fail("setsockopt");
}

// The soft limit of descriptors is often 1024 while the hard one allows far more.
inline void allow_many_descriptors() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// TCP_NODELAY is set on the listener because Linux hands it down to every accepted socket: one system call less per
// connection.
inline Descriptor listen_on(const Endpoint& endpoint) {
  Descriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (listener.get() < 0) fail("open a socket");
  set_option(listener.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  set_option(listener.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  if (::bind(listener.get(), endpoint.raw(), Endpoint::raw_size()) != 0) fail("bind " + endpoint.text());
  if (::listen(listener.get(), SOMAXCONN) != 0) fail("listen on " + endpoint.text());
  return listener;
}

}  // namespace bench
