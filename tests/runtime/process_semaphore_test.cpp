// SPDX-License-Identifier: Apache-2.0
#include <bight/process_semaphore.hpp>

#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include <bight/connection.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/shared_memory.hpp>

#include "child.hpp"
#include "misuse.hpp"
#include "on_loop.hpp"
#include "open_fds.hpp"
#include "processes.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;

class ProcessSemaphoreTest : public ProcessTest {};

/// A child that has so many permits when this returns, and keeps them.
Child holder_of(ProcessSemaphore& semaphore, int permits) {
  Connection near;
  Connection far;
  std::tie(near, far) = make_connection_pair();
  Child child([&] {
    for (int i = 0; i < permits; ++i) semaphore.acquire();
    far.send(true);
    for (;;) ::pause();
    return 0;
  });
  EXPECT_EQ(near.receive<bool>(), true);
  return child;
}

TEST_F(ProcessSemaphoreTest, lets_so_many_in) {
  ProcessSemaphore semaphore(3);
  const SharedCounter inside;
  const SharedCounter most;
  const SharedCounter turns;
  std::vector<Child> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(fiber_in_child([&] {
      Scope scope;
      for (int k = 0; k < 3; ++k) {
        scope.spawn([&] {
          for (int turn = 0; turn < 30; ++turn) {
            semaphore.acquire();
            const std::int64_t now_inside = ++inside;
            std::int64_t seen = most.get();
            while (seen < now_inside && !most.compare_exchange(seen, now_inside)) {
            }
            sleep_for(50us);
            --inside;
            semaphore.release();
            ++turns;
          }
        });
      }
      scope.join();
      return 0;
    }));
  }
  for (Child& each : children) expect_well(each);
  EXPECT_EQ(turns.get(), 4 * 3 * 30);
  EXPECT_EQ(most.get(), 3);
  EXPECT_EQ(semaphore.available(), 3U);
  EXPECT_EQ(semaphore.lost_permits(), 0U);
}

TEST_F(ProcessSemaphoreTest, what_the_dead_held_comes_back) {
  ProcessSemaphore semaphore(3);
  Child holder = holder_of(semaphore, 2);
  on_loop([&] {
    EXPECT_EQ(semaphore.available(), 1U);
    semaphore.acquire();
    EXPECT_FALSE(semaphore.try_acquire());
    EXPECT_FALSE(semaphore.try_acquire_for(2ms));
    auto waiting = spawn([&] { semaphore.acquire(); });
    auto second = spawn([&] { semaphore.acquire(); });
    sleep_for(2ms);
    const TimePoint start = now();
    kill_and_wait(holder);
    waiting.join();
    second.join();
    EXPECT_LT(now() - start, 1s + process_semaphore_recheck * 10);
    EXPECT_EQ(semaphore.lost_permits(), 2U);
    EXPECT_EQ(semaphore.available(), 0U);
    for (int i = 0; i < 3; ++i) semaphore.release();
    EXPECT_EQ(semaphore.available(), 3U);
  });
}

TEST_F(ProcessSemaphoreTest, limits_and_cancellation_take_nothing) {
  const std::size_t before = open_fds();
  on_loop([] {
    ProcessSemaphore semaphore(1);
    semaphore.acquire();
    auto waiting = spawn([&] { semaphore.acquire(); });
    auto behind = spawn([&] {
      semaphore.acquire();
      semaphore.release();
    });
    yield();
    yield();
    waiting.cancel();
    waiting.join();
    EXPECT_THROW(with_timeout(1ms, [&] { semaphore.acquire(); }), TimedOut);
    // A fiber that has been cancelled gives back all the same.
    auto last = spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        semaphore.release();
        throw;
      }
    });
    yield();
    last.cancel();
    behind.join();
    last.join();
    EXPECT_EQ(semaphore.available(), 1U);
  });
  EXPECT_EQ(open_fds(), before);
}

TEST_F(ProcessSemaphoreTest, a_child_has_what_it_acquired) {
  ProcessSemaphore semaphore(2);
  semaphore.acquire();
  expect_abort("released by a process that holds no permit", [&] { semaphore.release(); });
  EXPECT_EQ(semaphore.available(), 1U);
  semaphore.release();
  expect_abort("would never let anybody in", [] { ProcessSemaphore(0); });
}

TEST_F(ProcessSemaphoreTest, has_room_for_so_many_processes) {
  ProcessSemaphore semaphore(10, 2);
  Child first = holder_of(semaphore, 1);
  Child second = holder_of(semaphore, 1);
  EXPECT_THROW(semaphore.acquire(), std::system_error);
  kill_and_wait(first);
  semaphore.acquire();
  semaphore.release();
  kill_and_wait(second);
}

TEST_F(ProcessSemaphoreTest, survives_kills_at_any_moment) {
  constexpr std::int64_t kPermits = 2;
  ProcessSemaphore semaphore(kPermits);
  const SharedCounter turns;
  auto work = [&] {
    for (;;) {
      semaphore.acquire();
      ++turns;
      semaphore.release();
    }
    return 0;
  };
  std::mt19937 random(4711);
  std::vector<Child> children;
  for (int i = 0; i < 4; ++i) children.emplace_back(work);
  on_loop([&] {
    for (int i = 0; i < kills(200); ++i) {
      sleep_for(std::chrono::microseconds(random() % 600));
      Child& victim = children[random() % children.size()];
      kill_and_wait(victim);
      victim = random() % 4 == 0 ? fiber_in_child(work) : Child(work);
      if (i % 10 == 0) {
        EXPECT_TRUE(semaphore.try_acquire_for(30s));
        semaphore.release();
      }
    }
    for (Child& each : children) kill_and_wait(each);
    for (int i = 0; i < kPermits; ++i) EXPECT_TRUE(semaphore.try_acquire_for(30s));
    EXPECT_EQ(semaphore.available(), 0U);
    for (int i = 0; i < kPermits; ++i) semaphore.release();
  });
  EXPECT_GT(turns.get(), 0);
}

}  // namespace
}  // namespace bight::test
