// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/net/tcp.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/stop.hpp>

#include "net_test.hpp"
#include "on_loop.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::ServeOptions;
using net::ServeStats;
using net::TcpListener;
using net::TcpStream;

using Handler = std::function<void(TcpStream)>;

class ServeTest : public NetTest {};

/// A server in a fiber of its own.
struct Server {
  TcpListener listener = TcpListener::bind("127.0.0.1:0");
  Address address = listener.local_address();
  Fiber<ServeStats> fiber;

  explicit Server(Handler handler, ServeOptions options = {}) {
    fiber = spawn([this, options, handler = std::move(handler)] { return net::serve(listener, handler, options); });
  }
  ~Server() { EXPECT_TRUE(fiber.done()) << "the server outlived its test"; }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] TcpStream client() const {
    TcpStream stream = net::connect(address);
    stream.set_timeout(20s);  // so that what never comes is a failure, not a hang
    return stream;
  }
  ServeStats stop() {
    request_stop();
    return fiber.get();
  }
};

bool answers(TcpStream& stream) {
  std::error_code error;
  stream.write_all("?", error);
  return stream.read(error).text() == "?" && !error;
}

// --- Serving ---------------------------------------------------------------------------------------------------------

TEST_F(ServeTest, ServesManyClientsAtOnce) {
  on_loop([] {
    Server server(echo);
    constexpr int kClients = 200;
    Scope scope;
    int served = 0;
    for (int i = 0; i < kClients; ++i) {
      scope
          .spawn([&] {
            TcpStream stream = server.client();
            for (int round = 0; round < 10; ++round) EXPECT_TRUE(answers(stream));
            ++served;
          })
          .detach();
    }
    scope.join();
    EXPECT_EQ(served, kClients);
    const ServeStats stats = server.stop();
    EXPECT_EQ(stats.accepted, static_cast<std::uint64_t>(kClients));
    EXPECT_EQ(stats.failed, 0U);
  });
}

TEST_F(ServeTest, AConnectionEndsWithItsHandler) {
  on_loop([] {
    Server server([](TcpStream stream) { stream.write_all("once"); });
    TcpStream client = server.client();
    EXPECT_EQ(client.read().text(), "once");
    EXPECT_FALSE(client.read());
    server.stop();
  });
}

TEST_F(ServeTest, ConnectionsMaxHoldsTheOthersBack) {
  on_loop([] {
    std::size_t running = 0;
    std::size_t most = 0;
    Server server(
        [&](TcpStream stream) {
          most = std::max(most, ++running);
          echo(std::move(stream));
          --running;
        },
        {.connections_max = 2});
    TcpStream first = server.client();
    TcpStream second = server.client();
    EXPECT_TRUE(answers(first));
    EXPECT_TRUE(answers(second));
    std::vector<TcpStream> others;
    others.reserve(3);
    for (int i = 0; i < 3; ++i) others.push_back(server.client());  // the system lets them in, the server does not
    bool left = false;
    Scope scope;
    for (TcpStream& each : others) {
      scope
          .spawn([&] {
            EXPECT_TRUE(answers(each));
            EXPECT_TRUE(left) << "there was no room yet";
            each.close();
          })
          .detach();
    }
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(answers(second));
    left = true;
    first.close();
    scope.join();
    second.close();
    EXPECT_EQ(server.stop().accepted, 5U);
    EXPECT_EQ(most, 2U);
  });
}

TEST_F(ServeTest, OneConnectionAtATime) {
  on_loop([] {
    bool busy = false;
    Server server(
        [&](TcpStream stream) {
          EXPECT_FALSE(std::exchange(busy, true));
          yield();
          stream.write_all("x");
          busy = false;
        },
        {.connections_max = 1});
    Scope scope;
    for (int i = 0; i < 100; ++i) scope.spawn([&] { EXPECT_EQ(server.client().read().text(), "x"); }).detach();
    scope.join();
    EXPECT_EQ(server.stop().accepted, 100U);
  });
}

