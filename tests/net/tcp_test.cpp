// SPDX-License-Identifier: Apache-2.0
#include <bight/net/tcp.hpp>

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/scope.hpp>

#include "net_test.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;
using net::Address;
using net::TcpListener;
using net::TcpStream;

class TcpTest : public NetTest {};

// --- Data ------------------------------------------------------------------------------------------------------------

TEST_F(TcpTest, EchoesWhatItIsSent) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    Scope scope;
    scope.spawn(echo, std::move(server)).detach();
    EXPECT_EQ(ask(client, "hello"), "hello");
    for (const std::size_t size : {1U, 2U, 1'000U, 4'096U, 65'537U}) {
      const auto data = pattern(size);
      std::vector<std::byte> answer(size);
      client.write_all(data);
      client.read_exactly(answer);
      EXPECT_EQ(answer, data);
    }
    client.shutdown_write();
    EXPECT_FALSE(client.read());
    scope.join();
  });
}

TEST_F(TcpTest, ReadsIntoTheCallersBufferOrALentOne) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    client.write_all("abcdef");
    std::array<std::byte, 4> buffer{};
    EXPECT_EQ(server.read(buffer), 4U);
    EXPECT_EQ(std::memcmp(buffer.data(), "abcd", 4), 0);
    Chunk chunk = server.read();
    EXPECT_EQ(chunk.text(), "ef");
    chunk = {};
    client.close();
    EXPECT_EQ(server.read(buffer), 0U);
    EXPECT_FALSE(server.read());
    EXPECT_EQ(server.read(buffer), 0U) << "the end stays the end";
  });
}

TEST_F(TcpTest, EmptyBuffersAreNothingToDo) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    client.write_all(std::span<const std::byte>{});
    client.write_all("");
    client.write_all(std::span<const std::span<const std::byte>>{});
    const std::array<std::span<const std::byte>, 3> empty_pieces{};
    client.write_all(empty_pieces);
    EXPECT_EQ(client.write({}), 0U);
    EXPECT_EQ(client.read(std::span<std::byte>{}), 0U);
    client.read_exactly({});
    client.set_timeout(10ms);
    client.write_all("");
    client.close();
    EXPECT_FALSE(server.read()) << "nothing was sent";
  });
}

TEST_F(TcpTest, ReadExactlyTellsHowFarItCame) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    client.write_all("0123456789");
    client.shutdown_write();
    std::array<std::byte, 4> buffer{};
    server.read_exactly(buffer);
    server.read_exactly(buffer);
    const Failure failure = failure_of([&] { server.read_exactly(buffer); });
    EXPECT_EQ(failure.code, std::errc::connection_aborted);
    EXPECT_EQ(failure.text, "read from " + client.local_address().to_string() +
                                ": end of stream after 2 of 4 bytes: Software caused connection abort");
    std::error_code error;
    server.read_exactly(buffer, error);
    EXPECT_EQ(error, std::errc::connection_aborted);
    server.read_exactly({}, error);
    EXPECT_FALSE(error);
  });
}

TEST_F(TcpTest, EitherSideMayEndFirst) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    client.write_all("last words");
    client.shutdown_write();
    EXPECT_EQ(server.read().text(), "last words");
    EXPECT_FALSE(server.read());
    server.write_all("an answer all the same");
    EXPECT_EQ(client.read().text(), "an answer all the same");
    EXPECT_EQ(failure_of([&] { client.write_all("x"); }).code, std::errc::broken_pipe);
    server.shutdown_write();
    EXPECT_FALSE(client.read());
    EXPECT_FALSE(server.read());
  });
}

