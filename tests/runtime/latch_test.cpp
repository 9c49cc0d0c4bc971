// SPDX-License-Identifier: Apache-2.0
#include <bight/latch.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
#include <bight/time.hpp>
#include <bight/wait_any.hpp>
#include <bight/wait_group.hpp>

#include "child.hpp"
#include "misuse.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::expect_abort;
using test::on_loop;
using testing::ElementsAre;

TEST(Latch, OpensAfterSoManyCounts) {
  on_loop([] {
    Latch latch(3);
    std::vector<int> log;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&, i] {
        latch.wait();
        log.push_back(i);
      });
    }
    yield();
    latch.count_down();
    latch.count_down(0);
    EXPECT_FALSE(latch.try_wait());
    yield();
    EXPECT_TRUE(log.empty());
    latch.count_down(2);
    EXPECT_TRUE(latch.try_wait());
    EXPECT_TRUE(log.empty()) << "counting down does not wait";
    latch.wait();
    EXPECT_THAT(log, ElementsAre(0, 1, 2)) << "who comes late goes behind those it has woken";
    scope.join();
    latch.count_down(0);
    latch.wait();
  });
}

TEST(Latch, OfNothingIsOpen) {
  on_loop([] {
    Latch latch(0);
    EXPECT_TRUE(latch.try_wait());
    EXPECT_TRUE(latch.is_set());
    latch.wait();
    EXPECT_TRUE(latch.wait_for(0ms));
    EXPECT_TRUE(latch.wait_until(now() - 1h));
    latch.arrive_and_wait(0);
  });
}

TEST(Latch, WaitsWithLimits) {
  on_loop([] {
    Latch latch(1);
    const TimePoint start = now();
    EXPECT_FALSE(latch.wait_for(2ms));
    EXPECT_GE(now() - start, 2ms);
    EXPECT_FALSE(latch.wait_for(0ms));
    EXPECT_FALSE(latch.wait_until(now() - 1h));
    EXPECT_FALSE(latch.wait_until(std::chrono::system_clock::now() - 1h));
    auto counter = spawn([&] {
      sleep_for(1ms);
      latch.count_down();
    });
    EXPECT_TRUE(latch.wait_for(1h));
    EXPECT_TRUE(latch.wait_until(now() + 1h));
    counter.join();
  });
}

TEST(Latch, ArriveAndWait) {
  on_loop([] {
    Latch latch(4);
    int passed = 0;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&, i] {
        latch.arrive_and_wait(i == 2 ? 2 : 1);
        ++passed;
      });
    }
    scope.join();
    EXPECT_EQ(passed, 3);
  });
}

TEST(Latch, WhoIsCancelledLeavesTheOthersAndTheCount) {
  on_loop([] {
    Latch latch(2);
    auto gone = spawn([&] { latch.arrive_and_wait(); });
    auto stays = spawn([&] { latch.wait(); });
    yield();
    gone.cancel();
    gone.join();
    EXPECT_EQ(gone.status(), FiberStatus::cancelled);
    EXPECT_FALSE(stays.done());
    EXPECT_THROW(with_timeout(1ms, [&] { latch.wait(); }), TimedOut);
    latch.count_down();
    stays.get();
    auto late = spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        latch.wait();  // open: no wait
        throw;
      }
    });
    yield();
    late.cancel();
    late.join();
    EXPECT_EQ(late.status(), FiberStatus::cancelled);
  });
}

TEST(Latch, MayBeDestroyedRightAfterTheLastCount) {
  on_loop([] {
    auto latch = std::make_unique<Latch>(1);
    auto waiter = spawn([&] { latch->wait(); });
    auto limited = spawn([&] { return latch->wait_for(1h); });
    yield();
    latch->count_down();
    latch.reset();
    waiter.get();
    EXPECT_TRUE(limited.get());
  });
}

TEST(Latch, InSelectAndWaitAny) {
  on_loop([] {
    Latch latch(1);
    EXPECT_EQ(select(latch.on_open([] {}), after(1ms, [] {})), 1U);
    EXPECT_TRUE(latch.waiters().empty());
    auto counter = spawn([&] { latch.count_down(); });
    Latch never(1);
    EXPECT_EQ(wait_any(never, latch), 1U);
    EXPECT_TRUE(never.waiters().empty());
    EXPECT_EQ(select(never.on_open([] {}), latch.on_open([] {})), 1U);
    counter.join();
  });
}

TEST(Latch, CountedDownInCallbacks) {
  on_loop([] {
    Latch latch(5);
    Scope scope;
    for (int i = 0; i < 5; ++i) scope.spawn([] {}).on_done([&] { latch.count_down(); });
    latch.wait();
  });
}

