// SPDX-License-Identifier: Apache-2.0
// Fairness, deadlocks, daemons, statistics.
#include "loop.hpp"

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/remote.hpp>
#include <bight/scope.hpp>
#include <bight/stop.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::bytes_of;
using test::describe;
using test::in_child;
using test::on_loop;
using testing::HasSubstr;

/// A fiber that yields until it is told to stop.
struct Spinner {
  bool stop = false;
  long rounds = 0;
  Fiber<> fiber = spawn([this] {
    for (; !stop; ++rounds) yield();
  });
  Spinner() = default;
  Spinner(const Spinner&) = delete;
  Spinner& operator=(const Spinner&) = delete;
  ~Spinner() {
    stop = true;
    fiber.join();
  }
};

// parity 9: test__sleep0
TEST(Fairness, AFiberThatYieldsForEverDoesNotStarveTimers) {
  on_loop([] {
    Spinner one;
    Spinner other;
    const TimePoint start = now();
    sleep_for(10ms);
    EXPECT_LT(now() - start, 1s);
    EXPECT_GT(one.rounds + other.rounds, 0);
  });
}

TEST(Fairness, NorInputAndOutput) {
  on_loop([] {
    auto pair = test::connect_pair();
    Spinner spinner;
    auto echo = spawn([&] {
      std::error_code error;
      while (Chunk chunk = pair.server.read(error)) pair.server.write_all(chunk, error);
    });
    std::error_code error;
    for (int i = 0; i < 20; ++i) {
      pair.client.write_all(bytes_of("ping"), error);
      EXPECT_EQ(pair.client.read(error).text(), "ping");
    }
    pair.client.close();
    echo.join();
    pair.server.close();
  });
}

TEST(Fairness, NorPosts) {
  on_loop([] {
    std::atomic<bool> came{false};
    Spinner spinner;
    std::thread thread([remote = Remote(), &came] { remote.post([&came] { came = true; }); });
    while (!came) yield();
    thread.join();
  });
}

TEST(Fairness, NorFibersThatAreReady) {
  on_loop([] {
    std::vector<std::unique_ptr<Spinner>> spinners;
    for (int i = 0; i < 50; ++i) spinners.push_back(std::make_unique<Spinner>());
    for (int i = 0; i < 1000; ++i) yield();
    for (const auto& spinner : spinners) EXPECT_NEAR(static_cast<double>(spinner->rounds), 1000, 2);
  });
}

// A reader whose data is always there does not keep others from running.
TEST(Fairness, AFiberWhoseDataIsAlwaysThereLetsOthersRun) {
  on_loop([] {
    auto pair = test::connect_pair();
    bool stop = false;
    auto writer = spawn([&] {
      const std::string block(64 * 1024, 'x');
      std::error_code error;
      while (!stop && !error) pair.client.write_all(bytes_of(block), error);
      pair.client.close();
    });
    auto reader = spawn([&] {
      std::error_code error;
      while (Chunk chunk = pair.server.read(error)) {
      }
    });
    const TimePoint start = now();
    for (int i = 0; i < 20; ++i) sleep_for(1ms);
    EXPECT_LT(now() - start, 5s);
    stop = true;
    writer.join();
    reader.join();
    pair.server.close();
  });
}

TEST(Fairness, TheTimeOfASliceIsBounded) {
  RunOptions options;
  options.slice_switches = 1'000'000;
  options.slice_time = 1ms;
  on_loop(options, [] {
    if (test::on_sim()) GTEST_SKIP() << "bounded by count alone";
    bool stop = false;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&] {
        while (!stop) {
          const auto end = std::chrono::steady_clock::now() + 20us;
          while (std::chrono::steady_clock::now() < end) {
          }
          yield();
        }
      });
    }
    const TimePoint start = now();
    sleep_for(2ms);
    EXPECT_LT(now() - start, 1s) << "a million switches of 20 us would have been 20 s";
    stop = true;
    scope.join();
  });
}

// --- Deadlocks (parity 0.6) ------------------------------------------------------------------------------------------