TEST_F(TcpTest, BothWaysAtOnce) {
  on_loop([] {
    constexpr std::uint64_t kSize = 4 * 1024 * 1024;
    StreamPair pair = narrow_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    Scope scope;
    std::vector<Fiber<std::uint64_t>> received;
    for (TcpStream* stream : {&client, &server}) {
      scope
          .spawn([stream] {
            send_pattern(*stream, kSize);
            stream->shutdown_write();
          })
          .detach();
      received.push_back(scope.spawn([stream] { return receive_pattern(*stream); }));
    }
    for (auto& each : received) EXPECT_EQ(each.get(), kSize);
  });
}

void transfer(std::uint64_t size) {
  on_loop([&] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    Scope scope;
    scope
        .spawn([&client, size] {
          send_pattern(client, size, 256 * 1024);
          client.close();
        })
        .detach();
    EXPECT_EQ(receive_pattern(server), size);
  });
}

TEST_F(TcpTest, MovesMegabytesIntact) { transfer(32 * 1024 * 1024); }

TEST(SlowTcp, MovesHalfAGigabyteIntact) { transfer(500'000'000); }

TEST_F(TcpTest, MovesDataThroughTheSmallestWindows) {
  on_loop([] {
    constexpr std::uint64_t kSize = 300 * 1024;
    StreamPair pair = narrow_pair(1);  // what the system makes the least of it
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    Scope scope;
    scope
        .spawn([&client] {
          send_pattern(client, kSize, kSize);
          client.close();
        })
        .detach();
    std::uint64_t received = 0;
    std::array<std::byte, 7> little{};
    while (const std::size_t count = server.read(little)) {
      ASSERT_TRUE(matches_pattern(std::span(little).first(count), received));
      received += count;
    }
    EXPECT_EQ(received, kSize);
  });
}

TEST_F(TcpTest, WritesAnyNumberOfPieces) {
  on_loop([] {
    StreamPair pair = narrow_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    Scope scope;
    scope
        .spawn([&server] {
          Chunk chunk;
          std::uint64_t received = 0;
          while ((chunk = server.read())) {
            ASSERT_TRUE(matches_pattern(chunk, received));
            received += chunk.size();
          }
          server.write_all(std::to_string(received));
        })
        .detach();
    std::mt19937 random(3);  // NOLINT(bugprone-random-generator-seed): the same every time
    std::uint64_t sent = 0;
    for (const std::size_t count :
         {1U, 2U, 3U, 63U, 64U, 127U, 128U, 129U, 255U, 256U, 257U, 1'023U, 1'024U, 1'025U, 3'000U}) {
      for (const std::size_t size_max : {1U, 100U, 3'000U}) {
        std::vector<std::vector<std::byte>> data;
        std::vector<std::span<const std::byte>> pieces;
        for (std::size_t i = 0; i < count; ++i) {
          data.push_back(pattern(random() % (size_max + 1), sent));  // empty ones, too
          pieces.emplace_back(data.back());
          sent += data.back().size();
        }
        client.write_all(pieces);
      }
    }
    client.shutdown_write();
    EXPECT_EQ(client.read().text(), std::to_string(sent));
  });
}

// --- Ends ------------------------------------------------------------------------------------------------------------

TEST_F(TcpTest, AResetIsAnErrorThatNamesThePeer) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    const std::string peer = client.local_address().to_string();
    server.set_timeout(10s);
    client.reset();
    EXPECT_FALSE(client.is_open());
    const Failure read = failure_of([&] { static_cast<void>(server.read()); });
    EXPECT_EQ(read.code, std::errc::connection_reset);
    // Only the simulated kernel has forgotten who it was.
    EXPECT_EQ(read.text, "read from " + (on_sim() ? "a peer that is gone" : peer) + ": Connection reset by peer");
    const Failure write = failure_of([&] { server.write_all("x"); });
    EXPECT_EQ(write.code, std::errc::broken_pipe);
    EXPECT_EQ(write.text, "write to " + (on_sim() ? "a peer that is gone" : peer) + ": Broken pipe");
    EXPECT_EQ(failure_of([&] { server.shutdown_write(); }).code, std::errc::not_connected);
    EXPECT_TRUE(server.is_open());
    server.close();
    EXPECT_FALSE(server.is_open());
  });
}

