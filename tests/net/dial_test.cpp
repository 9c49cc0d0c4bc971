// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/net/dial.hpp>
#include <bight/scope.hpp>

#include "dns_world.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::DialOptions;
using net::DnsError;
using net::Resolver;
using net::TcpListener;
using net::TcpStream;

class DialTest : public DnsWorldTest {};

/// A listener that has let in all it can, so that who connects waits.
struct FullListener {
  TcpListener listener;
  std::vector<TcpStream> queued;

  explicit FullListener(const Address& address) : listener(TcpListener::bind(address, {.backlog = 1})) {
    std::error_code error;
    while (queued.size() < 64) {
      TcpStream stream = net::connect(listener.local_address(), {.timeout = 50ms}, error);
      if (error) break;
      queued.push_back(std::move(stream));
    }
    EXPECT_EQ(error, std::errc::timed_out);
  }
};

/// Names whose addresses are written in their labels: "4-127-0-0-1.6-1.example" has 127.0.0.1 and ::1. One with a label
/// "d4-30" or "d6-30" is answered after so many milliseconds.
std::vector<Packet> as_written(const DnsQuestion& question) {
  DnsReply reply(question);
  const std::string family = question.type == kA ? "4" : "6";
  std::string_view left = question.name;
  while (!left.empty()) {
    std::string label(left.substr(0, left.find('.')));
    left.remove_prefix(std::min(left.size(), label.size() + 1));
    if (label.starts_with('d' + family + '-')) sleep_for(std::chrono::milliseconds(std::stoi(label.substr(3))));
    if (!label.starts_with(family + '-')) continue;
    std::replace(label.begin(), label.end(), '-', question.type == kA ? '.' : ':');
    question.type == kA ? reply.a(label.substr(2)) : reply.aaaa("::" + label.substr(2));
  }
  return {reply.take()};
}

TEST_F(DialTest, ConnectsByName) {
  on_loop([] {
    DnsServer server(as_written);
    Resolver resolver(asking(server));
    auto listener = TcpListener::bind("127.0.0.1:0");
    const std::uint16_t port = listener.local_address().port();
    TcpStream client = net::connect("4-127-0-0-1.example", port, {.resolver = &resolver});
    EXPECT_EQ(client.peer_address(), listener.local_address());
    EXPECT_EQ(listener.accept().peer_address(), client.local_address());
    EXPECT_TRUE(net::dial("4-127-0-0-1.example:" + std::to_string(port), {.resolver = &resolver}).is_open());
    EXPECT_TRUE(net::connect("127.0.0.1", std::to_string(port)).is_open());
    EXPECT_TRUE(net::connect("localhost", port).is_open()) << "IPv4, since nobody listens on IPv6";
  });
}

TEST_F(DialTest, TheErrorListsWhatWasTried) {
  on_loop([] {
    DnsServer server(as_written);
    Resolver resolver(asking(server));
    const StreamPair pair = stream_pair();
    const std::uint16_t port = pair.client.local_address().port();  // where nobody listens, nor will
    const auto text_of = [&](const std::string& host) {
      return failure_of([&] { static_cast<void>(net::connect(host, port, {.resolver = &resolver})); });
    };
    const std::string number = std::to_string(port);
    const Failure two = text_of("6-1.4-127-0-0-2.example");
    EXPECT_EQ(two.code, std::errc::connection_refused);
    EXPECT_EQ(two.text, "connect 6-1.4-127-0-0-2.example:" + number + ": [::1]:" + number +
                            ": Connection refused; 127.0.0.2:" + number + ": Connection refused");
    EXPECT_EQ(text_of("127.0.0.1").text, "connect 127.0.0.1:" + number + ": Connection refused");
    EXPECT_EQ(text_of("::1").text, "connect [::1]:" + number + ": Connection refused");
    EXPECT_EQ(text_of("4-127-0-0-1.example").text,
              "connect 4-127-0-0-1.example:" + number + ": 127.0.0.1:" + number + ": Connection refused");
    const Failure none = text_of("nothing.example");
    EXPECT_EQ(none.code, DnsError::no_data);
    EXPECT_EQ(none.text, "connect nothing.example:" + number + ": the name has no such records (asked " +
                             server.address().to_string() + ")");
    EXPECT_EQ(text_of("a..b").text, "connect a..b:" + number + ": not a valid name");
  });
}

