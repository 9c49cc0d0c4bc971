// SPDX-License-Identifier: Apache-2.0
// The simulated world: that it is a kernel like Linux to those who run in it, that a seed repeats its history, and that
// what we build on sockets survives a thousand histories full of faults.

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <random>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/remote.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/socket.hpp>
#include <bight/testing.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "bytes.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using testing::Counters;
using testing::Faults;
using testing::Sim;
using testing::SimOptions;

constexpr std::uint32_t kLoopback = INADDR_LOOPBACK;

// --- Sockets, without the net module ---------------------------------------------------------------------------------

sockaddr_in address_of(std::uint16_t port, std::uint32_t host = kLoopback) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(host);
  return address;
}

const sockaddr* generic(const sockaddr_in& address) { return reinterpret_cast<const sockaddr*>(&address); }

Socket new_socket() {
  std::error_code error;
  Socket socket = Socket::open(AF_INET, SOCK_STREAM, 0, error);
  EXPECT_FALSE(error) << error.message();
  return socket;
}

std::error_code bind_to(Socket& socket, std::uint16_t port, std::uint32_t host = kLoopback) {
  const sockaddr_in address = address_of(port, host);
  std::error_code error;
  socket.bind(generic(address), sizeof address, error);
  return error;
}

Socket listen_on(std::uint16_t port, std::uint32_t host = kLoopback, int backlog = 128) {
  Socket socket = new_socket();
  EXPECT_EQ(bind_to(socket, port, host), std::error_code());
  std::error_code error;
  socket.listen(backlog, error);
  EXPECT_FALSE(error) << error.message();
  return socket;
}

std::uint16_t port_of(const Socket& socket) {
  sockaddr_storage storage{};
  std::error_code error;
  socket.local_name(storage, error);
  EXPECT_FALSE(error) << error.message();
  return ntohs(reinterpret_cast<const sockaddr_in&>(storage).sin_port);
}

std::error_code connect_to(Socket& socket, std::uint16_t port, std::uint32_t host = kLoopback) {
  const sockaddr_in address = address_of(port, host);
  std::error_code error;
  socket.connect(generic(address), sizeof address, error);
  return error;
}

struct Pair {
  Socket client;
  Socket server;
};

Pair connected_pair(std::uint16_t port = 80) {
  Socket listener = listen_on(port);
  Pair pair{new_socket(), {}};
  auto accepting = spawn([&] {
    std::error_code error;
    pair.server = listener.accept(error);
    EXPECT_FALSE(error) << error.message();
  });
  EXPECT_EQ(connect_to(pair.client, port), std::error_code());
  accepting.join();
  return pair;
}

std::error_code write_text(Socket& socket, std::string_view text) {
  std::error_code error;
  socket.write_all(bytes_of(text), error);
  return error;
}

struct Read {
  std::string text;
  std::error_code error;
};

Read read_some(Socket& socket, std::size_t most = 4096) {
  Read read;
  std::vector<std::byte> buffer(most);
  const std::size_t count = socket.read(buffer, read.error);
  read.text.assign(reinterpret_cast<const char*>(buffer.data()), count);
  return read;
}

Read read_all(Socket& socket) {
  Read all;
  for (;;) {
    Read next = read_some(socket);
    all.text += next.text;
    all.error = next.error;
    if (next.text.empty()) return all;
  }
}

void reset(Socket& socket) {
  const linger at_once{1, 0};
  std::error_code error;
  socket.set_option(SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once, error);
  EXPECT_FALSE(error) << error.message();
  socket.close();
}

/// Waits, in the world's time, until everything that is on its way has arrived.
void let_things_arrive() { sleep_for(1s); }

/// A byte of client `who`'s stream, by its place in it: lost, doubled and swapped bytes all show.
std::byte pattern(unsigned who, std::size_t place) {
  return static_cast<std::byte>((place * 31 + place / 251 + std::size_t{who} * 17) & 0xff);
}

// --- Time ------------------------------------------------------------------------------------------------------------

TEST(SimClock, AnHourTakesNoTimeAndNotANanosecondMore) {
  Sim sim;
  const TimePoint start = sim.now();
  sim.run([] {
    const TimePoint before = now();
    sleep_for(1h);
    EXPECT_EQ(now() - before, 1h);
  });
  EXPECT_EQ(sim.now() - start, 1h);
}

TEST(SimClock, SleepersWakeInTheOrderOfTheirTimes) {
  Sim sim;
  std::vector<int> order;
  sim.run([&] {
    const TimePoint start = now();
    Scope scope;
    for (const int delay : {30, 10, 20, 10}) {
      scope
          .spawn([&, delay] {
            sleep_until(start + std::chrono::minutes(delay));
            EXPECT_EQ(now(), start + std::chrono::minutes(delay));
            order.push_back(delay);
          })
          .detach();
    }
    scope.join();
  });
  EXPECT_EQ(order, (std::vector<int>{10, 10, 20, 30}));
}

TEST(SimClock, StandsStillWhileFibersRun) {
  Sim sim;
  sim.run([] {
    const TimePoint start = now();
    for (int i = 0; i < 1000; ++i) yield();
    EXPECT_EQ(now(), start);
  });
}

TEST(SimClock, CreepsWhenAFiberSpins) {
  Sim sim;
  sim.run([] {
    const TimePoint end = now() + 100us;
    while (now() < end) yield();

    auto [client, server] = connected_pair();
    bool arrived = false;
    auto reader = spawn([&, socket = std::move(server)]() mutable {
      EXPECT_EQ(read_some(socket).text, "ping");
      arrived = true;
    });
    EXPECT_FALSE(write_text(client, "ping"));
    while (!arrived) yield();
    reader.join();
  });
}

