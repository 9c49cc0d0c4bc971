// SPDX-License-Identifier: Apache-2.0
#include <bight/cross_thread_mutex.hpp>

#include <chrono>
#include <csignal>
#include <mutex>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
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

constexpr int kRounds = test::this_many(5'000, 300);

TEST(CrossThreadMutex, TheLongestLimitIsNoneThatHasPassed) {
  on_loop([] {
    CrossThreadMutex mutex;
    mutex.lock();
    auto waiter = spawn([&] {
      const bool ours = mutex.try_lock_for(std::chrono::hours::max());
      if (ours) mutex.unlock();
      return ours;
    });
    yield();
    mutex.unlock();
    EXPECT_TRUE(waiter.get());
  });
}

TEST(CrossThreadMutex, IsTimedLockable) {
  on_loop([] {
    CrossThreadMutex mutex;
    {
      const std::lock_guard guard(mutex);
      std::thread([&] {
        EXPECT_FALSE(mutex.try_lock());
        EXPECT_FALSE(mutex.try_lock_for(1ms));
        EXPECT_FALSE(mutex.try_lock_until(std::chrono::system_clock::now() + 1ms));
        EXPECT_FALSE(mutex.try_lock_until(std::chrono::steady_clock::now() + 1ms));
      }).join();
    }
    std::unique_lock lock(mutex, 1s);
    EXPECT_TRUE(lock.owns_lock());
    CrossThreadMutex other;
    lock.unlock();
    const std::scoped_lock both(mutex, other);
  });
}

// gevent parity 20: test_dueling_threads, with a mutex that is held over waits.
TEST(CrossThreadMutex, DuelingThreadsAndLoopsAllProgress) {
  CrossThreadMutex mutex;
  int inside = 0;
  int total = 0;
  auto duel = [&] {
    for (int i = 0; i < kRounds; ++i) {
      const std::lock_guard guard(mutex);
      EXPECT_EQ(++inside, 1);
      ++total;
      if (i % 16 == 0) this_fiber::exists() ? yield() : std::this_thread::yield();
      --inside;
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
    duel();
    three.join();
  }
  EXPECT_EQ(total, 5 * kRounds);
}

// gevent parity 19: the oldest waiter gets the lock though others queue up again and again.
TEST(CrossThreadMutex, HandsOverInOrder) {
  on_loop([] {
    CrossThreadMutex mutex;
    std::vector<int> order;
    mutex.lock();
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&, i] {
        for (int round = 0; round < 2; ++round) {
          const std::lock_guard guard(mutex);
          order.push_back(i);
        }
      });
    }
    yield();
    mutex.unlock();
    EXPECT_FALSE(mutex.try_lock()) << "it is the first waiter's";
    scope.join();
    EXPECT_THAT(order, ElementsAre(0, 1, 2, 0, 1, 2));
  });
}

TEST(CrossThreadMutex, CancelledWhileWaiting) {
  on_loop([] {
    CrossThreadMutex mutex;
    mutex.lock();
    auto fiber = spawn([&] { const std::lock_guard guard(mutex); });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
    mutex.unlock();
    EXPECT_TRUE(mutex.try_lock());
    mutex.unlock();
  });
}

TEST(CrossThreadMutex, HandedOverAndCancelledAtOnceIsStillUnlocked) {
  on_loop([] {
    CrossThreadMutex mutex;
    mutex.lock();
    auto fiber = spawn([&] {
      const std::lock_guard guard(mutex);
      yield();
    });
    yield();
    mutex.unlock();
    fiber.cancel();
    fiber.join();
    EXPECT_TRUE(mutex.try_lock());
    mutex.unlock();
  });
}

TEST(CrossThreadMutex, MisuseAborts) {
  const auto twice = in_child([] {
    CrossThreadMutex mutex;
    mutex.lock();
    mutex.lock();
    return 0;
  });
  EXPECT_TRUE(twice.by(SIGABRT)) << describe(twice);
  EXPECT_TRUE(twice.says("it is not recursive")) << describe(twice);
  const auto not_mine = in_child([] {
    CrossThreadMutex mutex;
    return run([&] {
      mutex.lock();
      spawn([&] { mutex.unlock(); }).join();
    });
  });
  EXPECT_TRUE(not_mine.by(SIGABRT)) << describe(not_mine);
  EXPECT_TRUE(not_mine.says("unlocked by who does not have it")) << describe(not_mine);
}

}  // namespace
}  // namespace bight
