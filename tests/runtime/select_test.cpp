// SPDX-License-Identifier: Apache-2.0
#include <bight/select.hpp>

#include <any>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/channel.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/latch.hpp>
#include <bight/scope.hpp>
#include <bight/semaphore.hpp>
#include <bight/socket.hpp>
#include <bight/time.hpp>
#include <bight/wait_group.hpp>

#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;

void never() { ADD_FAILURE() << "this case was not to be chosen"; }

TEST(Select, TakesWhatIsReady) {
  on_loop([] {
    Channel<int> first{1};
    Channel<std::string> second{1};
    second.send("x");
    std::string got;
    const std::size_t chosen = select(first.on_receive([](int) { never(); }),
                                      second.on_receive([&](std::string value) { got = value; }), after(1h, never));
    EXPECT_EQ(chosen, 1U);
    EXPECT_EQ(got, "x");
    EXPECT_TRUE(second.empty());
  });
}

TEST(Select, WaitsForTheFirstAndLeavesTheOthersAlone) {
  on_loop([] {
    Channel<int> first;
    Channel<int> second;
    Event event;
    auto sender = spawn([&] {
      EXPECT_EQ(first.receivers_waiting(), 1U);
      EXPECT_EQ(second.receivers_waiting(), 1U);
      EXPECT_EQ(event.waiting(), 1U);
      second.send(5);
      EXPECT_EQ(first.receivers_waiting(), 0U) << "gone as soon as another case is chosen";
      EXPECT_EQ(event.waiting(), 0U);
      EXPECT_FALSE(first.try_send(6)) << "nobody would receive it";
      event.set();
    });
    int got = 0;
    EXPECT_EQ(select(first.on_receive([](int) { never(); }), second.on_receive([&](int value) { got = value; }),
                     event.on_set(never)),
              1U);
    EXPECT_EQ(got, 5);
    sender.join();
    EXPECT_EQ(this_loop::stats().timers_armed, 0U);
  });
}

TEST(Select, Sends) {
  on_loop([] {
    Channel<std::unique_ptr<int>> full{1};
    Channel<std::unique_ptr<int>> open{1};
    full.send(nullptr);
    auto one = std::make_unique<int>(1);
    auto two = std::make_unique<int>(2);
    EXPECT_EQ(select(full.on_send(std::move(one), never), open.on_send(std::move(two), [] {})), 1U);
    EXPECT_NE(one, nullptr) << "it was not chosen, so it has not been moved from";
    EXPECT_EQ(**open.receive(), 2);
    auto receiver = spawn([&] { return full.receive(); });
    int handled = 0;
    EXPECT_EQ(select(full.on_send(std::move(one), [&] { ++handled; }), after(1h, never)), 0U);
    EXPECT_EQ(receiver.get(), nullptr);
    EXPECT_EQ(**full.receive(), 1);
    EXPECT_EQ(handled, 1);
  });
}

TEST(Select, BothSidesMaySelect) {
  on_loop([] {
    Channel<int> there;
    Channel<int> back;
    int sum = 0;
    auto other = spawn([&] {
      for (int i = 0; i < 100; ++i) {
        select(there.on_receive([&](int value) { sum += value; }), back.on_send(1, [] {}));
      }
    });
    int received = 0;
    for (int i = 0; i < 100; ++i) {
      select(there.on_send(1, [] {}), back.on_receive([&](int value) { received += value; }));
    }
    other.join();
    EXPECT_EQ(sum + received, 100);
    EXPECT_GT(sum, 10);
    EXPECT_GT(received, 10);
  });
}

TEST(Select, ItsOwnSendAndReceiveOnOneChannelDoNotMeet) {
  on_loop([] {
    Channel<int> channel;
    EXPECT_EQ(select(channel.on_send(1, never), channel.on_receive([](int) { never(); }), after(1ms, [] {})), 2U);
  });
}

TEST(Select, OfThoseThatAreReadyEachIsChosenAsOften) {
  on_loop([] {
    std::array<Channel<int>, 4> channels{Channel<int>(1), Channel<int>(1), Channel<int>(1), Channel<int>(1)};
    std::array<int, 4> chosen{};
    for (auto& each : channels) each.send(1);
    for (int i = 0; i < 4000; ++i) {
      const std::size_t which = select(channels[0].on_receive([](int) {}), channels[1].on_receive([](int) {}),
                                       channels[2].on_receive([](int) {}), channels[3].on_receive([](int) {}));
      ++chosen[which];
      channels[which].send(1);
    }
    for (const int count : chosen) EXPECT_NEAR(count, 1000, 200);
  });
}

