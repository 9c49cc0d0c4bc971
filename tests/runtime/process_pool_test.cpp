// SPDX-License-Identifier: Apache-2.0
// parity 46 to 48: _TestPool.test_async, test_async_timeout, test_terminate, test_map_handle_iterable_exception;
// _TestPoolWorkerErrors, _TestPoolWorkerLifetime, TestNoForkBomb; test_killed_child, ExecutorDeadlockTest (a crash at
// every stage ends in an error); row 54: ten tasks on five workers, callbacks in the parent.
#include <bight/process_pool.hpp>

#include <dirent.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/event.hpp>
#include <bight/fd.hpp>
#include <bight/fd_watch.hpp>
#include <bight/fiber.hpp>
#include <bight/process.hpp>
#include <bight/run.hpp>
#include <bight/scope.hpp>

#include "build.hpp"
#include "child.hpp"
#include "on_loop.hpp"
#include "ranges.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;

// What workers share with the test: made before any pool.
struct Board {
  std::atomic<int> started;
  std::atomic<int> running;
  std::atomic<int> running_max;
  std::atomic<int> initialized;
  std::atomic<bool> gate;
};

Board& board() {
  static auto* const shared = [] {
    void* memory = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return ::new (memory) Board();
  }();
  return *shared;
}

/// A loop with pools, which leaves no process and no descriptor behind.
template <class Body>
void on_pool_loop(Body&& body) {
  const auto descriptors = [] {
    int count = 0;
    DIR* const folder = ::opendir("/proc/self/fd");
    while (::readdir(folder) != nullptr) ++count;
    ::closedir(folder);
    return count;
  };
  ::new (&board()) Board();
  on_loop([&] {
    if (test::on_sim()) GTEST_SKIP() << "there are no processes in a simulated world";
    yield();
    const int before = descriptors();
    body();
    EXPECT_EQ(descriptors(), before);
    EXPECT_NE(::waitid(P_ALL, 0, nullptr, WEXITED | WNOHANG | WNOWAIT), 0) << "a child is left";
  });
}

int square(int x) { return x * x; }
int pid_of_worker() { return ::getpid(); }

/// Runs until the gate is opened.
int hold(int value) {
  ++board().started;
  while (!board().gate) sleep_for(200us);
  return value;
}

void await_started(int count) {
  while (board().started < count) sleep_for(200us);
}

TEST(ProcessPool, AppliesFunctionsInOtherProcesses) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    EXPECT_EQ(pool.apply(square, 7), 49);
    EXPECT_EQ(pool.apply([](const std::string& a, int n) { return a + std::to_string(n); }, "text", 3), "text3");
    EXPECT_NE(pool.apply(pid_of_worker), ::getpid());
    pool.apply([] {});
    std::vector<std::string> words{"a", "b"};
    EXPECT_EQ(pool.apply([](std::vector<std::string> all) { return all.size(); }, words), 2U);
    EXPECT_EQ(pool.workers(), 2U);
    EXPECT_EQ(pool.stats().completed, 5U);
  });
}

TEST(ProcessPool, IsNotSupportedInASimulatedWorld) {
  on_loop([] {
    if (!test::on_sim()) GTEST_SKIP() << "this is a real one";
    try {
      const ProcessPool pool({.workers = 1});
      ADD_FAILURE() << "a pool in a simulated world";
    } catch (const std::system_error& refusal) {
      EXPECT_EQ(refusal.code(), std::errc::operation_not_supported) << refusal.what();
    }
  });
}

TEST(ProcessPool, TasksMayWaitAndSpawnFibers) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1});
    const int sum = pool.apply(
        [](int count) {
          int total = 0;
          Scope scope;
          for (int i = 1; i <= count; ++i) {
            scope.spawn([&total, i] {
              sleep_for(100us);
              total += i;
            });
          }
          scope.join();
          return total;
        },
        10);
    EXPECT_EQ(sum, 55);
  });
}

TEST(ProcessPool, CallbacksRunInTheParent) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    const pid_t self = ::getpid();
    int sum = 0;
    int errors = 0;
    std::vector<Future<int>> futures;
    for (int i = 0; i < 10; ++i) {
      futures.push_back(pool.apply_async(on_done([&](int value) {
                                           EXPECT_EQ(::getpid(), self);
                                           EXPECT_TRUE(this_fiber::exists());
                                           sum += value;
                                         }),
                                         square, i));
    }
    auto failing = pool.apply_async(
        on_done([](int) { ADD_FAILURE() << "no result was to come"; },
                [&](const std::exception_ptr& error) {
                  EXPECT_THROW(std::rethrow_exception(error), RemoteError);
                  ++errors;
                }),
        [](int) -> int { throw std::out_of_range("none"); }, 1);
    for (const auto& each : futures) each.wait();
    EXPECT_THROW(failing.get(), RemoteError);
    yield();
    EXPECT_EQ(sum, 285);
    EXPECT_EQ(errors, 1);
  });
}

