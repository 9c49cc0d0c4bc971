// SPDX-License-Identifier: Apache-2.0

// Streams, servers and buffers over connections that are slow, or get lost.

#include <string>
#include <vector>

#include <bight/net/buffered.hpp>
#include <bight/net/copy_both.hpp>

#include "net_test.hpp"
#include "shaping_proxy.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using net::TcpListener;
using net::TcpStream;
using test::on_loop;
using test::on_sim;
using test::Shape;
using test::ShapingProxy;

class ShapedLink : public test::NetTest {};

/// A server behind a slow link.
struct Served {
  net::ServeControl control;
  TcpListener listener = TcpListener::bind("127.0.0.1:0");
  net::Address address = listener.local_address();
  Fiber<net::ServeStats> fiber;

  template <class Handler>
  explicit Served(Handler handler, net::ServeOptions options = {}) {
    options.control = &control;
    fiber = spawn([this, handler, options] { return net::serve(listener, handler, options); });
  }
  net::ServeStats end() {
    control.finish();
    return fiber.get();
  }
};

TEST_F(ShapedLink, TakesAsLongAsItIsSaidTo) {
  on_loop([] {
    Served server(test::echo);
    ShapingProxy link(server.address, {.delay = 50ms});
    auto client = net::connect(link.address());
    const TimePoint begin = now();
    client.write_all("hello");
    std::vector<std::byte> back(5);
    client.read_exactly(back);
    const Duration once = now() - begin;
    EXPECT_GE(once, 100ms);
    if (on_sim()) {
      EXPECT_LT(once, 200ms) << "the first time with the connection to the server";
    }
    client.close();
    static_cast<void>(server.end());
  });
}

// The rate of a way is the sender's, once everything in between is full.
TEST_F(ShapedLink, ABufferedWriterIsHeldUpByItsReader) {
  on_loop([] {
    constexpr std::uint64_t kRate = 1'000'000;
    constexpr std::uint64_t kSize = 4'000'000;
    const std::uint64_t size = on_sim() ? kSize : kSize / 8;
    const std::uint64_t rate = on_sim() ? kRate : kRate * 4;
    std::uint64_t got = 0;
    Served server([&](TcpStream peer) { got = test::receive_pattern(peer); });
    ShapingProxy link(server.address, {.bytes_per_second = rate});
    auto client = net::connect(link.address());
    std::error_code error;
    client.socket().set_option(SOL_SOCKET, SO_SNDBUF, 16 * 1024, error);
    net::BufferedWriter writer(client, {.high_water = 8192});
    const TimePoint begin = now();
    std::size_t most = 0;
    for (std::uint64_t sent = 0; sent < size;) {
      const auto data = test::pattern(1000, sent);
      writer.write(data);
      sent += data.size();
      most = std::max(most, writer.pending());
    }
    writer.flush();
    EXPECT_LT(most, 8192U) << "no more waits in it than that";
    const Duration took = now() - begin;
    client.shutdown_write();
    EXPECT_FALSE(client.read());
    const Duration all = now() - begin;
    EXPECT_GE(all, std::chrono::milliseconds(1000 * size / rate * 9 / 10));
    if (on_sim()) {
      EXPECT_GT(took, all / 2) << "it was not all taken at once";
    }
    static_cast<void>(server.end());
    EXPECT_EQ(got, size);
  });
}

TEST_F(ShapedLink, ADrainWaitsForSlowClients) {
  on_loop([] {
    constexpr std::uint64_t kSize = 400'000;
    Served server(
        [](TcpStream peer) {
          test::send_pattern(peer, kSize);
          peer.shutdown_write();
          static_cast<void>(peer.read());
        },
        {.drain = 100s});
    ShapingProxy link(server.address, {.delay = 10ms, .bytes_per_second = 2'000'000});
    auto client = net::connect(link.address());
    std::byte first{};
    client.read_exactly({&first, 1});
    auto ending = spawn([&] { return server.end(); });
    std::uint64_t got = 1;
    while (const Chunk chunk = client.read()) {
      EXPECT_TRUE(test::matches_pattern(chunk, got));
      got += chunk.size();
    }
    EXPECT_EQ(got, kSize) << "all of it, although the server was told to end meanwhile";
    client.close();
    EXPECT_EQ(ending.get().failed, 0U);
  });
}

TEST_F(ShapedLink, ADrainEndsInTimeAllTheSame) {
  on_loop([] {
    Served server([](TcpStream peer) { test::send_pattern(peer, 1'000'000'000); }, {.drain = 50ms});
    ShapingProxy link(server.address, {.bytes_per_second = 100'000});
    auto client = net::connect(link.address());
    std::byte first{};
    client.read_exactly({&first, 1});
    const TimePoint begin = now();
    static_cast<void>(server.end());
    EXPECT_GE(now() - begin, 50ms);
    if (on_sim()) {
      EXPECT_LT(now() - begin, 60ms);
    }
  });
}

TEST_F(ShapedLink, ALostConnectionIsAnErrorAndNothingIsMadeUp) {
  on_loop([] {
    std::error_code server_error;
    std::uint64_t got = 0;
    Served server([&](TcpStream peer) {
      std::vector<std::byte> some(10'000);
      while (const std::size_t count = peer.read(std::span(some), server_error)) {
        EXPECT_TRUE(test::matches_pattern(std::span(some).first(count), got));
        got += count;
      }
    });
    ShapingProxy link(server.address, {.reset_after = 200'000});
    auto client = net::connect(link.address());
    EXPECT_EQ(test::failure_of([&] { test::send_pattern(client, 1'000'000'000); }).code.category(),
              std::generic_category());
    static_cast<void>(server.end());
    EXPECT_LE(got, 210'000U);
    EXPECT_EQ(server_error, std::errc::connection_reset);
  });
}

// A slow link in the middle of a copy holds up the fast side, and no more than buffers are filled.
TEST_F(ShapedLink, CopyBothIsHeldUpByItsSlowSide) {
  on_loop([] {
    constexpr std::uint64_t kSize = 3'000'000;
    std::uint64_t got = 0;
    Served server([&](TcpStream peer) { got = test::receive_pattern(peer); });
    ShapingProxy link(server.address, {.delay = 5ms, .bytes_per_second = 10'000'000});
    auto front = test::stream_pair();
    auto back = net::connect(link.address());
    auto copying = spawn([&] { return net::copy_both(front.server, back); });
    test::send_pattern(front.client, kSize);
    front.client.shutdown_write();
    EXPECT_FALSE(front.client.read()) << "the end comes all the way back";
    EXPECT_EQ(copying.get().a_to_b, kSize);
    static_cast<void>(server.end());
    EXPECT_EQ(got, kSize);
  });
}

}  // namespace
}  // namespace bight
