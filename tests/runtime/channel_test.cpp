// SPDX-License-Identifier: Apache-2.0
#include <bight/channel.hpp>

#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;
using testing::ElementsAre;
using Log = std::vector<std::string>;

// parity 22: TestChannel.test_send, the exact order of a rendezvous. (gevent's put lets the receiver run before it
// returns. Here, as everywhere, handing over wakes and does not switch.)
TEST(Channel, ARendezvousSendReturnsWhenTheValueHasBeenTaken) {
  on_loop([] {
    Channel<std::string> channel;
    Log log;
    auto other = spawn([&] {
      log.push_back("got " + *channel.receive());
      log.push_back("got " + *channel.receive());
    });
    channel.send("a");
    log.emplace_back("sent a");
    channel.send("b");
    log.emplace_back("sent b");
    other.join();
    EXPECT_THAT(log, ElementsAre("got a", "sent a", "sent b", "got b"));
    EXPECT_TRUE(channel.empty());
    EXPECT_TRUE(channel.full());
  });
}

// parity 22: test_wait
TEST(Channel, AReceiverThatWaitsIsHandedTheValue) {
  on_loop([] {
    Channel<std::string> channel;
    Log log;
    auto other = spawn([&] {
      channel.send("1");
      log.emplace_back("sent 1");
      channel.send("2");
      log.emplace_back("sent 2");
    });
    log.push_back(*channel.receive());
    log.push_back(*channel.receive());
    other.join();
    EXPECT_THAT(log, ElementsAre("sent 1", "1", "2", "sent 2"));
  });
}

// parity 21: test_max_size
TEST(Channel, ASendWaitsForRoom) {
  on_loop([] {
    Channel<int> channel{2};
    int sent = 0;
    auto sender = spawn([&] {
      for (int i = 0; i < 5; ++i) {
        channel.send(i);
        ++sent;
      }
    });
    yield();
    EXPECT_EQ(sent, 2);
    EXPECT_EQ(channel.size(), 2U);
    EXPECT_EQ(channel.senders_waiting(), 1U);
    EXPECT_EQ(channel.receive(), 0);
    yield();
    EXPECT_EQ(sent, 3);
    for (int i = 1; i < 5; ++i) EXPECT_EQ(channel.receive(), i);
    sender.join();
  });
}

TEST(Channel, AnUnboundedOneIsNeverFull) {
  on_loop([] {
    Channel<int> channel{Channel<int>::kUnbounded};
    for (int i = 0; i < 10'000; ++i) channel.send(i);
    EXPECT_FALSE(channel.full());
    for (int i = 0; i < 10'000; ++i) EXPECT_EQ(channel.receive(), i);
  });
}

TEST(Channel, EachValueComesOutOnceAndInOrder) {
  on_loop([] {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{7}, Channel<int>::kUnbounded}) {
      Channel<std::pair<int, int>> channel{capacity};
      constexpr int kEach = 100;
      int received = 0;
      Scope scope;
      auto receivers = scope.spawn([&] {
        Scope inner;
        for (int r = 0; r < 3; ++r) {
          inner.spawn([&] {
            std::vector<int> last(4, -1);
            for (auto& [who, number] : channel) {
              EXPECT_GT(number, last[static_cast<std::size_t>(who)]);
              last[static_cast<std::size_t>(who)] = number;
              ++received;
              if (number % 3 == 0) yield();
            }
          });
        }
      });
      {
        Scope senders;
        for (int who = 0; who < 4; ++who) {
          senders.spawn([&, who] {
            for (int i = 0; i < kEach; ++i) channel.send({who, i});
          });
        }
      }
      channel.close();
      receivers.join();
      EXPECT_EQ(received, 4 * kEach);
    }
  });
}

TEST(Channel, ClosedItGivesWhatIsInItAndThenNothing) {
  on_loop([] {
    Channel<int> channel{5};
    channel.send(1);
    channel.send(2);
    channel.close();
    channel.close();
    EXPECT_TRUE(channel.closed());
    EXPECT_THROW(channel.send(3), ChannelClosed);
    EXPECT_THROW(static_cast<void>(channel.try_send(3)), ChannelClosed);
    EXPECT_THROW(static_cast<void>(channel.send_for(3, 1h)), ChannelClosed);
    std::vector<int> got;
    for (int& value : channel) got.push_back(value);
    EXPECT_THAT(got, ElementsAre(1, 2));
    EXPECT_EQ(channel.receive(), std::nullopt);
    EXPECT_EQ(channel.try_receive(), std::nullopt);
    EXPECT_EQ(channel.receive_for(1h), std::nullopt);
  });
}

