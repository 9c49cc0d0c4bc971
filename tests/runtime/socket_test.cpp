// SPDX-License-Identifier: Apache-2.0
#include <bight/socket.hpp>

#include <netinet/tcp.h>
#include <sys/resource.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/testing.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::connect_narrow_pair;
using test::connect_pair;
using test::LoopbackListener;
using test::on_loop;
using test::SocketPair;

std::string read_text(Socket& socket, std::error_code& error, std::size_t most = 100) {
  std::string text(most, '\0');
  text.resize(socket.read(std::as_writable_bytes(std::span(text)), error));
  return text;
}

/// Reads to the end of the stream.
std::string read_to_end(Socket& socket) {
  std::string text;
  std::error_code error;
  while (Chunk chunk = socket.read(error)) text += chunk.text();
  EXPECT_FALSE(error) << error.message();
  return text;
}

/// Text in which every place can be told from every other.
std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  std::minstd_rand random(1);
  for (char& each : text) each = static_cast<char>(random());
  return text;
}

/// Writes until nothing more goes.
void fill(Socket& socket) {
  const std::string block(64 * 1024, 'f');
  socket.set_write_timeout(20ms);
  std::error_code error;
  while (!error) socket.write(bytes_of(block), error);
  EXPECT_EQ(error, std::errc::timed_out);
  socket.set_write_timeout(0s);
}

Duration processor_time() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) { return std::chrono::seconds(time.tv_sec) + 1us * time.tv_usec; };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

TEST(Socket, MovesBytesBothWays) {
  on_loop([] {
    auto [client, server] = connect_pair();
    std::error_code error;
    EXPECT_EQ(client.write(bytes_of("hello"), error), 5U);
    EXPECT_EQ(read_text(server, error), "hello");
    server.write_all(bytes_of("world, and more"), error);
    EXPECT_EQ(read_text(client, error, 5), "world");
    EXPECT_EQ(client.read(error).text(), ", and more");
    EXPECT_FALSE(error);
  });
}

TEST(Socket, EmptyTransfersDoNothing) {
  on_loop([] {
    auto [client, server] = connect_pair();
    std::error_code error = std::make_error_code(std::errc::io_error);
    EXPECT_EQ(client.read(std::span<std::byte>(), error), 0U);
    EXPECT_FALSE(error);
    EXPECT_EQ(client.write(std::span<const std::byte>(), error), 0U);
    EXPECT_FALSE(error);
    client.write_all(std::span<const std::byte>(), error);
    EXPECT_FALSE(error);
    client.write_all(std::span<::iovec>(), error);
    EXPECT_FALSE(error);
  });
}

TEST(Socket, EndOfStreamIsZeroAndStays) {
  on_loop([] {
    auto [client, server] = connect_pair();
    std::error_code error;
    client.write_all(bytes_of("last words"), error);
    client.shutdown(SHUT_WR, error);
    EXPECT_EQ(read_text(server, error), "last words");
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(read_text(server, error), "");
      EXPECT_FALSE(error);
      EXPECT_TRUE(server.read(error).empty());
      EXPECT_FALSE(error);
    }
    server.write_all(bytes_of("half-closed is half open"), error);
    EXPECT_EQ(read_text(client, error), "half-closed is half open");
  });
}

TEST(Socket, LargeTransfersWaitForRoom) {
  on_loop([] {
    auto [client, server] = connect_narrow_pair();
    const std::string sent = pattern(3'000'000);
    auto writer = spawn([&client = client, &sent] {
      std::error_code error;
      client.write_all(bytes_of(sent), error);
      EXPECT_FALSE(error) << error.message();
      client.shutdown(SHUT_WR, error);
    });
    EXPECT_TRUE(read_to_end(server) == sent);
    writer.join();
  });
}