TEST(Latch, MisuseAborts) {
  expect_abort("a Latch can not expect less than nothing", [] { Latch latch(-1); });
  expect_abort("a Latch is counted down below zero", [] {
    Latch latch(1);
    latch.count_down(2);
  });
  expect_abort("a Latch is counted down below zero", [] {
    Latch latch(0);
    latch.count_down();
  });
  expect_abort("a Latch is counted down below zero", [] {
    Latch latch(3);
    latch.count_down(-1);
  });
  expect_abort("destroyed while fibers wait for it", [] {
    auto latch = std::make_unique<Latch>(1);
    auto waiter = spawn([&] { latch->wait(); });
    yield();
    latch.reset();
  });
}

TEST(WaitGroup, WaitsUntilNothingIsUnderWay) {
  on_loop([] {
    WaitGroup group;
    int done = 0;
    Scope scope;
    for (int i = 0; i < 5; ++i) {
      group.add();
      scope.spawn([&, i] {
        for (int k = 0; k < i; ++k) yield();
        ++done;
        group.done();
      });
    }
    EXPECT_EQ(group.count(), 5);
    group.wait();
    EXPECT_EQ(done, 5);
    EXPECT_EQ(group.count(), 0);
  });
}

TEST(WaitGroup, IsUpAtFirstAndAgain) {
  on_loop([] {
    WaitGroup group;
    EXPECT_TRUE(group.is_set());
    group.wait();
    for (int i = 0; i < 3; ++i) {
      group.add(2);
      EXPECT_FALSE(group.is_set());
      auto waiter = spawn([&] { group.wait(); });
      yield();
      group.done();
      yield();
      EXPECT_FALSE(waiter.done());
      group.add(0);
      group.add(3);
      group.add(-4);
      EXPECT_TRUE(group.is_set());
      waiter.get();
    }
    group.add(0);
    EXPECT_TRUE(group.wait_for(0ms));
  });
}

TEST(WaitGroup, WhoWaitsIsWokenThoughMoreIsAddedAtOnce) {
  on_loop([] {
    WaitGroup group;
    group.add();
    std::vector<int> log;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&, i] {
        group.wait();
        log.push_back(i);
      });
    }
    yield();
    group.done();
    group.add();
    scope.join();
    EXPECT_THAT(log, ElementsAre(0, 1, 2));
    EXPECT_FALSE(group.wait_for(1ms));
    group.done();
  });
}

TEST(WaitGroup, WaitsWithLimitsAndCancellation) {
  on_loop([] {
    WaitGroup group;
    group.add();
    const TimePoint start = now();
    EXPECT_FALSE(group.wait_for(2ms));
    EXPECT_GE(now() - start, 2ms);
    EXPECT_FALSE(group.wait_until(now() + 1ms));
    EXPECT_FALSE(group.wait_until(std::chrono::system_clock::now() - 1h));
    EXPECT_THROW(with_timeout(1ms, [&] { group.wait(); }), TimedOut);
    auto gone = spawn([&] { group.wait(); });
    auto stays = spawn([&] { return group.wait_for(1h); });
    yield();
    gone.cancel();
    group.done();
    gone.join();
    EXPECT_EQ(gone.status(), FiberStatus::cancelled);
    EXPECT_TRUE(stays.get());
    EXPECT_EQ(group.count(), 0);
  });
}

TEST(WaitGroup, InSelectAndWaitAny) {
  on_loop([] {
    WaitGroup group;
    EXPECT_EQ(select(group.on_zero([] {}), otherwise([] {})), 0U);
    group.add();
    EXPECT_EQ(select(group.on_zero([] {}), after(1ms, [] {})), 1U);
    EXPECT_TRUE(group.waiters().empty());
    auto doer = spawn([&] { group.done(); });
    WaitGroup never;
    never.add();
    EXPECT_EQ(wait_any(never, group), 1U);
    EXPECT_TRUE(never.waiters().empty());
    never.done();
    doer.join();
  });
}

TEST(WaitGroup, MayBeDestroyedRightAfterTheLastIsDone) {
  on_loop([] {
    auto group = std::make_unique<WaitGroup>();
    group->add();
    auto waiter = spawn([&] { group->wait(); });
    yield();
    group->done();
    group.reset();
    waiter.get();
  });
}

TEST(WaitGroup, MisuseAborts) {
  expect_abort("a WaitGroup is counted below zero", [] {
    WaitGroup group;
    group.done();
  });
  expect_abort("a WaitGroup is counted below zero", [] {
    WaitGroup group;
    group.add(2);
    group.add(-3);
  });
  expect_abort("destroyed while fibers wait for it", [] {
    auto group = std::make_unique<WaitGroup>();
    group->add();
    auto waiter = spawn([&] { group->wait(); });
    yield();
    group.reset();
  });
}

}  // namespace
}  // namespace bight
