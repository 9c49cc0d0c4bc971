// SPDX-License-Identifier: Apache-2.0
// UDP in worlds where datagrams get lost, doubled and mixed up.

#include <array>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/net/udp.hpp>
#include <bight/testing.hpp>

#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using net::UdpSocket;
using testing::Faults;
using testing::Sim;

std::string take(UdpSocket& socket, std::error_code& error) {
  std::array<std::byte, 100> buffer;
  const auto got = socket.receive(buffer, error);
  return {reinterpret_cast<const char*>(buffer.data()), got.size};
}

/// What arrives of a hundred datagrams.
std::vector<std::string> arrivals(Sim& sim) {
  return sim.run([] {
    auto server = UdpSocket::bind("10.0.0.1:53");
    auto client = UdpSocket::connect(server.local_address());
    for (int n = 0; n < 100; ++n) {
      client.send(std::to_string(n));
      sleep_for(1ms);
    }
    std::vector<std::string> all;
    server.set_timeout(1s);
    for (std::error_code error;;) {
      std::string text = take(server, error);
      if (error) return all;
      all.push_back(std::move(text));
    }
  });
}

TEST(UdpSim, LosesOnlyWhatAFaultTakes) {
  Sim calm;
  const auto all = arrivals(calm);
  ASSERT_EQ(all.size(), 100U);
  for (std::size_t n = 0; n < 100; ++n) EXPECT_EQ(all[n], std::to_string(n));
  EXPECT_EQ(calm.counters().datagrams, 100U);
  Sim lossy({.faults = {.datagram_loss = 0.3}});
  const auto some = arrivals(lossy);
  EXPECT_GT(lossy.counters().datagrams_lost, 5U);
  EXPECT_EQ(some.size() + lossy.counters().datagrams_lost, 100U);
  EXPECT_EQ(lossy.leaks(), "");
}

TEST(UdpSim, DoublesAndReorders) {
  Sim doubling({.faults = {.datagram_duplicate = 0.3}});
  const auto doubled = arrivals(doubling);
  EXPECT_EQ(doubled.size(), 100U + doubling.counters().datagrams_doubled);
  EXPECT_GT(doubling.counters().datagrams_doubled, 5U);
  Sim mixing({.faults = {.datagram_reorder = 0.3}});
  const auto mixed = arrivals(mixing);
  EXPECT_EQ(mixed.size(), 100U);
  bool out_of_order = false;
  for (std::size_t n = 0; n < mixed.size(); ++n) out_of_order = out_of_order || mixed[n] != std::to_string(n);
  EXPECT_TRUE(out_of_order);
}

TEST(UdpSim, TheSameSeedTheSameHistory) {
  const testing::SimOptions options{.seed = 7, .faults = Faults::chaotic()};
  Sim first(options);
  Sim second(options);
  EXPECT_EQ(arrivals(first), arrivals(second));
  EXPECT_EQ(first.trace_hash(), second.trace_hash());
}

TEST(UdpSim, AFullReceiverDrops) {
  Sim sim({.receive_buffer = 10'000});
  sim.run([&] {
    auto server = UdpSocket::bind("10.0.0.1:53");
    auto client = UdpSocket::connect(server.local_address());
    for (int n = 0; n < 100; ++n) client.send("datagram");
    sleep_for(1s);
    const std::uint64_t there = sim.counters().datagrams;
    EXPECT_LT(there, 100U);
    EXPECT_EQ(there + sim.counters().datagrams_dropped, 100U);
    std::error_code error;
    for (std::uint64_t n = 0; n < there; ++n) EXPECT_EQ(take(server, error), "datagram");
    client.send("again");
    EXPECT_EQ(take(server, error), "again");
  });
}

TEST(UdpSim, ASenderWaitsWhenTheWireIsSlow) {
  Sim sim({.bandwidth = 1'000'000, .send_buffer = 10'000});
  sim.run([] {
    auto server = UdpSocket::bind("10.0.0.1:53");
    auto client = UdpSocket::connect(server.local_address());
    const TimePoint start = now();
    const std::vector<std::byte> data(5000);
    for (int n = 0; n < 10; ++n) client.send(data);
    EXPECT_GE(now() - start, 35ms);
    EXPECT_LE(now() - start, 60ms);
  });
}

TEST(UdpSim, BroadcastReachesEverybodyOnThePort) {
  Sim sim;
  sim.run([] {
    auto first = UdpSocket::bind("*:4000", {.reuse_address = true});
    auto second = UdpSocket::bind("*:4000", {.reuse_address = true});
    auto sender = UdpSocket::bind("*:0", {.broadcast = true});
    sender.send_to("to all", net::Address::parse("255.255.255.255:4000"));
    std::error_code error;
    EXPECT_EQ(take(first, error), "to all");
    EXPECT_EQ(take(second, error), "to all");
  });
}

// Ask again until an answer comes: right in any world, with a server that answers everything it hears.
TEST(UdpSim, RetryingClientsGetThrough) {
  for (const std::uint64_t seed : testing::seeds(50)) {
    SCOPED_TRACE(testing::replay_hint(seed));
    Sim sim({.seed = seed, .faults = Faults::chaotic()});
    sim.run([] {
      auto socket = UdpSocket::bind("10.0.0.1:53");
      auto server = spawn(
          [&] { net::serve_datagrams(socket, [](const net::UdpRequest& request) { request.reply(request.data); }); });
      for (int n = 0; n < 20; ++n) {
        auto client = UdpSocket::connect(socket.local_address());
        client.set_receive_timeout(100ms);
        const std::string question = "question " + std::to_string(n);
        std::string answer;
        for (int tries = 0; tries < 100 && answer != question; ++tries) {
          std::error_code error;
          client.send(question);
          answer = take(client, error);
        }
        EXPECT_EQ(answer, question);
      }
      socket.close();
      server.join();
    });
    EXPECT_EQ(sim.leaks(), "");
  }
}

}  // namespace
}  // namespace bight