TEST(Channel, ClosingWakesWhoWaits) {
  on_loop([] {
    Channel<int> full{1};
    full.send(1);
    Channel<int> empty;
    auto sender = spawn([&] { full.send(2); });
    auto receiver = spawn([&] { return empty.receive(); });
    yield();
    full.close();
    empty.close();
    EXPECT_THROW(sender.get(), ChannelClosed);
    EXPECT_EQ(receiver.get(), std::nullopt);
    EXPECT_EQ(full.receive(), 1);
    EXPECT_EQ(full.receive(), std::nullopt);
  });
}

TEST(Channel, DrainingTakesTheValuesOfWaitingSendersToo) {
  on_loop([] {
    Channel<int> channel{2};
    auto sender = spawn([&] {
      for (int i = 0; i < 4; ++i) channel.send(i);
    });
    yield();
    EXPECT_THAT(channel.drain(), ElementsAre(0, 1, 2));
    yield();
    EXPECT_THAT(channel.drain(), ElementsAre(3));
    sender.join();
    EXPECT_TRUE(channel.drain().empty());
  });
}

TEST(Channel, CarriesWhatCanOnlyBeMoved) {
  on_loop([] {
    Channel<std::unique_ptr<int>> channel{1};
    channel.send(std::make_unique<int>(1));
    auto kept = std::make_unique<int>(2);
    EXPECT_FALSE(channel.try_send(std::move(kept)));
    ASSERT_NE(kept, nullptr) << "not moved from: it was not sent";
    EXPECT_FALSE(channel.send_for(std::move(kept), 1ms));
    ASSERT_NE(kept, nullptr);
    auto cancelled = spawn([&] {
      auto mine = std::make_unique<int>(3);
      try {
        channel.send(std::move(mine));
      } catch (const Cancelled&) {
        EXPECT_NE(mine, nullptr);
        throw;
      }
    });
    yield();
    cancelled.cancel();
    cancelled.join();
    EXPECT_EQ(**channel.receive(), 1);
    channel.close();
    EXPECT_THROW(channel.send(std::move(kept)), ChannelClosed);
    EXPECT_NE(kept, nullptr);
  });
}

// parity 21: test_waiters_that_cancel, test_two_waiters_one_dies, test_two_bogus_waiters
TEST(Channel, TheValueOfAReceiverThatGivesUpGoesToTheNextOrStays) {
  on_loop([] {
    Channel<int> channel{1};
    auto cancelled = spawn([&] { return channel.receive(); });
    auto timed_out = spawn([&] { return channel.receive_for(1ms); });
    auto next = spawn([&] { return channel.receive(); });
    yield();
    cancelled.cancel();
    EXPECT_EQ(timed_out.get(), std::nullopt);
    channel.send(5);
    EXPECT_EQ(next.get(), 5);
    auto gone = spawn([&] { return channel.receive(); });
    yield();
    gone.cancel();
    channel.send(6);
    gone.join();
    EXPECT_EQ(channel.size(), 1U);
    EXPECT_EQ(channel.receive(), 6);
  });
}

TEST(Channel, AValueHandedOverBeforeTheCancellationIsReceived) {
  on_loop([] {
    Channel<int> channel;
    std::optional<int> got;
    auto receiver = spawn([&] {
      got = channel.receive();
      yield();
    });
    yield();
    channel.send(7);
    receiver.cancel();
    receiver.join();
    EXPECT_EQ(got, 7);
    EXPECT_EQ(receiver.status(), FiberStatus::cancelled);
  });
}

TEST(Channel, WhatNeedNotWaitHappensInACancelledFiberToo) {
  on_loop([] {
    Channel<int> channel{1};
    EXPECT_TRUE(move_on_after(0s, [&] {
      channel.send(1);
      EXPECT_EQ(channel.receive(), 1);
    }));
    EXPECT_FALSE(move_on_after(0s, [&] { static_cast<void>(channel.receive()); }));
  });
}