TEST(Deadlock, IsAnErrorThatNamesEveryFiberAndWhatItWaitsFor) {
  try {
    run([] {
      Fiber<> left;
      Fiber<> right;
      left = spawn({.name = "left"}, [&] { right.join(); });
      right = spawn({.name = "right"}, [&] { left.join(); });
      left.join();
    });
    FAIL() << "run() returned";
  } catch (const Deadlock& error) {
    const std::string text = error.what();
    EXPECT_THAT(text, HasSubstr("nothing can wake any of 3 parked fibers"));
    EXPECT_THAT(text, HasSubstr("#1 'main' parked, waits for the end of fiber #2 'left'"));
    EXPECT_THAT(text, HasSubstr("#2 'left' parked, waits for the end of fiber #3 'right', spawned at loop_test.cpp:"));
    EXPECT_THAT(text, HasSubstr("#3 'right' parked, waits for the end of fiber #2 'left'"));
  }
}

TEST(Deadlock, UnwindsAllFibers) {
  int unwound = 0;
  struct Count {
    int& count;
    ~Count() { ++count; }
  };
  EXPECT_THROW(run(RunOptions{.stop_on_signals = false},
                   [&] {
                     const Count in_main{unwound};
                     Scope scope;
                     Fiber<> first;
                     first = scope.spawn([&] {
                       const Count in_fiber{unwound};
                       yield();
                       wait_for_stop();
                     });
                     scope.spawn([&] {
                       const Count in_fiber{unwound};
                       first.join();
                     });
                     scope.join();
                   }),
               Deadlock);
  EXPECT_EQ(unwound, 3);
  EXPECT_FALSE(this_loop::exists());
}

TEST(Deadlock, OfADetachedFiberIsOneToo) {
  EXPECT_THROW(run(RunOptions{.stop_on_signals = false}, [] { spawn([] { wait_for_stop(); }).detach(); }), Deadlock);
}

TEST(Deadlock, IsToldThoughMainSwallowsItsCancellation) {
  EXPECT_THROW(run(RunOptions{.stop_on_signals = false},
                   [] {
                     try {
                       wait_for_stop();
                     } catch (...) {  // as careless code does
                     }
                   }),
               Deadlock);
}

TEST(Deadlock, CleanUpMayStillWait) {
  bool cleaned = false;
  EXPECT_THROW(run(RunOptions{.stop_on_signals = false},
                   [&] {
                     struct CleanUp {
                       bool& done;
                       ~CleanUp() {
                         Shield shield;
                         sleep_for(1ms);
                         done = true;
                       }
                     } clean_up{cleaned};
                     wait_for_stop();
                   }),
               Deadlock);
  EXPECT_TRUE(cleaned);
}