TEST_F(ServeTest, AStopReachesAServerThatIsFull) {
  on_loop([] {
    Server server(echo, {.connections_max = 1, .drain = 0s});
    TcpStream client = server.client();
    EXPECT_TRUE(answers(client));
    yield();
    EXPECT_EQ(server.stop().accepted, 1U);
  });
}

TEST_F(ServeTest, WhatHandlersThrowStaysTheirOwnAffair) {
  std::vector<std::string> reported;
  RunOptions options;
  options.on_unhandled_error = [&](const UnhandledError& error) { reported.emplace_back(error.text); };
  on_loop(options, [] {
    Server server([](TcpStream stream) {
      std::string kind(1, '\0');
      stream.read_exactly(std::as_writable_bytes(std::span(kind)));
      switch (kind[0]) {
        case 'e': throw std::runtime_error("a bug");
        case 'i': throw 42;
        case 'r': throw std::system_error(std::make_error_code(std::errc::connection_reset), "read");
        case 't': static_cast<void>(with_timeout(1ms, [&] { return stream.read(); })); break;
        case 's': throw std::system_error(std::make_error_code(std::errc::no_such_file_or_directory), "open");
        case 'c': throw Cancelled{};
        default: stream.write_all("fine");
      }
    });
    for (const char* kind : {"e", "i", "r", "t", "s", "c", "x"}) {
      TcpStream client = server.client();
      client.write_all(kind);
      EXPECT_EQ(client.read().text(), *kind == 'x' ? "fine" : "") << kind;
    }
    server.client().shutdown_write();  // read_exactly throws connection_aborted
    TcpStream last = server.client();
    last.write_all("x");
    EXPECT_EQ(last.read().text(), "fine");
    const ServeStats stats = server.stop();
    EXPECT_EQ(stats.accepted, 9U);
    EXPECT_EQ(stats.failed, 6U) << "all but the cancelled and the fine";
  });
  ASSERT_EQ(reported.size(), 3U);
  EXPECT_NE(reported[0].find("a bug"), std::string::npos) << reported[0];
  EXPECT_NE(reported[1].find("int"), std::string::npos) << reported[1];
  EXPECT_NE(reported[2].find("open: No such file"), std::string::npos) << reported[2];
}

TEST_F(ServeTest, ResetsByClientsAreNotReported) {
  std::size_t reported = 0;
  RunOptions options;
  options.on_unhandled_error = [&](const UnhandledError&) { ++reported; };
  on_loop(options, [] {
    Server server([](TcpStream stream) {
      for (;;) stream.write_all(stream.read());
    });
    for (int i = 0; i < 20; ++i) {
      TcpStream client = server.client();
      EXPECT_TRUE(answers(client));
      client.reset();
    }
    EXPECT_EQ(server.stop().accepted, 20U);
  });
  EXPECT_EQ(reported, 0U);
}

// --- Ending ----------------------------------------------------------------------------------------------------------

TEST_F(ServeTest, AStopLetsHandlersFinish) {
  on_loop([] {
    Server server([](TcpStream stream) {
      std::array<std::byte, 2> request{};
      stream.read_exactly(request);
      stream.write_all("done");
    });
    TcpStream client = server.client();
    client.write_all("1");
    yield();
    while (this_loop::stats().fibers_alive < 5) yield();  // this one, the server's three, the handler's
    request_stop();
    yield();
    EXPECT_FALSE(server.fiber.done());
    client.write_all("2");
    EXPECT_EQ(client.read().text(), "done");
    EXPECT_EQ(server.fiber.get().accepted, 1U);
    // The listener is the caller's, so it is still open, and whoever comes now waits for another serve().
    EXPECT_TRUE(server.listener.is_open());
    TcpStream late = server.client();
    EXPECT_TRUE(server.listener.accept().is_open());
  });
}

