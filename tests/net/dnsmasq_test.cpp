// SPDX-License-Identifier: Apache-2.0
// The resolver against a real name server: a dnsmasq of our own.
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/fd.hpp>
#include <bight/net/dial.hpp>
#include <bight/net/dns.hpp>
#include <bight/scope.hpp>

#include "net_test.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::DnsError;
using net::Resolver;
using net::ResolverOptions;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr const char* kProgram = "/usr/sbin/dnsmasq";

/// A process on a free port of 127.0.0.1, without any configuration of the machine's.
class Dnsmasq {
 public:
  Dnsmasq() {
    if (::access(kProgram, X_OK) != 0) return;
    for (int tried = 0; tried < 5 && !ready_; ++tried) start();
  }
  Dnsmasq(const Dnsmasq&) = delete;
  Dnsmasq& operator=(const Dnsmasq&) = delete;
  ~Dnsmasq() { stop(); }

  [[nodiscard]] bool ready() const noexcept { return ready_; }
  [[nodiscard]] ResolverOptions options() const {
    ResolverOptions options;
    options.servers = {Address::loopback_v4(port_)};
    options.timeout = 500ms;  // what it has no room for is lost, and asked for again
    options.tries = 10;
    options.resolv_conf.clear();
    options.hosts.clear();
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

  void start() {
    find_port();
    std::string many = "--txt-record=long.example";
    for (int i = 0; i < 20; ++i) many += ',' + std::string(200, static_cast<char>('a' + i));
    std::vector<std::string> arguments{kProgram,
                                       "--keep-in-foreground",
                                       "--conf-file=/dev/null",
                                       "--no-resolv",
                                       "--no-hosts",
                                       "--pid-file=",
                                       "--port=" + std::to_string(port_),
                                       "--listen-address=127.0.0.1",
                                       "--bind-interfaces",
                                       "--local=/example/",
                                       "--log-facility=/dev/null",
                                       "--local-ttl=30",
                                       "--host-record=both.example,127.0.0.7,::1",
                                       "--host-record=v4.example,127.0.0.1",
                                       "--cname=alias.example,v4.example",
                                       "--mx-host=example,mail.example,10",
                                       "--srv-host=_x._tcp.example,v4.example,5060,1,2",
                                       "--txt-record=example,hello,world",
                                       "--ptr-record=9.2.0.192.in-addr.arpa,nine.example",
                                       many};
    if (::geteuid() == 0) arguments.emplace_back("--user=root");
    std::vector<char*> argv;
    for (std::string& each : arguments) argv.push_back(each.data());
    argv.push_back(nullptr);
    if (::posix_spawn(&pid_, kProgram, nullptr, nullptr, argv.data(), environ) != 0) return;
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

class DnsmasqTest : public NetTest {};

/// The body on a loop of a real engine with a server; skipped where there is none.
template <class Body>
void with_dnsmasq(Body&& body) {
  if (net::default_resolver_backend() != net::ResolverBackend::dns) GTEST_SKIP() << "a build without c-ares";
  on_loop([&] {
    if (on_sim()) GTEST_SKIP() << "there are no processes in a simulated world";
    Dnsmasq server;
    if (!server.ready()) GTEST_SKIP() << "there is no " << kProgram;
    body(server);
  });
}

std::vector<std::string> texts(const std::vector<Address>& addresses) {
  std::vector<std::string> result;
  for (const Address& each : addresses) result.push_back(each.host());
  return result;
}

TEST_F(DnsmasqTest, AnswersAll) {
  with_dnsmasq([](Dnsmasq& server) {
    Resolver resolver(server.options());
    EXPECT_THAT(texts(resolver.resolve("both.example")), UnorderedElementsAre("::1", "127.0.0.7"));
    const net::HostInfo alias = resolver.lookup("Alias.Example");
    EXPECT_THAT(texts(alias.addresses), ElementsAre("127.0.0.1"));
    EXPECT_EQ(alias.canonical_name, "v4.example");
    EXPECT_GT(alias.ttl, 20s);
    EXPECT_THAT(resolver.mx("example"), ElementsAre(net::MxRecord{10, "mail.example"}));
    EXPECT_THAT(resolver.srv("_x._tcp.example"), ElementsAre(net::SrvRecord{1, 2, 5060, "v4.example"}));
    EXPECT_THAT(resolver.txt("example"), ElementsAre("helloworld"));
    EXPECT_THAT(resolver.reverse(Address::parse("192.0.2.9:0")), ElementsAre("nine.example"));
    EXPECT_EQ(resolver.cname("alias.example"), "v4.example");
    std::error_code error;
    static_cast<void>(resolver.resolve("nobody.example", error));
    EXPECT_EQ(error, DnsError::no_such_name);
    static_cast<void>(resolver.mx("v4.example", error));
    EXPECT_EQ(error, DnsError::no_data);
    static_cast<void>(resolver.resolve("elsewhere.test", error));
    EXPECT_EQ(error, DnsError::refused) << error.message();
  });
}

TEST_F(DnsmasqTest, LongAnswersComeByTcp) {
  with_dnsmasq([](Dnsmasq& server) {
    Resolver resolver(server.options());
    const auto found = resolver.txt("long.example");
    ASSERT_EQ(found.size(), 1U);
    EXPECT_EQ(found.front().size(), 4000U);
    EXPECT_EQ(resolver.stats().tcp_queries, 1U);
  });
}

TEST_F(DnsmasqTest, ManyNames) {
  with_dnsmasq([](Dnsmasq& server) {
    Resolver resolver(server.options());
    Scope scope;
    int missing = 0;
    for (int i = 0; i < 200; ++i) {
      scope
          .spawn([&, i] {
            std::error_code error;
            static_cast<void>(resolver.resolve("no" + std::to_string(i) + ".example", error));
            missing += error == DnsError::no_such_name ? 1 : 0;
          })
          .detach();
    }
    scope.join();
    EXPECT_EQ(missing, 200);
  });
}

TEST_F(DnsmasqTest, ConnectsByName) {
  with_dnsmasq([](Dnsmasq& server) {
    Resolver resolver(server.options());
    auto listener = net::TcpListener::bind("127.0.0.7:0");
    const net::TcpStream stream =
        net::connect("both.example", listener.local_address().port(), {.resolver = &resolver});
    EXPECT_EQ(stream.peer_address(), listener.local_address());
  });
}

TEST_F(DnsmasqTest, GoneIsRefused) {
  with_dnsmasq([](Dnsmasq& server) {
    Resolver resolver(server.options());
    EXPECT_FALSE(resolver.resolve("v4.example").empty());
    server.stop();
    EXPECT_FALSE(resolver.resolve("v4.example").empty()) << "remembered";
    std::error_code error;
    static_cast<void>(resolver.resolve("both.example", error));
    // A child of its that has served TCP may still have the port.
    EXPECT_TRUE(error == DnsError::refused || error == DnsError::timed_out) << error.message();
  });
}

}  // namespace
}  // namespace bight::test
