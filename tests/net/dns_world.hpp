// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the tests of names share: resolvers that ask nobody else, and name servers that are processes.

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/fd.hpp>
#include <bight/net/dns.hpp>

#include "dns_server.hpp"
#include "net_test.hpp"

namespace bight::test {

/// Skipped where there is no resolver of our own.
class DnsWorldTest : public NetTest {
 protected:
  void SetUp() override {
    if (net::default_resolver_backend() != net::ResolverBackend::dns) GTEST_SKIP() << "a build without c-ares";
    NetTest::SetUp();
  }
};

/// That asks `servers` and no file.
inline net::ResolverOptions asking(std::vector<net::Address> servers) {
  net::ResolverOptions options;
  options.servers = std::move(servers);
  options.resolv_conf.clear();
  options.hosts.clear();
  return options;
}
inline net::ResolverOptions asking(const DnsServer& server) { return asking({server.address()}); }

/// Without their ports.
inline std::vector<std::string> texts(const std::vector<net::Address>& addresses) {
  std::vector<std::string> result;
  for (const net::Address& each : addresses) result.push_back(each.host());
  return result;
}

/// A program on a free port of 127.0.0.1, UDP's and TCP's, until the end of the test.
class NameServerProcess {
 public:
  /// `arguments` are those of the program, without its name, for the port that it is to have.
  NameServerProcess(const char* program, const std::function<std::vector<std::string>(std::uint16_t port)>& arguments) {
    if (::access(program, X_OK) != 0) return;
    for (int tried = 0; tried < 5 && !ready_; ++tried) {
      find_port();
      start(program, arguments(port_));
    }
  }
  NameServerProcess(const NameServerProcess&) = delete;
  NameServerProcess& operator=(const NameServerProcess&) = delete;
  ~NameServerProcess() { stop(); }

  /// It runs and answers. Else there is no such program.
  [[nodiscard]] bool ready() const noexcept { return ready_; }
  [[nodiscard]] net::Address server() const { return net::Address::loopback_v4(port_); }
  [[nodiscard]] net::ResolverOptions options() const {
    net::ResolverOptions options = asking({server()});
    options.timeout = std::chrono::milliseconds(500);  // what it has no room for is lost, and asked for again
    options.tries = 10;
    return options;
  }
  void stop() noexcept {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  [[nodiscard]] ::sockaddr_in address() const {
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  void find_port() {
    port_ = 0;
    const Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ::sockaddr_in bound = address();
    ::socklen_t size = sizeof bound;
    ASSERT_EQ(::bind(probe.get(), reinterpret_cast<const ::sockaddr*>(&bound), size), 0);
    ::getsockname(probe.get(), reinterpret_cast<::sockaddr*>(&bound), &size);
    port_ = ntohs(bound.sin_port);
  }

  [[nodiscard]] bool answers() const {
    const Fd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const ::sockaddr_in target = address();
    return ::connect(probe.get(), reinterpret_cast<const ::sockaddr*>(&target), sizeof target) == 0;
  }

  void start(const char* program, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), program);
    std::vector<char*> argv;
    for (std::string& each : arguments) argv.push_back(each.data());
    argv.push_back(nullptr);
    if (::posix_spawn(&pid_, program, nullptr, nullptr, argv.data(), environ) != 0) return;
    for (int i = 0; i < 2000 && !ready_; ++i) {
      if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {  // somebody took the port meanwhile
        pid_ = 0;
        return;
      }
      ready_ = answers();
      if (!ready_) ::poll(nullptr, 0, 5);
    }
  }

  ::pid_t pid_ = 0;
  std::uint16_t port_ = 0;
  bool ready_ = false;
};

/// The body on a loop of a real engine with a `Server`, which is a NameServerProcess; skipped where there is none.
template <class Server, class Body>
void with_name_server(Body&& body) {
  on_loop([&] {
    if (on_sim()) GTEST_SKIP() << "there are no processes in a simulated world";
    Server server;
    if (!server.ready()) GTEST_SKIP() << "there is no " << Server::kProgram;
    body(server);
  });
}

}  // namespace bight::test
