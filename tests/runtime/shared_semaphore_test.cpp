// SPDX-License-Identifier: Apache-2.0
#include <bight/shared_semaphore.hpp>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
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

constexpr int kRounds = test::this_many(5'000, 300);

TEST(SharedSemaphore, CountsPermits) {
  on_loop([] {
    SharedSemaphore semaphore(2);
    semaphore.acquire();
    EXPECT_TRUE(semaphore.try_acquire());
    EXPECT_FALSE(semaphore.try_acquire());
    EXPECT_FALSE(semaphore.try_acquire_for(1ms));
    EXPECT_EQ(semaphore.available(), 0U);
    semaphore.release(3);
    EXPECT_EQ(semaphore.available(), 3U);
    EXPECT_TRUE(semaphore.try_acquire_until(TimePoint::min()));
  });
}

TEST(SharedSemaphore, FirstComeFirstServed) {
  on_loop([] {
    SharedSemaphore semaphore(0);
    std::vector<int> order;
    Scope scope;
    for (int i = 0; i < 4; ++i) {
      scope.spawn([&, i] {
        semaphore.acquire();
        order.push_back(i);
      });
    }
    yield();
    std::thread([&] { semaphore.release(3); }).join();
    EXPECT_FALSE(semaphore.try_acquire()) << "they belong to those who came before";
    while (order.size() < 3) yield();
    EXPECT_THAT(order, ElementsAre(0, 1, 2));
    semaphore.release();
    scope.join();
    EXPECT_EQ(semaphore.available(), 0U);
  });
}

// gevent parity 20: test_dueling_threads: two threads that fight for one permit both progress; as do two loops.
TEST(SharedSemaphore, DuelingThreadsAndLoopsAllProgress) {
  SharedSemaphore semaphore(1);
  int inside = 0;
  int total = 0;
  auto duel = [&] {
    for (int i = 0; i < kRounds; ++i) {
      semaphore.acquire();
      EXPECT_EQ(++inside, 1);
      ++total;
      --inside;
      semaphore.release();
    }
  };
  {
    const LoopThread one(duel);
    const LoopThread two([&] {
      Scope scope;
      scope.spawn(duel);
      scope.spawn(duel);
      scope.join();
    });
    std::thread three(duel);
    std::thread four(duel);
    three.join();
    four.join();
  }
  EXPECT_EQ(total, 5 * kRounds);
  EXPECT_EQ(semaphore.available(), 1U);
}

// gevent parity 20: test_dueling_threads_timeout: with limits, some of which run out.
TEST(SharedSemaphore, DuelingWithLimitsLosesNoPermit) {
  SharedSemaphore semaphore(1);
  auto duel = [&] {
    for (int i = 0; i < kRounds; ++i) {
      if (!semaphore.try_acquire_for(std::chrono::microseconds(i % 30))) continue;
      semaphore.release();
    }
  };
  {
    const LoopThread one(duel);
    const LoopThread two(duel);
    std::thread three(duel);
    duel();
    three.join();
  }
  EXPECT_EQ(semaphore.available(), 1U);
}

// A permit that comes while its taker is being cancelled is taken, or stays: never neither, never both.
TEST(SharedSemaphore, CancellationsLoseNoPermit) {
  on_loop([] {
    SharedSemaphore semaphore(0);
    int taken = 0;
    std::thread thread([&] {
      for (int i = 0; i < kRounds; ++i) {
        semaphore.release();
        for (int spin = 0; spin < i % 500; ++spin) std::atomic_signal_fence(std::memory_order_seq_cst);
      }
    });
    for (int i = 0; i < kRounds; ++i) {
      auto fiber = spawn([&] {
        semaphore.acquire();
        ++taken;
      });
      yield();
      if (i % 3 == 0) yield();
      fiber.cancel();
      fiber.join();
    }
    thread.join();
    EXPECT_EQ(static_cast<std::size_t>(taken) + semaphore.available(), static_cast<std::size_t>(kRounds));
  });
}

// Given and cancelled in one turn: the permit is the fiber's.
TEST(SharedSemaphore, APermitThatWasGivenIsKept) {
  on_loop([] {
    SharedSemaphore semaphore(0);
    bool mine = false;
    auto fiber = spawn([&] {
      semaphore.acquire();
      mine = true;
    });
    yield();
    semaphore.release();
    fiber.cancel();
    fiber.join();
    EXPECT_TRUE(mine);
    EXPECT_EQ(semaphore.available(), 0U);
  });
}

TEST(SharedSemaphore, WhoIsCancelledLeavesTheQueue) {
  on_loop([] {
    SharedSemaphore semaphore(0);
    bool second = false;
    auto first = spawn([&] { semaphore.acquire(); });
    auto other = spawn([&] {
      semaphore.acquire();
      second = true;
    });
    yield();
    first.cancel();
    first.join();
    semaphore.release();
    other.join();
    EXPECT_TRUE(second);
  });
}

}  // namespace
}  // namespace bight