TEST(ProcessPool, ResultsThatAreLateAndTimeouts) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1});
    auto late = pool.apply_async(hold, 5);
    EXPECT_FALSE(late.wait_for(2ms));
    EXPECT_THROW(with_timeout(2ms, [&] { late.get(); }), TimedOut);
    board().gate = true;
    EXPECT_EQ(late.get(), 5);
  });
}

TEST(ProcessPool, FiveWorkersAtATimeDoTenTasks) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 5});
    std::vector<int> numbers{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    const auto slow = [](int x) {
      const int now_running = ++board().running;
      int most = board().running_max;
      while (most < now_running && !board().running_max.compare_exchange_weak(most, now_running)) {
      }
      sleep_for(20ms);
      --board().running;
      return -x;
    };
    const std::vector<int> results = pool.map(numbers, slow);
    ASSERT_EQ(results.size(), 10U);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(results[static_cast<std::size_t>(i)], -i);
    EXPECT_GT(board().running_max, 1);
    EXPECT_LE(board().running_max, 5);
  });
}

TEST(ProcessPool, ErrorsCrossWithTheirTypeTextAndCode) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1});
    try {
      pool.apply([](int) -> int { throw std::out_of_range("no such thing"); }, 1);
      ADD_FAILURE() << "it threw";
    } catch (const RemoteError& error) {
      EXPECT_EQ(error.type(), "std::out_of_range");
      EXPECT_STREQ(error.what(), "no such thing");
      EXPECT_FALSE(error.code());
    }
    try {
      pool.apply([] { throw std::system_error(ENOENT, std::generic_category(), "open"); });
      ADD_FAILURE() << "it threw";
    } catch (const RemoteError& error) {
      EXPECT_EQ(error.code(), std::errc::no_such_file_or_directory);
    }
    EXPECT_THROW(pool.apply([] { throw 5; }), RemoteError);
    EXPECT_THROW(pool.apply([] { throw Cancelled{}; }), RemoteError);
    EXPECT_EQ(pool.apply(square, 2), 4) << "and the worker goes on";
    EXPECT_EQ(pool.stats().workers_lost, 0U);
  });
}

struct Unsendable {
  int value = 0;
};

}  // namespace
}  // namespace bight

template <>
struct bight::Codec<bight::Unsendable> {
  static void encode(Encoder&, const Unsendable&) { throw std::runtime_error("it can not be sent"); }
  static Unsendable decode(Decoder&) { throw DecodeError("it can not be received", 0); }
};

namespace bight {
namespace {

TEST(ProcessPool, AResultThatCanNotTravelFailsItsTaskAlone) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1, .message_max = 100'000});
    EXPECT_THROW(pool.apply([](int) { return Unsendable{}; }, 1), RemoteError);
    try {
      pool.apply([](int size) { return std::string(static_cast<std::size_t>(size), 'x'); }, 200'000);
      ADD_FAILURE() << "the result is too large";
    } catch (const RemoteError& error) {
      EXPECT_EQ(error.code(), std::errc::message_size) << error.what();
    }
    try {
      pool.apply([](const std::string& text) { return text.size(); }, std::string(200'000, 'x'));
      ADD_FAILURE() << "the argument is too large";
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::message_size) << error.what();
    }
    EXPECT_THROW(pool.apply([](const Unsendable& value) { return value.value; }, Unsendable{}), std::runtime_error);
    EXPECT_EQ(pool.apply(square, 3), 9);
  });
}

TEST(ProcessPool, MessagesMayBeLargerThanALane) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    Scope scope;
    for (int i = 0; i < 6; ++i) {
      scope.spawn([&pool, i] {
        std::string text(1'000'000 + static_cast<std::size_t>(i), static_cast<char>('a' + i));
        text.back() = '!';
        const std::string twice = pool.apply([](const std::string& once) { return once + once; }, text);
        EXPECT_EQ(twice, text + text);
      });
    }
    scope.join();
  });
}

