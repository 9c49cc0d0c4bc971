// SPDX-License-Identifier: Apache-2.0
#include <bight/condition.hpp>

#include <chrono>
#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/mutex.hpp>
#include <bight/scope.hpp>
#include <bight/shared_mutex.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;
using testing::ElementsAre;

// parity 42: ConditionTests.test_notify, n of m wake
TEST(Condition, NotifiesSoManyInTheOrderOfComing) {
  on_loop([] {
    Mutex mutex;
    Condition condition;
    std::vector<int> order;
    Scope scope;
    for (int i = 0; i < 6; ++i) {
      scope.spawn([&, i] {
        std::unique_lock lock(mutex);
        condition.wait(lock);
        EXPECT_TRUE(mutex.locked_here());
        order.push_back(i);
      });
    }
    yield();
    EXPECT_EQ(condition.waiting(), 6U);
    condition.notify_one();
    yield();
    EXPECT_THAT(order, ElementsAre(0));
    condition.notify(2);
    yield();
    yield();
    EXPECT_THAT(order, ElementsAre(0, 1, 2));
    condition.notify_all();
    scope.join();
    EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4, 5));
    condition.notify_one();  // nobody is there, and nobody will hear of it
  });
}

TEST(Condition, APredicateIsAskedWithTheLockOwned) {
  on_loop([] {
    Mutex mutex;
    Condition condition;
    int value = 0;
    auto waiter = spawn([&] {
      std::unique_lock lock(mutex);
      condition.wait(lock, [&] {
        EXPECT_TRUE(mutex.locked_here());
        return value == 3;
      });
      return value;
    });
    for (int i = 1; i <= 3; ++i) {
      yield();
      const std::lock_guard lock(mutex);
      value = i;
      condition.notify_all();
    }
    EXPECT_EQ(waiter.get(), 3);
  });
}

// parity 42: ConditionTests.test_waitfor_timeout
TEST(Condition, TimesOutOwningTheLock) {
  on_loop([] {
    Mutex mutex;
    Condition condition;
    std::unique_lock lock(mutex);
    EXPECT_EQ(condition.wait_for(lock, 1ms), std::cv_status::timeout);
    EXPECT_TRUE(mutex.locked_here());
    EXPECT_EQ(condition.wait_until(lock, now()), std::cv_status::timeout);
    EXPECT_FALSE(condition.wait_for(lock, 1ms, [] { return false; }));
    EXPECT_TRUE(condition.wait_for(lock, 0s, [] { return true; }));
    bool ready = false;
    auto notifier = spawn([&] {
      const std::lock_guard guard(mutex);
      ready = true;
      condition.notify_one();
    });
    EXPECT_TRUE(condition.wait_until(lock, now() + 1h, [&] { return ready; }));
    notifier.join();
  });
}

TEST(Condition, ACancelledWaiterOwnsTheLockWhenItUnwinds) {
  on_loop([] {
    Mutex mutex;
    Condition condition;
    bool owned = false;
    auto waiter = spawn([&] {
      std::unique_lock lock(mutex);
      try {
        condition.wait(lock);
      } catch (const Cancelled&) {
        owned = mutex.locked_here();
        throw;
      }
    });
    yield();
    mutex.lock();
    waiter.cancel();
    yield();
    EXPECT_FALSE(waiter.done()) << "it has to wait for the lock, cancelled or not";
    mutex.unlock();
    waiter.join();
    EXPECT_TRUE(owned);
    EXPECT_EQ(waiter.status(), FiberStatus::cancelled);
    EXPECT_FALSE(mutex.locked());
  });
}

// a notification goes to somebody who can use it
TEST(Condition, NoNotificationIsLostWithAWaiterThatGivesUp) {
  on_loop([] {
    Mutex mutex;
    Condition condition;
    std::vector<std::string> ends;
    const auto waits = [&](const char* name) {
      std::unique_lock lock(mutex);
      condition.wait(lock);
      ends.emplace_back(name);
    };
    auto first = spawn(waits, "first");
    auto second = spawn(waits, "second");
    yield();
    first.cancel();
    condition.notify_one();
    first.join();
    second.join();
    EXPECT_THAT(ends, ElementsAre("second"));
  });
}

TEST(Condition, OneNotifiedBeforeItsCancellationHasBeenNotified) {
  on_loop([] {
    Mutex mutex;
    Condition condition;
    bool notified = false;
    auto waiter = spawn([&] {
      std::unique_lock lock(mutex);
      condition.wait(lock);
      notified = true;
      yield();
    });
    yield();
    condition.notify_one();
    waiter.cancel();
    waiter.join();
    EXPECT_TRUE(notified);
    EXPECT_EQ(waiter.status(), FiberStatus::cancelled);
  });
}

// gevent's and mongo's trap (driver #471): a limit that hits the re-locking
TEST(Condition, ALimitDoesNotCutTheRelockingShort) {
  on_loop([] {
    Mutex mutex;
    Condition condition;
    auto waiter = spawn([&] {
      std::unique_lock lock(mutex);
      EXPECT_THROW(with_timeout(1ms, [&] { condition.wait(lock); }), TimedOut);
      EXPECT_TRUE(mutex.locked_here());
    });
    yield();
    mutex.lock();
    sleep_for(5ms);
    EXPECT_FALSE(waiter.done());
    mutex.unlock();
    waiter.join();
  });
}

TEST(Condition, WorksWithTheOtherLocks) {
  on_loop([] {
    SharedMutex mutex;
    Condition condition;
    auto reader = spawn([&] {
      std::shared_lock lock(mutex);
      condition.wait(lock);
      EXPECT_EQ(mutex.readers(), 1U);
    });
    yield();
    EXPECT_EQ(mutex.readers(), 0U);
    condition.notify_all();
    reader.join();
  });
}

}  // namespace
}  // namespace bight
