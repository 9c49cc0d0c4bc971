// SPDX-License-Identifier: Apache-2.0
// A server and its clients in a simulated world in which all goes wrong that may.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/log.hpp>
#include <bight/net/tcp.hpp>
#include <bight/scope.hpp>
#include <bight/stop.hpp>
#include <bight/testing.hpp>

#include "net_test.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::TcpListener;
using net::TcpStream;

class ServeChaosTest : public NetTest {
 protected:
  void SetUp() override {
    NetTest::SetUp();
    set_log_level(LogLevel::error);  // of outages there are many here
  }
  void TearDown() override {
    set_log_level(level_);
    NetTest::TearDown();
  }

 private:
  LogLevel level_ = log_level();
};

/// What a client got of the pattern before its connection broke, or all of it.
void be_client(const Address& server, std::uint64_t size, std::uint64_t& served) {
  std::error_code error;
  TcpStream stream = net::connect(server, {.timeout = 20s}, error);
  if (error) return;
  stream.set_timeout(60s);
  std::error_code write_error;
  Scope scope;
  auto writer = scope.spawn([&] {
    const auto data = pattern(size);
    stream.write_all(data, write_error);
    if (!write_error) stream.shutdown_write(write_error);
  });
  std::uint64_t received = 0;
  for (;;) {
    const Chunk chunk = stream.read(error);
    if (error || !chunk) break;
    ASSERT_TRUE(matches_pattern(chunk, received)) << "at " << received;
    received += chunk.size();
  }
  ASSERT_LE(received, size);
  if (error) stream.close();  // else the writer might wait for long
  writer.join();
  if (error || write_error) return;  // a reset is told to one of the two only: the other one sees an end (as on Linux)
  EXPECT_EQ(received, size) << "an end of stream that is none";
  ++served;
}

void serve_in_chaos(testing::Sim& sim, std::uint64_t& served, net::ServeStats& stats) {
  auto listener = TcpListener::bind("0.0.0.0:80");
  auto server = spawn([&] {
    return net::serve(listener,
                      [](TcpStream stream) {
                        stream.set_timeout(60s);
                        echo(std::move(stream));
                      },
                      {.connections_max = 8});
  });
  {
    Scope scope;
    for (std::uint64_t i = 0; i < 40; ++i) {
      scope.spawn([&, i] { be_client(Address::loopback_v4(80), i * 997, served); }).detach();
    }
  }
  // When the faults end, everybody is served again.
  sim.quiesce();
  std::uint64_t served_in_calm = 0;
  be_client(Address::loopback_v4(80), 10'000, served_in_calm);
  EXPECT_EQ(served_in_calm, 1U);
  request_stop();
  stats = server.get();
}

TEST_F(ServeChaosTest, NothingIsLostMixedUpOrStuck) {
  std::uint64_t served = 0;
  std::uint64_t faults = 0;
  for (const std::uint64_t seed : testing::seeds(30)) {
    SCOPED_TRACE(testing::replay_hint(seed));
    testing::Sim sim({.seed = seed, .faults = testing::Faults::chaotic()});
    net::ServeStats stats;
    RunOptions options;
    options.on_unhandled_error = [](const UnhandledError& error) { ADD_FAILURE() << error.text; };
    try {
      sim.run(options, [&] { serve_in_chaos(sim, served, stats); });
    } catch (const std::exception& error) {
      ADD_FAILURE() << error.what();
    }
    EXPECT_EQ(sim.leaks(), "");
    EXPECT_GE(stats.accepted, 1U);
    const testing::Counters& counters = sim.counters();
    faults += counters.resets_injected + counters.accept_failures;
    if (HasFailure()) break;
  }
  if (testing::seeds(30).size() < 30) return;  // one that is being replayed
  EXPECT_GT(served, 100U);
  EXPECT_GT(faults, 100U) << "there was no chaos";
}

TEST_F(ServeChaosTest, AcceptingRidesOutWhatIsExhausted) {
  testing::Sim sim({.faults = {.accept_abort = 0.2, .accept_exhausted = 0.3, .exhausted_max = 200ms}});
  sim.run([] {
    auto listener = TcpListener::bind("0.0.0.0:80");
    auto server = spawn([&] { return net::serve(listener, echo); });
    int served = 0;
    for (int i = 0; i < 200; ++i) {
      TcpStream client = net::connect("127.0.0.1:80");
      client.set_timeout(10s);
      std::error_code error;
      client.write_all("x", error);
      const Chunk chunk = client.read(error);
      EXPECT_NE(error, std::errc::timed_out);
      served += chunk.text() == "x" ? 1 : 0;
    }
    EXPECT_GT(served, 50);
    request_stop();
    EXPECT_LE(server.get().accepted, 200U);
  });
  EXPECT_EQ(sim.leaks(), "");
  EXPECT_GT(sim.counters().accept_failures, 10U);
}

TEST_F(ServeChaosTest, WithoutDescriptorsTheRestIsTurnedAwayAtOnce) {
  static constexpr std::size_t kClients = 20;
  static constexpr std::size_t kServed = 5;
  testing::Sim sim({.descriptors_max = 2 + kClients + kServed});  // 2: the listener and its reserve
  sim.run([] {
    auto listener = TcpListener::bind("0.0.0.0:80");
    const Address address = Address::loopback_v4(80);
    auto server = spawn([&] { return net::serve(listener, echo); });
    std::vector<TcpStream> clients;
    std::error_code error;
    for (std::size_t i = 0; i < kClients; ++i) {
      clients.emplace_back(Socket::open(AF_INET, SOCK_STREAM, 0, error));
      ASSERT_FALSE(error) << error;
    }
    for (TcpStream& each : clients) each.socket().connect(address.native(), address.native_size(), error);
    const auto served = std::count_if(clients.begin(), clients.end(), [](TcpStream& each) {
      std::error_code failure;
      each.set_timeout(10s);
      each.write_all("x", failure);
      const bool answered = each.read(failure).text() == "x";
      EXPECT_NE(failure, std::errc::timed_out) << "neither served nor turned away";
      return answered;
    });
    EXPECT_EQ(served, kServed);
    clients.clear();
    TcpStream later = net::connect(address);
    EXPECT_EQ(ask(later, "ping"), "ping") << "accepting resumes";
    request_stop();
    EXPECT_EQ(server.get().accepted, kServed + 1);
  });
  EXPECT_EQ(sim.leaks(), "");
}

}  // namespace
}  // namespace bight::test