TEST_F(TcpTest, AResetOverIpv6NamesThePeer) {
  on_loop([] {
    StreamPair pair = stream_pair("[::1]:0");
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    const std::string peer = client.local_address().to_string();
    EXPECT_EQ(peer.substr(0, 6), "[::1]:");
    client.reset();
    const Failure read = failure_of([&] { static_cast<void>(server.read()); });
    EXPECT_EQ(read.text, "read from " + (on_sim() ? "a peer that is gone" : peer) + ": Connection reset by peer");
  });
}

TEST_F(TcpTest, AResetEndsAReadUnderWay) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    Scope scope;
    auto reading = scope.spawn([&server] { return failure_of([&] { static_cast<void>(server.read()); }); });
    yield();
    client.reset();
    EXPECT_EQ(reading.get().code, std::errc::connection_reset);
  });
}

TEST_F(TcpTest, AResetEndsAWriteUnderWay) {
  on_loop([] {
    StreamPair pair = narrow_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    const auto data = pattern(4U * 1024 * 1024);
    Scope scope;
    auto writing = scope.spawn([&] { return failure_of([&] { server.write_all(data); }); });
    std::array<std::byte, 1000> some{};
    client.read_exactly(some);  // so the writer is at it
    client.reset();
    const Failure failure = writing.get();
    EXPECT_TRUE(failure.code == std::errc::connection_reset || failure.code == std::errc::broken_pipe) << failure.text;
    server.close();
  });
}

TEST_F(TcpTest, AResetAfterTheEndIsStillToldOfToWriters) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    client.shutdown_write();
    EXPECT_FALSE(server.read());
    client.reset();
    // When the reset has come is the network's affair; until then writing succeeds.
    std::error_code error;
    server.set_timeout(10s);
    while (!error) server.write_all("x", error);
    EXPECT_TRUE(error == std::errc::connection_reset || error == std::errc::broken_pipe) << error;
  });
}

TEST_F(TcpTest, DataBeforeAResetMayBeLostButNeverMadeUp) {
  on_loop([] {
    for (const std::size_t size : {1U, 1'000U, 100'000U}) {
      StreamPair pair = stream_pair();
      TcpStream& client = pair.client;
      TcpStream& server = pair.server;
      server.set_timeout(10s);
      client.write_all(pattern(size));
      client.reset();
      std::error_code error;
      std::uint64_t received = 0;
      while (const Chunk chunk = server.read(error)) {
        ASSERT_TRUE(matches_pattern(chunk, received));
        received += chunk.size();
      }
      EXPECT_EQ(error, std::errc::connection_reset);
      EXPECT_LE(received, size);
    }
  });
}

TEST_F(TcpTest, EveryVerbOfAClosedStreamSaysSo) {
  on_loop([] {
    TcpStream never_open;
    auto [closed, peer] = stream_pair();
    closed.close();
    closed.close();  // harmless
    closed.reset();
    std::array<std::byte, 4> buffer{};
    const std::array<std::span<const std::byte>, 1> pieces{buffer};
    for (TcpStream* stream : {&never_open, &closed}) {
      EXPECT_FALSE(stream->is_open());
      const std::vector<Failure> failures{
          failure_of([&] { stream->read(buffer); }),
          failure_of([&] { static_cast<void>(stream->read()); }),
          failure_of([&] { stream->read_exactly(buffer); }),
          failure_of([&] { stream->write(buffer); }),
          failure_of([&] { stream->write_all(buffer); }),
          failure_of([&] { stream->write_all("x"); }),
          failure_of([&] { stream->write_all(pieces); }),
          failure_of([&] { stream->shutdown_write(); }),
          failure_of([&] { stream->set_nodelay(true); }),
          failure_of([&] { stream->set_keepalive({}); }),
          failure_of([&] { static_cast<void>(stream->local_address()); }),
          failure_of([&] { static_cast<void>(stream->peer_address()); }),
      };
      for (const Failure& each : failures) EXPECT_EQ(each.code, std::errc::bad_file_descriptor) << each.text;
      EXPECT_EQ(failures.front().text, "read from a closed socket: Bad file descriptor");
      stream->set_timeout(1s);  // of no use, of no harm
    }
  });
}

