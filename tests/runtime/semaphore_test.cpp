// SPDX-License-Identifier: Apache-2.0
#include <bight/semaphore.hpp>

#include <algorithm>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "misuse.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::expect_abort;
using test::on_loop;
using testing::ElementsAre;

// seed row: BoundedSemaphore(5), 22 threads; parity 42: BaseSemaphoreTests.test_acquire_contended
TEST(Semaphore, LetsThroughSoManyAtATime) {
  on_loop([] {
    BoundedSemaphore semaphore(5);
    int inside = 0;
    int most = 0;
    {
      Scope scope;
      for (int i = 0; i < 22; ++i) {
        scope.spawn([&] {
          semaphore.acquire();
          most = std::max(most, ++inside);
          sleep_for(1ms);
          --inside;
          semaphore.release();
        });
      }
    }
    EXPECT_EQ(most, 5);
    EXPECT_EQ(semaphore.available(), 5);
  });
}

// parity 42: test_multirelease
TEST(Semaphore, ReleasingSeveralWakesSoManyInOrder) {
  on_loop([] {
    Semaphore semaphore(0);
    std::vector<int> order;
    Scope scope;
    for (int i = 0; i < 9; ++i) {
      scope.spawn([&, i] {
        semaphore.acquire();
        order.push_back(i);
      });
    }
    yield();
    EXPECT_EQ(semaphore.waiting(), 9U);
    semaphore.release(7);
    yield();
    EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4, 5, 6));
    semaphore.release(4);
    scope.join();
    EXPECT_EQ(semaphore.available(), 2);
  });
}

TEST(Semaphore, NobodyOvertakesWhoWaits) {
  on_loop([] {
    Semaphore semaphore(0);
    auto waiter = spawn([&] { semaphore.acquire(); });
    yield();
    semaphore.release();
    EXPECT_FALSE(semaphore.try_acquire()) << "the permit is the waiter's already";
    waiter.join();
  });
}

// parity 21, for permits: the one of a waiter that gives up goes to the next
TEST(Semaphore, APermitIsNotLostWithAWaiterThatGivesUp) {
  on_loop([] {
    Semaphore semaphore(0);
    auto cancelled = spawn([&] { semaphore.acquire(); });
    auto timed_out = spawn([&] { return semaphore.try_acquire_for(1ms); });
    auto next = spawn([&] { semaphore.acquire(); });
    yield();
    cancelled.cancel();
    EXPECT_FALSE(timed_out.get());
    semaphore.release();
    next.join();
    EXPECT_EQ(semaphore.available(), 0);
    EXPECT_EQ(cancelled.status(), FiberStatus::cancelled);
  });
}

TEST(Semaphore, APermitGrantedBeforeTheCancellationIsTaken) {
  on_loop([] {
    Semaphore semaphore(0);
    bool took_it = false;
    auto waiter = spawn([&] {
      semaphore.acquire();
      took_it = true;
      yield();
    });
    yield();
    semaphore.release();
    waiter.cancel();
    waiter.join();
    EXPECT_TRUE(took_it);
    EXPECT_EQ(waiter.status(), FiberStatus::cancelled);
  });
}

TEST(Semaphore, TimedForms) {
  on_loop([] {
    Semaphore semaphore(1);
    EXPECT_TRUE(semaphore.try_acquire_for(0s));
    EXPECT_FALSE(semaphore.try_acquire_for(0s));
    EXPECT_FALSE(semaphore.try_acquire_until(now() + 1ms));
    auto later = spawn([&] { semaphore.release(); });
    EXPECT_TRUE(semaphore.try_acquire_until(now() + 1h));
    later.join();
  });
}

// parity 42: BoundedSemaphoreTests.test_release_unacquired
TEST(BoundedSemaphore, ReleasingTooManyIsAnError) {
  on_loop([] {
    BoundedSemaphore semaphore(2);
    EXPECT_THROW(semaphore.release(), std::logic_error);
    semaphore.acquire();
    EXPECT_THROW(semaphore.release(2), std::logic_error);
    EXPECT_EQ(semaphore.available(), 1) << "nothing was released";
    semaphore.release();
    try {
      semaphore.release();
      ADD_FAILURE();
    } catch (const std::logic_error& error) {
      EXPECT_STREQ(error.what(), "release 1 permits of a BoundedSemaphore: 0 of its 2 are taken");
    }
  });
}

TEST(SemaphoreMisuse, AbortsWithASentence) {
  expect_abort("less than no permits", [] { const Semaphore semaphore(-1); });
  expect_abort("less than no permits", [] { Semaphore(0).release(-1); });
  expect_abort("is destroyed while fibers wait", [] {
    std::optional<Semaphore> semaphore(0);
    auto waiter = spawn([&] { semaphore->acquire(); });
    yield();
    semaphore.reset();
  });
}

}  // namespace
}  // namespace bight