TEST(SimClock, GoesOnFromOneRunToTheNext) {
  Sim sim;
  const TimePoint start = sim.now();
  sim.run([] { sleep_for(1s); });
  sim.run([&] {
    EXPECT_EQ(now(), start + 1s);
    sleep_for(1s);
  });
  EXPECT_EQ(sim.now(), start + 2s);
}

TEST(SimClock, SleepsForRealWhileOnlyAnotherThreadCanGoOn) {
  Sim sim;
  sim.run([] {
    auto [client, server] = connected_pair();
    std::thread thread(
        [&server = server, remote = Remote()] { EXPECT_TRUE(remote.post([&server] { reset(server); })); });
    EXPECT_EQ(read_some(client).error, std::errc::connection_reset);
    thread.join();
  });
}

// --- Connections, as Linux has them ----------------------------------------------------------------------------------

TEST(SimTcp, BytesArriveInOrder) {
  Sim sim;
  sim.run([] {
    auto [client, server] = connected_pair();
    auto writer = spawn([&client = client] {
      for (int i = 0; i < 1000; ++i) EXPECT_FALSE(write_text(client, std::to_string(i) + ","));
      client.close();
    });
    std::string expected;
    for (int i = 0; i < 1000; ++i) expected += std::to_string(i) + ",";
    const Read all = read_all(server);
    EXPECT_EQ(all.text, expected);
    EXPECT_FALSE(all.error);
    writer.join();
  });
  EXPECT_EQ(sim.leaks(), "");
}

TEST(SimTcp, PiecesAreGatheredAndChunksAreLent) {
  Sim sim;
  sim.run([] {
    auto [client, server] = connected_pair();
    std::string one = "one ";
    std::string two = "two ";
    std::array<iovec, 3> pieces{iovec{one.data(), one.size()}, iovec{nullptr, 0}, iovec{two.data(), two.size()}};
    std::error_code error;
    client.write_all(pieces, error);
    EXPECT_FALSE(error);
    Chunk chunk = server.read(error);
    EXPECT_EQ(chunk.text(), "one two ");
    EXPECT_EQ(this_loop::stats().receive_buffers_lent, 1U);
    chunk = Chunk();
    client.close();
    EXPECT_TRUE(server.read(error).empty());
    EXPECT_FALSE(error);
    EXPECT_EQ(this_loop::stats().receive_buffers_lent, 0U);
  });
}

TEST(SimTcp, WhereNobodyListensItIsRefused) {
  Sim sim;
  sim.run([] {
    Socket socket = new_socket();
    EXPECT_EQ(connect_to(socket, 81), std::errc::connection_refused);
    Socket listener = listen_on(81);
    EXPECT_FALSE(connect_to(socket, 81)) << "a socket can try again";
    EXPECT_EQ(connect_to(socket, 81), std::errc::already_connected);
  });
  EXPECT_EQ(sim.counters().connections_refused, 1U);
  EXPECT_EQ(sim.leaks(), "");
}

TEST(SimTcp, HalfCloseLetsTheOtherDirectionGoOn) {
  Sim sim;
  sim.run([] {
    auto [client, server] = connected_pair();
    std::error_code error;
    EXPECT_FALSE(write_text(client, "question"));
    client.shutdown(SHUT_WR, error);
    EXPECT_EQ(write_text(client, "more"), std::errc::broken_pipe);
    EXPECT_EQ(read_all(server).text, "question");
    EXPECT_FALSE(write_text(server, "answer"));
    server.close();
    EXPECT_EQ(read_all(client).text, "answer");
  });
  EXPECT_EQ(sim.counters().resets, 0U);
  EXPECT_EQ(sim.leaks(), "");
}

TEST(SimTcp, AResetIsToldOnceAndWhatHadArrivedCanStillBeRead) {
  Sim sim;
  sim.run([] {
    auto [client, server] = connected_pair();
    EXPECT_FALSE(write_text(client, "hello"));
    let_things_arrive();
    reset(client);
    let_things_arrive();
    EXPECT_EQ(read_some(server).text, "hello");
    EXPECT_EQ(read_some(server).error, std::errc::connection_reset);
    const Read after = read_some(server);
    EXPECT_EQ(after.text, "");
    EXPECT_FALSE(after.error);
    EXPECT_EQ(write_text(server, "x"), std::errc::broken_pipe);
    sockaddr_storage name{};
    std::error_code error;
    server.peer_name(name, error);
    EXPECT_EQ(error, std::errc::not_connected);
  });
}

TEST(SimTcp, WaitingReadersAndWritersLearnOfAReset) {
  Sim sim{{.send_buffer = 10, .receive_buffer = 10}};
  sim.run([] {
    auto [client, server] = connected_pair();
    auto reader = spawn([&server = server] { EXPECT_EQ(read_some(server).error, std::errc::connection_reset); });
    auto writer =
        spawn([&server = server] { EXPECT_EQ(write_text(server, std::string(100, 'x')), std::errc::broken_pipe); });
    let_things_arrive();
    reset(client);
    reader.join();
    writer.join();
  });
}

TEST(SimTcp, ClosingOverUnreadDataResets) {
  Sim sim;
  sim.run([] {
    auto [client, server] = connected_pair();
    EXPECT_FALSE(write_text(client, "never read"));
    let_things_arrive();
    server.close();
    EXPECT_EQ(read_some(client).error, std::errc::connection_reset);
  });
  EXPECT_EQ(sim.counters().resets, 1U);
}

TEST(SimTcp, WritingToWhomHasClosedFailsTheSecondTime) {
  Sim sim;
  sim.run([] {
    auto [client, server] = connected_pair();
    server.close();
    let_things_arrive();
    EXPECT_FALSE(write_text(client, "into the void"));
    let_things_arrive();
    EXPECT_EQ(write_text(client, "again"), std::errc::broken_pipe);
    EXPECT_EQ(read_some(client).text, "");
  });
}