TEST_F(TcpTest, MovingEmptiesTheSource) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    TcpStream other = std::move(client);
    EXPECT_FALSE(client.is_open());  // NOLINT(bugprone-use-after-move,clang-analyzer-cplusplus.Move)
    EXPECT_TRUE(other.is_open());
    auto [client2, server2] = stream_pair();
    server = std::move(server2);  // closes what it held
    EXPECT_FALSE(other.read());
    EXPECT_TRUE(server.is_open());
  });
}

// --- Closing under other fibers --------------------------------------------------------------------------------------

TEST_F(TcpTest, ClosingWakesReaderAndWriter) {
  on_loop([] {
    StreamPair pair = narrow_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    const auto data = pattern(4U * 1024 * 1024);
    Scope scope;
    auto reading = scope.spawn([&client] { return failure_of([&] { static_cast<void>(client.read()); }); });
    auto writing = scope.spawn([&] { return failure_of([&] { client.write_all(data); }); });
    std::array<std::byte, 1000> some{};
    server.read_exactly(some);  // so the writer is at it
    client.close();
    EXPECT_EQ(reading.get().text, "read from a closed socket: Bad file descriptor");
    EXPECT_EQ(writing.get().text, "write to a closed socket: Bad file descriptor");
  });
}

TEST_F(TcpTest, AReaderNeverGetsWhatIsForTheNextOwnerOfTheNumber) {
  on_loop([] {
    auto listener = TcpListener::bind("127.0.0.1:0");
    StreamPair pair = connect_to(listener);
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    for (int i = 0; i < 100; ++i) {
      Scope scope;
      const int number = client.socket().fd();
      auto old_reader = scope.spawn([&client] { return failure_of([&] { static_cast<void>(client.read()); }); });
      yield();
      client.close();
      StreamPair next;
      next.client = net::connect(listener.local_address());
      EXPECT_EQ(next.client.socket().fd(), number) << "the system gives out the lowest number: else this tests nothing";
      next.server = listener.accept();
      next.server.write_all("for the new one");
      EXPECT_EQ(next.client.read().text(), "for the new one");
      EXPECT_EQ(old_reader.get().code, std::errc::bad_file_descriptor);
      client = std::move(next.client);
      server = std::move(next.server);
    }
  });
}

TEST_F(TcpTest, ASecondReaderIsRefusedAndTheFirstGoesOn) {
  on_loop([] {
    StreamPair pair = narrow_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    Scope scope;
    auto reading = scope.spawn([&client] { return std::string(client.read().text()); });
    yield();
    EXPECT_EQ(failure_of([&] { static_cast<void>(client.read()); }).code, std::errc::device_or_resource_busy);
    EXPECT_EQ(failure_of([&] { static_cast<void>(client.read()); }).text,
              "read from " + server.local_address().to_string() + ": Device or resource busy");
    client.write_all("a writer is no reader");
    EXPECT_EQ(server.read().text(), "a writer is no reader");
    server.write_all("first");
    EXPECT_EQ(reading.get(), "first");
    server.write_all("second");
    EXPECT_EQ(client.read().text(), "second");
  });
}

TEST_F(TcpTest, ASecondWriterIsRefused) {
  on_loop([] {
    StreamPair pair = narrow_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    const auto data = pattern(4U * 1024 * 1024);
    Scope scope;
    scope
        .spawn([&] {
          client.write_all(data);
          client.shutdown_write();
        })
        .detach();
    auto received = scope.spawn([&server] { return receive_pattern(server); });
    yield();
    EXPECT_EQ(failure_of([&] { client.write_all("intruder"); }).code, std::errc::device_or_resource_busy);
    EXPECT_EQ(received.get(), data.size());
  });
}

