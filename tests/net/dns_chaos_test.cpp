// SPDX-License-Identifier: Apache-2.0
// A resolver and its servers in simulated worlds in which all goes wrong that may: every answer is right or an error,
// nothing hangs, nothing is left, and what a seed has decided happens again.

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/log.hpp>
#include <bight/net/dial.hpp>
#include <bight/net/dns.hpp>
#include <bight/scope.hpp>
#include <bight/testing.hpp>

#include "dns_world.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::DnsError;
using net::Resolver;
using net::ResolverOptions;

class DnsChaosTest : public DnsWorldTest {
 protected:
  void SetUp() override {
    DnsWorldTest::SetUp();
    set_log_level(LogLevel::error);
  }
  void TearDown() override {
    set_log_level(level_);
    DnsWorldTest::TearDown();
  }

 private:
  LogLevel level_ = log_level();
};

/// The right answer depends on the name: "n17..." has 192.0.2.17. By the number, it comes cut, late, or after garbage.
std::vector<Packet> by_number(const DnsQuestion& question) {
  const int number = std::stoi(question.name.substr(1));
  if (number % 11 == 3) return {DnsReply(question).rcode(3).soa("example", 60, 5).take()};
  if (number % 7 == 2 && !question.tcp) return {DnsReply(question).truncated().take()};
  if (number % 5 == 1) sleep_for(std::chrono::milliseconds(number * 7));
  std::vector<Packet> packets;
  if (number % 3 == 1) {
    Packet forged = DnsReply(question).a("203.0.113.66").take();
    forged[0] ^= 0x40;
    packets.push_back(std::move(forged));
    packets.push_back(Packet(17, 0xee));
  }
  DnsReply reply(question);
  if (question.type == kA) {
    reply.a("192.0.2." + std::to_string(number), 2);
  } else {
    reply.soa("example", 2, 2);
  }
  packets.push_back(reply.take());
  if (question.tcp) packets.erase(packets.begin(), packets.end() - 1);
  return packets;
}

void check(int number, const std::vector<Address>& found, std::error_code error) {
  if (number % 11 == 3) {
    EXPECT_TRUE(error);
    return;
  }
  if (error) return;
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found.front().host(), "192.0.2." + std::to_string(number));
}

/// With limits that it soon runs into.
ResolverOptions narrow(std::vector<Address> servers) {
  ResolverOptions options = asking(std::move(servers));
  options.timeout = 200ms;
  options.queries_max = 10;
  options.ports_max = 3;
  options.port_queries = 7;
  options.cache_entries = 25;
  return options;
}

struct Outcome {
  std::uint64_t hash = 0;
  int found = 0;
};

Outcome run_world(std::uint64_t seed) {
  testing::Sim sim{{.seed = seed, .faults = testing::Faults::chaotic(), .faults_until = 20s}};
  Outcome outcome;
  sim.run([&] {
    DnsServer one(by_number);
    DnsServer two(by_number);
    Resolver resolver(narrow({one.address(), two.address()}));
    std::mt19937 random(static_cast<std::uint32_t>(seed));
    Scope scope;
    for (int i = 0; i < 20; ++i) {
      scope
          .spawn([&] {
            for (int j = 0; j < 15; ++j) {
              const int number = static_cast<int>(random() % 60);
              const auto limit = std::chrono::milliseconds(random() % 1000);
              const std::string name = 'n' + std::to_string(number) + ".example";
              std::error_code error;
              std::vector<Address> found;
              const bool whole = move_on_after(limit, [&] {
                found = resolver.resolve(name, error);
                this_fiber::checkpoint();
              });
              if (whole || !error) check(number, found, error);
              outcome.found += found.empty() ? 0 : 1;
            }
          })
          .detach();
    }
    scope.join();
    sim.quiesce();
    sleep_for(5s);
    for (const int number : {0, 1, 2, 4, 9, 16}) {
      std::error_code error;
      const auto found = resolver.resolve('n' + std::to_string(number) + ".example", error);
      EXPECT_FALSE(error) << number << ": " << error.message();
      check(number, found, error);
    }
    EXPECT_EQ(resolver.stats().in_flight, 0U);
  });
  EXPECT_EQ(sim.leaks(), "");
  outcome.hash = sim.trace_hash();
  return outcome;
}

TEST_F(DnsChaosTest, EveryAnswerIsRightOrAnError) {
  int found = 0;
  for (const std::uint64_t seed : testing::seeds(60)) {
    SCOPED_TRACE(testing::replay_hint(seed));
    found += run_world(seed).found;
    if (HasFailure()) break;
  }
  EXPECT_GT(found, 0);
}

TEST_F(DnsChaosTest, WhatASeedDecidesHappensAgain) {
  for (const std::uint64_t seed : testing::seeds(3)) {
    const Outcome first = run_world(seed);
    const Outcome second = run_world(seed);
    EXPECT_EQ(first.hash, second.hash) << testing::replay_hint(seed);
    EXPECT_EQ(first.found, second.found) << testing::replay_hint(seed);
  }
}

TEST_F(DnsChaosTest, ConnectsInTheEndOrSaysWhyNot) {
  for (const std::uint64_t seed : testing::seeds(40, 1000)) {
    SCOPED_TRACE(testing::replay_hint(seed));
    testing::Sim sim{{.seed = seed, .faults = testing::Faults::chaotic(), .faults_until = 30s}};
    sim.run([&] {
      DnsServer server([](const DnsQuestion& question) -> std::vector<Packet> {
        DnsReply reply(question);
        question.type == kA ? reply.a("127.0.0.1").a("127.0.0.2") : reply.aaaa("::1");
        return {reply.take()};
      });
      Resolver resolver(narrow({server.address()}));
      auto listener = net::TcpListener::bind("127.0.0.2:0");
      const std::uint16_t port = listener.local_address().port();
      auto accepting = spawn([&] {
        std::error_code error;
        while (!error) static_cast<void>(listener.accept(error));
      });
      for (int i = 0; i < 10; ++i) {
        std::error_code error;
        const net::TcpStream stream =
            net::connect("three.example", port, {.timeout = 3s, .resolver = &resolver}, error);
        EXPECT_NE(stream.is_open(), static_cast<bool>(error));
      }
      sim.quiesce();
      sleep_for(5s);
      EXPECT_TRUE(net::connect("three.example", port, {.resolver = &resolver}).is_open());
      listener.close();
      accepting.join();
    });
    EXPECT_EQ(sim.leaks(), "");
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace bight::test
