// SPDX-License-Identifier: Apache-2.0

#include <bight/net/copy_both.hpp>

#include <memory>
#include <string>
#include <vector>

#include <bight/net/memory_stream.hpp>
#include <bight/net/unix.hpp>

#include "net_test.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using net::CopiedBoth;
using net::MemoryStream;
using test::on_loop;
using test::stream_pair;

class CopyBoth : public test::NetTest {};

/// A client and a server, and a proxy in between.
struct Proxied {
  test::StreamPair left = stream_pair();
  test::StreamPair right = stream_pair();
  net::TcpStream& client = left.client;
  net::TcpStream& server = right.server;
  Fiber<CopiedBoth> proxy;

  explicit Proxied(net::CopyBothOptions options = {})
      : proxy(spawn([this, options] { return net::copy_both(left.server, right.client, options); })) {}
};

TEST_F(CopyBoth, CarriesAConversationAndBothEnds) {
  on_loop([] {
    Proxied line;
    auto echoing = spawn([&] { test::echo(std::move(line.server)); });
    for (int n = 0; n < 100; ++n)
      EXPECT_EQ(test::ask(line.client, "message " + std::to_string(n)).substr(0, 7), "message");
    line.client.shutdown_write();
    EXPECT_FALSE(line.client.read());
    echoing.join();
    const CopiedBoth copied = line.proxy.get();
    EXPECT_FALSE(copied.error) << copied.error;
    EXPECT_EQ(copied.a_to_b, 990U);
    EXPECT_EQ(copied.b_to_a, 990U);
  });
}

TEST_F(CopyBoth, ManyBytesBothWays) {
  on_loop([] {
    constexpr std::uint64_t kSize = 20'000'000;
    Proxied line;
    auto up = spawn([&] {
      test::send_pattern(line.client, kSize);
      line.client.shutdown_write();
    });
    auto down = spawn([&] {
      test::send_pattern(line.server, kSize / 2);
      line.server.shutdown_write();
    });
    auto reading = spawn([&] { return test::receive_pattern(line.server); });
    EXPECT_EQ(test::receive_pattern(line.client), kSize / 2);
    EXPECT_EQ(reading.get(), kSize);
    up.join();
    down.join();
    EXPECT_EQ(line.proxy.get().a_to_b, kSize);
  });
}

// In and out of the kernel's way of doing it.
TEST_F(CopyBoth, LargeAndSmallPiecesByTurns) {
  on_loop([] {
    Proxied line;
    auto echoing = spawn([&] { test::echo(std::move(line.server)); });
    for (int round = 0; round < 4; ++round) {
      const auto data = test::pattern(3'000'000);
      auto writing = spawn([&] { line.client.write_all(data); });
      std::vector<std::byte> back(data.size());
      line.client.read_exactly(back);
      EXPECT_EQ(back, data);
      writing.join();
      for (int n = 0; n < 50; ++n) EXPECT_EQ(test::ask(line.client, "small"), "small");
    }
    line.client.close();
    echoing.join();
    EXPECT_FALSE(line.proxy.get().error);
  });
}

TEST_F(CopyBoth, AnErrorEndsBothWays) {
  on_loop([] {
    Proxied line;
    line.client.write_all("hello");
    EXPECT_TRUE(line.server.read());
    line.client.reset();
    EXPECT_EQ(line.proxy.get().error, std::errc::connection_reset);
    line.right.client.close();
    EXPECT_FALSE(line.server.read());
  });
}

TEST_F(CopyBoth, WritingToNobodyRaisesNoSignal) {
  on_loop([] {
    Proxied line;
    auto writing = spawn([&] {
      const std::vector<std::byte> data(1'000'000);
      std::error_code error;
      while (!error) line.client.write_all(data, error);
    });
    std::vector<std::byte> some(5'000'000);
    line.server.read_exactly(some);
    line.server.reset();
    EXPECT_TRUE(line.proxy.get().error);
    line.left.server.reset();
    writing.join();
  });
}

TEST_F(CopyBoth, IdleConversationsEnd) {
  on_loop([] {
    Proxied line({.idle = 100ms});
    for (int n = 0; n < 4; ++n) {
      sleep_for(30ms);
      line.client.write_all("still here");
      static_cast<void>(line.server.read());
    }
    EXPECT_EQ(line.proxy.get().error, std::errc::timed_out);
  });
}