TEST(Select, TheDefaultCaseIsDoneWhenNothingIsReady) {
  on_loop([] {
    Channel<int> channel{1};
    int defaults = 0;
    EXPECT_EQ(select(otherwise([&] { ++defaults; }), channel.on_receive([](int) { never(); })), 0U);
    EXPECT_EQ(defaults, 1);
    channel.send(1);
    EXPECT_EQ(select(otherwise(never), channel.on_receive([](int) {})), 1U);
  });
}

TEST(Select, TimeCases) {
  on_loop([] {
    Channel<int> channel;
    const TimePoint start = now();
    EXPECT_EQ(select(channel.on_receive([](int) { never(); }), after(2ms, [] {}), after(1h, never)), 1U);
    EXPECT_GE(now() - start, 2ms);
    EXPECT_EQ(select(channel.on_receive([](int) { never(); }), at(start, [] {})), 1U);
    EXPECT_EQ(select(after(0s, [] {}), after(1h, never)), 0U);
  });
}

TEST(Select, FlagsOfAllKinds) {
  on_loop([] {
    Event event;
    AutoResetEvent turn;
    Semaphore semaphore(0);
    Latch latch(1);
    WaitGroup group;
    group.add();
    auto fiber = spawn([&] { turn.set(); });
    EXPECT_EQ(select(event.on_set(never), turn.on_set([] {}), semaphore.on_acquire(never), latch.on_open(never),
                     group.on_zero(never)),
              1U);
    EXPECT_FALSE(turn.is_set());
    EXPECT_EQ(select(fiber.on_end([] {}), event.on_set(never)), 0U);
    semaphore.release();
    EXPECT_EQ(select(semaphore.on_acquire([] {}), event.on_set(never)), 0U);
    EXPECT_EQ(semaphore.available(), 0);
    auto releaser = spawn([&] { semaphore.release(); });
    EXPECT_EQ(select(semaphore.on_acquire([] {}), event.on_set(never)), 0U);
    EXPECT_EQ(semaphore.available(), 0);
    latch.count_down();
    EXPECT_EQ(select(latch.on_open([] {}), event.on_set(never)), 0U);
    group.done();
    EXPECT_EQ(select(group.on_zero([] {}), event.on_set(never)), 0U);
    releaser.join();
  });
}

TEST(Select, AClosedChannelIsReadyForWhoWantsToKnow) {
  on_loop([] {
    Channel<int> channel{1};
    Event event;
    channel.send(1);
    channel.close();
    std::vector<std::optional<int>> got;
    const auto note = [&](std::optional<int> value) { got.push_back(value); };
    for (int i = 0; i < 2; ++i) EXPECT_EQ(select(channel.on_receive(note), event.on_set(never)), 0U);
    EXPECT_THAT(got, testing::ElementsAre(std::optional<int>(1), std::nullopt));
  });
}

TEST(Select, AClosedChannelIsLeftOutForWhoWantsAValue) {
  on_loop([] {
    Channel<int> closed;
    Channel<int> open;
    const auto none = [](int) { never(); };
    auto other = spawn([&] {
      closed.close();
      yield();
      open.send(1);
    });
    EXPECT_EQ(select(closed.on_receive(none), open.on_receive([](int) {})), 1U) << "closed while waiting";
    other.join();
    EXPECT_EQ(select(closed.on_receive(none), after(1ms, [] {})), 1U);
    EXPECT_EQ(select(closed.on_receive(none), otherwise([] {})), 1U);
    EXPECT_THROW(select(closed.on_receive(none)), ChannelClosed);
    EXPECT_THROW(select(closed.on_send(1, never), open.on_receive(none)), ChannelClosed);
  });
}

TEST(Select, HandlersOfValuesThatAreOptionalThemselves) {
  on_loop([] {
    Channel<std::optional<int>> optional{1};
    Channel<std::any> any{1};
    optional.send(std::optional<int>(3));
    any.send(std::any(4));
    std::optional<int> got;
    int held = 0;
    select(optional.on_receive([&](std::optional<int> value) { got = value; }));
    select(any.on_receive([&](std::any value) { held = std::any_cast<int>(value); }), after(0.5h, never));
    EXPECT_EQ(got, 3);
    EXPECT_EQ(held, 4);
  });
}

TEST(Select, IsCancelledAndLeavesNothingBehind) {
  on_loop([] {
    Channel<int> channel;
    Event event;
    auto waiter =
        spawn([&] { select(channel.on_receive([](int) { never(); }), event.on_set(never), after(1h, never)); });
    yield();
    EXPECT_EQ(event.waiting(), 1U);
    waiter.cancel();
    EXPECT_EQ(event.waiting(), 0U);
    EXPECT_EQ(channel.receivers_waiting(), 0U);
    waiter.join();
    EXPECT_EQ(waiter.status(), FiberStatus::cancelled);
    EXPECT_FALSE(move_on_after(0s, [&] { select(event.on_set(never), after(1h, never)); }));
    event.set();
    EXPECT_TRUE(move_on_after(0s, [&] { select(event.on_set([] {}), after(1h, never)); }))
        << "what is ready need not wait";
  });
}

