// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <csignal>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/log.hpp>
#include <bight/net/tcp.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/shards.hpp>

#include "child.hpp"
#include "net_test.hpp"
#include "on_loop.hpp"
#include "supervised.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::ShardedListener;
using net::TcpListener;
using net::TcpStream;

class ShardedListenerTest : public NetTest {
 protected:
  void SetUp() override {
    NetTest::SetUp();
    if (run([] { return on_sim(); })) GTEST_SKIP() << "needs descriptors that outlive a loop";
  }
};

TEST_F(ShardedListenerTest, OnePortForAll) {
  for (const Address& address : {Address::loopback_v4(0), Address::loopback_v6(0)}) {
    ShardedListener shared = ShardedListener::bind(address);
    EXPECT_NE(shared.local_address().port(), 0);
    EXPECT_EQ(shared.local_address().with_port(0), address);
    on_loop([&] {
      std::vector<TcpListener> listeners;
      for (std::size_t i = 0; i < 4; ++i) listeners.push_back(shared.listener(Shard(i, 4, 10s)));
      for (const TcpListener& each : listeners) EXPECT_EQ(each.local_address(), shared.local_address());
      // Whoever is there takes the next one.
      std::vector<int> counts(listeners.size());
      std::vector<TcpStream> clients;
      Scope scope;
      for (std::size_t i = 0; i < listeners.size(); ++i) {
        scope
            .spawn([&, i] {
              std::error_code error;
              for (;;) {
                TcpStream stream = listeners[i].accept(error);
                if (error) return;
                ++counts[i];
                EXPECT_NE(stream.socket().option(IPPROTO_TCP, TCP_NODELAY, error), 0);
                stream.write_all("x");
              }
            })
            .detach();
      }
      for (int i = 0; i < 64; ++i) {
        clients.push_back(net::connect(shared.local_address()));
        EXPECT_EQ(clients.back().read().text(), "x");
      }
      for (TcpListener& each : listeners) each.close();
      scope.join();
      EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0), 64);
    });
  }
}

TEST_F(ShardedListenerTest, TheSocketOutlivesItsWorkersListener) {
  ShardedListener shared = ShardedListener::bind(Address::loopback_v4(0));
  on_loop([&] {
    static_cast<void>(shared.listener(Shard(0, 1, 10s)));  // closed at once
    TcpStream client = net::connect(shared.local_address());
    client.write_all("early");
    auto next = shared.listener(Shard(0, 1, 10s));
    TcpStream server = next.accept();
    EXPECT_EQ(server.read().text(), "early");
  });
}

TEST_F(ShardedListenerTest, ErrorsNameTheAddress) {
  ShardedListener first = ShardedListener::bind(Address::loopback_v4(0));
  on_loop([] {});
  const Failure failure =
      failure_of([] { static_cast<void>(ShardedListener::bind(Address::parse("203.0.113.1:80"))); });
  EXPECT_EQ(failure.code, std::errc::address_not_available);
  EXPECT_EQ(failure.text, "bind 203.0.113.1:80: Cannot assign requested address");
  on_loop([&] {
    // Without SO_REUSEPORT nobody else gets the port.
    EXPECT_EQ(failure_of([&] { static_cast<void>(TcpListener::bind(first.local_address())); }).code,
              std::errc::address_in_use);
  });
}

