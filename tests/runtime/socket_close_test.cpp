// SPDX-License-Identifier: Apache-2.0
// parity 33, 35: closing while others wait; descriptor numbers that are used again.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <memory>
#include <random>
#include <string>
#include <system_error>
#include <vector>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>
#include <bight/socket.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::connect_narrow_pair;
using test::connect_pair;
using test::describe;
using test::in_child;
using test::LoopbackListener;
using test::on_loop;
using test::on_sim;

std::string read_text(Socket& socket, std::error_code& error) {
  std::string text(100, '\0');
  text.resize(socket.read(std::as_writable_bytes(std::span(text)), error));
  return text;
}

void fill(Socket& socket) {
  const std::string block(64 * 1024, 'f');
  socket.set_write_timeout(20ms);
  std::error_code error;
  while (!error) socket.write(bytes_of(block), error);
  socket.set_write_timeout(0s);
}

/// A fiber in `operation`, whose socket is closed: how does the operation end?
template <class Operation>
std::error_code closed(Socket& socket, Operation&& operation) {
  std::error_code error;
  auto fiber = spawn([&] { operation(error); });
  yield();
  sleep_for(1ms);
  EXPECT_FALSE(fiber.done());
  socket.close();
  EXPECT_FALSE(fiber.done()) << "close() ran it inline";
  fiber.join();
  return error;
}

const std::error_code kClosed = std::make_error_code(std::errc::bad_file_descriptor);

// parity 33: test_recv_closed
TEST(SocketClose, WakesReaders) {
  on_loop([] {
    for (int kind = 0; kind < 3; ++kind) {
      auto pair = connect_pair();
      EXPECT_EQ(closed(pair.client,
                       [&](auto& error) {
                         if (kind == 0) read_text(pair.client, error);
                         if (kind == 1) static_cast<void>(pair.client.read(error));
                         if (kind == 2) pair.client.wait_readable(error);
                       }),
                kClosed)
          << kind;
    }
  });
}

TEST(SocketClose, WakesWriters) {
  on_loop([] {
    for (int kind = 0; kind < 4; ++kind) {
      auto pair = connect_narrow_pair();
      fill(pair.client);
      EXPECT_EQ(closed(pair.client,
                       [&](auto& error) {
                         std::array<char, 1> byte{};
                         ::iovec piece{byte.data(), 1};
                         if (kind == 0) pair.client.write(bytes_of("x"), error);
                         if (kind == 1) pair.client.write_all(bytes_of("x"), error);
                         if (kind == 2) pair.client.write_all(std::span(&piece, 1), error);
                         if (kind == 3) pair.client.wait_writable(error);
                       }),
                kClosed)
          << kind;
    }
  });
}

TEST(SocketClose, WakesAcceptors) {
  on_loop([] {
    LoopbackListener listener;
    EXPECT_EQ(closed(listener.socket, [&](auto& error) { static_cast<void>(listener.socket.accept(error)); }), kClosed);
  });
}

TEST(SocketClose, WakesAReaderAndAWriterAtOnce) {
  on_loop([] {
    auto pair = connect_narrow_pair();
    fill(pair.client);
    std::error_code read_error;
    std::error_code write_error;
    auto reader = spawn([&] { read_text(pair.client, read_error); });
    auto writer = spawn([&] { pair.client.write(bytes_of("x"), write_error); });
    yield();
    pair.client.close();
    reader.join();
    writer.join();
    EXPECT_EQ(read_error, kClosed);
    EXPECT_EQ(write_error, kClosed);
  });
}

TEST(SocketClose, AfterItEveryCallSaysSo) {
  on_loop([] {
    auto pair = connect_pair();
    Socket& socket = pair.client;
    socket.close();
    socket.close();  // harmless
    EXPECT_FALSE(socket);
    EXPECT_EQ(socket.fd(), -1);
    std::array<std::byte, 4> buffer{};
    std::error_code error;
    ::sockaddr_storage name{};
    const auto expect_closed = [&] {
      EXPECT_EQ(error, kClosed);
      error.clear();
    };
    socket.read(buffer, error), expect_closed();
    static_cast<void>(socket.read(error)), expect_closed();
    socket.write(buffer, error), expect_closed();
    socket.write_all(buffer, error), expect_closed();
    static_cast<void>(socket.accept(error)), expect_closed();
    socket.connect(nullptr, 0, error), expect_closed();
    socket.wait_readable(error), expect_closed();
    socket.wait_writable(error), expect_closed();
    socket.shutdown(SHUT_RDWR, error), expect_closed();
    socket.local_name(name, error), expect_closed();
    socket.set_option(SOL_SOCKET, SO_KEEPALIVE, 1, error), expect_closed();
    socket.set_read_timeout(1s);
    EXPECT_EQ(socket.read_timeout(), 0s);
  });
}