TEST(ProcessPool, MapKeepsTheOrderInChunksOfAnySize) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    for (const std::size_t chunk : {1U, 7U, 1000U}) {
      const std::vector<int> squares = pool.map(test::iota(0, 100), square, chunk);
      ASSERT_EQ(squares.size(), 100U);
      for (int i = 0; i < 100; ++i) EXPECT_EQ(squares[static_cast<std::size_t>(i)], i * i);
    }
    EXPECT_TRUE(pool.map(std::vector<int>{}, square).empty());
    pool.map(test::iota(0, 5), [](int) {});
    const std::vector<std::tuple<int, int>> pairs{{1, 2}, {3, 4}};
    EXPECT_EQ(pool.starmap(pairs, [](int a, int b) { return a * b; }), (std::vector<int>{2, 12}));
  });
}

TEST(ProcessPool, MapThrowsTheFirstErrorInOrder) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    const auto odd = [](int x) {
      if (x % 2 == 1) throw std::runtime_error(std::to_string(x));
      return x;
    };
    for (const std::size_t chunk : {1U, 4U}) {
      try {
        static_cast<void>(pool.map(std::vector<int>{2, 4, 7, 8, 9, 11}, odd, chunk));
        ADD_FAILURE() << "some have failed";
      } catch (const RemoteError& error) {
        EXPECT_STREQ(error.what(), "7");
      }
    }
  });
}

TEST(ProcessPool, AnErrorOfTheRangeIsThrown) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1});
    const auto bad = test::mapped(test::iota(0, 10), [](int x) {
      if (x == 5) throw std::invalid_argument("the range");
      return x;
    });
    EXPECT_THROW(static_cast<void>(pool.map(bad, square)), std::invalid_argument);
    int seen = 0;
    auto outcomes = pool.imap(bad, square, {.look_ahead = 3});
    EXPECT_THROW(
        {
          while (auto outcome = outcomes.next()) {
            EXPECT_EQ(outcome->get(), seen * seen);
            ++seen;
          }
        },
        std::invalid_argument);
    EXPECT_EQ(seen, 5);
    EXPECT_EQ(pool.apply(square, 2), 4);
  });
}

TEST(ProcessPool, ImapLooksAheadSoFarAndNoFarther) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    auto outcomes = pool.imap(test::iota(0), square, {.look_ahead = 4});
    for (int i = 0; i < 20; ++i) {
      auto outcome = outcomes.next();
      ASSERT_TRUE(outcome);
      EXPECT_EQ(outcome->get(), i * i);
      EXPECT_EQ(outcome->index(), static_cast<std::size_t>(i));
      EXPECT_LE(outcomes.begun(), static_cast<std::size_t>(i) + 4);
    }
  });
}

TEST(ProcessPool, AnElementThatIsTooLargeIsAnErrorInItsPlace) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1, .message_max = 1000});
    const std::vector<std::string> texts{"a", std::string(5000, 'x'), "c"};
    std::string said;
    for (auto& outcome : pool.imap(texts, [](const std::string& text) { return text + text; })) {
      try {
        said += outcome.get();
      } catch (const std::system_error& error) {
        said += error.code() == std::errc::message_size ? "!" : "?";
      }
    }
    EXPECT_EQ(said, "aa!cc");
  });
}

TEST(ProcessPool, MapThatIsCutShortLeavesThePoolInOrder) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1, .queue_max = 4, .message_max = 1000});
    const auto size = [](const std::string& text) { return text.size(); };
    EXPECT_THROW(static_cast<void>(pool.map(std::vector{std::string("a"), std::string(2000, 'x')}, size)),
                 std::system_error);
    EXPECT_EQ(pool.apply(square, 2), 4);
    auto held = pool.apply_async(hold, 1);
    await_started(1);
    EXPECT_FALSE(move_on_after(2ms, [&] { static_cast<void>(pool.map(test::iota(0, 100), square)); }));  // no room
    EXPECT_EQ(pool.stats().queued, 0U);
    EXPECT_EQ(pool.stats().sent, 1U);
    board().gate = true;
    EXPECT_EQ(held.get(), 1);
    EXPECT_EQ(pool.apply(square, 3), 9);
    pool.close();
    pool.join();
  });
}

TEST(ProcessPool, ImapThatIsCancelledLosesNothing) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1, .queue_max = 1});
    auto outcomes = pool.imap(test::iota(0, 60), hold, {.look_ahead = 40});
    EXPECT_FALSE(move_on_after(5ms, [&] { static_cast<void>(outcomes.next()); }));
    board().gate = true;
    for (int i = 0; i < 60; ++i) {
      auto outcome = outcomes.next();
      ASSERT_TRUE(outcome);
      EXPECT_EQ(outcome->get(), i);
    }
    EXPECT_FALSE(outcomes.next());
  });
}