TEST_F(DialTest, Services) {
  on_loop([] {
    std::error_code error;
    EXPECT_EQ(net::Service(443).port(error), 443);
    EXPECT_EQ(net::Service("8080").port(error), 8080);
    EXPECT_FALSE(error);
    for (const char* wrong : {"", "0", "65536", "99999999999", "no-such-service-here", "-1"}) {
      EXPECT_EQ(net::Service(wrong).port(error), 0) << wrong;
      EXPECT_EQ(error, std::errc::invalid_argument) << wrong;
    }
    EXPECT_EQ(net::Service(70000).port(error), 0);
    EXPECT_EQ(failure_of([] { static_cast<void>(net::dial("localhost:no-such-service-here")); }).text,
              "connect localhost:no-such-service-here: no such port");
    EXPECT_EQ(failure_of([] { static_cast<void>(net::dial("localhost")); }).code, std::errc::invalid_argument);
    EXPECT_EQ(failure_of([] { static_cast<void>(net::dial("::1:80")); }).code, std::errc::invalid_argument);
    if (::access("/etc/services", R_OK) == 0) {
      EXPECT_EQ(net::Service("http").port(error), 80);
      EXPECT_FALSE(error);
    }
  });
}

TEST_F(DialTest, AnAddressThatDoesNotAnswerHoldsTheNextOneUpForAQuarterSecond) {
  on_loop([] {
    DnsServer server(as_written);
    Resolver resolver(asking(server));
    FullListener full(Address::parse("[::1]:0"));
    const std::uint16_t port = full.listener.local_address().port();
    auto good = TcpListener::bind(Address::loopback_v4(port));
    const std::uint64_t before = this_loop::stats().descriptors_open;
    static_cast<void>(resolver.resolve("6-1.4-127-0-0-1.example"));
    const TimePoint begin = now();
    TcpStream client = net::connect("6-1.4-127-0-0-1.example", port, {.resolver = &resolver});
    EXPECT_TRUE(client.peer_address().is_v4());
    EXPECT_GE(now() - begin, 250ms);
    EXPECT_LT(now() - begin, on_sim() ? 252ms : 3s);
    EXPECT_EQ(this_loop::stats().descriptors_open, before + 1) << "the loser is closed";
  });
}

TEST_F(DialTest, RefusedTheNextOneIsTriedAtOnce) {
  on_loop([] {
    DnsServer server(as_written);
    Resolver resolver(asking(server));
    auto good = TcpListener::bind("127.0.0.3:0");
    const DialOptions options{.attempt_delay = 10s, .resolver = &resolver};
    const TimePoint begin = now();
    TcpStream client =
        net::connect("6-1.4-127-0-0-1.4-127-0-0-2.4-127-0-0-3.example", good.local_address().port(), options);
    EXPECT_EQ(client.peer_address().host(), "127.0.0.3");
    EXPECT_LT(now() - begin, 5s);
  });
}

TEST_F(DialTest, IPv4WaitsAMomentForIPv6) {
  on_loop([] {
    DnsServer server(as_written);
    Resolver resolver(asking(server));
    auto v6 = TcpListener::bind("[::1]:0", {.v6only = true});
    const std::uint16_t port = v6.local_address().port();
    auto v4 = TcpListener::bind(Address::loopback_v4(port));
    const DialOptions options{.resolution_delay = on_sim() ? 50ms : 2s, .resolver = &resolver};
    EXPECT_TRUE(net::connect("d6-30.6-1.4-127-0-0-1.example", port, options).peer_address().is_v6());
    const DialOptions impatient{.resolution_delay = 50ms, .resolver = &resolver};
    EXPECT_TRUE(net::connect("d6-3000.6-1.4-127-0-0-1.example", port, impatient).peer_address().is_v4());
    EXPECT_TRUE(net::connect("d4-3000.6-1.4-127-0-0-1.example", port, options).peer_address().is_v6());
    EXPECT_TRUE(net::connect("d6-30.4-127-0-0-1.example", port, options).peer_address().is_v4()) << "there is no IPv6";
    if (on_sim()) {
      resolver.clear_cache();
      const TimePoint begin = now();
      static_cast<void>(net::connect("d6-3000.6-1.4-127-0-0-1.example", port, impatient));
      EXPECT_GE(now() - begin, 50ms);
      EXPECT_LT(now() - begin, 52ms);
    }
  });
}