TEST(SocketClose, TheSocketMayBeDestroyedWhileFibersWaitOnIt) {
  on_loop([] {
    for (int kind = 0; kind < 4; ++kind) {
      auto pair = connect_narrow_pair();
      auto client = std::make_unique<Socket>(std::move(pair.client));
      std::error_code error;
      std::string large;
      large.resize(10'000'000, 'x');
      auto fiber = spawn([&, socket = client.get()] {
        ::iovec piece{const_cast<char*>(large.data()), large.size()};
        if (kind == 0) read_text(*socket, error);
        if (kind == 1) static_cast<void>(socket->read(error));
        if (kind == 2) socket->write_all(bytes_of(large), error);
        if (kind == 3) socket->write_all(std::span(&piece, 1), error);
      });
      yield();
      if (kind % 2 == 0) sleep_for(1ms);
      client.reset();
      fiber.join();
      EXPECT_EQ(error, kClosed) << kind;
    }
  });
}

// The same before the kernel has been given the write, while it has part of it, and when it has reported that part.
TEST(SocketClose, DestroyedInTheMidstOfAWriteAtAnyDistance) {
  on_loop([] {
    const std::string large(2'000'000, 'x');
    for (int distance = 1; distance < 40; ++distance) {  // at 0 the write would not have begun
      auto pair = connect_pair();
      auto client = std::make_unique<Socket>(std::move(pair.client));
      std::error_code error;
      auto writer = spawn([&, socket = client.get()] { socket->write_all(bytes_of(large), error); });
      auto reader = spawn([&] {
        std::error_code read_error;
        while (Chunk chunk = pair.server.read(read_error)) {
        }
      });
      for (int i = 0; i < distance; ++i) yield();
      const bool over = writer.done();
      client.reset();
      writer.join();
      reader.join();
      EXPECT_TRUE(over || !error || error == kClosed) << error.message();
    }
  });
}

// A waiter of an old descriptor, woken late, does not touch the new one of the same number.
TEST(SocketClose, NumbersUsedAgainDoNotCrossWires) {
  on_loop([] {
    LoopbackListener listener;
    auto pair = connect_pair(listener);
    int same_number = 0;
    for (int round = 0; round < 200; ++round) {
      const int number = pair.client.fd();
      std::string got = "nothing";
      std::error_code error;
      auto old_reader = spawn([&] { got = read_text(pair.client, error); });
      yield();
      pair.client.close();
      Socket again = Socket::open(AF_INET, SOCK_STREAM, 0, error);
      same_number += again.fd() == number ? 1 : 0;
      std::error_code new_error;
      auto accepting = spawn([&] {
        std::error_code accept_error;
        return listener.socket.accept(accept_error);
      });
      again.connect(listener.name(), sizeof listener.address, new_error);
      ASSERT_FALSE(new_error) << new_error.message();
      pair.server = accepting.get();
      pair.server.write_all(bytes_of("for the new one"), new_error);
      std::string new_got;
      auto new_reader = spawn([&] { new_got = read_text(again, new_error); });
      old_reader.join();
      new_reader.join();
      EXPECT_EQ(got, "");
      EXPECT_EQ(error, kClosed);
      EXPECT_EQ(new_got, "for the new one");
      pair.client = std::move(again);
    }
    EXPECT_GT(same_number, 100) << "this is what the test is about";
  });
}

// The same with data on its way to the old one, in every way of reading.
TEST(SocketClose, ClosedWithDataOnItsWay) {
  on_loop([] {
    LoopbackListener listener;
    std::minstd_rand random(4);
    for (int round = 0; round < 300; ++round) {
      auto pair = connect_pair(listener);
      std::string got;
      std::error_code error;
      auto reader = spawn([&, lent = random() % 2 == 0] {
        got = lent ? std::string(pair.client.read(error).text()) : read_text(pair.client, error);
      });
      for (unsigned i = random() % 2; i > 0; --i) yield();
      std::error_code write_error;
      pair.server.write_all(bytes_of("data"), write_error);
      for (unsigned i = random() % 2; i > 0; --i) yield();
      pair.client.close();
      reader.join();
      EXPECT_TRUE((got == "data" && !error) || (got.empty() && error == kClosed)) << got << error.message();
    }
  });
}

