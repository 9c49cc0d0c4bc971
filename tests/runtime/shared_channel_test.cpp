// SPDX-License-Identifier: Apache-2.0
#include <bight/shared_channel.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
#include <bight/remote.hpp>
#include <bight/scope.hpp>

#include "build.hpp"
#include "loop_thread.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::LoopThread;
using test::on_loop;
using testing::ElementsAre;
using testing::Optional;

constexpr std::uint64_t kMessages = static_cast<std::uint64_t>(test::this_many(200'000, 5'000));

TEST(SharedChannel, FirstInFirstOut) {
  on_loop([] {
    SharedChannel<int> channel;
    for (int i = 0; i < 100; ++i) channel.send(i);
    EXPECT_EQ(channel.size(), 100U);
    for (int i = 0; i < 50; ++i) EXPECT_THAT(channel.receive(), Optional(i));
    for (int i = 100; i < 200; ++i) channel.send(i);
    for (int i = 50; i < 200; ++i) EXPECT_THAT(channel.try_receive(), Optional(i));
    EXPECT_EQ(channel.try_receive(), std::nullopt);
    EXPECT_EQ(channel.size(), 0U);
  });
}

TEST(SharedChannel, BetweenLoopsAllArriveInOrder) {
  for (const std::size_t capacity :
       {std::size_t{1}, std::size_t{7}, std::size_t{1024}, SharedChannel<int>::kUnbounded}) {
    SharedChannel<std::uint64_t> channel(capacity);
    const LoopThread sender([&] {
      for (std::uint64_t i = 0; i < kMessages / 10; ++i) channel.send(i);
      channel.close();
    });
    std::uint64_t expected = 0;
    on_loop([&] {
      for (const std::uint64_t value : channel) ASSERT_EQ(value, expected++);
    });
    EXPECT_EQ(expected, kMessages / 10);
  }
}

TEST(SharedChannel, ManySendersAndReceiversOfAllKinds) {
  SharedChannel<std::uint64_t> channel(64);
  std::atomic<std::uint64_t> sum{0};
  std::atomic<std::uint64_t> count{0};
  std::atomic<int> senders{4};
  auto send = [&] {
    for (std::uint64_t i = 1; i <= kMessages / 4; ++i) channel.send(i);
    if (--senders == 0) channel.close();
  };
  auto receive = [&] {
    for (const std::uint64_t value : channel) {
      sum += value;
      ++count;
    }
  };
  auto both = [&] {
    Scope scope;
    scope.spawn(send);
    scope.spawn(receive);
    scope.join();
  };
  {
    const LoopThread one(both);
    const LoopThread two(both);
    std::thread three(send);
    std::thread four(receive);
    send();
    three.join();
    four.join();
  }
  const std::uint64_t each = kMessages / 4;
  EXPECT_EQ(count, 4 * each);
  EXPECT_EQ(sum, 4 * (each * (each + 1) / 2));
}

// gevent parity 21: test_max_size: a put beyond the capacity waits until a get.
TEST(SharedChannel, AFullOneMakesSendersWaitInOrder) {
  on_loop([] {
    SharedChannel<int> channel(2);
    channel.send(0);
    channel.send(1);
    EXPECT_FALSE(channel.try_send(9));
    Scope scope;
    for (int i = 2; i < 5; ++i) scope.spawn([&channel, i] { channel.send(i); });
    yield();
    EXPECT_EQ(channel.size(), 2U);
    EXPECT_THAT(channel.receive(), Optional(0));
    EXPECT_EQ(channel.size(), 2U) << "the first who waited is in at once";
    EXPECT_FALSE(channel.try_send(9)) << "nobody gets in before those who wait";
    for (int i = 1; i < 5; ++i) EXPECT_THAT(channel.receive(), Optional(i));
    scope.join();
  });
}

// Room is made by each receive, not by whole batches: else this would wait for ever.
TEST(SharedChannel, OneReceiveLetsOneSenderIn) {
  on_loop([] {
    SharedChannel<int> channel(3);
    for (int i = 0; i < 3; ++i) channel.send(i);
    bool sent = false;
    auto sender = spawn([&] {
      channel.send(3);
      sent = true;
    });
    yield();
    EXPECT_FALSE(sent);
    EXPECT_THAT(channel.receive(), Optional(0));
    sender.join();
    EXPECT_TRUE(sent);
  });
}

TEST(SharedChannel, WithoutCapacityASendWaitsForItsReceiver) {
  on_loop([] {
    SharedChannel<std::string> channel(0);
    EXPECT_FALSE(channel.try_send("nobody"));
    EXPECT_EQ(channel.try_receive(), std::nullopt);
    std::vector<std::string> log;
    auto sender = spawn([&] {
      for (const char* each : {"a", "b", "c"}) {
        channel.send(each);
        log.push_back(std::string("sent ") + each);
      }
      channel.close();
    });
    for (const std::string& each : channel) log.push_back("got " + each);
    sender.join();
    EXPECT_EQ(log.size(), 6U);
  });
  SharedChannel<std::uint64_t> channel(0);
  const LoopThread sender([&] {
    for (std::uint64_t i = 0; i < kMessages / 100; ++i) channel.send(i);
    channel.close();
  });
  std::uint64_t expected = 0;
  for (const std::uint64_t value : channel) ASSERT_EQ(value, expected++);
}

