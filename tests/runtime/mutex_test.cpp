// SPDX-License-Identifier: Apache-2.0
#include <bight/mutex.hpp>

#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/scope.hpp>
#include <bight/shared_mutex.hpp>
#include <bight/time.hpp>

#include "misuse.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::expect_abort;
using test::on_loop;
using testing::ElementsAre;

// seed row: 50 fibers x 1000 increments with a wait inside the critical section
TEST(Mutex, KeepsOthersOutAcrossWaits) {
  on_loop([] {
    Mutex mutex;
    int inside = 0;
    int count = 0;
    {
      Scope scope;
      for (int i = 0; i < 50; ++i) {
        scope.spawn([&] {
          for (int k = 0; k < 100; ++k) {
            const std::scoped_lock lock(mutex);
            EXPECT_EQ(++inside, 1);
            const int before = count;
            yield();
            count = before + 1;
            --inside;
          }
        });
      }
    }
    EXPECT_EQ(count, 50 * 100);
    EXPECT_FALSE(mutex.locked());
  });
}

// parity 42: LockTests.test_acquire_contended
TEST(Mutex, IsHandedOverInTheOrderOfComing) {
  on_loop([] {
    Mutex mutex;
    std::vector<int> order;
    Scope scope;
    mutex.lock();
    for (int i = 0; i < 5; ++i) {
      scope.spawn([&, i] {
        const std::lock_guard lock(mutex);
        order.push_back(i);
        yield();
      });
    }
    yield();
    EXPECT_TRUE(order.empty());
    mutex.unlock();
    EXPECT_TRUE(mutex.locked()) << "it belongs to the first waiter already";
    EXPECT_FALSE(mutex.locked_here());
    scope.join();
    EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
  });
}

// parity 19: test_fair_or_hangs
TEST(Mutex, TheOldestWaiterGetsItThoughOthersComeBackEndlessly) {
  on_loop([] {
    Mutex mutex;
    bool got_it = false;
    Scope scope;
    for (int i = 0; i < 2; ++i) {
      scope.spawn([&] {
        while (!got_it) {
          const std::lock_guard lock(mutex);
          yield();
        }
      });
    }
    scope.spawn([&] {
      const std::lock_guard lock(mutex);
      got_it = true;
    });
  });
}

TEST(Mutex, TryLockDoesNotWait) {
  on_loop([] {
    Mutex mutex;
    EXPECT_TRUE(mutex.try_lock());
    EXPECT_TRUE(mutex.locked_here());
    EXPECT_FALSE(mutex.try_lock()) << "not even for the owner";
    spawn([&] { EXPECT_FALSE(mutex.try_lock()); }).join();
    mutex.unlock();
    std::unique_lock lock(mutex, std::try_to_lock);
    EXPECT_TRUE(lock.owns_lock());
  });
}

// parity 42: LockTests.test_state_after_timeout
TEST(Mutex, AWaiterThatTimesOutLeavesItAsItWas) {
  on_loop([] {
    Mutex mutex;
    mutex.lock();
    spawn([&] {
      EXPECT_FALSE(mutex.try_lock_for(1ms));
      EXPECT_FALSE(mutex.try_lock_until(now()));
      EXPECT_FALSE(mutex.try_lock_until(std::chrono::system_clock::now() + 1ms));
      EXPECT_FALSE(mutex.try_lock_for(-1s));
    }).join();
    mutex.unlock();
    EXPECT_TRUE(mutex.try_lock_for(1h));
    mutex.unlock();
  });
}

TEST(Mutex, ATimedWaiterGetsItInTime) {
  on_loop([] {
    Mutex mutex;
    mutex.lock();
    auto waiter = spawn([&] {
      const bool got_it = mutex.try_lock_for(1h);
      if (got_it) mutex.unlock();
      return got_it;
    });
    yield();
    mutex.unlock();
    EXPECT_TRUE(waiter.get());
    EXPECT_FALSE(mutex.locked());
  });
}

TEST(Mutex, ACancelledWaiterLeavesTheQueue) {
  on_loop([] {
    Mutex mutex;
    mutex.lock();
    auto first = spawn([&] { mutex.lock(); });
    auto second = spawn([&] { const std::lock_guard lock(mutex); });
    yield();
    first.cancel();
    mutex.unlock();
    first.join();
    second.join();
    EXPECT_EQ(first.status(), FiberStatus::cancelled);
    EXPECT_EQ(second.status(), FiberStatus::done);
    EXPECT_FALSE(mutex.locked());
  });
}

TEST(Mutex, AFiberCancelledAfterTheHandOverOwnsIt) {
  on_loop([] {
    Mutex mutex;
    mutex.lock();
    bool owned = false;
    auto waiter = spawn([&] {
      const std::lock_guard lock(mutex);
      owned = mutex.locked_here();
      yield();
      ADD_FAILURE() << "it was cancelled";
    });
    yield();
    mutex.unlock();
    waiter.cancel();
    waiter.join();
    EXPECT_TRUE(owned);
    EXPECT_EQ(waiter.status(), FiberStatus::cancelled);
    EXPECT_FALSE(mutex.locked()) << "and has given it back";
  });
}

TEST(Mutex, AFreeOneIsLockedByACancelledFiberToo) {
  on_loop([] {
    Mutex mutex;
    spawn([&] {
      const bool finished = move_on_after(0s, [&] {
        EXPECT_TRUE(this_fiber::cancel_requested());
        const std::lock_guard lock(mutex);
      });
      EXPECT_TRUE(finished);
    }).join();
  });
}