TEST(Channel, AWaitingSenderThatGivesUpLeavesNothing) {
  on_loop([] {
    Channel<int> channel{1};
    channel.send(1);
    auto cancelled = spawn([&] { channel.send(2); });
    auto timed_out = spawn([&] { EXPECT_FALSE(channel.send_for(3, 1ms)); });
    auto next = spawn([&] { EXPECT_TRUE(channel.send_until(4, now() + 1h)); });
    yield();
    cancelled.cancel();
    timed_out.join();
    EXPECT_THAT(channel.drain(), ElementsAre(1, 4));
    next.join();
  });
}

/// Its moves throw when told to.
struct Moody {
  explicit Moody(int its_value) : value(its_value) {}
  Moody(Moody&& other) : value(other.value) {
    if (throws) throw std::runtime_error("move");
  }
  int value;
  static inline bool throws = false;
};

struct MoodSwing {
  MoodSwing() { Moody::throws = true; }
  ~MoodSwing() { Moody::throws = false; }
};

// parity 43: FailingQueueTest
TEST(Channel, AThrowingMoveLeavesItUsable) {
  on_loop([] {
    Channel<Moody> channel{2};
    channel.send(Moody(1));
    {
      const MoodSwing swing;
      Moody two(2);
      EXPECT_THROW(channel.send(std::move(two)), std::runtime_error);
      EXPECT_THROW(static_cast<void>(channel.receive()), std::runtime_error);
    }
    EXPECT_EQ(channel.size(), 1U);
    EXPECT_EQ(channel.receive()->value, 1);
    auto receiver = spawn([&] { return channel.receive()->value; });
    yield();
    {
      const MoodSwing swing;
      Moody three(3);
      EXPECT_THROW(channel.send(std::move(three)), std::runtime_error);
    }
    EXPECT_FALSE(receiver.done()) << "it still waits";
    channel.send(Moody(4));
    EXPECT_EQ(receiver.get(), 4);
  });
}

TEST(Channel, AWaitingSenderGetsTheErrorOfItsOwnMove) {
  on_loop([] {
    struct Sour {
      Sour(int its_value, bool moves) : value(its_value), movable(moves) {}
      Sour(Sour&& other) : value(other.value), movable(other.movable) {
        if (!movable) throw std::runtime_error("move");
      }
      int value;
      bool movable;
    };
    Channel<Sour> channel{1};
    channel.send(Sour(1, true));
    auto sour = spawn([&] {
      Sour mine(2, false);
      channel.send(std::move(mine));
    });
    auto sweet = spawn([&] { channel.send(Sour(3, true)); });
    yield();
    EXPECT_EQ(channel.receive()->value, 1);
    EXPECT_THROW(sour.get(), std::runtime_error);
    sweet.join();
    EXPECT_EQ(channel.receive()->value, 3);
  });
}

TEST(Channel, KeepsNoValueAliveThatHasBeenReceived) {
  on_loop([] {
    Channel<std::shared_ptr<int>> channel{8};
    auto value = std::make_shared<int>(1);
    for (int i = 0; i < 20; ++i) {
      channel.send(value);
      EXPECT_EQ(channel.receive(), value);
    }
    EXPECT_EQ(value.use_count(), 1);
    channel.send(value);
    EXPECT_EQ(value.use_count(), 2);
  });
}

TEST(Channel, IsUsedFromCallbacks) {
  on_loop([] {
    Channel<int> channel{1};
    auto fiber = spawn([] {});
    fiber.on_done([&] { EXPECT_TRUE(channel.try_send(3)); });
    EXPECT_EQ(channel.receive(), 3);
  });
}

TEST(ChannelMisuse, DestroyingItWithWaitersAborts) {
  const test::Ended ended = test::in_child([] {
    run([] {
      std::optional<Channel<int>> channel(std::in_place);
      auto waiter = spawn([&] { static_cast<void>(channel->receive()); });
      yield();
      channel.reset();
    });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT) && ended.says("is destroyed while fibers wait")) << describe(ended);
}

}  // namespace
}  // namespace bight
