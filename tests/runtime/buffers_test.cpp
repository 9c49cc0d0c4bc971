// SPDX-License-Identifier: Apache-2.0
#include "buffers.hpp"

#include <chrono>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/chunk.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using detail::BufferPool;
using test::bytes_of;
using test::connect_pair;
using test::on_loop;

TEST(BufferPool, LendsTheLastOneReturnedFirst) {
  BufferPool pool(3);
  const auto first = pool.take();
  const auto second = pool.take();
  EXPECT_EQ(first.size, BufferPool::kSize);
  EXPECT_NE(first.data, second.data);
  EXPECT_EQ(pool.address(first.id), first.data);
  EXPECT_EQ(pool.lent(), 2U);
  pool.give_back(first.data, first.id);
  EXPECT_EQ(pool.take().data, first.data);
  pool.give_back(first.data, first.id);
  pool.give_back(second.data, second.id);
  EXPECT_EQ(pool.lent(), 0U);
}

TEST(BufferPool, BeyondItsOwnItMakesSmallOnes) {
  BufferPool pool(2);
  std::vector<BufferPool::Buffer> taken(5);
  for (auto& each : taken) each = pool.take();
  std::set<std::byte*> different;
  for (const auto& buffer : taken) {
    different.insert(buffer.data);
    buffer.data[buffer.size - 1] = std::byte{1};
  }
  EXPECT_EQ(different.size(), 5U);
  EXPECT_EQ(taken[1].size, BufferPool::kSize);
  EXPECT_EQ(taken[2].size, BufferPool::kSmallSize);
  EXPECT_EQ(taken[2].id, BufferPool::kOnHeap);
  for (const auto& buffer : taken) pool.give_back(buffer.data, buffer.id);
  EXPECT_EQ(pool.lent(), 0U);
}

TEST(BufferPool, OfNone) {
  BufferPool pool(0);
  const auto small = pool.take();
  EXPECT_EQ(small.size, BufferPool::kSmallSize);
  pool.give_back(small.data, small.id);
}

TEST(BufferPool, HandsOverToAnOwner) {
  BufferPool pool(2);
  std::vector<std::uint32_t> returned;
  pool.hand_over(&returned, [](void* owner, std::uint32_t id) noexcept {
    static_cast<std::vector<std::uint32_t>*>(owner)->push_back(id);
  });
  const auto small = pool.take();
  EXPECT_EQ(small.id, BufferPool::kOnHeap) << "the fixed ones are the owner's";
  pool.give_back(small.data, small.id);
  pool.note_lent();
  pool.give_back(pool.address(1), 1);
  EXPECT_EQ(returned, (std::vector<std::uint32_t>{1}));
  pool.take_back();
}

TEST(Chunk, IsEmptyByDefaultAndMoves) {
  Chunk empty;
  EXPECT_TRUE(empty.empty());
  EXPECT_FALSE(empty);
  EXPECT_EQ(empty.text(), "");
  on_loop([] {
    auto [client, server] = connect_pair();
    std::error_code error;
    client.write_all(bytes_of("payload"), error);
    Chunk first = server.read(error);
    EXPECT_EQ(this_loop::stats().receive_buffers_lent, 1U);
    Chunk second = std::move(first);
    EXPECT_TRUE(first.empty());  // NOLINT(bugprone-use-after-move): what it leaves is part of the contract
    EXPECT_EQ(second.text(), "payload");
    EXPECT_EQ(this_loop::stats().receive_buffers_lent, 1U);
    second = Chunk();
    EXPECT_EQ(this_loop::stats().receive_buffers_lent, 0U);
    client.write_all(bytes_of("again"), error);
    second = server.read(error);
    const std::span<const std::byte> bytes = second;
    EXPECT_EQ(bytes.size(), 5U);
    server.write_all(second, error);
    EXPECT_EQ(client.read(error).text(), "again");
  });
}

/// The chunks of `count` connections, each of `text`, all held at once.
void hold_at_once(std::size_t count, std::size_t buffers) {
  RunOptions options;
  options.receive_buffers = buffers;
  on_loop(options, [&] {
    const std::string text(3000, 't');
    test::LoopbackListener listener;
    std::vector<test::SocketPair> pairs;
    for (std::size_t i = 0; i < count; ++i) pairs.push_back(connect_pair(listener));
    for (int round = 0; round < 3; ++round) {
      std::vector<Chunk> chunks(count);
      Scope scope;
      for (std::size_t i = 0; i < count; ++i) {
        scope.spawn([&, i] {
          std::error_code error;
          chunks[i] = pairs[i].server.read(error);
          EXPECT_FALSE(error) << error.message();
        });
      }
      yield();
      for (auto& pair : pairs) {
        std::error_code error;
        pair.client.write_all(bytes_of(text), error);
      }
      scope.join();
      EXPECT_EQ(this_loop::stats().receive_buffers_lent, count);
      for (const Chunk& chunk : chunks) EXPECT_EQ(chunk.text(), text);
      chunks.clear();
      EXPECT_EQ(this_loop::stats().receive_buffers_lent, 0U);
    }
  });
}