TEST_F(ShardedListenerTest, WorkersServeAndDrain) {
  ShardedListener shared = ShardedListener::bind(Address::loopback_v4(0));
  Child parent([&] {
    return run_shards({.count = 2}, [&](Shard& shard) {
      net::serve(shared.listener(shard), [&](TcpStream stream) {
        stream.write_all(std::to_string(shard.index()));
        echo(std::move(stream));
      });
    });
  });
  on_loop([&] {
    std::set<std::string> seen;
    std::vector<TcpStream> clients;
    for (int i = 0; i < 64; ++i) {
      TcpStream client = net::connect(shared.local_address());
      client.set_timeout(20s);
      seen.emplace(client.read().text());
      clients.push_back(std::move(client));
    }
    EXPECT_EQ(seen, (std::set<std::string>{"0", "1"}));
    ::kill(parent.pid(), SIGTERM);
    for (TcpStream& each : clients) EXPECT_EQ(ask(each, "still served"), "still served");
  });
  const Ended ended = parent.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

// Though the kernel may wake that one, and no other, for a connection.
TEST_F(ShardedListenerTest, AHungWorkerKeepsNobodyWaiting) {
  ShardedListener shared = ShardedListener::bind(Address::loopback_v4(0));
  const SharedCounter hung;
  Child parent([&] {
    set_log_level(LogLevel::off);
    return run_shards({.count = 2, .quit_grace = 10ms, .hang_timeout = 0s}, [&](Shard& shard) {
      net::serve(shared.listener(shard), [&](TcpStream stream) {
        while (stream.read().text() != "hang") stream.write_all("x");
        *hung = 1;
        for (;;) ::pause();
      });
    });
  });
  on_loop([&] {
    std::vector<TcpStream> clients;
    for (int i = 0; i < 6; ++i) {
      clients.push_back(net::connect(shared.local_address()));
      clients.back().set_timeout(20s);
      clients.back().write_all("y");
      ASSERT_EQ(clients.back().read().text(), "x") << i;
      if (i == 0) clients.back().write_all("hang");
      while (*hung == 0) sleep_for(1ms);
    }
  });
  ::kill(parent.pid(), SIGQUIT);
  EXPECT_TRUE(parent.wait().with(1)) << "one had to be killed";
}

/// A supervisor and two workers that echo.
Child serve_in_shards(ShardedListener& shared, const ShardOptions& options) {
  return Child([&] {
    set_log_level(LogLevel::warning);
    return run_shards(options, [&](Shard& shard) { net::serve(shared.listener(shard), echo); });
  });
}

// Not left in a queue that nobody empties, as long as others are served to the end.
TEST_F(ShardedListenerTest, TheDrainRefusesNewClients) {
  ShardedListener shared = ShardedListener::bind(Address::loopback_v4(0));
  Child parent = serve_in_shards(shared, {.count = 2, .on_drain = [&] { shared.close(); }});
  const Address address = shared.local_address();
  shared.close();
  on_loop([&] {
    std::vector<TcpStream> clients;
    for (int i = 0; i < 16; ++i) {
      clients.push_back(net::connect(address));
      clients.back().set_timeout(20s);
      EXPECT_EQ(ask(clients.back(), "served"), "served");
    }
    ::kill(parent.pid(), SIGTERM);
    std::error_code error;
    while (!error) {
      TcpStream late = net::connect(address, error);
      sleep_for(1ms);
    }
    EXPECT_TRUE(error == std::errc::connection_refused || error == std::errc::connection_reset) << error;
    for (TcpStream& each : clients) EXPECT_EQ(ask(each, "still served"), "still served");
  });
  const Ended ended = parent.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST_F(ShardedListenerTest, APortThatIsTakenIsSharedOnlyWhenAsked) {
  ShardedListener first = ShardedListener::bind(Address::loopback_v4(0), {.reuse_port = true});
  const Address address = first.local_address();
  const Failure failure = failure_of([&] { static_cast<void>(ShardedListener::bind(address)); });
  EXPECT_EQ(failure.code, std::errc::address_in_use);
  EXPECT_EQ(failure.text, "bind " + address.to_string() + ": Address already in use");
  EXPECT_EQ(ShardedListener::bind(address, {.reuse_port = true}).local_address(), address);
  first.close();
  first.close();
  EXPECT_EQ(ShardedListener::bind(address).local_address(), address);
}

// Nobody has to set any times for a client that never leaves to be no reason to kill.
TEST(SlowShardedListener, IdleConnectionsOutlastTheDrainInOrder) {
  ShardedListener shared = ShardedListener::bind(Address::loopback_v4(0));
  ShardOptions options;
  options.count = 2;
  options.on_drain = [&] { shared.close(); };
  Child parent = serve_in_shards(shared, options);
  run({.engine = EngineChoice::epoll}, [&] {
    TcpStream idle = net::connect(shared.local_address());
    EXPECT_EQ(ask(idle, "served"), "served");
    ::kill(parent.pid(), SIGTERM);
    EXPECT_FALSE(idle.read());
  });
  const Ended ended = parent.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_EQ(ended.errors, "");
}

}  // namespace
}  // namespace bight::test