TEST(SharedChannel, MoveOnlyValuesStayWithTheSenderOnFailure) {
  on_loop([] {
    SharedChannel<std::unique_ptr<int>> channel(1);
    channel.send(std::make_unique<int>(1));
    auto mine = std::make_unique<int>(2);
    EXPECT_FALSE(channel.try_send(std::move(mine)));
    ASSERT_NE(mine, nullptr);
    EXPECT_FALSE(channel.send_for(std::move(mine), 1ms));
    ASSERT_NE(mine, nullptr);
    EXPECT_FALSE(move_on_after(1ms, [&] { channel.send(std::move(mine)); }));
    ASSERT_NE(mine, nullptr);
    auto sender = spawn([&] { EXPECT_THROW(channel.send(std::move(mine)), ChannelClosed); });
    yield();
    channel.close();
    sender.join();
    ASSERT_NE(mine, nullptr);
    EXPECT_THROW(static_cast<void>(channel.try_send(std::move(mine))), ChannelClosed);
    EXPECT_EQ(*mine, 2);
    EXPECT_EQ(**channel.receive(), 1);
    EXPECT_EQ(channel.receive(), std::nullopt);
  });
}

TEST(SharedChannel, CloseWakesReceivers) {
  SharedChannel<int> channel;
  std::thread thread([&] { EXPECT_EQ(channel.receive(), std::nullopt); });
  on_loop([&] {
    auto fiber = spawn([&] { return channel.receive(); });
    yield();
    channel.close();
    channel.close();
    EXPECT_EQ(fiber.get(), std::nullopt);
    EXPECT_TRUE(channel.closed());
    try {
      channel.send(1);
      FAIL() << "into a closed one";
    } catch (const ChannelClosed& error) {
      EXPECT_STREQ(error.what(), "the channel is closed");
    }
  });
  thread.join();
}

TEST(SharedChannel, ReceiveTimesOut) {
  on_loop([] {
    SharedChannel<int> channel;
    EXPECT_EQ(channel.receive_for(5ms), std::nullopt);
    EXPECT_FALSE(channel.closed());
    channel.send(1);
    EXPECT_THAT(channel.receive_for(0s), Optional(1));
  });
  SharedChannel<int> channel;
  EXPECT_EQ(channel.receive_for(5ms), std::nullopt) << "a thread";
}

// gevent parity 21: test_waiters_that_cancel, test_two_bogus_waiters: what a waiter that went would have got goes to
// the next one, or stays.
TEST(SharedChannel, WhoWentIsPassedOver) {
  on_loop([] {
    SharedChannel<int> channel;
    auto gone = spawn([&] { static_cast<void>(channel.receive()); });
    auto next = spawn([&] { return channel.receive(); });
    yield();
    gone.cancel();
    gone.join();
    channel.send(1);
    EXPECT_THAT(next.get(), Optional(1));
    EXPECT_EQ(channel.receive_for(1ms), std::nullopt);
    channel.send(2);
    EXPECT_THAT(channel.try_receive(), Optional(2));
  });
}

TEST(SharedChannel, AValueThatWasHandedOverIsReturned) {
  on_loop([] {
    SharedChannel<int> channel;
    std::optional<int> got;
    auto fiber = spawn([&] { got = channel.receive(); });
    yield();
    channel.send(1);
    fiber.cancel();
    fiber.join();
    EXPECT_THAT(got, Optional(1));
  });
}

// Values, receivers that are cancelled, and senders that run out of time, at every distance from each other.
TEST(SharedChannel, CancellationsAndLimitsLoseNothing) {
  SharedChannel<int> channel(2);
  constexpr int kSends = test::this_many(5'000, 500);
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  {
    const LoopThread sender([&] {
      for (int i = 1; i <= kSends; ++i) {
        if (channel.send_for(i, std::chrono::microseconds(i % 20))) sent += static_cast<std::uint64_t>(i);
      }
      channel.close();
    });
    on_loop([&] {
      while (!channel.closed() || channel.size() != 0) {
        auto fiber = spawn([&] {
          if (auto value = channel.receive()) received += static_cast<std::uint64_t>(*value);
        });
        yield();
        yield();
        fiber.cancel();
        fiber.join();
      }
    });
  }
  EXPECT_EQ(sent, received);
}

TEST(SharedChannel, FromCallbacks) {
  on_loop([] {
    SharedChannel<int> channel(1);
    Remote().post([&] { EXPECT_TRUE(channel.try_send(1)); });
    EXPECT_THAT(channel.receive(), Optional(1));
  });
}

TEST(SharedChannel, WhatIsLeftIsDestroyed) {
  auto token = std::make_shared<int>(0);
  {
    SharedChannel<std::shared_ptr<int>> channel;
    on_loop([&] {
      for (int i = 0; i < 40; ++i) channel.send(token);
      static_cast<void>(channel.receive());
      for (int i = 0; i < 40; ++i) channel.send(token);
    });
  }
  EXPECT_EQ(token.use_count(), 1);
}

TEST(SharedChannel, AnAbsurdCapacityIsRefused) {
  EXPECT_THROW(SharedChannel<int>(std::numeric_limits<std::size_t>::max() - 1), std::bad_alloc);
}

// A fiber that finds a value each time lets others run nevertheless.
TEST(SharedChannel, ABusyReceiverDoesNotStarveOthers) {
  on_loop([] {
    SharedChannel<int> channel;
    for (int i = 0; i < 10'000; ++i) channel.send(i);
    bool other_ran = false;
    auto other = spawn([&] { other_ran = true; });
    int received = 0;
    while (!other_ran && channel.try_receive()) {
      static_cast<void>(channel.receive());
      ++received;
    }
    EXPECT_TRUE(other_ran);
    EXPECT_LT(received, 5'000);
    other.join();
  });
}

}  // namespace
}  // namespace bight