// --- Timeouts and cancellation ---------------------------------------------------------------------------------------

TEST_F(TcpTest, APeerThatNeverReadsTimesOutTheWriter) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    client.set_write_timeout(100ms);
    const auto data = pattern(64U * 1024 * 1024);
    const TimePoint begin = now();
    const Failure failure = failure_of([&] { client.write_all(data); });
    EXPECT_EQ(failure.code, std::errc::timed_out);
    EXPECT_EQ(failure.text, "write to " + server.local_address().to_string() + ": Connection timed out");
    EXPECT_GE(now() - begin, 100ms);
    EXPECT_EQ(failure_of([&] { client.write_all(data); }).code, std::errc::timed_out) << "again";
    client.close();
    EXPECT_GT(receive_pattern(server), 0U) << "what was taken before arrives";
  });
}

TEST_F(TcpTest, AReadThatTimesOutLosesNothing) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    client.set_timeout(50ms);
    const TimePoint begin = now();
    const Failure failure = failure_of([&] { static_cast<void>(client.read()); });
    EXPECT_EQ(failure.code, std::errc::timed_out);
    EXPECT_EQ(failure.text, "read from " + server.local_address().to_string() + ": Connection timed out");
    EXPECT_GE(now() - begin, 50ms);
    EXPECT_LT(now() - begin, 5s);
    server.write_all("late");
    EXPECT_EQ(client.read().text(), "late");
    client.write_all("unharmed");
    EXPECT_EQ(server.read().text(), "unharmed");
    client.set_timeout(0ms);
    std::error_code error;
    EXPECT_TRUE(move_on_after(50ms, [&] { server.write_all("no limit", error); }));
    EXPECT_EQ(client.read().text(), "no limit");
  });
}

TEST_F(TcpTest, TheReadLimitHoldsForEachReadNotForAll) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    client.set_read_timeout(5s);
    Scope scope;
    scope
        .spawn([&server] {
          for (int i = 0; i < 8; ++i) {
            sleep_for(on_sim() ? Duration(4s) : Duration(2ms));
            server.write_all("x");
          }
        })
        .detach();
    std::array<std::byte, 8> buffer{};
    client.read_exactly(buffer);
  });
}

TEST_F(TcpTest, ACancelledReadLosesNothing) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    Scope scope;
    auto reading = scope.spawn([&client] { return is_cancelled([&] { static_cast<void>(client.read()); }); });
    yield();
    reading.cancel();
    reading.join();
    EXPECT_EQ(reading.status(), FiberStatus::done);
    EXPECT_TRUE(reading.get());
    server.write_all("still here");
    EXPECT_EQ(client.read().text(), "still here");
    client.write_all("and there");
    EXPECT_EQ(server.read().text(), "and there");
  });
}

TEST_F(TcpTest, CancellationIsACodeInTheOtherForm) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    server.write_all("unread");
    Scope scope;
    auto body = scope.spawn([&client] {
      std::vector<std::error_code> errors(4);
      std::array<std::byte, 4> buffer{};
      EXPECT_TRUE(is_cancelled([] { yield(); }));  // so it has been cancelled
      client.read(buffer, errors[0]);
      static_cast<void>(client.read(errors[1]));
      client.write_all("x", errors[2]);
      static_cast<void>(net::connect(Address::loopback_v4(1), errors[3]));
      return errors;
    });
    yield();
    body.cancel();
    for (const std::error_code error : body.get()) EXPECT_EQ(error, std::errc::operation_canceled);
    EXPECT_EQ(client.read().text(), "unread");
  });
}