TEST(ProcessPool, ImapUnorderedYieldsWhatIsDone) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    const std::vector<int> numbers{-1, 1, 2, 3};
    std::vector<int> got;
    const auto one_waits = [](int x) { return x < 0 ? hold(x) : x; };
    for (auto& outcome : pool.imap_unordered(numbers, one_waits)) {
      got.push_back(outcome.get());
      if (got.size() == 3) board().gate = true;
    }
    std::sort(got.begin(), got.end() - 1);
    EXPECT_EQ(got, (std::vector<int>{1, 2, 3, -1})) << "also those that had been sent to the worker that waits";
    std::multiset<std::string> errors;
    for (auto& outcome :
         pool.imap(numbers, [](int x) -> int { throw std::runtime_error(std::to_string(x)); }, {.chunk = 3})) {
      try {
        static_cast<void>(outcome.get());
      } catch (const RemoteError& error) {
        errors.insert(error.what());
      }
    }
    EXPECT_EQ(errors, (std::multiset<std::string>{"-1", "1", "2", "3"}));
  });
}

TEST(ProcessPool, AKilledWorkerFailsItsTaskAndIsReplaced) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    for (int round = 0; round < 5; ++round) {
      try {
        pool.apply([] { ::raise(SIGKILL); });
        ADD_FAILURE() << "the worker was killed";
      } catch (const WorkerLost& lost) {
        EXPECT_EQ(lost.signal(), SIGKILL);
        EXPECT_NE(std::string(lost.what()).find("was killed by signal 9 (Killed) while it ran the task"),
                  std::string::npos)
            << lost.what();
      }
      EXPECT_EQ(pool.apply(square, round), round * round);
    }
    EXPECT_THROW(pool.apply([] { ::_exit(3); }), WorkerLost);
    EXPECT_THROW(pool.apply([] { ::raise(SIGSEGV); }), WorkerLost);
    EXPECT_EQ(pool.apply(square, 9), 81);
  });
}

TEST(ProcessPool, OneKilledFromOutsideTakesNoOtherTaskWithIt) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    std::vector<Future<int>> held;
    for (int i = 0; i < 2; ++i) held.push_back(pool.apply_async(hold, i));
    await_started(2);
    std::vector<Future<int>> queued;  // half of them sent to the worker that will die
    for (int i = 0; i < 20; ++i) queued.push_back(pool.apply_async(square, i));
    while (pool.worker_pids().empty()) sleep_for(200us);  // they may begin before the pool is told who they are
    const pid_t victim = pool.worker_pids().front();
    ::kill(victim, SIGKILL);
    int lost = 0;
    for (auto& each : held) {
      if (each.wait_for(10s) && each.error() != nullptr) ++lost;
      board().gate = true;
    }
    EXPECT_EQ(lost, 1);
    for (int i = 0; i < 20; ++i) EXPECT_EQ(queued[static_cast<std::size_t>(i)].get(), i * i);
    EXPECT_EQ(pool.stats().workers_lost, 1U);
  });
}

TEST(ProcessPool, WorkersKilledWhileIdleOrStartingAreReplaced) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    for (int round = 0; round < test::this_many(10, 3); ++round) {
      for (const pid_t pid : pool.worker_pids()) ::kill(pid, SIGKILL);
      int answers = 0;
      // It may be the dying worker's; then it is lost, or not even begun.
      for (int i = 0; i < 3; ++i) {
        try {
          EXPECT_EQ(pool.apply(square, i), i * i);
          ++answers;
        } catch (const WorkerLost&) {
        }
      }
      EXPECT_GE(answers, 1);
    }
  });
}

TEST(ProcessPool, AKilledServerIsReplacedWithItsWorkers) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1});
    const int server = pool.apply([] { return static_cast<int>(::getppid()); });
    auto held = pool.apply_async(hold, 1);
    await_started(1);
    ::kill(server, SIGKILL);
    EXPECT_THROW(held.get(), WorkerLost);
    EXPECT_EQ(pool.apply(square, 6), 36);
  });
}

TEST(ProcessPool, AnInitializerRunsOnceInEachWorker) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 3, .initializer = [] { ++board().initialized; }});
    static_cast<void>(pool.map(test::iota(0, 50), square));
    pool.close();
    pool.join();
    EXPECT_EQ(board().initialized, 3);
  });
}