TEST_F(ServeTest, AListenerThatIsHandedOverClosesAtTheStop) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    const Address address = listener.local_address();
    auto server = spawn([&] { return net::serve(std::move(listener), echo); });
    TcpStream client = net::connect(address);
    EXPECT_TRUE(answers(client));
    request_stop();
    while (!failure_of([&] { static_cast<void>(net::connect(address)); }).code) yield();
    EXPECT_EQ(failure_of([&] { static_cast<void>(net::connect(address)); }).code, std::errc::connection_refused);
    EXPECT_TRUE(answers(client)) << "still drained";
    client.close();
    EXPECT_GE(server.get().accepted, 1U);
  });
}

// Who has been let in by the system has a connection, and may have sent a request already.
TEST_F(ServeTest, AStopForgetsNobodyInTheQueue) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    const Address address = listener.local_address();
    std::vector<TcpStream> clients;
    for (int i = 0; i < 100; ++i) {
      clients.push_back(net::connect(address));
      clients.back().write_all("?");
    }
    request_stop();
    auto server = spawn(
        [&] { return net::serve(std::move(listener), [](TcpStream stream) { stream.write_all(stream.read()); }); });
    for (TcpStream& each : clients) {
      each.set_timeout(20s);
      EXPECT_EQ(each.read().text(), "?");
      EXPECT_FALSE(each.read());
    }
    EXPECT_EQ(server.get().accepted, 100U);
    EXPECT_EQ(failure_of([&] { static_cast<void>(net::connect(address)); }).code, std::errc::connection_refused);
  });
}

TEST_F(ServeTest, TheQueueIsEmptiedOnlyAsFarAsThereIsRoom) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    std::vector<TcpStream> clients;
    for (int i = 0; i < 10; ++i) clients.push_back(net::connect(listener.local_address()));
    request_stop();
    auto server = spawn([&] { return net::serve(std::move(listener), echo, {.connections_max = 4, .drain = 10ms}); });
    EXPECT_EQ(server.get().accepted, 4U);
  });
}

TEST_F(ServeTest, ItIsSaidWhenTheDrainBegins) {
  on_loop([] {
    int told = 0;
    const ServeOptions options{.on_drain = [&] { ++told; }};
    {
      Server server(echo, options);
      TcpStream client = server.client();
      EXPECT_TRUE(answers(client));
      EXPECT_EQ(failure_of([&] { net::serve(server.listener, echo, options); }).code,
                std::errc::device_or_resource_busy);
      EXPECT_EQ(std::exchange(told, 0), 1) << "accepting has failed";
      server.listener.close();
      EXPECT_TRUE(answers(client));
      EXPECT_EQ(std::exchange(told, 0), 1) << "the listener was closed";
      client.close();
      server.fiber.join();
    }
    Server cancelled(echo, options);
    yield();
    cancelled.fiber.cancel();
    cancelled.fiber.join();
    EXPECT_EQ(told, 0) << "there is no drain";
    Server server(echo, options);
    yield();
    server.stop();
    EXPECT_EQ(told, 1);
  });
}

TEST_F(ServeTest, TheDrainHasAnEnd) {
  on_loop([] {
    bool cancelled = false;
    Server server([&](TcpStream stream) { cancelled = is_cancelled([&] { static_cast<void>(stream.read()); }); },
                  {.drain = 50ms});
    TcpStream client = server.client();
    while (this_loop::stats().fibers_alive < 5) yield();
    yield();
    const TimePoint begin = now();
    EXPECT_EQ(server.stop().failed, 0U);
    EXPECT_GE(now() - begin, 50ms);
    EXPECT_LT(now() - begin, 5s);
    EXPECT_TRUE(cancelled);
    EXPECT_FALSE(client.read());
  });
}