TEST_F(TcpTest, ACancelledWriteLeavesTheStreamUsable) {
  on_loop([] {
    StreamPair pair = narrow_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    const auto data = pattern(4U * 1024 * 1024);
    Scope scope;
    auto writing = scope.spawn([&] { return is_cancelled([&] { client.write_all(data); }); });
    std::array<std::byte, 1000> some{};
    server.read_exactly(some);  // so the writer is at it
    writing.cancel();
    EXPECT_TRUE(writing.get());
    auto closing = scope.spawn([&client] { client.shutdown_write(); });
    std::uint64_t received = some.size();
    while (const Chunk chunk = server.read()) {
      ASSERT_TRUE(matches_pattern(chunk, received)) << "a part of the data, and nothing else";
      received += chunk.size();
    }
    EXPECT_LT(received, data.size());
  });
}

TEST_F(TcpTest, DeadlinesReachIntoReads) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    EXPECT_THROW(with_timeout(20ms, [&client] { static_cast<void>(client.read()); }), TimedOut);
    EXPECT_FALSE(move_on_after(20ms, [&client] { static_cast<void>(client.read()); }));
    server.write_all("x");
    EXPECT_EQ(client.read().text(), "x");
  });
}

// --- Settings --------------------------------------------------------------------------------------------------------

int option(TcpStream& stream, int level, int name) {
  std::error_code error;
  const int value = stream.socket().option(level, name, error);
  EXPECT_FALSE(error) << error;
  return value;
}

TEST_F(TcpTest, NodelayIsOnAtBothEnds) {
  on_loop([] {
    for (const auto* address : {"127.0.0.1:0", "[::1]:0"}) {
      StreamPair pair = stream_pair(address);
      TcpStream& client = pair.client;
      TcpStream& server = pair.server;
      EXPECT_NE(option(client, IPPROTO_TCP, TCP_NODELAY), 0);
      EXPECT_NE(option(server, IPPROTO_TCP, TCP_NODELAY), 0) << "inherited from the listener";
      server.set_nodelay(false);
      EXPECT_EQ(option(server, IPPROTO_TCP, TCP_NODELAY), 0);
    }
  });
}

TEST_F(TcpTest, SetsKeepAlive) {
  on_loop([] {
    StreamPair pair = stream_pair();
    TcpStream& client = pair.client;
    TcpStream& server = pair.server;
    client.set_keepalive({.idle = 30s, .interval = 5s, .probes = 4});
    EXPECT_NE(option(client, SOL_SOCKET, SO_KEEPALIVE), 0);
    EXPECT_EQ(option(client, IPPROTO_TCP, TCP_KEEPIDLE), 30);
    EXPECT_EQ(option(client, IPPROTO_TCP, TCP_KEEPINTVL), 5);
    EXPECT_EQ(option(client, IPPROTO_TCP, TCP_KEEPCNT), 4);
    EXPECT_EQ(option(server, SOL_SOCKET, SO_KEEPALIVE), 0);
    if (on_sim()) return;  // takes any number
    const Failure failure = failure_of([&client] { client.set_keepalive({.idle = 1'000'000h}); });
    EXPECT_EQ(failure.code, std::errc::invalid_argument) << failure.text;
  });
}

TEST_F(TcpTest, KnowsItsAddresses) {
  on_loop([] {
    for (const auto* address : {"127.0.0.1:0", "[::1]:0"}) {
      StreamPair pair = stream_pair(address);
      TcpStream& client = pair.client;
      TcpStream& server = pair.server;
      EXPECT_EQ(client.local_address(), server.peer_address());
      EXPECT_EQ(client.peer_address(), server.local_address());
      EXPECT_NE(client.local_address(), server.local_address());
      EXPECT_TRUE(client.local_address().is_loopback());
      EXPECT_EQ(client.local_address().host(), Address::parse(address).host());
    }
  });
}

}  // namespace
}  // namespace bight::test