TEST(ProcessPool, WorkersThatCanNotStartAreAnErrorAndNoHang) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1, .initializer = [] { throw std::runtime_error("no database"); }});
    try {
      pool.apply(square, 1);
      ADD_FAILURE() << "nobody could have done that";
    } catch (const WorkerLost& lost) {
      EXPECT_NE(std::string(lost.what()).find("its initializer threw std::runtime_error: no database"),
                std::string::npos)
          << lost.what();
    }
    EXPECT_THROW(pool.apply(square, 1), WorkerLost);
    pool.close();
    pool.join();
  });
}

TEST(ProcessPool, WorkersAreReplacedAfterSoManyTasks) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2, .tasks_per_child_max = 3});
    const std::vector<int> pids = pool.map(test::iota(0, 30), [](int) { return pid_of_worker(); });
    std::map<int, int> tasks;
    for (const int pid : pids) ++tasks[pid];
    EXPECT_GE(tasks.size(), 10U);
    for (const auto& [pid, count] : tasks) EXPECT_LE(count, 3) << pid;
    EXPECT_EQ(pool.stats().workers_lost, 0U);
    pool.close();  // early: must not hang
    pool.join();
  });
}

TEST(ProcessPool, AnEarlyCloseLetsAllBeDone) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2, .tasks_per_child_max = 1});
    std::vector<Future<int>> futures;
    for (int i = 0; i < 6; ++i) futures.push_back(pool.apply_async(square, i));
    EXPECT_THROW(pool.join(), std::system_error) << "it is neither closed nor terminated";
    pool.close();
    EXPECT_THROW(pool.apply(square, 1), PoolClosed);
    pool.join();
    for (int i = 0; i < 6; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i * i);
  });
}

TEST(ProcessPool, AJoinThatIsCancelledCanBeCalledAgain) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    EXPECT_EQ(pool.apply(square, 3), 9);
    pool.close();
    EXPECT_FALSE(move_on_after(1ms, [&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {  // and join() finds itself cancelled before it has done anything
      }
      pool.join();
    }));
    pool.join();
  });
}

TEST(ProcessPool, TerminateDoesNotWaitForTenThousandTasks) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    std::vector<Future<int>> futures;
    for (int i = 0; i < 10'000; ++i) futures.push_back(pool.apply_async(hold, i));
    const TimePoint start = now();
    pool.terminate();
    pool.join();
    EXPECT_LT(now() - start, 20s);
    for (auto& each : futures) EXPECT_THROW(each.get(), PoolClosed);
    EXPECT_THROW(pool.apply(square, 1), PoolClosed);
  });
}

TEST(ProcessPool, ACancelledCallerWithdrawsWhatHasNotBegun) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1});
    auto held = pool.apply_async(hold, 1);
    await_started(1);
    EXPECT_FALSE(move_on_after(2ms, [&] { pool.apply(hold, 2); }));
    EXPECT_FALSE(move_on_after(2ms, [&] { static_cast<void>(pool.map(test::iota(0, 40), hold)); }));
    EXPECT_EQ(pool.stats().queued, 0U);
    EXPECT_EQ(pool.stats().sent, 1U);
    board().gate = true;
    EXPECT_EQ(held.get(), 1);
    EXPECT_EQ(pool.apply(square, 5), 25);
    EXPECT_EQ(board().started, 1) << "the others have never begun";
  });
}

TEST(ProcessPool, ATaskTakenBackWhileItIsBeingSentIsLeftAlone) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    auto long_one = pool.apply_async(hold, 1);
    auto short_one = pool.apply_async([] {
      ++board().started;
      while (board().initialized == 0) sleep_for(200us);
    });
    await_started(2);
    constexpr std::size_t kSize = 40'000'000;  // memory of its own, which is gone when it is freed
    auto large = pool.apply_async([](const std::string& text) { return text.size(); }, std::string(kSize, 'x'));
    board().initialized = 1;
    short_one.get();
    EXPECT_EQ(large.get(), kSize);  // by the one that is idle
    board().gate = true;
    EXPECT_EQ(long_one.get(), 1);
    EXPECT_EQ(pool.map(test::iota(0, 100), square).back(), 99 * 99);
  });
}

