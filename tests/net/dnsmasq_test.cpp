// SPDX-License-Identifier: Apache-2.0
// The resolver against a real name server: a dnsmasq of our own.
#include <unistd.h>

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/net/dial.hpp>
#include <bight/net/dns.hpp>
#include <bight/scope.hpp>

#include "dns_world.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::DnsError;
using net::Resolver;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

/// Without any configuration of the machine's.
struct Dnsmasq : NameServerProcess {
  static constexpr const char* kProgram = "/usr/sbin/dnsmasq";

  Dnsmasq() : NameServerProcess(kProgram, &arguments) {}

  static std::vector<std::string> arguments(std::uint16_t port) {
    std::string many = "--txt-record=long.example";
    for (int i = 0; i < 20; ++i) many += ',' + std::string(200, static_cast<char>('a' + i));
    std::vector<std::string> result{"--keep-in-foreground",
                                    "--conf-file=/dev/null",
                                    "--no-resolv",
                                    "--no-hosts",
                                    "--pid-file=",
                                    "--port=" + std::to_string(port),
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
    if (::geteuid() == 0) result.emplace_back("--user=root");
    return result;
  }
};

class DnsmasqTest : public DnsWorldTest {};

template <class Body>
void with_dnsmasq(Body&& body) {
  with_name_server<Dnsmasq>(std::forward<Body>(body));
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