TEST_F(ServeTest, AnEndlessDrainWaitsForTheLastHandler) {
  on_loop([] {
    Server server(echo, {.drain = Duration::max()});
    TcpStream client = server.client();
    EXPECT_TRUE(answers(client));
    request_stop();
    EXPECT_TRUE(answers(client));
    EXPECT_FALSE(server.fiber.done());
    client.close();
    server.fiber.join();
  });
}

TEST_F(ServeTest, AStopBeforehandServesNobody) {
  on_loop([] {
    request_stop();
    Server server(echo);
    EXPECT_EQ(server.fiber.get().accepted, 0U);
  });
}

TEST_F(ServeTest, CancellingTheCallerCancelsEverything) {
  on_loop([] {
    int cancelled = 0;
    Server server(
        [&](TcpStream stream) { cancelled += is_cancelled([&] { static_cast<void>(stream.read()); }) ? 1 : 0; },
        {.drain = 1h});
    std::vector<TcpStream> clients;
    clients.reserve(10);
    for (int i = 0; i < 10; ++i) clients.push_back(server.client());
    while (this_loop::stats().fibers_alive < 14) yield();
    yield();
    server.fiber.cancel();
    server.fiber.join();
    EXPECT_EQ(server.fiber.status(), FiberStatus::cancelled);
    EXPECT_EQ(cancelled, 10);
    EXPECT_TRUE(server.listener.is_open());
  });
}

TEST_F(ServeTest, CancellingTheCallerCutsTheDrainShort) {
  on_loop([] {
    Server server(echo, {.drain = 1h});
    TcpStream client = server.client();
    EXPECT_TRUE(answers(client));
    request_stop();
    EXPECT_TRUE(answers(client));
    server.fiber.cancel();
    server.fiber.join();
    EXPECT_EQ(server.fiber.status(), FiberStatus::cancelled);
  });
}

TEST_F(ServeTest, ADeadlineAroundIt) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    TcpStream client = net::connect(listener.local_address());
    EXPECT_FALSE(move_on_after(50ms, [&] { net::serve(listener, echo); }));
    EXPECT_FALSE(client.read());
    EXPECT_TRUE(listener.is_open());
  });
}

TEST_F(ServeTest, ClosingTheListenerEndsAndDrains) {
  on_loop([] {
    Server server(echo);
    TcpStream client = server.client();
    EXPECT_TRUE(answers(client));
    server.listener.close();
    EXPECT_TRUE(answers(client));
    EXPECT_FALSE(server.fiber.done());
    client.close();
    EXPECT_EQ(server.fiber.get().accepted, 1U);
    EXPECT_EQ(net::serve(server.listener, echo).accepted, 0U) << "nothing to serve, so it returns";
  });
}

TEST_F(ServeTest, ClosingTheListenerReachesAServerThatIsFull) {
  on_loop([] {
    bool told = false;
    Server server(echo, {.connections_max = 1, .on_drain = [&] { told = true; }});
    TcpStream client = server.client();
    TcpStream waiting = server.client();
    EXPECT_TRUE(answers(client));
    server.listener.close();
    while (!told) yield();
    EXPECT_TRUE(answers(client));
    client.close();
    EXPECT_EQ(server.fiber.get().accepted, 1U);
  });
}

TEST_F(ServeTest, AcceptingThatFailsForGoodIsThrownAfterTheDrain) {
  on_loop([] {
    Server server(echo);
    TcpStream client = server.client();
    EXPECT_TRUE(answers(client));
    const Failure failure = failure_of([&] { net::serve(server.listener, echo); });
    EXPECT_EQ(failure.code, std::errc::device_or_resource_busy);
    EXPECT_EQ(failure.text, "accept on " + server.address.to_string() + ": Device or resource busy");
    EXPECT_TRUE(answers(client)) << "the first one goes on";
    client.close();
    server.stop();
  });
}

TEST_F(ServeTest, TheListenersTimeoutIsNoReasonToEnd) {
  on_loop([] {
    Server server(echo);
    server.listener.set_timeout(5ms);
    sleep_for(50ms);
    TcpStream client = server.client();
    EXPECT_TRUE(answers(client));
    client.close();
    server.stop();
  });
}

