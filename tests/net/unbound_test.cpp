// SPDX-License-Identifier: Apache-2.0
// The resolver against another real name server: an unbound of our own, with a zone of big answers, that also rotates,
// refuses and fails.
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include <stdlib.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/net/dns.hpp>
#include <bight/scope.hpp>

#include "dns_world.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::DnsError;
using net::Resolver;
using net::ResolverOptions;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

/// A folder that goes with the test.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "bight-unbound-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::generic_category(), name);
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }

  [[nodiscard]] std::string write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = path_ / name;
    std::ofstream(path) << text;
    return path.string();
  }

 private:
  std::filesystem::path path_;
};

constexpr int kHosts = 60;

std::string zone() {
  std::string text =
      "$ORIGIN example.\n"
      "@ 300 IN SOA ns root 1 3600 600 86400 30\n"
      "@ 300 IN NS ns\n"
      "ns 300 IN A 192.0.2.53\n"
      "v4 300 IN A 127.0.0.1\n"
      "both 300 IN A 127.0.0.7\n"
      "both 300 IN AAAA ::1\n"
      "empty 300 IN TXT nothing\n"
      "one 300 IN CNAME two\n"
      "two 60 IN CNAME v4\n"
      "round 300 IN CNAME about\n"
      "about 300 IN CNAME round\n"
      "@ 300 IN MX 20 second\n"
      "@ 300 IN MX 10 first\n"
      "_x._tcp 300 IN SRV 1 2 5060 v4\n"
      "*.wild 300 IN A 192.0.2.7\n"
      "Mixed-CASE 300 IN A 192.0.2.8\n";
  for (int i = 0; i < kHosts; ++i) {
    text += "many 300 IN A 198.51.100." + std::to_string(i) + '\n';
    text += "many 300 IN AAAA 2001:db8::" + std::to_string(i) + '\n';
  }
  // As much as a zone's keys and their signatures: several kilobytes in one set of records.
  for (int i = 0; i < 12; ++i) {
    text += "keys 300 IN TXT ";
    for (int j = 0; j < 5; ++j) text += '"' + std::string(250, static_cast<char>('a' + i)) + "\" ";
    text += '\n';
  }
  return text;
}

class Unbound : public Folder, public NameServerProcess {
 public:
  static constexpr const char* kProgram = "/usr/sbin/unbound";

  Unbound() : NameServerProcess(kProgram, [this](std::uint16_t port) { return arguments(port); }) {}

 private:
  [[nodiscard]] std::vector<std::string> arguments(std::uint16_t port) const {
    const std::string zone_file = write("example.zone", zone());
    const std::string number = std::to_string(port);
    return {"-d", "-c",
            write("unbound.conf",
                  "server:\n"
                  "  interface: 127.0.0.1@" +
                      number + "\n  port: " + number +
                      "\n"
                      "  chroot: \"\"\n"
                      "  username: \"\"\n"
                      "  pidfile: \"\"\n"
                      "  use-syslog: no\n"
                      "  logfile: \"/dev/null\"\n"
                      "  verbosity: 0\n"
                      "  module-config: \"iterator\"\n"
                      "  rrset-roundrobin: yes\n"
                      "  local-zone: \"secret.test.\" refuse\n"
                      "  local-data: \"9.2.0.192.in-addr.arpa. 300 IN PTR nine.example.\"\n"
                      "remote-control:\n"
                      "  control-enable: no\n"
                      // Where it may not ask, so that it fails at once.
                      "forward-zone:\n"
                      "  name: \"broken.org.\"\n"
                      "  forward-addr: 127.0.0.1@9\n"
                      "auth-zone:\n"
                      "  name: \"example.\"\n"
                      "  zonefile: \"" +
                      zone_file + "\"\n")};
  }
};

class UnboundTest : public DnsWorldTest {};

template <class Body>
void with_unbound(Body&& body) {
  with_name_server<Unbound>(std::forward<Body>(body));
}

/// Nothing is asked twice on a busy machine, where questions are counted.
ResolverOptions patient(const Unbound& server) {
  ResolverOptions options = server.options();
  options.timeout = 20s;
  return options;
}

TEST_F(UnboundTest, AnswersAll) {
  with_unbound([](Unbound& server) {
    Resolver resolver(server.options());
    EXPECT_THAT(texts(resolver.resolve("both.example")), UnorderedElementsAre("::1", "127.0.0.7"));
    EXPECT_THAT(resolver.mx("example"),
                ElementsAre(net::MxRecord{10, "first.example"}, net::MxRecord{20, "second.example"}));
    EXPECT_THAT(resolver.srv("_x._tcp.example"), ElementsAre(net::SrvRecord{1, 2, 5060, "v4.example"}));
    EXPECT_THAT(resolver.ns("example"), ElementsAre("ns.example"));
    EXPECT_THAT(resolver.txt("empty.example"), ElementsAre("nothing"));
    EXPECT_THAT(resolver.reverse(Address::parse("192.0.2.9:0")), ElementsAre("nine.example"));
    EXPECT_THAT(texts(resolver.resolve("anything.at.all.wild.example")), ElementsAre("192.0.2.7"));
    EXPECT_THAT(texts(resolver.resolve("mIXED-case.EXAMPLE")), ElementsAre("192.0.2.8"));
  });
}