TEST(Socket, GatheredWritesKeepTheirOrder) {
  on_loop([] {
    auto [client, server] = connect_narrow_pair();
    const std::string sent = pattern(2'000'000);
    auto writer = spawn([&client = client, &sent] {
      // More pieces than one call takes (IOV_MAX is 1024), empty ones among them.
      std::vector<::iovec> pieces;
      std::minstd_rand random(2);
      for (std::size_t at = 0; at < sent.size();) {
        const std::size_t size = std::min<std::size_t>(random() % 1000, sent.size() - at);
        pieces.push_back({const_cast<char*>(sent.data()) + at, size});
        at += size;
      }
      EXPECT_GT(pieces.size(), 2000U);
      std::error_code error;
      client.write_all(std::span(pieces), error);
      EXPECT_FALSE(error) << error.message();
      client.shutdown(SHUT_WR, error);
    });
    EXPECT_TRUE(read_to_end(server) == sent);
    writer.join();
  });
}

// parity 34: test_fullduplex
TEST(Socket, OneReadsWhileAnotherWrites) {
  on_loop([] {
    auto [client, server] = connect_narrow_pair();
    const std::string sent = pattern(500'000);
    Scope scope;
    for (Socket* each : {&client, &server}) {
      scope.spawn([each, &sent] {
        std::error_code error;
        each->write_all(bytes_of(sent), error);
        EXPECT_FALSE(error) << error.message();
        each->shutdown(SHUT_WR, error);
      });
      scope.spawn([each, &sent] { EXPECT_TRUE(read_to_end(*each) == sent); });
    }
    scope.join();
  });
}

// parity 33: test_recv_twice
TEST(Socket, ASecondReaderOrWriterIsRefused) {
  on_loop([] {
    auto [client, server] = connect_narrow_pair();
    auto reader = spawn([&client = client] {
      std::error_code error;
      return read_text(client, error);
    });
    yield();
    std::error_code error;
    EXPECT_EQ(read_text(client, error), "");
    EXPECT_EQ(error, std::errc::device_or_resource_busy);
    EXPECT_TRUE(client.read(error).empty());
    EXPECT_EQ(error, std::errc::device_or_resource_busy);
    client.wait_readable(error);
    EXPECT_EQ(error, std::errc::device_or_resource_busy);
    fill(client);
    auto writer = spawn([&client = client] {
      std::error_code write_error;
      client.write_all(bytes_of("w"), write_error);
      EXPECT_FALSE(write_error);
      client.shutdown(SHUT_WR, write_error);
    });
    yield();
    client.write(bytes_of("x"), error);
    EXPECT_EQ(error, std::errc::device_or_resource_busy);
    client.wait_writable(error);
    EXPECT_EQ(error, std::errc::device_or_resource_busy);
    server.write_all(bytes_of("for the first reader"), error);
    EXPECT_EQ(reader.get(), "for the first reader");
    EXPECT_EQ(read_to_end(server).back(), 'w');
    writer.join();
  });
}

// --- Time limits -----------------------------------------------------------------------------------------------------

TEST(Socket, ReadTimeouts) {
  on_loop([] {
    auto [client, server] = connect_pair();
    EXPECT_EQ(client.read_timeout(), 0s);
    client.set_read_timeout(5ms);
    EXPECT_EQ(client.read_timeout(), 5ms);
    std::error_code error;
    for (int i = 0; i < 4; ++i) {
      const TimePoint start = now();
      if (i % 2 == 0) {
        EXPECT_EQ(read_text(client, error), "");
      } else {
        EXPECT_TRUE(client.read(error).empty());
      }
      EXPECT_EQ(error, std::errc::timed_out);
      EXPECT_GE(now() - start, 5ms);
      EXPECT_LT(now() - start, 1s);
    }
    server.write_all(bytes_of("in time"), error);
    EXPECT_EQ(read_text(client, error), "in time");
    EXPECT_FALSE(error);
    client.set_read_timeout(0s);
    auto later = spawn([&server = server] {
      sleep_for(30ms);
      std::error_code late_error;
      server.write_all(bytes_of("late"), late_error);
    });
    EXPECT_EQ(read_text(client, error), "late");
    later.join();
  });
}

// parity 34: test_sendall_timeout; the limit counts from the last progress
TEST(Socket, WriteTimeoutsAreWithoutProgress) {
  on_loop([] {
    auto [client, server] = connect_narrow_pair();
    client.set_write_timeout(500ms);
    const std::string block(300'000, 'x');
    std::error_code error;
    auto slow_reader = spawn([&server = server] {
      std::error_code read_error;
      std::size_t left = 300'000;
      while (left > 0) {
        const std::size_t count = read_text(server, read_error, 20'000).size();
        if (count == 0) break;
        left -= count;
        sleep_for(40ms);
      }
    });
    const TimePoint start = now();
    client.write_all(bytes_of(block), error);
    EXPECT_FALSE(error) << error.message() << " although it went on";
    if (error) client.close();
    slow_reader.join();
    EXPECT_GT(now() - start, 500ms);
    std::string endless;
    endless.resize(20'000'000, 'y');
    client.write_all(bytes_of(endless), error);
    EXPECT_EQ(error, std::errc::timed_out);
  });
}

TEST(Socket, AWaitToReadCanBeMadeToExpire) {
  on_loop([] {
    auto [client, server] = connect_pair();
    client.expire_read();  // nobody reads
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      std::error_code error;
      auto reader = scope.spawn([&, &client = client] { return read_text(client, error); });
      yield();
      client.expire_read();
      client.expire_read();
      EXPECT_EQ(reader.get(), "");
      EXPECT_EQ(error, std::errc::timed_out);
    }
    // It says nothing about the next one.
    std::error_code error;
    auto reader = scope.spawn([&, &client = client] { return read_text(client, error); });
    yield();
    server.write_all(bytes_of("data"), error);
    EXPECT_EQ(reader.get(), "data");
    client.close();
    client.expire_read();
  });
}

TEST(Socket, AcceptAndConnectTimeouts) {
  on_loop([] {
    LoopbackListener listener;
    listener.socket.set_read_timeout(5ms);
    std::error_code error;
    EXPECT_FALSE(listener.socket.accept(error));
    EXPECT_EQ(error, std::errc::timed_out);
  });
}

TEST(Socket, ADeadlineIsReportedAsCancelled) {
  on_loop([] {
    auto [client, server] = connect_pair();
    std::error_code error;
    EXPECT_FALSE(move_on_after(3ms, [&, &client = client] {
      EXPECT_EQ(read_text(client, error), "");
      EXPECT_EQ(error, std::errc::operation_canceled);
      EXPECT_EQ(read_text(client, error), "");  // and so is the next one
      EXPECT_EQ(error, std::errc::operation_canceled);
      this_fiber::checkpoint();
    }));
    server.write_all(bytes_of("still good"), error);
    EXPECT_EQ(read_text(client, error), "still good");
  });
}

// --- Cancellation ----------------------------------------------------------------------------------------------------

/// A fiber in an operation for ever, cancelled: how does the operation end?
template <class Operation>
std::error_code cancelled(Operation&& operation) {
  std::error_code error;
  auto fiber = spawn([&] { operation(error); });
  yield();
  sleep_for(1ms);
  EXPECT_FALSE(fiber.done());
  fiber.cancel();
  fiber.join();
  return error;
}

TEST(Socket, EveryOperationCanBeCancelled) {
  on_loop([] {
    LoopbackListener listener;
    auto [client, server] = connect_pair(listener, 4096, 4096);
    fill(client);
    fill(server);
    const auto expected = std::make_error_code(std::errc::operation_canceled);
    EXPECT_EQ(cancelled([&](auto& error) { static_cast<void>(listener.socket.accept(error)); }), expected);
    EXPECT_EQ(cancelled([&, &client = client](auto& error) { client.write(bytes_of("x"), error); }), expected);
    EXPECT_EQ(cancelled([&, &client = client](auto& error) { client.write_all(bytes_of("x"), error); }), expected);
    EXPECT_EQ(cancelled([&, &client = client](auto& error) {
                std::array<char, 1> byte{};
                ::iovec piece{byte.data(), 1};
                client.write_all(std::span(&piece, 1), error);
              }),
              expected);
    EXPECT_EQ(cancelled([&, &client = client](auto& error) { client.wait_writable(error); }), expected);
  });
  on_loop([] {
    auto [client, server] = connect_pair();
    const auto expected = std::make_error_code(std::errc::operation_canceled);
    EXPECT_EQ(cancelled([&, &client = client](auto& error) { read_text(client, error); }), expected);
    EXPECT_EQ(cancelled([&, &client = client](auto& error) { static_cast<void>(client.read(error)); }), expected);
    EXPECT_EQ(cancelled([&, &client = client](auto& error) { client.wait_readable(error); }), expected);
    EXPECT_EQ(cancelled([&, &client = client](auto& error) { read_text(client, error); }), expected);
    std::error_code error;
    server.write_all(bytes_of("unharmed"), error);
    EXPECT_EQ(read_text(client, error), "unharmed");
  });
}

TEST(Socket, ACancelledFiberDoesNotEvenTry) {
  on_loop([] {
    auto [client, server] = connect_pair();
    std::error_code error;
    server.write_all(bytes_of("there already"), error);
    sleep_for(1ms);
    auto fiber = spawn([&client = client] {
      {
        Shield shield;
        yield();
      }
      std::error_code read_error;
      EXPECT_EQ(read_text(client, read_error), "");
      EXPECT_EQ(read_error, std::errc::operation_canceled);
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_EQ(read_text(client, error), "there already") << "nothing is lost";
  });
}

// Data and cancellation race at every distance: each byte arrives, in the reader that was cancelled or in the next one.
TEST(Socket, DataThatWasMovedIsNeverDropped) {
  on_loop([] {
    auto [client, server] = connect_pair();
    std::string received;
    std::string sent;
    std::minstd_rand random(3);
    for (int round = 0; round < 2000; ++round) {
      auto reader = spawn([&, &client = client, lent = random() % 2 == 0] {
        std::error_code error;
        if (lent) {
          received += client.read(error).text();
        } else {
          received += read_text(client, error);
        }
      });
      for (unsigned i = random() % 3; i > 0; --i) yield();
      std::error_code error;
      const std::string text = std::to_string(round) + ";";
      if (random() % 2 == 0) {
        server.write_all(bytes_of(text), error);
        sent += text;
      }
      for (unsigned i = random() % 3; i > 0; --i) yield();
      reader.cancel();
      reader.join();
    }
    std::error_code error;
    server.shutdown(SHUT_WR, error);
    received += read_to_end(client);
    EXPECT_TRUE(received == sent);
  });
}

TEST(Socket, ConnectionsThatWereAcceptedAreNeverDropped) {
  on_loop([] {
    LoopbackListener listener;
    std::vector<Socket> accepted;
    std::vector<Socket> clients;
    for (int round = 0; round < 200; ++round) {
      auto acceptor = spawn([&] {
        std::error_code error;
        if (Socket socket = listener.socket.accept(error)) accepted.push_back(std::move(socket));
      });
      for (int i = round % 3; i > 0; --i) yield();
      std::error_code error;
      Socket client = Socket::open(AF_INET, SOCK_STREAM, 0, error);
      auto cancel = spawn([&] { acceptor.cancel(); });
      client.connect(listener.name(), sizeof listener.address, error);
      ASSERT_FALSE(error) << error.message();
      clients.push_back(std::move(client));
      cancel.join();
      acceptor.join();
    }
    listener.socket.set_read_timeout(50ms);
    std::error_code error;
    while (Socket socket = listener.socket.accept(error)) accepted.push_back(std::move(socket));
    EXPECT_EQ(accepted.size(), clients.size());
  });
}

// parity 48: kill storm
TEST(Socket, ThousandsOfReadsCancelledAtOnce) {
  static constexpr int kPairs = test::this_many(2000, 100);
  on_loop([] {
    LoopbackListener listener(4096);
    std::vector<SocketPair> pairs;
    std::vector<Fiber<>> readers;
    int cancelled = 0;
    pairs.reserve(kPairs);
    for (int i = 0; i < kPairs; ++i) {
      pairs.push_back(connect_pair(listener));
      readers.push_back(spawn([&cancelled, &pair = pairs.back(), i] {
        std::error_code error;
        std::array<std::byte, 16> buffer{};
        if (i % 3 == 0) {
          static_cast<void>(pair.client.read(error));
        } else if (i % 3 == 1) {
          pair.client.read(buffer, error);
        } else {
          pair.client.wait_readable(error);
        }
        if (error == std::errc::operation_canceled) ++cancelled;
      }));
    }
    yield();
    for (int round = 0; round < 2; ++round) {
      for (const auto& reader : readers) reader.cancel();
    }
    for (const auto& reader : readers) reader.join();
    EXPECT_EQ(cancelled, kPairs);
    EXPECT_EQ(this_loop::stats().operations_in_flight, 0U);
  });
}

// --- Readiness -------------------------------------------------------------------------------------------------------

TEST(Socket, WaitReadableWaitsUntilThereIsSomething) {
  on_loop([] {
    auto [client, server] = connect_pair();
    std::error_code error;
    for (const std::string text : {"one", "two", "three"}) {
      client.set_read_timeout(5ms);
      client.wait_readable(error);
      EXPECT_EQ(error, std::errc::timed_out) << "nothing is there before '" << text << "'";
      client.set_read_timeout(0s);
      server.write_all(bytes_of(text), error);
      client.wait_readable(error);
      EXPECT_FALSE(error);
      client.wait_readable(error);  // it stays readable
      EXPECT_FALSE(error);
      EXPECT_EQ(read_text(client, error, text.size()), text);  // exactly what is there
    }
    server.shutdown(SHUT_WR, error);
    client.wait_readable(error);
    EXPECT_FALSE(error) << "its end is something to read";
  });
}

TEST(Socket, WaitWritableWaitsUntilThereIsRoom) {
  on_loop([] {
    auto [client, server] = connect_narrow_pair();
    std::error_code error;
    client.wait_writable(error);
    EXPECT_FALSE(error);
    for (int round = 0; round < 2; ++round) {
      fill(client);
      client.set_write_timeout(5ms);
      client.wait_writable(error);
      EXPECT_EQ(error, std::errc::timed_out) << round;
      client.set_write_timeout(0s);
      auto reader = spawn([&server = server] {
        server.set_read_timeout(50ms);
        std::error_code read_error;
        while (Chunk chunk = server.read(read_error)) {
        }
        EXPECT_EQ(read_error, std::errc::timed_out);
      });
      client.wait_writable(error);
      EXPECT_FALSE(error);
      reader.join();
    }
  });
}

// The trap of one-shot polls: POLLRDHUP is added to every io_uring poll.
TEST(Socket, WaitingForRoomWhileThePeerHasHalfClosedUsesNoProcessor) {
  on_loop([] {
    auto [client, server] = connect_narrow_pair();
    std::error_code error;
    server.shutdown(SHUT_WR, error);
    fill(client);
    const Duration before = processor_time();
    const TimePoint start = now();
    client.set_write_timeout(300ms);
    client.write(bytes_of("x"), error);
    EXPECT_EQ(error, std::errc::timed_out);
    client.wait_writable(error);
    EXPECT_EQ(error, std::errc::timed_out);
    EXPECT_GE(now() - start, 600ms);
    EXPECT_LT(processor_time() - before, 100ms);
  });
}

TEST(Socket, WaitingToReadUsesNoProcessor) {
  on_loop([] {
    auto [client, server] = connect_pair();
    std::error_code error;
    client.set_read_timeout(300ms);
    const Duration before = processor_time();
    EXPECT_EQ(read_text(client, error), "");
    EXPECT_TRUE(client.read(error).empty());
    client.wait_readable(error);
    EXPECT_EQ(error, std::errc::timed_out);
    EXPECT_LT(processor_time() - before, 100ms);
  });
}

// --- Connections -----------------------------------------------------------------------------------------------------

TEST(Socket, ConnectIsRefused) {
  on_loop([] {
    ::sockaddr_in address{};
    {
      const LoopbackListener listener;
      address = listener.address;
    }
    std::error_code error;
    Socket socket = Socket::open(AF_INET, SOCK_STREAM, 0, error);
    socket.connect(reinterpret_cast<const ::sockaddr*>(&address), sizeof address, error);
    EXPECT_EQ(error, std::errc::connection_refused);
  });
}

TEST(Socket, ResetsAreErrors) {
  on_loop([] {
    auto [client, server] = connect_pair();
    std::error_code error;
    const ::linger at_once{1, 0};
    auto reader = spawn([&client = client] {
      std::error_code read_error;
      read_text(client, read_error);
      EXPECT_EQ(read_error, std::errc::connection_reset);
      client.write(bytes_of("x"), read_error);
      EXPECT_EQ(read_error, std::errc::broken_pipe);  // and no SIGPIPE
    });
    yield();
    server.set_option(SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once, error);
    EXPECT_FALSE(error);
    server.close();
    reader.join();
  });
}

TEST(Socket, NamesAndOptions) {
  on_loop([] {
    LoopbackListener listener;
    auto [client, server] = connect_pair(listener);
    std::error_code error;
    ::sockaddr_storage name{};
    EXPECT_EQ(client.peer_name(name, error), sizeof(::sockaddr_in));
    EXPECT_EQ(reinterpret_cast<const ::sockaddr_in&>(name).sin_port, listener.address.sin_port);
    ::sockaddr_storage other{};
    server.peer_name(name, error);
    client.local_name(other, error);
    EXPECT_EQ(reinterpret_cast<const ::sockaddr_in&>(name).sin_port,
              reinterpret_cast<const ::sockaddr_in&>(other).sin_port);
    client.set_option(IPPROTO_TCP, TCP_NODELAY, 1, error);
    EXPECT_FALSE(error);
    EXPECT_NE(client.option(IPPROTO_TCP, TCP_NODELAY, error), 0);
    EXPECT_EQ(client.option(SOL_SOCKET, SO_ERROR, error), 0);
  });
}

TEST(Socket, MovesWithItsWaiters) {
  on_loop([] {
    auto pair = connect_pair();
    auto reader = spawn([&] {
      std::error_code error;
      return read_text(pair.client, error);
    });
    yield();
    Socket moved = std::move(pair.client);
    EXPECT_FALSE(pair.client);  // NOLINT(bugprone-use-after-move)
    std::error_code error;
    pair.server.write_all(bytes_of("found"), error);
    EXPECT_EQ(reader.get(), "found");
  });
}

// --- All of it, at random --------------------------------------------------------------------------------------------

/// One stream read in every way there is, with limits that expire and chunks that are kept, against what was written.
void read_at_random(Socket& socket, const std::string& expected, std::minstd_rand& random) {
  std::size_t at = 0;
  std::vector<std::pair<Chunk, std::size_t>> kept;
  const auto check = [&](std::string_view got) {
    ASSERT_TRUE(expected.compare(at, got.size(), got) == 0) << "at " << at;
    at += got.size();
  };
  while (at < expected.size() && !::testing::Test::HasFatalFailure()) {
    std::error_code error;
    socket.set_read_timeout(random() % 8 == 0 ? Duration(random() % 300'000 + 1) : 0s);
    switch (random() % 4) {
      case 0: check(read_text(socket, error, random() % 5000 + 1)); break;
      case 1: check(read_text(socket, error, 200'000)); break;
      case 2: socket.wait_readable(error); break;
      default:
        Chunk chunk = socket.read(error);
        check(chunk.text());
        if (!chunk.empty() && random() % 4 == 0) kept.emplace_back(std::move(chunk), at);
    }
    EXPECT_TRUE(!error || error == std::errc::timed_out) << error.message();
    if (random() % 4 == 0) yield();
    if (random() % 16 == 0) sleep_for(random() % 200 * 1us);
    if (kept.size() > 5) kept.clear();
    for (const auto& [chunk, end] : kept) {
      ASSERT_TRUE(expected.compare(end - chunk.size(), chunk.size(), chunk.text()) == 0) << "a kept chunk changed";
    }
  }
  std::error_code error;
  socket.set_read_timeout(0s);
  EXPECT_EQ(read_text(socket, error), "");
  EXPECT_FALSE(error);
}

void write_at_random(Socket& socket, const std::string& text, std::minstd_rand& random) {
  std::error_code error;
  for (std::size_t at = 0; at < text.size() && !error;) {
    const std::size_t most = random() % 4 == 0 ? 150'000 : 3000;
    const std::size_t size = std::min<std::size_t>(random() % most + 1, text.size() - at);
    const std::string_view piece = std::string_view(text).substr(at, size);
    if (random() % 2 == 0) {
      at += socket.write(bytes_of(piece), error);
    } else {
      socket.write_all(bytes_of(piece), error);
      at += size;
    }
    if (random() % 8 == 0) sleep_for(random() % 300 * 1us);
  }
  EXPECT_FALSE(error) << error.message();
  socket.shutdown(SHUT_WR, error);
}

TEST(Socket, StreamsReadInEveryWayAtRandom) {
  const std::string text = pattern(400'000);
  for (const std::uint64_t seed : testing::seeds(12)) {
    SCOPED_TRACE(testing::replay_hint(seed));
    RunOptions options;
    options.receive_buffers = seed % 3 == 0 ? 128 : seed % 3;  // none, one, many
    on_loop(options, [&] {
      auto pair = seed % 2 == 0 ? connect_pair() : connect_narrow_pair();
      Scope scope;
      scope.spawn([&] {
        std::minstd_rand random(static_cast<unsigned>(seed));
        write_at_random(pair.client, text, random);
      });
      scope.spawn([&] {
        std::minstd_rand random(static_cast<unsigned>(seed + 100));
        read_at_random(pair.server, text, random);
      });
      scope.join();
    });
    if (HasFatalFailure()) return;
  }
}

// A short read of a stream means that it is drained; of datagrams it never does.
TEST(Socket, EveryDatagramThatWaitsIsRead) {
  on_loop([] {
    std::error_code error;
    Socket receiver = Socket::open(AF_INET, SOCK_DGRAM, 0, error);
    ::sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    receiver.bind(reinterpret_cast<const ::sockaddr*>(&address), sizeof address, error);
    ::sockaddr_storage bound{};
    const ::socklen_t length = receiver.local_name(bound, error);
    Socket sender = Socket::open(AF_INET, SOCK_DGRAM, 0, error);
    sender.connect(reinterpret_cast<const ::sockaddr*>(&bound), length, error);
    ASSERT_FALSE(error) << error;
    receiver.set_read_timeout(10s);
    const auto receive = [&] {
      std::array<std::byte, 100> buffer{};
      return receiver.read(buffer, error);
    };
    auto first = spawn(receive);  // so that the socket is waited for once
    yield();
    for (int i = 0; i < 5; ++i) EXPECT_EQ(sender.write(bytes_of("datagram"), error), 8U);
    EXPECT_EQ(first.get(), 8U);
    for (int i = 1; i < 5; ++i) EXPECT_EQ(receive(), 8U) << i << ": " << error;
  });
}

// Urgent data ends a read early, and what is behind it brings no news of its own.
TEST(Socket, WhatStandsBehindUrgentDataIsRead) {
  on_loop([] {
    if (test::on_sim()) GTEST_SKIP() << "there is no urgent data there";
    auto [client, server] = connect_pair();
    server.set_read_timeout(10s);
    std::error_code error;
    std::array<std::byte, 100> buffer{};
    auto first = spawn([&, &server = server] { return server.read(buffer, error); });
    yield();
    EXPECT_EQ(client.write(bytes_of("0"), error), 1U);
    EXPECT_EQ(first.get(), 1U);
    ASSERT_EQ(::send(client.fd(), "abcU", 4, MSG_OOB), 4);
    ASSERT_EQ(::send(client.fd(), "def", 3, 0), 3);
    std::size_t received = 0;
    while (received < 6) {
      const std::size_t count = server.read(buffer, error);
      ASSERT_GT(count, 0U) << error << " after " << received;
      received += count;
    }
    EXPECT_EQ(received, 6U);
  });
}

}  // namespace
}  // namespace bight