TEST_F(ServeTest, SeveralServersOfOneLoopStopTogether) {
  on_loop([] {
    Server first(echo);
    Server second(echo);
    TcpStream one = first.client();
    TcpStream two = second.client();
    EXPECT_TRUE(answers(one));
    EXPECT_TRUE(answers(two));
    one.close();
    two.close();
    request_stop();
    EXPECT_EQ(first.fiber.get().accepted, 1U);
    EXPECT_EQ(second.fiber.get().accepted, 1U);
  });
}

TEST_F(ServeTest, AServerCanServeAgain) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    for (int i = 0; i < 3; ++i) {
      TcpStream client = net::connect(listener.local_address());
      bool served = false;
      EXPECT_FALSE(move_on_after(20ms, [&] { net::serve(listener, [&](TcpStream) { served = true; }); }));
      EXPECT_TRUE(served);
    }
  });
}

// --- Limits ----------------------------------------------------------------------------------------------------------

TEST_F(ServeTest, AConnectionWithoutAFiberIsDroppedAndTheServerGoesOn) {
  RunOptions options;
  options.fibers_max = 8;  // main, the server's three, four handlers
  on_loop(options, [] {
    Server server(echo);
    std::vector<TcpStream> clients;
    for (int i = 0; i < 4; ++i) {
      clients.push_back(server.client());
      EXPECT_TRUE(answers(clients.back()));
    }
    for (int i = 0; i < 3; ++i) {
      TcpStream dropped = server.client();
      EXPECT_FALSE(answers(dropped));
    }
    for (TcpStream& each : clients) EXPECT_TRUE(answers(each));
    clients.clear();
    while (this_loop::stats().fibers_alive > 4) yield();
    TcpStream client = server.client();
    EXPECT_TRUE(answers(client));
    client.close();
    EXPECT_EQ(server.stop().accepted, 8U);
  });
}

TEST_F(ServeTest, ConnectionsMaxHoldsWithoutAFiberToWaitWith) {
  RunOptions options;
  options.fibers_max = 6;  // main, the server's three, two handlers
  on_loop(options, [] {
    Server server(echo, {.connections_max = 2});
    TcpStream first = server.client();
    TcpStream second = server.client();
    EXPECT_TRUE(answers(first));
    EXPECT_TRUE(answers(second));
    TcpStream third = server.client();
    first.close();
    EXPECT_TRUE(answers(third));
    second.close();
    third.close();
    EXPECT_EQ(server.stop().accepted, 3U);
  });
}

TEST_F(ServeTest, HandlersGetTheStackAskedFor) {
  on_loop([] {
    std::size_t left = 0;
    Server server([&](TcpStream) { left = this_fiber::stack_left(); }, {.stack_size = 512 * 1024});
    EXPECT_FALSE(server.client().read());
    EXPECT_GT(left, 400U * 1024);
    server.stop();
  });
}

TEST_F(ServeTest, AConnectionCostsOneFiberAndNothingStays) {
  on_loop([] {
    Server server(echo);
    const auto one = [&] {
      TcpStream client = server.client();
      EXPECT_TRUE(answers(client));
    };
    for (int i = 0; i < 100; ++i) one();
    const LoopStats before = this_loop::stats();
    for (int i = 0; i < 1'000; ++i) one();
    while (this_loop::stats().fibers_alive > 4) yield();
    const LoopStats after = this_loop::stats();
    EXPECT_EQ(after.fibers_spawned - before.fibers_spawned, 1'000U);
    EXPECT_EQ(after.stacks_reserved, before.stacks_reserved);
    EXPECT_EQ(after.descriptors_open, 2U) << "the listener and its reserve";
    server.stop();
  });
}

}  // namespace
}  // namespace bight::test
