// SPDX-License-Identifier: Apache-2.0
#include <bight/shared_mutex.hpp>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
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

TEST(SharedMutex, ManyReadersOrOneWriter) {
  on_loop([] {
    SharedMutex mutex;
    int readers = 0;
    int writers = 0;
    int most_readers = 0;
    {
      Scope scope;
      for (int i = 0; i < 30; ++i) {
        scope.spawn([&, i] {
          for (int k = 0; k < 20; ++k) {
            if ((i + k) % 5 == 0) {
              const std::unique_lock lock(mutex);
              EXPECT_EQ(++writers, 1);
              EXPECT_EQ(readers, 0);
              yield();
              --writers;
            } else {
              const std::shared_lock lock(mutex);
              most_readers = std::max(most_readers, ++readers);
              EXPECT_EQ(writers, 0);
              yield();
              --readers;
            }
          }
        });
      }
    }
    EXPECT_GT(most_readers, 3);
    EXPECT_FALSE(mutex.locked());
    EXPECT_EQ(mutex.readers(), 0U);
  });
}

TEST(SharedMutex, AWaitingWriterKeepsNewReadersOut) {
  on_loop([] {
    SharedMutex mutex;
    std::vector<std::string> order;
    Scope scope;
    mutex.lock_shared();
    scope.spawn([&] {
      const std::unique_lock lock(mutex);
      order.emplace_back("writer");
    });
    for (const char* name : {"first", "second"}) {
      scope.spawn([&, name] {
        const std::shared_lock lock(mutex);
        order.emplace_back(name);
        yield();
        EXPECT_EQ(mutex.readers(), 2U) << "those next to each other go together";
        yield();
      });
    }
    yield();
    EXPECT_FALSE(mutex.try_lock_shared());
    EXPECT_FALSE(mutex.try_lock());
    EXPECT_TRUE(order.empty());
    mutex.unlock_shared();
    scope.join();
    EXPECT_THAT(order, ElementsAre("writer", "first", "second"));
  });
}

TEST(SharedMutex, NeitherReadersNorWritersStarve) {
  on_loop([] {
    SharedMutex mutex;
    bool written = false;
    bool read = false;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&] {  // there is always a reader
        while (!written) {
          const std::shared_lock lock(mutex);
          yield();
        }
      });
      scope.spawn([&] {  // and always a writer
        while (!read) {
          const std::unique_lock lock(mutex);
          yield();
        }
      });
    }
    yield();
    scope.spawn([&] {
      const std::unique_lock lock(mutex);
      written = true;
    });
    scope.spawn([&] {
      const std::shared_lock lock(mutex);
      read = true;
    });
  });
}

TEST(SharedMutex, ReadersBehindAWriterThatGivesUpGoOn) {
  on_loop([] {
    SharedMutex mutex;
    mutex.lock_shared();
    auto cancelled = spawn([&] { mutex.lock(); });
    auto timed_out = spawn([&] { EXPECT_FALSE(mutex.try_lock_for(1ms)); });
    auto reader = spawn([&] { const std::shared_lock lock(mutex); });
    yield();
    cancelled.cancel();
    cancelled.join();
    EXPECT_FALSE(reader.done()) << "there is another writer before it";
    timed_out.join();
    reader.join();
    EXPECT_EQ(mutex.readers(), 1U) << "while this one still reads";
    mutex.unlock_shared();
  });
}

TEST(SharedMutex, TimedForms) {
  on_loop([] {
    SharedMutex mutex;
    mutex.lock();
    spawn([&] {
      EXPECT_FALSE(mutex.try_lock_for(1ms));
      EXPECT_FALSE(mutex.try_lock_until(now()));
      EXPECT_FALSE(mutex.try_lock_shared());
      EXPECT_FALSE(mutex.try_lock_shared_for(1ms));
      EXPECT_FALSE(mutex.try_lock_shared_until(now()));
    }).join();
    auto reader = spawn([&] {
      const std::shared_lock lock(mutex, 1h);
      return lock.owns_lock();
    });
    yield();
    mutex.unlock();
    EXPECT_TRUE(reader.get());
    const std::unique_lock lock(mutex, 1h);
    EXPECT_TRUE(lock.owns_lock());
  });
}

TEST(SharedMutexMisuse, AbortsWithASentence) {
  expect_abort("that it has not locked", [] { SharedMutex().unlock(); });
  expect_abort("by a reader that it does not have", [] { SharedMutex().unlock_shared(); });
  expect_abort("is destroyed while fibers wait", [] {
    std::optional<SharedMutex> mutex(std::in_place);
    mutex->lock();
    auto waiter = spawn([&] { mutex->lock(); });
    yield();
    waiter.cancel();  // it has left the queue, but will look at the mutex once more
    mutex->unlock();
    mutex.reset();
  });
  expect_abort("would wait for itself", [] {
    SharedMutex mutex;
    mutex.lock();
    mutex.lock();
  });
  expect_abort("would wait for itself", [] {
    SharedMutex mutex;
    mutex.lock();
    mutex.lock_shared();
  });
}

}  // namespace
}  // namespace bight