TEST(Mutex, ATryLockMayOvertakeAWaiterOnce) {
  on_loop([] {
    Mutex mutex;
    std::vector<std::string> order;
    mutex.lock();
    auto waiter = spawn([&] {
      const std::lock_guard lock(mutex);
      order.emplace_back("waiter");
    });
    auto behind = spawn([&] {
      const std::lock_guard lock(mutex);
      order.emplace_back("behind");
    });
    yield();
    mutex.unlock();
    ASSERT_TRUE(mutex.try_lock()) << "what is handed over and not yet used";
    order.emplace_back("thief");
    yield();
    mutex.unlock();
    EXPECT_FALSE(mutex.try_lock()) << "but not from the same waiter again";
    waiter.join();
    behind.join();
    EXPECT_THAT(order, ElementsAre("thief", "waiter", "behind"));
  });
}

TEST(Mutex, AnOvertakenWaiterCanStillTimeOutAndBeCancelled) {
  on_loop([] {
    Mutex mutex;
    mutex.lock();
    auto timed_out = spawn([&] { EXPECT_FALSE(mutex.try_lock_for(1ms)); });
    yield();
    mutex.unlock();
    ASSERT_TRUE(mutex.try_lock());
    timed_out.join();
    auto cancelled = spawn([&] { mutex.lock(); });
    yield();
    mutex.unlock();
    ASSERT_TRUE(mutex.try_lock());
    cancelled.cancel();
    cancelled.join();
    EXPECT_EQ(cancelled.status(), FiberStatus::cancelled);
    mutex.unlock();
    EXPECT_FALSE(mutex.locked());
  });
}

// With hand-over alone these take turns for ever, each holding what the next one tries.
template <class Lockable>
void lock_two_in_any_order() {
  on_loop([] {
    Lockable left;
    Lockable right;
    int rounds = 0;
    Scope scope;
    for (int i = 0; i < 4; ++i) {
      scope.spawn([&, i] {
        for (int k = 0; k < 50; ++k) {
          std::optional<std::scoped_lock<Lockable, Lockable>> lock;
          if (i % 2 == 0) {
            lock.emplace(left, right);
          } else {
            lock.emplace(right, left);
          }
          ++rounds;
          yield();
        }
      });
    }
    scope.join();
    EXPECT_EQ(rounds, 200);
  });
}

TEST(Mutex, SeveralAreLockedWithoutDeadlock) {
  lock_two_in_any_order<Mutex>();
  lock_two_in_any_order<RecursiveMutex>();
  lock_two_in_any_order<SharedMutex>();
}

TEST(Mutex, ADeadlockReportNamesTheOwner) {
  try {
    run([] {
      Mutex mutex;
      mutex.lock();
      spawn({.name = "poor"}, [&] { mutex.lock(); }).join();
    });
    FAIL() << "no deadlock";
  } catch (const Deadlock& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("'poor' parked, waits for a Mutex that fiber #1 'main' owns"));
  }
}

TEST(Mutex, ADeadlockReportDoesNotTouchAnOwnerThatHasEnded) {
  try {
    run([] {
      static Mutex& mutex = *new Mutex;  // can not be destroyed: nobody will ever unlock it
      spawn({.name = std::string(100, 'x')}, [&] { mutex.lock(); }).join();
      mutex.lock();
    });
    FAIL() << "no deadlock";
  } catch (const Deadlock& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("a Mutex that a fiber owns which has ended"));
  }
}

// parity 42: RLockTests.test_release_unacquired, test_different_thread
TEST(RecursiveMutex, IsLockedAgainByItsOwnerAlone) {
  on_loop([] {
    RecursiveMutex mutex;
    const std::lock_guard outer(mutex);
    {
      const std::lock_guard inner(mutex);
      EXPECT_TRUE(mutex.try_lock());
      mutex.unlock();
      EXPECT_TRUE(mutex.try_lock_for(1h));
      mutex.unlock();
    }
    EXPECT_TRUE(mutex.locked_here());
    spawn([&] {
      EXPECT_FALSE(mutex.try_lock());
      EXPECT_FALSE(mutex.try_lock_for(1ms));
    }).join();
  });
}

TEST(RecursiveMutex, GoesToTheNextWhenUnlockedAsOften) {
  on_loop([] {
    RecursiveMutex mutex;
    mutex.lock();
    mutex.lock();
    auto next = spawn([&] { const std::lock_guard lock(mutex); });
    yield();
    mutex.unlock();
    yield();
    EXPECT_FALSE(next.done());
    mutex.unlock();
    next.join();
    EXPECT_FALSE(mutex.locked());
  });
}

TEST(MutexMisuse, AbortsWithASentence) {
  expect_abort("would wait for itself", [] {
    Mutex mutex;
    mutex.lock();
    mutex.lock();
  });
  expect_abort("unlocks a Mutex that it does not own", [] {
    Mutex mutex;
    mutex.lock();
    spawn([&] { mutex.unlock(); }).join();
  });
  expect_abort("unlocks a Mutex that it does not own", [] {
    RecursiveMutex mutex;
    mutex.lock();
    spawn([&] { mutex.unlock(); }).join();
  });
  expect_abort("is destroyed while fibers wait", [] {
    std::optional<Mutex> mutex(std::in_place);
    mutex->lock();
    auto heir = spawn([&] { mutex->lock(); });
    yield();
    mutex->unlock();  // to the heir, who has not run
    mutex.reset();
  });
  expect_abort("unlocks a Mutex that it does not own", [] {
    Mutex mutex;
    auto fiber = spawn([] {});
    fiber.on_done([&] { mutex.unlock(); });
    fiber.join();
    yield();
    sleep_for(1ms);
  });
  expect_abort("is destroyed while fibers wait", [] {
    std::optional<Mutex> mutex(std::in_place);
    mutex->lock();
    auto waiter = spawn([&] { mutex->lock(); });
    yield();
    mutex.reset();
  });
}

}  // namespace
}  // namespace bight