TEST(Chunk, MoreThanThereAreBuffers) {
  hold_at_once(50, 4);
  hold_at_once(50, 1);
  hold_at_once(20, 0);
  hold_at_once(20, 20);
  hold_at_once(20, 33);
}

TEST(Chunk, BeyondTheBuffersTheyAreSmall) {
  RunOptions options;
  options.receive_buffers = 1;
  on_loop(options, [] {
    auto [client, server] = connect_pair();
    auto other = connect_pair();
    const std::string text(20'000, 'x');
    std::error_code error;
    client.write_all(bytes_of(text), error);
    std::vector<Chunk> held;
    std::string got;
    while (got.size() < text.size()) {
      held.push_back(server.read(error));
      got += held.back().text();
      if (held.size() > 1) {
        EXPECT_LE(held.back().size(), 4096U);
      }
    }
    EXPECT_TRUE(got == text);
    other.client.write_all(bytes_of(text), error);
    std::size_t total = 0;
    while (total < text.size()) {
      const Chunk chunk = other.server.read(error);
      EXPECT_LE(chunk.size(), 4096U) << "the only large one is held";
      total += chunk.size();
    }
    held.clear();
    std::size_t largest = 0;
    for (int round = 0; round < 5; ++round) {
      other.client.write_all(bytes_of(text), error);
      for (total = 0; total < text.size();) {
        const Chunk chunk = other.server.read(error);
        total += chunk.size();
        largest = std::max(largest, chunk.size());
      }
    }
    EXPECT_GT(largest, 4096U) << "it has come back";
  });
}

// A read that waits holds no buffer; nor does one that was cancelled, or timed out, or met the end.
TEST(Chunk, WaitingHoldsNone) {
  on_loop([] {
    auto [client, server] = connect_pair();
    std::error_code error;
    for (int round = 0; round < 300; ++round) {
      auto reader = spawn([&server = server] {
        std::error_code read_error;
        static_cast<void>(server.read(read_error));
      });
      yield();
      EXPECT_EQ(this_loop::stats().receive_buffers_lent, 0U);
      reader.cancel();
      reader.join();
      EXPECT_EQ(this_loop::stats().receive_buffers_lent, 0U);
    }
    server.set_read_timeout(1ms);
    for (int round = 0; round < 3; ++round) static_cast<void>(server.read(error));
    client.shutdown(SHUT_WR, error);
    for (int round = 0; round < 300; ++round) EXPECT_TRUE(server.read(error).empty());
    EXPECT_EQ(this_loop::stats().receive_buffers_lent, 0U);
  });
}

// The only buffer is held, data comes, and the reader is cancelled in the same turn.
TEST(Chunk, CancelledForLackOfABufferIsCancelled) {
  RunOptions options;
  options.receive_buffers = 1;
  on_loop(options, [] {
    auto holder = connect_pair();
    std::error_code error;
    holder.client.write_all(bytes_of("held"), error);
    const Chunk held = holder.server.read(error);
    auto [client, server] = connect_pair();
    for (int round = 0; round < 50; ++round) {
      std::error_code read_error;
      std::string got;
      auto reader = spawn([&, &server = server] { got = server.read(read_error).text(); });
      for (int i = 0; i < round % 3; ++i) yield();
      auto writer = spawn([&client = client] {
        std::error_code write_error;
        client.write_all(bytes_of("x"), write_error);
      });
      yield();
      reader.cancel();
      reader.join();
      writer.join();
      if (got.empty()) {
        EXPECT_EQ(read_error, std::errc::operation_canceled) << read_error.message();
        EXPECT_EQ(server.read(error).text(), "x");
      } else {
        EXPECT_EQ(got, "x");
      }
    }
  });
}

TEST(Chunk, AStreamThatFloodsDoesNotTakeAllBuffers) {
  RunOptions options;
  options.receive_buffers = 8;
  on_loop(options, [] {
    auto flood = connect_pair();
    auto polite = connect_pair();
    const std::string block(1'000'000, 'x');
    std::error_code error;
    bool stop = false;
    auto writer = spawn([&] {
      std::error_code write_error;
      while (!stop && !write_error) write_error.clear(), flood.client.write_all(bytes_of(block), write_error);
    });
    EXPECT_FALSE(flood.server.read(error).empty());  // and no more: what comes waits
    for (int round = 0; round < 20; ++round) {
      polite.client.write_all(bytes_of("hello"), error);
      const Chunk chunk = polite.server.read(error);
      EXPECT_EQ(chunk.text(), "hello");
      sleep_for(200us);
    }
    stop = true;
    flood.server.close();
    writer.join();
  });
}

}  // namespace
}  // namespace bight