TEST(SimTcp, WindowsOfOneByte) {
  Sim sim{{.send_buffer = 1, .receive_buffer = 1}};
  sim.run([] {
    auto [client, server] = connected_pair();
    std::string text;
    for (unsigned i = 0; i < 1000; ++i) text += static_cast<char>(pattern(0, i));
    auto writer = spawn([&client = client, &text] {
      EXPECT_FALSE(write_text(client, text));
      client.close();
    });
    EXPECT_EQ(read_all(server).text, text);
    writer.join();
  });
  EXPECT_EQ(sim.counters().segments, 1000U);
}

TEST(SimTcp, WritersWaitForReaders) {
  Sim sim{{.send_buffer = 1000, .receive_buffer = 2000}};
  sim.run([] {
    auto [client, server] = connected_pair();
    std::size_t written = 0;
    auto writer = spawn([&client = client, &written] {
      std::error_code error;
      const std::string piece(100, 'x');
      for (int i = 0; i < 100; ++i) written += client.write(bytes_of(piece), error);
      EXPECT_FALSE(error);
      client.close();
    });
    let_things_arrive();
    EXPECT_EQ(written, 3000U) << "what both buffers hold";
    EXPECT_EQ(read_some(server, 500).text.size(), 500U);
    let_things_arrive();
    EXPECT_EQ(written, 3500U);
    EXPECT_EQ(read_all(server).text.size(), 9500U);
    writer.join();
    EXPECT_EQ(written, 10'000U);
  });
}

TEST(SimTcp, LatencyAndBandwidthAreKept) {
  Sim sim{{.latency_min = 10ms, .latency_max = 10ms, .bandwidth = 1'000'000}};
  sim.run([] {
    TimePoint start = now();
    auto [client, server] = connected_pair();
    EXPECT_EQ(now() - start, 30ms) << "accepted when the third segment of the handshake has come";
    start = now();
    EXPECT_FALSE(write_text(client, "x"));
    read_some(server);
    EXPECT_EQ(now() - start, 10ms + 1us);
    start = now();
    auto writer = spawn([&client = client] {
      EXPECT_FALSE(write_text(client, std::string(1'000'000, 'x')));
      client.close();
    });
    EXPECT_EQ(read_all(server).text.size(), 1'000'000U);
    EXPECT_GE(now() - start, 1010ms);
    EXPECT_LE(now() - start, 1500ms);
    writer.join();
  });
}

TEST(SimTcp, ShutdownWakesTheWaiting) {
  Sim sim;
  sim.run([] {
    auto [client, server] = connected_pair();
    Socket listener = listen_on(81);
    auto reader = spawn([&client = client] {
      const Read read = read_some(client);
      EXPECT_EQ(read.text, "");
      EXPECT_FALSE(read.error);
    });
    auto acceptor = spawn([&listener] {
      std::error_code error;
      EXPECT_FALSE(listener.accept(error));
      EXPECT_EQ(error, std::errc::invalid_argument);
    });
    yield();
    std::error_code error;
    client.shutdown(SHUT_RD, error);
    EXPECT_FALSE(error);
    listener.shutdown(SHUT_RD, error);
    EXPECT_FALSE(error);
    reader.join();
    acceptor.join();
  });
}

TEST(SimTcp, PollingTellsWhatCanBeDone) {
  Sim sim{{.send_buffer = 10, .receive_buffer = 10}};
  sim.run([] {
    auto [client, server] = connected_pair();
    std::error_code error;
    client.wait_writable(error);
    EXPECT_FALSE(error);
    TimePoint start = now();
    auto late = spawn([&client = client] {
      sleep_for(1min);
      EXPECT_FALSE(write_text(client, "0123456789"));
    });
    server.wait_readable(error);
    EXPECT_FALSE(error);
    EXPECT_GE(now() - start, 1min);
    late.join();
    EXPECT_FALSE(write_text(client, "0123456789"));
    start = now();
    auto reader = spawn([&server = server] {
      sleep_for(1min);
      EXPECT_EQ(read_some(server).text, "0123456789");
    });
    client.wait_writable(error);
    EXPECT_FALSE(error);
    EXPECT_GE(now() - start, 1min);
    reader.join();
  });
}

TEST(SimTcp, LimitsCutReadsShort) {
  Sim sim;
  sim.run([] {
    auto [client, server] = connected_pair();
    const TimePoint start = now();
    client.set_read_timeout(5s);
    EXPECT_EQ(read_some(client).error, std::errc::timed_out);
    EXPECT_GE(now() - start, 5s);
    client.set_read_timeout(0s);
    const bool finished = move_on_after(5s, [&client = client] {
      EXPECT_EQ(read_some(client).error, std::errc::operation_canceled);
      this_fiber::checkpoint();
    });
    EXPECT_FALSE(finished);
    EXPECT_GE(now() - start, 10s);
    EXPECT_LE(now() - start, 10s + 100ms) << "1 % late at most";
    EXPECT_FALSE(write_text(server, "still there"));
    EXPECT_EQ(read_some(client).text, "still there");
  });
}

TEST(SimTcp, ReadingWhatNeverComesIsADeadlock) {
  Sim sim;
  auto read_for_ever = [] {
    auto [client, server] = connected_pair();
    read_some(client);
    this_fiber::checkpoint();
  };
  EXPECT_THROW(sim.run(read_for_ever), Deadlock);
  EXPECT_EQ(sim.leaks(), "");
}

// --- Addresses and descriptors ---------------------------------------------------------------------------------------

TEST(SimPorts, OneListenerForEach) {
  Sim sim;
  sim.run([] {
    Socket first = listen_on(80);
    Socket second = new_socket();
    EXPECT_EQ(bind_to(second, 80), std::errc::address_in_use);
    EXPECT_FALSE(bind_to(second, 80, 0x0a000001)) << "10.0.0.1 is another address";
    EXPECT_EQ(bind_to(second, 82), std::errc::invalid_argument) << "it has an address already";
    Socket any = new_socket();
    EXPECT_EQ(bind_to(any, 80, INADDR_ANY), std::errc::address_in_use);
    first.close();
    Socket again = listen_on(80);
  });
}

TEST(SimPorts, PortZeroIsAFreeOne) {
  Sim sim;
  sim.run([] {
    Socket one = listen_on(0);
    Socket two = listen_on(0);
    EXPECT_NE(port_of(one), port_of(two));
    EXPECT_GE(port_of(one), 32768);
    Socket client = new_socket();
    EXPECT_FALSE(connect_to(client, port_of(two)));
    EXPECT_NE(port_of(client), port_of(two));
  });
}

TEST(SimPorts, AClosedConnectionHoldsItsPortForAMinute) {
  Sim sim;
  sim.run([] {
    auto [client, server] = connected_pair();
    server.close();  // first, so it is this end that waits
    read_some(client);
    client.close();
    let_things_arrive();
    Socket strict = new_socket();
    EXPECT_EQ(bind_to(strict, 80), std::errc::address_in_use);
    sleep_for(1min);
    EXPECT_FALSE(bind_to(strict, 80));
  });
  Sim lenient;
  lenient.run([] {
    std::error_code error;
    const auto reusing = [&] {
      Socket socket = new_socket();
      socket.set_option(SOL_SOCKET, SO_REUSEADDR, 1, error);
      EXPECT_FALSE(bind_to(socket, 80));
      socket.listen(1, error);
      EXPECT_FALSE(error) << error.message();
      return socket;
    };
    Socket listener = reusing();
    Socket client = new_socket();
    EXPECT_FALSE(connect_to(client, 80));
    Socket server = listener.accept(error);
    listener.close();
    server.close();
    read_some(client);
    listener = reusing();
  });
}

TEST(SimPorts, ReusedPortsShareTheConnections) {
  Sim sim;
  sim.run([] {
    std::error_code error;
    std::array<Socket, 3> listeners;
    std::array<int, 3> accepted{};
    std::vector<Socket> sockets;
    Scope scope;
    for (std::size_t i = 0; i < listeners.size(); ++i) {
      listeners[i] = new_socket();
      listeners[i].set_option(SOL_SOCKET, SO_REUSEPORT, 1, error);
      EXPECT_FALSE(bind_to(listeners[i], 80));
      listeners[i].listen(10, error);
      EXPECT_FALSE(error) << error.message();
      scope
          .spawn([&, i] {
            std::error_code stop;
            while (Socket socket = listeners[i].accept(stop)) {
              ++accepted[i];
              sockets.push_back(std::move(socket));
            }
          })
          .detach();
    }
    for (int i = 0; i < 60; ++i) {
      sockets.push_back(new_socket());
      EXPECT_FALSE(connect_to(sockets.back(), 80));
    }
    let_things_arrive();
    scope.cancel();
    scope.join();
    EXPECT_EQ(accepted[0] + accepted[1] + accepted[2], 60);
    for (const int count : accepted) EXPECT_GT(count, 5);
  });
}

TEST(SimPorts, AnIpv6ListenerHasIpv4ClientsToo) {
  Sim sim;
  sim.run([] {
    std::error_code error;
    Socket listener = Socket::open(AF_INET6, SOCK_STREAM, 0, error);
    sockaddr_in6 any{};
    any.sin6_family = AF_INET6;
    any.sin6_port = htons(80);
    listener.bind(reinterpret_cast<const sockaddr*>(&any), sizeof any, error);
    EXPECT_FALSE(error) << error.message();
    listener.listen(10, error);
    Socket client = new_socket();
    EXPECT_FALSE(connect_to(client, 80, 0xc0000201));  // 192.0.2.1: every address is one of ours
    Socket server = listener.accept(error);
    sockaddr_storage name{};
    EXPECT_EQ(server.peer_name(name, error), sizeof(sockaddr_in6));
    const auto& peer = reinterpret_cast<const sockaddr_in6&>(name);
    EXPECT_TRUE(IN6_IS_ADDR_V4MAPPED(&peer.sin6_addr));
    EXPECT_EQ(ntohs(peer.sin6_port), port_of(client));
    Socket only = Socket::open(AF_INET6, SOCK_STREAM, 0, error);
    only.set_option(IPPROTO_IPV6, IPV6_V6ONLY, 1, error);
    any.sin6_port = htons(81);
    only.bind(reinterpret_cast<const sockaddr*>(&any), sizeof any, error);
    only.listen(10, error);
    Socket other = new_socket();
    EXPECT_EQ(connect_to(other, 81), std::errc::connection_refused);
  });
}

TEST(SimPorts, AFullBacklogMakesClientsTryAgainLater) {
  Sim sim;
  sim.run([] {
    Socket listener = listen_on(80, kLoopback, 0);  // one place all the same, as on Linux
    Socket first = new_socket();
    Socket second = new_socket();
    EXPECT_FALSE(connect_to(first, 80));
    let_things_arrive();
    const TimePoint start = now();
    auto acceptor = spawn([&] {
      std::error_code error;
      sleep_for(10ms);
      Socket one = listener.accept(error);
      Socket two = listener.accept(error);
      EXPECT_FALSE(error);
    });
    EXPECT_FALSE(connect_to(second, 80));
    EXPECT_GE(now() - start, 1s) << "its request was dropped and repeated";
    acceptor.join();
  });
}

TEST(SimPorts, WhatWasResetInTheQueueCanStillBeAccepted) {
  Sim sim;
  sim.run([] {
    Socket listener = listen_on(80);
    Socket client = new_socket();
    EXPECT_FALSE(connect_to(client, 80));
    reset(client);
    let_things_arrive();
    std::error_code error;
    Socket server = listener.accept(error);
    EXPECT_FALSE(error);
    EXPECT_EQ(read_some(server).error, std::errc::connection_reset);
  });
}

TEST(SimPorts, ClosingAListenerResetsWhatItHasNotAccepted) {
  Sim sim;
  sim.run([] {
    Socket listener = listen_on(80);
    Socket client = new_socket();
    EXPECT_FALSE(connect_to(client, 80));
    let_things_arrive();
    listener.close();
    EXPECT_EQ(read_some(client).error, std::errc::connection_reset);
  });
  EXPECT_EQ(sim.leaks(), "");
}

TEST(SimDescriptors, TheLowestFreeNumberAndALimit) {
  Sim sim{{.descriptors_max = 4}};
  sim.run([] {
    std::array<Socket, 3> sockets{new_socket(), new_socket(), new_socket()};
    EXPECT_EQ(sockets[0].fd(), 1000);
    EXPECT_EQ(sockets[2].fd(), 1002);
    sockets[1].close();
    sockets[0].close();
    sockets[1] = new_socket();
    EXPECT_EQ(sockets[1].fd(), 1000);
    Socket listener = listen_on(80);
    Socket client = new_socket();
    std::error_code error;
    EXPECT_FALSE(Socket::open(AF_INET, SOCK_STREAM, 0, error));
    EXPECT_EQ(error, std::errc::too_many_files_open);
    EXPECT_FALSE(connect_to(client, 80));
    EXPECT_FALSE(listener.accept(error));
    EXPECT_EQ(error, std::errc::too_many_files_open);
    sockets[2].close();
    EXPECT_TRUE(listener.accept(error)) << "the connection was not lost by that";
  });
  EXPECT_EQ(sim.counters().descriptors_peak, 4U);
}

TEST(SimDescriptors, WhatIsNotSimulatedSaysSo) {
  Sim sim;
  sim.run([] {
    std::error_code error;
    EXPECT_FALSE(Socket::open(AF_INET, SOCK_RAW, 0, error));
    EXPECT_EQ(error, std::error_code(ESOCKTNOSUPPORT, std::generic_category()));
    EXPECT_FALSE(Socket::open(AF_NETLINK, SOCK_RAW, 0, error));
    EXPECT_EQ(error, std::errc::address_family_not_supported);
  });
}

TEST(SimDescriptors, LeaksAreListed) {
  Sim sim;
  alignas(Socket) std::byte forgotten[sizeof(Socket)];  // never ended
  sim.run([&] { ::new (static_cast<void*>(forgotten)) Socket(listen_on(80)); });
  EXPECT_EQ(sim.leaks(), "descriptor 1000: listens on 127.0.0.1:80\n");
}

TEST(SimDescriptors, OptionsAreRemembered) {
  Sim sim;
  sim.run([] {
    std::error_code error;
    Socket socket = new_socket();
    socket.set_option(SOL_SOCKET, SO_KEEPALIVE, 1, error);
    EXPECT_EQ(socket.option(SOL_SOCKET, SO_KEEPALIVE, error), 1);
    EXPECT_EQ(socket.option(SOL_SOCKET, SO_TYPE, error), SOCK_STREAM);
    EXPECT_EQ(socket.option(SOL_SOCKET, SO_ACCEPTCONN, error), 0);
    socket.set_option(SOL_SOCKET, SO_RCVBUF, 5000, error);
    EXPECT_EQ(socket.option(SOL_SOCKET, SO_RCVBUF, error), 10'000) << "doubled, as Linux does";
    EXPECT_FALSE(error);
    socket.set_option(12345, 1, 1, error);
    EXPECT_EQ(error, std::errc::no_protocol_option);
  });
}

// --- Faults, each by itself ------------------------------------------------------------------------------------------

/// Sends 20 kB through an echo server; says what came back.
std::string echo_once(Sim& sim) {
  std::string text(20'000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(pattern(1, i));
  std::string back;
  sim.run([&] {
    auto [client, server] = connected_pair();
    auto echo = spawn([&server = server] {
      while (true) {
        const Read read = read_some(server, 1000);
        if (read.text.empty()) break;
        EXPECT_FALSE(write_text(server, read.text));
      }
      server.close();
    });
    auto writer = spawn([&client = client, &text] {
      std::error_code error;
      for (std::size_t at = 0; at < text.size(); at += 500)
        EXPECT_FALSE(write_text(client, std::string_view(text).substr(at, 500)));
      client.shutdown(SHUT_WR, error);
    });
    back = read_all(client).text;
    writer.join();
    echo.join();
  });
  EXPECT_EQ(back, text) << testing::replay_hint(sim.seed());
  EXPECT_EQ(sim.leaks(), "");
  return back;
}

TEST(SimFaults, NoneUnlessAskedFor) {
  Sim sim;
  echo_once(sim);
  const Counters& happened = sim.counters();
  EXPECT_EQ(happened.short_reads + happened.short_writes + happened.delays + happened.spurious + happened.reorders +
                happened.cancel_races + happened.refusals + happened.syns_lost + happened.resets_injected +
                happened.splits + happened.stalls + happened.accept_failures,
            0U);
  EXPECT_EQ(happened.connections_made, 1U);
  EXPECT_EQ(happened.bytes, 40'000U);
}

TEST(SimFaults, HarmlessOnesHarmNothing) {
  struct Case {
    const char* name;
    double Faults::*probability;
    std::uint64_t Counters::*counter;
  };
  for (const Case& each :
       {Case{"short_read", &Faults::short_read, &Counters::short_reads},
        Case{"short_write", &Faults::short_write, &Counters::short_writes},
        Case{"delay", &Faults::delay, &Counters::delays}, Case{"spurious", &Faults::spurious, &Counters::spurious},
        Case{"split", &Faults::split, &Counters::splits}, Case{"stall", &Faults::stall, &Counters::stalls},
        Case{"syn_loss", &Faults::syn_loss, &Counters::syns_lost}}) {
    std::uint64_t struck = 0;
    for (std::uint64_t seed = 1; seed <= 10; ++seed) {
      SimOptions options{.seed = seed};
      options.faults.*each.probability = 0.5;
      Sim sim{options};
      echo_once(sim);
      struck += sim.counters().*each.counter;
    }
    EXPECT_GT(struck, 0U) << each.name;
  }
}

/// Ten readers whose data comes at the same time: the order in which they wake.
std::vector<int> order_of_readers(const Faults& faults) {
  Sim sim{{.faults = faults, .latency_min = 1ms, .latency_max = 1ms}};
  std::vector<int> order;
  sim.run([&] {
    std::vector<Pair> pairs;
    for (std::uint16_t port = 80; port < 90; ++port) pairs.push_back(connected_pair(port));
    Scope scope;
    for (int i = 0; i < 10; ++i) {
      scope
          .spawn([&, i] {
            EXPECT_EQ(read_some(pairs[static_cast<std::size_t>(i)].server).text, "now");
            order.push_back(i);
          })
          .detach();
    }
    yield();
    for (Pair& pair : pairs) EXPECT_FALSE(write_text(pair.client, "now"));
    scope.join();
  });
  return order;
}

TEST(SimFaults, CompletionsComeInAnyOrder) {
  const std::vector<int> sorted{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_EQ(order_of_readers(Faults::none()), sorted);
  const std::vector<int> shuffled = order_of_readers({.reorder = 1});
  EXPECT_NE(shuffled, sorted);
  EXPECT_THAT(shuffled, ::testing::UnorderedElementsAreArray(sorted));
}

TEST(SimFaults, LostRequestsEndInATimeout) {
  Sim sim{{.faults = {.syn_loss = 1}}};
  sim.run([] {
    Socket listener = listen_on(80);
    Socket socket = new_socket();
    const TimePoint start = now();
    EXPECT_EQ(connect_to(socket, 80), std::errc::timed_out);
    EXPECT_EQ(now() - start, 127s) << "Linux gives up after 1 + 2 + 4 + ... + 64 seconds";
  });
}

TEST(SimFaults, RefusalsAndResets) {
  Sim refusing{{.faults = {.refuse = 1}}};
  refusing.run([] {
    Socket listener = listen_on(80);
    Socket socket = new_socket();
    EXPECT_EQ(connect_to(socket, 80), std::errc::connection_refused);
  });
  EXPECT_EQ(refusing.counters().refusals, 1U);

  Sim resetting{{.faults = {.reset = 1}}};
  resetting.run([] {
    auto [client, server] = connected_pair();
    EXPECT_FALSE(write_text(client, "lost"));
    const Read read = read_some(server);
    EXPECT_EQ(read.text, "");
    EXPECT_EQ(read.error, std::errc::connection_reset);
    EXPECT_EQ(read_some(client).error, std::errc::connection_reset);
  });
  EXPECT_EQ(resetting.counters().resets_injected, 1U);
  EXPECT_EQ(resetting.leaks(), "");
}

TEST(SimFaults, AcceptingFailsForAWhile) {
  Sim sim{{.faults = {.accept_abort = 1}}};
  sim.run([] {
    Socket listener = listen_on(80);
    Socket client = new_socket();
    EXPECT_FALSE(connect_to(client, 80));
    std::error_code error;
    EXPECT_FALSE(listener.accept(error));
    EXPECT_EQ(error, std::errc::connection_aborted);
    EXPECT_EQ(read_some(client).error, std::errc::connection_reset);
  });

  Sim exhausted{{.faults = {.accept_exhausted = 1}}};
  exhausted.run([&] {
    Socket listener = listen_on(80);
    Socket client = new_socket();
    EXPECT_FALSE(connect_to(client, 80));
    std::error_code error;
    EXPECT_FALSE(listener.accept(error));
    EXPECT_EQ(error, std::errc::too_many_files_open);
    exhausted.quiesce();
    EXPECT_TRUE(listener.accept(error));
  });
}

TEST(SimFaults, ACancelledReadMayStillBringData) {
  bool data = false;
  bool cancelled = false;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Sim sim{{.seed = seed, .faults = {.cancel_race = 1}}};
    sim.run([&] {
      auto [client, server] = connected_pair();
      auto reader = spawn([&server = server, &data, &cancelled] {
        const Read read = read_some(server);
        EXPECT_EQ(read.error,
                  read.text.empty() ? std::make_error_code(std::errc::operation_canceled) : std::error_code());
        (read.text.empty() ? cancelled : data) = true;
      });
      yield();
      EXPECT_FALSE(write_text(client, "late"));
      reader.cancel();
      reader.join();
    });
    EXPECT_EQ(sim.counters().cancel_races, 1U);
  }
  EXPECT_TRUE(data);
  EXPECT_TRUE(cancelled);
}

TEST(SimFaults, EndAtATime) {
  Sim sim{{.faults = {.refuse = 1}, .faults_until = 1h}};
  sim.run([] {
    Socket listener = listen_on(80);
    Socket socket = new_socket();
    EXPECT_EQ(connect_to(socket, 80), std::errc::connection_refused);
    sleep_for(1h);
    EXPECT_FALSE(connect_to(socket, 80));
  });
}

// --- Many connections, all faults ------------------------------------------------------------------------------------

// The thread sanitizer takes fifty times as long, and one thread has no races.
constexpr std::size_t kHistories = test::thread_sanitized ? 30 : 1000;

/// What a population of clients and an echo server went through.
struct Outcome {
  unsigned complete = 0;  // everything came back, then the end of the stream
  unsigned failed = 0;    // with an error, and nothing wrong until then
  unsigned given_up = 0;  // by a client that had a limit
};

/// One server and its clients. Half of the clients ask and wait for each answer, the others send and receive at the
/// same time; some look away from a read every few milliseconds, and some run out of patience altogether. On the
/// server, half of the handlers read into their own buffer, the others into a lent one.
class EchoWorld {
 public:
  explicit EchoWorld(std::uint64_t seed) : random_(static_cast<std::mt19937::result_type>(seed)) {}

  void run(unsigned clients) {
    std::error_code error;
    Socket listener = listen_on(7000);
    Scope servers;
    Fiber<void> acceptor = servers.spawn([&] { serve(listener, servers); });
    {
      Scope scope;
      for (unsigned i = 0; i < clients; ++i) scope.spawn([this, i] { client(i); }).detach();
      scope.join();
    }
    acceptor.cancel();
    servers.join();
  }

  /// Asks again and again until an exchange has gone well.
  static unsigned insist(unsigned who) {
    for (unsigned tries = 1;; ++tries) {
      Socket socket = new_socket();
      std::string back;
      if (!connect_to(socket, 7000) && !write_text(socket, "ping")) {
        while (back.size() < 4) {
          const Read read = read_some(socket);
          if (read.text.empty()) break;
          back += read.text;
        }
      }
      if (back == "ping") return tries;
      EXPECT_EQ(std::string("ping").substr(0, back.size()), back) << "client " << who;
      sleep_for(100ms);
    }
  }

  void serve(Socket& listener, Scope& scope) {
    for (;;) {
      std::error_code error;
      Socket socket = listener.accept(error);
      if (error == std::errc::operation_canceled) return;
      if (error == std::errc::too_many_files_open) {
        sleep_for(10ms);
      } else if (error) {
        EXPECT_EQ(error, std::errc::connection_aborted);
      } else {
        const bool lent = random_() % 2 == 0;
        scope.spawn([lent](Socket peer) { lent ? echo_lent(peer) : echo(peer); }, std::move(socket)).detach();
      }
    }
  }

  [[nodiscard]] const Outcome& outcome() const { return outcome_; }

 private:
  std::size_t pick(std::size_t low, std::size_t high) { return low + random_() % (high - low + 1); }

  static void echo(Socket& peer) {
    std::array<std::byte, 700> buffer{};
    std::error_code error;
    while (const std::size_t count = peer.read(buffer, error)) {
      peer.write_all(std::span(buffer).first(count), error);
      if (error) return;
    }
  }

  static void echo_lent(Socket& peer) {
    std::error_code error;
    for (;;) {
      Chunk chunk = peer.read(error);
      if (chunk.empty()) return;
      std::array<iovec, 2> halves{iovec{chunk.data(), chunk.size() / 2},
                                  iovec{chunk.data() + chunk.size() / 2, chunk.size() - chunk.size() / 2}};
      peer.write_all(halves, error);
      if (error) return;
    }
  }

  void client(unsigned who) {
    const std::size_t total = pick(1, 3000);
    const bool at_once = random_() % 2 == 0;
    const bool restless = random_() % 4 == 0;
    const Duration patience = random_() % 8 == 0 ? Duration(pick(1, 5'000'000)) : 10h;
    const auto exchange = [&] {
      Socket socket = new_socket();
      std::error_code error = connect_to(socket, 7000);
      std::size_t returned = 0;
      if (restless) socket.set_read_timeout(3ms);
      if (!error)
        error = at_once ? talk_at_once(socket, who, total, returned) : talk_in_turns(socket, who, total, returned);
      if (error == std::errc::operation_canceled) this_fiber::checkpoint();
      judge(who, error, returned, total);
    };
    if (!move_on_after(patience, exchange)) ++outcome_.given_up;
  }

  void judge(unsigned who, std::error_code error, std::size_t returned, std::size_t total) {
    if (error) {
      ++outcome_.failed;
      EXPECT_TRUE(error == std::errc::connection_reset || error == std::errc::broken_pipe ||
                  error == std::errc::connection_refused || error == std::errc::timed_out ||
                  error == std::errc::connection_aborted)
          << "client " << who << ": " << error.message();
    } else {
      ++outcome_.complete;
      EXPECT_EQ(returned, total) << "client " << who << " was told of the end without all of it";
    }
  }

  std::error_code send_piece(Socket& socket, unsigned who, std::size_t from, std::size_t size) {
    std::vector<std::byte> piece(size);
    for (std::size_t i = 0; i < size; ++i) piece[i] = pattern(who, from + i);
    std::error_code error;
    socket.write_all(piece, error);
    return error;
  }

  /// Reads up to `until`, or to the end of the stream.
  std::error_code receive(Socket& socket, unsigned who, std::size_t until, std::size_t& returned) {
    std::array<std::byte, 512> buffer{};
    while (returned < until) {
      std::error_code error;
      const std::size_t count = socket.read(std::span(buffer).first(pick(1, buffer.size())), error);
      if (error == std::errc::timed_out) continue;  // the socket's limit: nothing may have been lost by that
      if (count == 0) return error;
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < count; ++i) wrong += buffer[i] != pattern(who, returned + i) ? 1U : 0U;
      EXPECT_EQ(wrong, 0U) << "client " << who << " at " << returned;
      returned += count;
    }
    return {};
  }

  std::error_code finish(Socket& socket, unsigned who, std::size_t& returned) {
    std::error_code error;
    socket.shutdown(SHUT_WR, error);
    if (error == std::errc::not_connected) error.clear();  // reset meanwhile: reading says so
    const std::error_code reading = receive(socket, who, SIZE_MAX, returned);
    return reading ? reading : error;
  }

  std::error_code talk_in_turns(Socket& socket, unsigned who, std::size_t total, std::size_t& returned) {
    while (returned < total) {
      const std::size_t size = std::min(pick(1, 800), total - returned);
      if (const std::error_code error = send_piece(socket, who, returned, size)) return error;
      const std::size_t until = returned + size;
      if (const std::error_code error = receive(socket, who, until, returned)) return error;
      if (returned < until) return {};
    }
    return finish(socket, who, returned);
  }

  std::error_code talk_at_once(Socket& socket, unsigned who, std::size_t total, std::size_t& returned) {
    std::error_code writing;
    Scope scope;
    scope
        .spawn([&] {
          for (std::size_t sent = 0; sent < total && !writing;) {
            const std::size_t size = std::min(pick(1, 800), total - sent);
            writing = send_piece(socket, who, sent, size);
            sent += size;
          }
          std::error_code ignored;
          if (!writing) socket.shutdown(SHUT_WR, ignored);
        })
        .detach();
    const std::error_code reading = receive(socket, who, SIZE_MAX, returned);
    scope.join();
    return reading ? reading : writing;
  }

  std::mt19937 random_;
  Outcome outcome_;
};

struct History {
  std::uint64_t hash;
  TimePoint end;
  Outcome outcome;
  Counters counters;
};

History chaos(std::uint64_t seed, unsigned clients) {
  Sim sim{{.seed = seed, .faults = Faults::chaotic(), .send_buffer = 1500, .receive_buffer = 1000}};
  EchoWorld world(seed);
  sim.run([&] {
    world.run(clients);
    const LoopStats left = this_loop::stats();
    EXPECT_EQ(left.operations_in_flight, 0U);
    EXPECT_EQ(left.descriptors_open, 0U);
    EXPECT_EQ(left.receive_buffers_lent, 0U);
    EXPECT_EQ(left.fibers_alive, 1U);
    EXPECT_EQ(left.timers_armed, 0U);
  });
  EXPECT_EQ(sim.leaks(), "");
  return {sim.trace_hash(), sim.now(), world.outcome(), sim.counters()};
}

TEST(SimHistory, ASeedRepeatsIt) {
  const History first = chaos(1, 50);
  const History again = chaos(1, 50);
  const History other = chaos(2, 50);
  EXPECT_EQ(first.hash, again.hash);
  EXPECT_EQ(first.end, again.end);
  EXPECT_EQ(first.counters.events, again.counters.events);
  EXPECT_EQ(first.outcome.complete, again.outcome.complete);
  EXPECT_NE(first.hash, other.hash);
}

TEST(SimHistory, AThousandOfThemFullOfFaults) {
  Outcome sum;
  Counters counters;
  for (const std::uint64_t seed : testing::seeds(kHistories)) {
    const History history = chaos(seed, 50);
    sum.complete += history.outcome.complete;
    sum.failed += history.outcome.failed;
    sum.given_up += history.outcome.given_up;
    counters.resets_injected += history.counters.resets_injected;
    counters.accept_failures += history.counters.accept_failures;
    counters.cancel_races += history.counters.cancel_races;
    ASSERT_FALSE(HasFailure()) << testing::replay_hint(seed);
  }
  // Chaos that hits nobody, or everybody, tests nothing.
  EXPECT_GT(sum.complete, 0U);
  EXPECT_GT(sum.failed, 0U);
  EXPECT_GT(counters.resets_injected, 0U);
  RecordProperty("complete", static_cast<int>(sum.complete));
  RecordProperty("failed", static_cast<int>(sum.failed));
  RecordProperty("given_up", static_cast<int>(sum.given_up));
  RecordProperty("resets_injected", static_cast<int>(counters.resets_injected));
  RecordProperty("accept_failures", static_cast<int>(counters.accept_failures));
  RecordProperty("cancel_races", static_cast<int>(counters.cancel_races));
}

TEST(SimHistory, WhenTheFaultsEndEverythingGoesWell) {
  for (const std::uint64_t seed : testing::seeds(kHistories / 20)) {
    Faults storm = Faults::chaotic();
    storm.reset = 0.5;
    storm.refuse = 0.5;
    Sim sim{{.seed = seed, .faults = storm}};
    EchoWorld world(seed);
    sim.run([&] {
      Socket listener = listen_on(7000);
      Scope servers;
      Fiber<void> acceptor = servers.spawn([&] { world.serve(listener, servers); });
      unsigned calm_tries = 0;
      {
        Scope clients;
        for (unsigned i = 0; i < 20; ++i) {
          clients
              .spawn([&, i] {
                for (int n = 0; n < 20; ++n) EchoWorld::insist(i);
                sleep_until(TimePoint(1h));
                calm_tries = std::max(calm_tries, EchoWorld::insist(i));
              })
              .detach();
        }
        clients
            .spawn([&] {
              sleep_for(20s);
              sim.quiesce();
            })
            .detach();
        with_timeout(2h, [&] { clients.join(); });
      }
      EXPECT_EQ(calm_tries, 1U);
      acceptor.cancel();
      servers.join();
    });
    EXPECT_EQ(sim.leaks(), "");
    ASSERT_FALSE(HasFailure()) << testing::replay_hint(seed);
  }
}

TEST(SimHistory, AnyProgramHasAWorldOfItsOwn) {
  RunOptions options;
  options.engine = EngineChoice::sim;
  run(options, [] {
    EXPECT_EQ(this_loop::engine_name(), "sim");
    const TimePoint start = now();
    sleep_for(24h);
    EXPECT_EQ(now() - start, 24h);
    auto [client, server] = connected_pair();
    EXPECT_FALSE(write_text(client, "hello"));
    EXPECT_EQ(read_some(server).text, "hello");
  });
}

}  // namespace
}  // namespace bight