TEST(Deadlock, WaitingOnAfterwardsAborts) {
  const auto ended = in_child([] {
    return run(RunOptions{.stop_on_signals = false}, [] {
      auto never = spawn([] { wait_for_stop(); });
      auto stubborn = spawn([] {
        Shield shield;
        wait_for_stop();
      });
      never.join();
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("fibers went on waiting (shielded?), for what can not come")) << describe(ended);
}

// What may still come is no deadlock.
TEST(Deadlock, ATimerIsNone) {
  on_loop([] { sleep_for(5ms); });
}

TEST(Deadlock, AnOperationIsNone) {
  on_loop([] {
    if (test::on_sim()) GTEST_SKIP() << "where nobody else can connect";
    test::LoopbackListener listener;
    EXPECT_FALSE(move_on_after(5ms, [&] {
      std::error_code error;
      static_cast<void>(listener.socket.accept(error));
      this_fiber::checkpoint();
    }));
  });
}

// parity 31: waits for others only; daemons do not keep run() from returning
TEST(Daemon, RunDoesNotWaitForIt) {
  bool unwound = false;
  const auto start = std::chrono::steady_clock::now();
  on_loop([] { yield(); });
  EXPECT_EQ(run([&] {
              spawn({.daemon = true}, [&] {
                struct Note {
                  bool& flag;
                  ~Note() { flag = true; }
                } note{unwound};
                sleep_for(1h);
              }).detach();
              yield();
            }),
            0);
  EXPECT_TRUE(unwound);
  EXPECT_LT(std::chrono::steady_clock::now() - start, 10s);
}

TEST(Daemon, IsCancelledOnlyWhenAllOthersAreDone) {
  std::vector<std::string> log;
  run([&] {
    spawn({.daemon = true}, [&] {
      try {
        for (;;) sleep_for(1ms);
      } catch (const Cancelled&) {
        log.emplace_back("daemon");
        throw;
      }
    }).detach();
    spawn([&] {
      sleep_for(10ms);
      log.emplace_back("worker");
    }).detach();
    log.emplace_back("main");
  });
  EXPECT_EQ(log, (std::vector<std::string>{"main", "worker", "daemon"}));
}

TEST(Daemon, WhatItSpawnsAtItsEndIsCancelledToo) {
  bool ran = false;
  run([&] {
    spawn({.daemon = true}, [&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        spawn([&] { ran = true; }).detach();
        throw;
      }
    }).detach();
    yield();
  });
  EXPECT_FALSE(ran);
}

// --- Statistics and the dump -----------------------------------------------------------------------------------------

TEST(Stats, CountersCount) {
  on_loop([] {
    const LoopStats before = this_loop::stats();
    spawn([] { yield(); }).join();
    sleep_for(1ms);
    const LoopStats after = this_loop::stats();
    EXPECT_EQ(after.fibers_spawned, before.fibers_spawned + 1);
    EXPECT_GE(after.switches, before.switches + 3);
    EXPECT_GT(after.turns, before.turns);
    EXPECT_GT(after.sleeps, before.sleeps);
    EXPECT_GE(after.sleeps, 1U);
    EXPECT_EQ(after.timers_fired, before.timers_fired + 1);
    EXPECT_GT(after.engine_calls, before.engine_calls);
    EXPECT_EQ(after.fibers_alive, 1U);
    EXPECT_GE(after.stacks_cached, 1U);
  });
}

TEST(Stats, OfOperations) {
  on_loop([] {
    auto pair = test::connect_pair();
    const LoopStats before = this_loop::stats();
    EXPECT_EQ(before.descriptors_open, 2U);
    auto reader = spawn([&] {
      std::error_code error;
      EXPECT_EQ(pair.server.read(error).text(), "hello");
    });
    yield();
    EXPECT_EQ(this_loop::stats().operations_in_flight, 1U);
    std::error_code error;
    pair.client.write_all(bytes_of("hello"), error);
    reader.join();
    const LoopStats after = this_loop::stats();
    EXPECT_EQ(after.operations_in_flight, 0U);
    EXPECT_GE(after.operations_started, before.operations_started + 2);
    EXPECT_EQ(after.operations_cancelled, 0U);
    auto cancelled = spawn([&] { static_cast<void>(pair.server.read(error)); });
    yield();
    cancelled.cancel();
    cancelled.join();
    EXPECT_EQ(this_loop::stats().operations_cancelled, 1U);
    pair = {};
    EXPECT_EQ(this_loop::stats().descriptors_open, 0U);
  });
}

TEST(Stats, GaugesOfFibersAndTimers) {
  on_loop([] {
    Scope scope;
    for (int i = 0; i < 10; ++i) scope.spawn([] { sleep_for(5ms); });
    EXPECT_EQ(this_loop::stats().fibers_ready, 10U);
    yield();
    const LoopStats stats = this_loop::stats();
    EXPECT_EQ(stats.fibers_alive, 11U);
    EXPECT_EQ(stats.fibers_ready, 0U);
    EXPECT_EQ(stats.timers_armed, 10U);
    scope.join();
  });
}

TEST(Dump, TellsOfEveryFiber) {
  on_loop([] {
    test::LoopbackListener listener;
    auto sleeper = spawn({.name = "sleeper"}, [] { sleep_for(1h); });
    auto acceptor = spawn({.name = "acceptor"}, [&] {
      std::error_code error;
      static_cast<void>(listener.socket.accept(error));
    });
    yield();
    auto ready = spawn({.name = "not begun"}, [] {});
    const std::string text = this_loop::dump_fibers();
    EXPECT_THAT(text, HasSubstr("#1 'main' running"));
    EXPECT_THAT(text, HasSubstr("'sleeper' parked, waits for a time 3"));
    EXPECT_THAT(text, HasSubstr("'acceptor' parked, waits for accept on descriptor " +
                                std::to_string(listener.socket.fd()) + ", spawned at loop_test.cpp:"));
    EXPECT_THAT(text, HasSubstr("'not begun' ready"));
    sleeper.cancel();
    acceptor.cancel();
    sleeper.join();
    acceptor.join();
    ready.join();
  });
}

TEST(Dump, TheSpawnSiteOfOptionsMadeBeforehand) {
  on_loop([] {
    SpawnOptions options;
    options.name = "prepared";
    auto fiber = spawn(options, [] { yield(); });
    EXPECT_THAT(this_loop::dump_fibers(), HasSubstr("'prepared' ready, spawned at loop_test.cpp:"));
    fiber.join();
  });
}

}  // namespace
}  // namespace bight