TEST_F(DialTest, OneKindOnly) {
  on_loop([] {
    DnsServer server(as_written);
    Resolver resolver(asking(server));
    auto v6 = TcpListener::bind("[::1]:0", {.v6only = true});
    const std::uint16_t port = v6.local_address().port();
    auto v4 = TcpListener::bind(Address::loopback_v4(port));
    const std::string name = "6-1.4-127-0-0-1.example";
    EXPECT_TRUE(net::connect(name, port, {.family = AF_INET, .resolver = &resolver}).peer_address().is_v4());
    EXPECT_TRUE(net::connect(name, port, {.family = AF_INET6, .resolver = &resolver}).peer_address().is_v6());
    EXPECT_TRUE(net::connect("localhost", port, {.family = AF_INET}).peer_address().is_v4());
    server.clear();
    // What it is to come from decides, too.
    const DialOptions from{.local = Address::parse("127.0.0.9:0"), .resolver = &resolver};
    EXPECT_EQ(net::connect("new." + name, port, from).local_address().host(), "127.0.0.9");
    EXPECT_THAT(server.asked(), ::testing::ElementsAre("A new." + name));
  });
}

TEST_F(DialTest, ALimitForAllOfIt) {
  on_loop([] {
    DnsServer server(as_written);
    Resolver resolver(asking(server));
    FullListener full(Address::parse("127.0.0.1:0"));
    const std::uint16_t port = full.listener.local_address().port();
    const std::string number = std::to_string(port);
    const auto limited = [&](const std::string& host, Duration limit) {
      const TimePoint begin = now();
      const Failure failure =
          failure_of([&] { static_cast<void>(net::connect(host, port, {.timeout = limit, .resolver = &resolver})); });
      EXPECT_GE(now() - begin, limit);
      EXPECT_LT(now() - begin, limit + 5s);
      EXPECT_EQ(failure.code, std::errc::timed_out);
      return failure.text;
    };
    EXPECT_EQ(limited("127.0.0.1", 50ms), "connect 127.0.0.1:" + number + ": Connection timed out");
    EXPECT_EQ(limited("6-1.4-127-0-0-1.example", 60ms),
              "connect 6-1.4-127-0-0-1.example:" + number + ": [::1]:" + number +
                  ": Connection refused; 127.0.0.1:" + number + ": Connection timed out");
    EXPECT_EQ(limited("d4-9000.d6-9000.example", 50ms),
              "connect d4-9000.d6-9000.example:" + number + ": finding its addresses: Connection timed out");
  });
}

TEST_F(DialTest, CancelledLeavesNothing) {
  on_loop([] {
    DnsServer server(as_written);
    Resolver resolver(asking(server));
    FullListener full(Address::parse("127.0.0.1:0"));
    FullListener other(Address::parse("127.0.0.2:" + std::to_string(full.listener.local_address().port())));
    const std::uint64_t before = this_loop::stats().descriptors_open;
    const DialOptions options{.attempt_delay = 10ms, .resolver = &resolver};
    const std::uint16_t port = full.listener.local_address().port();
    EXPECT_FALSE(move_on_after(
        100ms, [&] { static_cast<void>(net::connect("4-127-0-0-1.4-127-0-0-2.example", port, options)); }));
    EXPECT_EQ(this_loop::stats().descriptors_open, before);
    std::error_code error;
    EXPECT_FALSE(move_on_after(20ms, [&] {
      static_cast<void>(net::connect("d4-9000.d6-9000.example", port, options, error));
      this_fiber::checkpoint();
    }));
    EXPECT_EQ(error, std::errc::operation_canceled);
  });
}

TEST_F(DialTest, ManyAtOnce) {
  on_loop([] {
    DnsServer server(as_written);
    Resolver resolver(asking(server));
    auto listener = TcpListener::bind("127.0.0.1:0");
    const std::uint16_t port = listener.local_address().port();
    Scope scope;
    int connected = 0;
    for (int i = 0; i < 100; ++i) {
      scope
          .spawn([&, i] {
            const std::string host = "n" + std::to_string(i % 10) + ".6-1.4-127-0-0-1.example";
            TcpStream stream = net::connect(host, port, {.resolver = &resolver});
            ++connected;
          })
          .detach();
    }
    for (int i = 0; i < 100; ++i) static_cast<void>(listener.accept());
    scope.join();
    EXPECT_EQ(connected, 100);
    EXPECT_EQ(server.asked().size(), 20U);
  });
}

}  // namespace
}  // namespace bight::test