// What the kernel has handed over but nobody has read goes with its socket: buffers come back.
TEST(SocketClose, UnreadDataGoesWithIt) {
  RunOptions options;
  options.receive_buffers = 4;
  on_loop(options, [] {
    LoopbackListener listener;
    for (int round = 0; round < 50; ++round) {
      auto pair = connect_pair(listener);
      std::error_code error;
      pair.server.write_all(bytes_of("first"), error);
      EXPECT_EQ(pair.client.read(error).text(), "first");
      for (int i = 0; i < 5; ++i) {
        pair.server.write_all(bytes_of("unread"), error);
        yield();
      }
      if (round % 2 == 0) sleep_for(100us);
    }
    auto pair = connect_pair(listener);
    std::error_code error;
    const std::string block(60'000, 'x');
    for (int round = 0; round < 3; ++round) {
      auto writer = spawn([&] {
        std::error_code write_error;
        pair.server.write_all(bytes_of(block), write_error);
      });
      std::size_t got = 0;
      std::size_t largest = 0;
      while (got < block.size()) {
        const Chunk chunk = pair.client.read(error);
        got += chunk.size();
        largest = std::max(largest, chunk.size());
      }
      writer.join();
      EXPECT_GT(largest, 4096U) << "the large buffers have not come back";
    }
  });
}

TEST(SocketClose, OutsideTheLoopIsRefused) {
  const auto ended = in_child([] {
    Socket outlives;
    run([&] {
      std::error_code error;
      outlives = Socket::open(AF_INET, SOCK_STREAM, 0, error);
    });
    outlives.close();
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("must not outlive run()")) << describe(ended);
}

TEST(SocketClose, BehindItsBackIsFoundOut) {
  const auto ended = in_child([] {
    return run([] {
      if (on_sim()) {
        ::raise(SIGABRT);
      }
      std::error_code error;
      const Socket first = Socket::open(AF_INET, SOCK_STREAM, 0, error);
      ::close(first.fd());
      const Socket second = Socket::open(AF_INET, SOCK_STREAM, 0, error);
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
}

// --- Descriptors made elsewhere --------------------------------------------------------------------------------------

TEST(SocketAdopt, ASocketPair) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "the process's own descriptors mean nothing to the simulation";
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    Socket left(ends[0]);
    Socket right(ends[1]);
    std::error_code error;
    auto reader = spawn([&] { return read_text(right, error); });
    yield();
    left.write_all(bytes_of("through a pair"), error);
    EXPECT_EQ(reader.get(), "through a pair");
    left.close();
    EXPECT_EQ(read_text(right, error), "");
    EXPECT_FALSE(error);
  });
}

// A descriptor that others have open, too: closing ours does not close theirs, nor bring news of it.
TEST(SocketAdopt, OneThatIsSharedWithOthers) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "the process's own descriptors mean nothing to the simulation";
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    const Fd kept(::fcntl(ends[0], F_DUPFD_CLOEXEC, 100));
    Socket right(ends[1]);
    for (int round = 0; round < 20; ++round) {
      std::error_code error;
      {
        Socket left(round == 0 ? ends[0] : ::dup(kept.get()));
        auto reader = spawn([&] { return read_text(left, error); });
        yield();
        right.write_all(bytes_of("x"), error);
        EXPECT_EQ(reader.get(), "x");
      }
      right.write_all(bytes_of("y"), error);  // to the open file that is left: nobody on this loop's
      sleep_for(100us);
      std::array<char, 1> byte{};
      EXPECT_EQ(::recv(kept.get(), byte.data(), 1, MSG_DONTWAIT), 1);
      EXPECT_EQ(byte[0], 'y');
    }
  });
}

TEST(SocketAdopt, AForeignReaderBesideWaitReadable) {
  on_loop([] {
    if (on_sim()) GTEST_SKIP() << "the process's own descriptors mean nothing to the simulation";
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()), 0);
    Socket left(ends[0]);
    Socket right(ends[1]);
    std::error_code error;
    for (int round = 0; round < 5; ++round) {
      right.write_all(bytes_of("abc"), error);
      left.wait_readable(error);
      EXPECT_FALSE(error);
      std::array<char, 100> buffer{};
      EXPECT_EQ(::recv(left.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT), 3);
      left.set_read_timeout(5ms);
      left.wait_readable(error);
      EXPECT_EQ(error, std::errc::timed_out) << "somebody else has read it: a foreign library would spin";
      left.set_read_timeout(0s);
    }
  });
}

}  // namespace
}  // namespace bight