TEST(Select, AValueHandedOverBeforeTheCancellationIsHandled) {
  on_loop([] {
    Channel<int> channel;
    Event event;
    int got = 0;
    auto waiter = spawn([&] { select(channel.on_receive([&](int value) { got = value; }), event.on_set(never)); });
    yield();
    channel.send(8);
    waiter.cancel();
    waiter.join();
    EXPECT_EQ(got, 8);
  });
}

TEST(Select, AHandlerMayWaitAndThrow) {
  on_loop([] {
    Channel<int> channel{1};
    channel.send(1);
    EXPECT_THROW(select(channel.on_receive([](int) {
                   sleep_for(1ms);
                   throw std::runtime_error("handler");
                 })),
                 std::runtime_error);
  });
}

TEST(Select, TwoCasesMayNameTheSameThing) {
  on_loop([] {
    Event event;
    auto setter = spawn([&] { event.set(); });
    EXPECT_LT(select(event.on_set([] {}), event.on_set([] {})), 2U);
    setter.join();
  });
}

// --- Descriptors

TEST(SelectReadiness, ReadableWhenDataComes) {
  on_loop([] {
    test::SocketPair pair = test::connect_pair();
    Event stop;
    std::error_code error;
    const std::array<std::byte, 3> data{};
    EXPECT_EQ(select(pair.client.on_readable(never), pair.client.on_writable([] {})), 1U);
    auto writer = spawn([&] { pair.server.write_all(data, error); });
    EXPECT_EQ(select(stop.on_set(never), pair.client.on_readable([] {})), 1U);
    writer.join();
    EXPECT_EQ(select(stop.on_set(never), pair.client.on_readable([] {})), 1U) << "it is level-triggered";
    std::array<std::byte, 8> buffer{};
    EXPECT_EQ(pair.client.read(buffer, error), 3U);
    stop.set();
    EXPECT_EQ(select(stop.on_set([] {}), pair.client.on_readable(never)), 0U);
    EXPECT_EQ(this_loop::stats().operations_in_flight, 0U);
  });
}

TEST(SelectReadiness, IsChosenThoughAnotherCaseIsAlwaysReady) {
  on_loop([] {
    test::SocketPair pair = test::connect_pair();
    Event always;
    always.set();
    std::error_code error;
    const std::array<std::byte, 3> data{};
    pair.server.write_all(data, error);
    sleep_for(1ms);
    bool readable = false;
    for (int i = 0; i < 1000 && !readable; ++i) {
      select(always.on_set([] {}), pair.client.on_readable([&] { readable = true; }));
    }
    EXPECT_TRUE(readable);
  });
}

TEST(SelectReadiness, CancelledAndTimedOutItLeavesTheSocketUsable) {
  on_loop([] {
    test::SocketPair pair = test::connect_pair();
    std::error_code error;
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(select(pair.client.on_readable(never), after(1ms, [] {})), 1U);
      EXPECT_FALSE(move_on_after(1ms, [&] { select(pair.client.on_readable(never)); }));
      EXPECT_EQ(select(pair.client.on_readable(never), otherwise([] {})), 1U);
    }
    const std::array<std::byte, 3> data{};
    pair.server.write_all(data, error);
    std::array<std::byte, 8> buffer{};
    EXPECT_EQ(pair.client.read(buffer, error), 3U);
  });
}

TEST(SelectReadiness, AClosedOrBusySocketIsAnError) {
  on_loop([] {
    test::SocketPair pair = test::connect_pair();
    std::error_code error;
    auto reader = spawn([&] {
      std::array<std::byte, 8> buffer{};
      pair.client.read(buffer, error);
    });
    yield();
    try {
      select(pair.client.on_readable(never), after(1h, never));
      ADD_FAILURE();
    } catch (const std::system_error& busy) {
      EXPECT_EQ(busy.code(), std::errc::device_or_resource_busy);
    }
    reader.cancel();
    reader.join();
    auto closer = spawn([&] { pair.client.close(); });
    try {
      select(pair.client.on_readable(never), after(1h, never));
      ADD_FAILURE();
    } catch (const std::system_error& closed) {
      EXPECT_EQ(closed.code(), std::errc::bad_file_descriptor) << closed.what();
    }
    closer.join();
    EXPECT_THROW(select(pair.client.on_readable(never)), std::system_error);
  });
}

}  // namespace
}  // namespace bight