/// Sends this much, so that it goes by the kernel's way, and reads it at the other end.
void pass_much(Proxied& line, std::uint64_t size = 3'000'000) {
  auto writing = spawn([&] { test::send_pattern(line.client, size); });
  std::vector<std::byte> data(size);
  line.server.read_exactly(data);
  EXPECT_TRUE(test::matches_pattern(data, 0));
  writing.join();
}

TEST_F(CopyBoth, WaitingConversationsHoldNoPipe) {
  on_loop([] {
    constexpr std::size_t kMany = 20;
    std::vector<std::unique_ptr<Proxied>> lines;
    for (std::size_t n = 0; n < kMany; ++n) lines.push_back(std::make_unique<Proxied>());
    const std::size_t before = test::open_descriptors();
    for (const auto& line : lines) pass_much(*line);
    EXPECT_LE(test::open_descriptors(), before + 2) << "one after the other they have used the same pipe";
    for (const auto& line : lines) {
      line->client.close();
      line->server.close();
      line->proxy.join();
    }
  });
}

// All are in the middle of something when the pipes have run out.
TEST_F(CopyBoth, ThereIsAWayWithoutAPipe) {
  for (const std::size_t pipes : {0U, 1U, 3U}) {
    RunOptions options;
    options.splice_pipes = pipes;
    run(options, [] {
      constexpr std::uint64_t kSize = 4'000'000;
      std::vector<std::unique_ptr<Proxied>> lines;
      for (std::size_t n = 0; n < 6; ++n) lines.push_back(std::make_unique<Proxied>());
      Scope scope;
      for (const auto& line : lines) {
        scope
            .spawn([&] {
              test::send_pattern(line->client, kSize);
              line->client.shutdown_write();
            })
            .detach();
      }
      sleep_for(20ms);  // nobody reads, so all ways are full
      for (const auto& line : lines) EXPECT_EQ(test::receive_pattern(line->server), kSize);
      scope.join();
      for (const auto& line : lines) {
        line->server.close();
        EXPECT_EQ(line->proxy.get().a_to_b, kSize);
      }
    });
  }
}

// What moves a little now and then is not idle, however long a piece takes.
TEST_F(CopyBoth, ASlowReaderIsNotIdle) {
  on_loop([] {
    if (!test::on_sim()) GTEST_SKIP() << "wants exact times";
    Proxied line({.idle = 1s});
    auto writing = spawn([&] {
      test::send_pattern(line.client, 2'000'000);
      line.client.shutdown_write();
    });
    std::uint64_t got = 0;
    std::vector<std::byte> some(20'000);
    while (const std::size_t count = line.server.read(some)) {
      got += count;
      sleep_for(30ms);
    }
    EXPECT_EQ(got, 2'000'000U);
    writing.join();
    line.server.close();
    EXPECT_FALSE(line.proxy.get().error);
  });
}

TEST_F(CopyBoth, IsCancelled) {
  on_loop([] {
    Proxied line;
    yield();
    line.proxy.cancel();
    line.proxy.join();
    EXPECT_EQ(test::ask(line.client, "").size(), 0U) << "the streams are still open";
  });
}

TEST_F(CopyBoth, BetweenDifferentKinds) {
  on_loop([] {
    auto [a, b] = MemoryStream::pair(100);
    auto [c, d] = net::UnixStream::pair();
    auto proxy = spawn([&b = b, &c = c] { return net::copy_both(b, c); });
    const auto data = test::pattern(100'000);
    auto writing = spawn([&, &a = a] {
      a.write_all(data);
      a.shutdown_write();
    });
    std::uint64_t received = 0;
    while (const Chunk chunk = d.read()) {
      ASSERT_TRUE(test::matches_pattern(chunk, received));
      received += chunk.size();
    }
    EXPECT_EQ(received, data.size());
    d.write_all("thanks");
    d.close();
    std::array<std::byte, 16> buffer;
    EXPECT_EQ(a.read(buffer), 6U);
    EXPECT_EQ(a.read(buffer), 0U);
    EXPECT_EQ(proxy.get().b_to_a, 6U);
    writing.join();
  });
}

}  // namespace
}  // namespace bight
