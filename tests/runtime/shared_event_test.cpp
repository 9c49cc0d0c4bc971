// SPDX-License-Identifier: Apache-2.0
#include <bight/shared_event.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
#include <bight/remote.hpp>
#include <bight/scope.hpp>

#include "build.hpp"
#include "child.hpp"
#include "loop_thread.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::LoopThread;
using test::on_loop;
using testing::ElementsAre;

constexpr int kRounds = test::this_many(2'000, 200);

// gevent parity 17: TestAsyncResultCrossThread: set from another thread wakes a waiter, with no timer ticking.
TEST(SharedEvent, SetByAThreadWakesAFiber) {
  on_loop([] {
    for (int i = 0; i < kRounds; ++i) {
      SharedEvent event;
      std::thread thread([&] { event.set(); });
      event.wait();
      EXPECT_TRUE(event.is_set());
      thread.join();
    }
  });
}

// gevent parity 17: the same with a limit that does not run out; under virtual time it would.
TEST(SharedEvent, SetByAThreadWakesAFiberThatHasALimit) {
  on_loop([] {
    if (test::on_sim()) return;
    for (int i = 0; i < kRounds; ++i) {
      SharedEvent event;
      std::thread thread([&] { event.set(); });
      EXPECT_TRUE(event.wait_for(1h));
      thread.join();
    }
  });
}

// gevent parity 17: set before the wait.
TEST(SharedEvent, SetBeforeTheWaitDoesNotWait) {
  on_loop([] {
    SharedEvent event;
    std::thread([&] { event.set(); }).join();
    event.wait();
    EXPECT_TRUE(event.wait_for(0s));
    EXPECT_TRUE(event.wait_until(TimePoint::min()));
  });
}

// gevent parity 17: both ends are fibers, of different loops.
TEST(SharedEvent, SetByAnotherLoopWakesAFiber) {
  std::vector<SharedEvent> there(static_cast<std::size_t>(kRounds));
  std::vector<SharedEvent> back(static_cast<std::size_t>(kRounds));
  const LoopThread one([&] {
    for (int i = 0; i < kRounds; ++i) {
      there[static_cast<std::size_t>(i)].set();
      back[static_cast<std::size_t>(i)].wait();
    }
  });
  const LoopThread other([&] {
    for (int i = 0; i < kRounds; ++i) {
      there[static_cast<std::size_t>(i)].wait();
      back[static_cast<std::size_t>(i)].set();
    }
  });
}

// gevent parity 17: a fiber wakes a thread.
TEST(SharedEvent, SetByAFiberWakesAThread) {
  for (int i = 0; i < 20; ++i) {
    SharedEvent event;
    std::atomic<bool> woken{false};
    std::thread thread([&] {
      event.wait();
      woken = true;
    });
    on_loop([&] { event.set(); });
    thread.join();
    EXPECT_TRUE(woken);
  }
}

// Whoever waits may end the event as soon as the wait returns, though set() may not have returned.
TEST(SharedEvent, TheWaiterMayEndIt) {
  on_loop([] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 200; ++i) {
      auto event = std::make_unique<SharedEvent>();
      threads.emplace_back([&event = *event] { event.set(); });
      event->wait();
      event.reset();
    }
    for (auto& thread : threads) thread.join();
  });
}

TEST(SharedEvent, WakesAllInTheOrderInWhichTheyCame) {
  on_loop([] {
    SharedEvent event;
    std::vector<int> order;
    Scope scope;
    for (int i = 0; i < 5; ++i) {
      scope.spawn([&, i] {
        event.wait();
        order.push_back(i);
      });
    }
    yield();
    std::thread([&] { event.set(); }).join();
    scope.join();
    EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
  });
}

// gevent parity 14: set();clear() with no switch between still wakes all who wait.
TEST(SharedEvent, SetThenClearedCounts) {
  on_loop([] {
    SharedEvent event;
    int woken = 0;
    Scope scope;
    for (int i = 0; i < 100; ++i) {
      scope.spawn([&] {
        event.wait();
        ++woken;
      });
    }
    yield();
    std::thread([&] {
      event.set();
      event.clear();
    }).join();
    scope.join();
    EXPECT_EQ(woken, 100);
    EXPECT_FALSE(event.wait_for(1ms)) << "who comes later waits";
  });
}

TEST(SharedEvent, TimesOut) {
  on_loop([] {
    SharedEvent event;
    const TimePoint start = now();
    EXPECT_FALSE(event.wait_for(5ms));
    EXPECT_GE(now() - start, 5ms);
    EXPECT_FALSE(event.wait_for(0s));
    EXPECT_FALSE(event.wait_for(-1s));
  });
  SharedEvent event;
  EXPECT_FALSE(event.wait_for(5ms)) << "a thread";
  EXPECT_FALSE(event.wait_for(-1s));
}

TEST(SharedEvent, IsCancelled) {
  on_loop([] {
    SharedEvent event;
    EXPECT_FALSE(move_on_after(1ms, [&] { event.wait(); }));
    bool ran = false;
    auto fiber = spawn([&] {
      event.wait();
      ran = true;
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
    event.set();
    EXPECT_FALSE(ran);
  });
}

// Set and cancelled in the same turn: it was set, so the wait is over, and the next one throws.
TEST(SharedEvent, SetWinsOverACancellation) {
  on_loop([] {
    SharedEvent event;
    bool returned = false;
    auto fiber = spawn([&] {
      event.wait();
      returned = true;
      yield();
      ADD_FAILURE() << "not cancelled";
    });
    yield();
    event.set();
    fiber.cancel();
    fiber.join();
    EXPECT_TRUE(returned);
  });
}

TEST(SharedEvent, IsNamedInReports) {
  on_loop([] {
    SharedEvent event;
    auto fiber = spawn([&] { event.wait(); });
    yield();
    EXPECT_THAT(this_loop::dump_fibers(), testing::HasSubstr("a SharedEvent, from another thread"));
    event.set();
    fiber.join();
  });
}

TEST(SharedEvent, ACallbackCanNotWait) {
  const auto ended = in_child([] {
    return run([] {
      SharedEvent event;
      Remote().post([&] { event.wait(); });
      for (;;) yield();
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("only a fiber can wait")) << describe(ended);
}

TEST(SharedEvent, EndingWhileSomebodyWaitsAborts) {
  const auto ended = in_child([] {
    return run([] {
      std::optional<SharedEvent> event(std::in_place);
      auto fiber = spawn([&] { event->wait(); });
      yield();
      event.reset();
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("a SharedEvent ends while somebody waits")) << describe(ended);
}

}  // namespace
}  // namespace bight