TEST(ProcessPool, WhatWaitsBehindWithdrawnTasksIsDone) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1});
    pool.apply(square, 1);
    for (int round = 0; round < 20; ++round) {
      sleep_for(2ms);  // so that the worker sleeps, and has begun none of them when they are taken back
      auto given_up = spawn([&] { static_cast<void>(pool.map(test::iota(0, 16), square)); });
      auto behind = spawn([&] { return pool.apply(square, round); });
      yield();
      given_up.cancel();
      EXPECT_EQ(behind.get(), round * round);
    }
  });
}

TEST(ProcessPool, TheQueueIsBounded) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1, .queue_max = 2});
    std::vector<Future<int>> futures;
    int given = 0;
    auto giver = spawn([&] {
      for (; given < 60; ++given) futures.push_back(pool.apply_async(hold, given));
    });
    await_started(1);
    sleep_for(2ms);
    EXPECT_LT(given, 60);
    EXPECT_LE(pool.stats().queued, 2U);
    board().gate = true;
    giver.get();
    for (int i = 0; i < 60; ++i) EXPECT_EQ(futures[static_cast<std::size_t>(i)].get(), i);
  });
}

TEST(ProcessPool, IdleWorkersSleep) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1});
    const auto used = [] {
      timespec time{};
      ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
      return static_cast<std::int64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
    };
    const std::int64_t before = pool.apply(used);
    sleep_for(200ms);
    EXPECT_LT(pool.apply(used) - before, 100'000'000);
  });
}

TEST(ProcessPool, WorkersHaveNoChildrenAndDoNotReturnToMain) {
  on_pool_loop([] {
    const pid_t self = ::getpid();
    ProcessPool pool({.workers = 1});
    const int refused = pool.apply([] {
      std::error_code error;
      const Process child = Process::start(
          {}, [] {}, error);
      return error.value();
    });
    EXPECT_EQ(refused, EPERM);
    EXPECT_THROW(pool.apply([] { const ProcessPool bomb({.workers = 100}); }), RemoteError);
    EXPECT_EQ(::getpid(), self);
  });
}

TEST(ProcessPool, SigtermAndSigintAreNotForWorkers) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 1});
    const int pid = pool.apply(pid_of_worker);
    ::kill(pid, SIGTERM);
    ::kill(pid, SIGINT);
    EXPECT_EQ(pool.apply(pid_of_worker), pid);
  });
}

TEST(ProcessPool, WorkersDieWithAKilledParent) {
  on_pool_loop([] {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const Fd reader(ends[0]);
    Fd writer(ends[1]);
    Process parent([&] {
      ProcessPool pool({.workers = 2});
      const auto held = pool.apply_async(hold, 1);
      sleep_for(1h);
    });
    writer.reset();
    await_started(1);
    parent.kill();
    parent.join();
    wait_readable(reader.get());
    char byte = 0;
    EXPECT_EQ(::read(reader.get(), &byte, 1), 0) << "nobody has the writing end any more";
  });
}

TEST(ProcessPool, ManyCallersAndPoolsAtOnce) {
  on_pool_loop([] {
    ProcessPool first({.workers = 2});
    ProcessPool second({.workers = 2});
    Scope scope;
    int sum = 0;
    for (int i = 0; i < 20; ++i) {
      scope.spawn([&, i] {
        for (int j = 0; j < test::this_many(50, 5); ++j) {
          ProcessPool& pool = (i + j) % 2 == 0 ? first : second;
          if (pool.apply(square, j) == j * j) ++sum;
        }
      });
    }
    scope.join();
    EXPECT_EQ(sum, 20 * test::this_many(50, 5));
  });
}

TEST(ProcessPool, TasksAreDoneWhileWorkersAreKilledAllTheTime) {
  on_pool_loop([] {
    ProcessPool pool({.workers = 2});
    bool stop = false;
    auto killer = spawn([&] {
      while (!stop) {
        const auto pids = pool.worker_pids();
        if (!pids.empty())
          ::kill(pids[static_cast<std::size_t>(now().time_since_epoch().count()) % pids.size()], SIGKILL);
        sleep_for(5ms);
      }
    });
    int done = 0;
    int lost = 0;
    std::vector<Future<int>> futures;
    for (int i = 0; i < test::this_many(2000, 200); ++i) futures.push_back(pool.apply_async(square, i));
    for (std::size_t i = 0; i < futures.size(); ++i) {
      try {
        EXPECT_EQ(futures[i].get(), static_cast<int>(i * i));
        ++done;
      } catch (const WorkerLost&) {
        ++lost;
      }
    }
    stop = true;
    killer.join();
    EXPECT_GT(done, lost);
  });
}

}  // namespace
}  // namespace bight