TEST_F(UnboundTest, AliasesOfAliases) {
  with_unbound([](Unbound& server) {
    Resolver resolver(server.options());
    const net::HostInfo info = resolver.lookup("one.example", {.family = AF_INET});
    EXPECT_THAT(texts(info.addresses), ElementsAre("127.0.0.1"));
    EXPECT_EQ(info.canonical_name, "v4.example");
    EXPECT_LE(info.ttl, 60s) << "the least on the way";
    EXPECT_EQ(resolver.cname("one.example"), "two.example");
    std::error_code error;
    static_cast<void>(resolver.resolve("round.example", error));
    EXPECT_TRUE(error) << "an alias of itself";
  });
}

TEST_F(UnboundTest, LongAnswersComeByTcp) {
  with_unbound([](Unbound& server) {
    Resolver resolver(patient(server));
    const std::vector<std::string> keys = resolver.txt("keys.example");
    ASSERT_EQ(keys.size(), 12U);
    for (const std::string& each : keys) EXPECT_EQ(each.size(), 1250U);
    EXPECT_EQ(resolver.stats().tcp_queries, 1U);
    // 60 IPv4 addresses fit into what was offered, as many IPv6 addresses do not.
    EXPECT_EQ(resolver.resolve("many.example", {.family = AF_INET}).size(), std::size_t{kHosts});
    EXPECT_EQ(resolver.stats().tcp_queries, 1U);
    EXPECT_EQ(resolver.resolve("many.example", {.family = AF_INET6}).size(), std::size_t{kHosts});
    EXPECT_EQ(resolver.stats().tcp_queries, 2U);
    EXPECT_EQ(resolver.resolve("many.example").size(), std::size_t{2 * kHosts}) << "of both, from the cache";
    EXPECT_EQ(resolver.stats().queries, 5U) << "three by UDP, two by TCP";
  });
}

TEST_F(UnboundTest, ByTcpAlone) {
  with_unbound([](Unbound& server) {
    ResolverOptions options = patient(server);
    options.use_tcp = true;
    options.tcp_max = 4;
    Resolver resolver(options);
    Scope scope;
    std::set<std::string> found;
    for (int i = 0; i < 50; ++i) {
      scope
          .spawn([&, i] {
            const auto addresses = resolver.resolve('h' + std::to_string(i) + ".wild.example", {.family = AF_INET});
            found.insert(addresses.front().host());
          })
          .detach();
    }
    scope.join();
    EXPECT_THAT(found, ElementsAre("192.0.2.7"));
    EXPECT_EQ(resolver.stats().tcp_queries, 50U);
  });
}

TEST_F(UnboundTest, SaysNoInSeveralWays) {
  with_unbound([](Unbound& server) {
    Resolver resolver(patient(server));
    const auto error_of = [&](const char* name) {
      std::error_code error;
      static_cast<void>(resolver.resolve(name, error));
      return error;
    };
    EXPECT_EQ(error_of("nobody.example"), DnsError::no_such_name);
    EXPECT_EQ(error_of("empty.example"), DnsError::no_data);
    EXPECT_EQ(error_of("any.secret.test"), DnsError::refused);
    EXPECT_EQ(error_of("any.broken.org"), DnsError::server_failure);
    const std::uint64_t queries = resolver.stats().queries;
    EXPECT_EQ(error_of("nobody.example"), DnsError::no_such_name);
    EXPECT_EQ(error_of("empty.example"), DnsError::no_data);
    EXPECT_EQ(resolver.stats().queries, queries) << "kept, since the zone says for how long";
    EXPECT_EQ(error_of("any.broken.org"), DnsError::server_failure);
    EXPECT_GT(resolver.stats().queries, queries) << "not kept";
  });
}

TEST_F(UnboundTest, AnotherServerForWhatOneRefuses) {
  with_unbound([](Unbound& server) {
    DnsServer other([](const DnsQuestion& question) -> std::vector<Packet> {
      DnsReply reply(question);
      return {question.type == kA ? reply.a("192.0.2.1").take() : reply.soa("secret.test", 60, 60).take()};
    });
    ResolverOptions options = patient(server);
    options.servers.push_back(other.address());
    Resolver resolver(options);
    EXPECT_THAT(texts(resolver.resolve("any.secret.test")), ElementsAre("192.0.2.1"));
    EXPECT_THAT(texts(resolver.resolve("v4.example")), ElementsAre("127.0.0.1"));
    EXPECT_THAT(other.asked(), Each(::testing::HasSubstr("any.secret.test")));
  });
}

TEST_F(UnboundTest, ManyNames) {
  with_unbound([](Unbound& server) {
    Resolver resolver(server.options());
    Scope scope;
    int right = 0;
    for (int i = 0; i < 500; ++i) {
      scope
          .spawn([&, i] {
            const auto found = resolver.resolve("host" + std::to_string(i) + ".wild.example");
            right += texts(found) == std::vector<std::string>{"192.0.2.7"} ? 1 : 0;
          })
          .detach();
    }
    scope.join();
    EXPECT_EQ(right, 500);
    EXPECT_EQ(resolver.stats().cached, 1500U) << "of each name what there is, what there is not, and both in order";
  });
}

}  // namespace
}  // namespace bight::test
