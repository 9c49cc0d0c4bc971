// SPDX-License-Identifier: Apache-2.0
#include <bight/event.hpp>

#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST(Event, WaitsUntilItIsSet) {
  on_loop([] {
    Event event;
    std::vector<int> order;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&, i] {
        event.wait();
        order.push_back(i);
      });
    }
    yield();
    EXPECT_EQ(event.waiting(), 3U);
    EXPECT_FALSE(event.is_set());
    event.set();
    EXPECT_TRUE(event.is_set());
    EXPECT_TRUE(order.empty()) << "waking is not running";
    event.set();
    scope.join();
    EXPECT_THAT(order, ElementsAre(0, 1, 2));
    event.wait();
    EXPECT_TRUE(event.wait_for(0s));
  });
}

// parity 14: TestEvent_SetThenClear, 100, 1000
TEST(Event, SetAndClearedAtOnceItStillWakesAll) {
  on_loop([] {
    for (const int waiters : {1, 100, 1000}) {
      Event event;
      int woken = 0;
      Scope scope;
      for (int i = 0; i < waiters; ++i) {
        scope.spawn([&, i] {
          if (i % 2 == 0) {
            event.wait();
          } else {
            EXPECT_TRUE(event.wait_for(1h));
          }
          ++woken;
        });
      }
      yield();
      event.set();
      event.clear();
      scope.join();
      EXPECT_EQ(woken, waiters);
      EXPECT_FALSE(event.is_set());
    }
  });
}

// parity 15: test_set_during_wait
TEST(Event, AWaitAfterClearBlocksAgain) {
  on_loop([] {
    Event event;
    int rounds = 0;
    auto waiter = spawn([&] {
      event.wait();
      event.clear();
      ++rounds;
      event.wait();
      ++rounds;
    });
    yield();
    event.set();
    yield();
    yield();
    EXPECT_EQ(rounds, 1);
    event.set();
    waiter.join();
    EXPECT_EQ(rounds, 2);
  });
}

// parity 16: test_wait_while_notifying
TEST(Event, ALateWaiterRunsAfterThoseWhoWaited) {
  on_loop([] {
    Event event;
    std::vector<int> order;
    Scope scope;
    const auto wait_and_note = [&](int who) {
      event.wait();
      order.push_back(who);
    };
    scope.spawn(wait_and_note, 1);
    scope.spawn(wait_and_note, 2);
    yield();
    const std::uint64_t turns = this_loop::stats().turns;
    event.set();
    auto another = scope.spawn(wait_and_note, 4);
    wait_and_note(3);
    EXPECT_THAT(order, ElementsAre(1, 2, 4, 3));
    EXPECT_EQ(this_loop::stats().turns, turns) << "without a turn of the loop";
    event.wait();
    wait_and_note(5);
    EXPECT_THAT(order, ElementsAre(1, 2, 4, 3, 5));
  });
}

// parity 42: EventTests.test_set_and_clear
TEST(Event, ManyRoundsOfSettingAndClearing) {
  on_loop([] {
    Event event;
    for (int round = 0; round < 20; ++round) {
      int woken = 0;
      Scope scope;
      for (int i = 0; i < 5; ++i) {
        scope.spawn([&] {
          EXPECT_TRUE(event.wait_for(1h));
          ++woken;
        });
      }
      yield();
      event.set();
      event.clear();
      scope.join();
      EXPECT_EQ(woken, 5);
    }
  });
}

TEST(Event, TimesOutAndIsCancelled) {
  on_loop([] {
    Event event;
    EXPECT_FALSE(event.wait_for(1ms));
    EXPECT_FALSE(event.wait_until(now()));
    auto cancelled = spawn([&] { event.wait(); });
    yield();
    cancelled.cancel();
    cancelled.join();
    EXPECT_EQ(cancelled.status(), FiberStatus::cancelled);
    EXPECT_EQ(event.waiting(), 0U);
  });
}

TEST(Event, MayEndRightAfterSettingIt) {
  on_loop([] {
    auto event = std::make_unique<Event>();
    Scope scope;
    for (int i = 0; i < 3; ++i) scope.spawn([&event] { event->wait(); });
    yield();
    event->set();
    event.reset();
  });
}

TEST(Event, IsSetFromACallback) {
  on_loop([] {
    Event event;
    auto fiber = spawn([] {});
    fiber.on_done([&] { event.set(); });
    event.wait();
  });
}

TEST(AutoResetEvent, LetsOneThrough) {
  on_loop([] {
    AutoResetEvent event;
    std::vector<int> order;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&, i] {
        event.wait();
        order.push_back(i);
      });
    }
    yield();
    event.set();
    yield();
    EXPECT_THAT(order, ElementsAre(0));
    event.set();
    event.set();
    scope.join();
    EXPECT_THAT(order, ElementsAre(0, 1, 2));
    EXPECT_FALSE(event.is_set());
    event.set();
    event.set();
    EXPECT_TRUE(event.try_wait());
    EXPECT_FALSE(event.try_wait()) << "twice is once";
  });
}

TEST(AutoResetEvent, TheSignalIsNotLostWithAWaiterThatGivesUp) {
  on_loop([] {
    AutoResetEvent event;
    auto cancelled = spawn([&] { event.wait(); });
    yield();
    cancelled.cancel();
    event.set();
    cancelled.join();
    EXPECT_TRUE(event.is_set());
    EXPECT_TRUE(event.wait_for(0s));
    EXPECT_FALSE(event.wait_for(1ms));
    event.set();
    EXPECT_TRUE(event.wait_until(now() + 1h));
  });
}

TEST(EventMisuse, DestroyingItWithWaitersAborts) {
  const test::Ended ended = test::in_child([] {
    run([] {
      std::optional<Event> event(std::in_place);
      auto waiter = spawn([&] { event->wait(); });
      yield();
      event.reset();
    });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT) && ended.says("an Event is destroyed while fibers wait")) << describe(ended);
}

}  // namespace
}  // namespace bight
