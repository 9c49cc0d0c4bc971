// SPDX-License-Identifier: Apache-2.0
#include <bight/fiber.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/report.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;
using testing::ElementsAre;
using testing::HasSubstr;

/// RunOptions that collect what nobody handled as "fiber's name: text".
struct Collected {
  std::vector<std::string> errors;
  RunOptions options;
  Collected() {
    options.on_unhandled_error = [this](const UnhandledError& error) {
      errors.push_back(std::string(error.fiber_name) + ": " + std::string(error.text));
    };
  }
};

TEST(Fiber, ReturnsValues) {
  on_loop([] {
    EXPECT_EQ(spawn([] { return 42; }).get(), 42);
    EXPECT_EQ(spawn([] { return std::string(1000, 'x'); }).get(), std::string(1000, 'x'));
    EXPECT_EQ(*spawn([] { return std::make_unique<int>(7); }).get(), 7);
    spawn([] {}).get();
    const auto array = spawn([] { return std::vector<int>{1, 2, 3}; }).get();
    EXPECT_THAT(array, ElementsAre(1, 2, 3));
  });
}

TEST(Fiber, TakesArgumentsByValue) {
  on_loop([] {
    std::string text = "before";
    auto copy = spawn([](const std::string& held, int number) { return held + std::to_string(number); }, text, 3);
    text = "after";
    EXPECT_EQ(copy.get(), "before3");
    auto moved = spawn([](std::unique_ptr<int> held) { return *held; }, std::make_unique<int>(5));
    EXPECT_EQ(moved.get(), 5);
    int there = 1;
    spawn([](int& here) { here = 2; }, std::ref(there)).join();
    EXPECT_EQ(there, 2);
    struct Adder {
      int base;
      [[nodiscard]] int add(int more) const { return base + more; }
    };
    EXPECT_EQ(spawn(&Adder::add, Adder{10}, 5).get(), 15);
  });
}

TEST(Fiber, ThrowsWhatTheFiberThrew) {
  on_loop([] {
    auto fails = spawn([]() -> int { throw std::out_of_range("far"); });
    EXPECT_THROW(fails.get(), std::out_of_range);
    EXPECT_THROW(fails.get(), std::out_of_range);  // as often as asked
    EXPECT_EQ(fails.status(), FiberStatus::failed);
    auto strange = spawn([] { throw 17; });
    EXPECT_THROW(strange.get(), int);
  });
}

// parity 1: test_simple_exit, every flag in every state
TEST(Fiber, StatusInEachState) {
  on_loop([] {
    FiberStatus seen_inside{};
    Fiber<> fiber;
    fiber = spawn([&] {
      seen_inside = fiber.status();
      EXPECT_FALSE(fiber.done());  // parity 7: never "dead" while it runs
      yield();
      sleep_for(1ms);
    });
    EXPECT_EQ(fiber.status(), FiberStatus::ready);
    EXPECT_FALSE(fiber.done());
    yield();
    EXPECT_EQ(seen_inside, FiberStatus::running);
    EXPECT_EQ(fiber.status(), FiberStatus::ready);
    yield();
    EXPECT_EQ(fiber.status(), FiberStatus::parked);
    EXPECT_FALSE(fiber.done());
    fiber.join();
    EXPECT_EQ(fiber.status(), FiberStatus::done);
    EXPECT_TRUE(fiber.done());
    EXPECT_EQ(to_string(fiber.status()), "done");
  });
}

// parity 1: test_error_exit
TEST(Fiber, StatusOfAFailedAndOfACancelledOne) {
  on_loop([] {
    auto failed = spawn([] { throw std::runtime_error("no"); });
    failed.join();
    EXPECT_EQ(failed.status(), FiberStatus::failed);
    EXPECT_TRUE(failed.done());
    EXPECT_THROW(failed.get(), std::runtime_error);
    auto cancelled = spawn([] { sleep_for(1h); });
    yield();
    cancelled.cancel();
    cancelled.join();
    EXPECT_EQ(cancelled.status(), FiberStatus::cancelled);
    EXPECT_THROW(cancelled.get(), FiberCancelled);
  });
}

TEST(Fiber, Names) {
  on_loop([] {
    auto named = spawn({.name = "pump"}, [] {
      EXPECT_EQ(this_fiber::name(), "pump");
      this_fiber::set_name("pump, primed");
      yield();
    });
    EXPECT_EQ(named.name(), "pump");
    yield();
    EXPECT_EQ(named.name(), "pump, primed");
    auto unnamed = spawn([] {});
    EXPECT_THAT(std::string(unnamed.name()), HasSubstr("lambda"));
    EXPECT_NE(named.id(), unnamed.id());
    EXPECT_EQ(this_fiber::name(), "main");
    named.join();
    EXPECT_EQ(named.name(), "pump, primed");  // also when it has ended
    unnamed.join();
  });
}

// parity 8: two fibers with yield interleave "1A 2A 1B 2B"
TEST(Fiber, RunInTheOrderInWhichTheyBecameReady) {
  on_loop([] {
    std::vector<std::string> log;
    Scope scope;
    for (const char* who : {"1", "2", "3"}) {
      scope.spawn([&log, who] {
        for (const char* step : {"A", "B", "C"}) {
          log.push_back(std::string(who) + step);
          yield();
        }
      });
    }
    EXPECT_TRUE(log.empty()) << "spawn ran the fiber at once";
    scope.join();
    EXPECT_THAT(log, ElementsAre("1A", "2A", "3A", "1B", "2B", "3B", "1C", "2C", "3C"));
  });
}

TEST(Fiber, JoinersWakeInOrderAndNotInline) {
  on_loop([] {
    std::vector<int> order;
    auto target = spawn([&] {
      sleep_for(1ms);
      order.push_back(0);
    });
    Scope scope;
    for (int i = 1; i <= 5; ++i) {
      scope.spawn([&, i] {
        target.join();
        order.push_back(i);
      });
    }
    scope.join();
    EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4, 5));
    target.join();  // the end has come: no wait
  });
}

TEST(Fiber, EmptyHandlesAreRefused) {
  const auto ended = in_child([] {
    run([] {
      const Fiber<> empty;
      empty.join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("this Fiber handle is empty")) << describe(ended);
}

TEST(Fiber, WaitingForOneselfIsRefused) {
  const auto ended = in_child([] {
    run([] {
      Fiber<> self;
      self = spawn({.name = "narcissus"}, [&] { self.join(); });
      self.join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("a fiber waits for its own end (in fiber 'narcissus')")) << describe(ended);
}

TEST(Fiber, AHandleThatOutlivesItsLoopIsRefused) {
  const auto ended = in_child([] {
    Fiber<> outlives;
    run([&] {
      outlives = spawn([] {});
      outlives.join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("a Fiber handle")) << describe(ended);
}

// --- Errors that nobody collects -------------------------------------------------------------------------------------

TEST(Fiber, ErrorsOfDetachedFibersAreReported) {
  Collected collected;
  on_loop(collected.options, [] {
    spawn({.name = "dropped first"}, [] { throw std::runtime_error("one"); }).detach();
    auto later = spawn({.name = "dropped later"}, [] { throw std::runtime_error("two"); });
    later.join();
    later.detach();
    auto collected_one = spawn([] { throw std::runtime_error("three"); });
    EXPECT_THROW(collected_one.get(), std::runtime_error);
    spawn({.name = "odd"}, [] { throw 5; }).detach();
    yield();
    EXPECT_EQ(this_loop::stats().unhandled_errors, 3U);
  });
  EXPECT_THAT(collected.errors, ElementsAre("dropped first: std::runtime_error: one",
                                            "dropped later: std::runtime_error: two", "odd: an exception of type int"));
}

TEST(Fiber, CancelledOnesAreNoErrors) {
  Collected collected;
  on_loop(collected.options, [] {
    auto fiber = spawn([] { sleep_for(1h); });
    yield();
    fiber.cancel();
    fiber.detach();
    yield();
  });
  EXPECT_THAT(collected.errors, ElementsAre());
}

TEST(Fiber, WithoutAHandlerALineOnStandardErrorTells) {
  const auto ended = in_child([] {
    run([] {
      spawn({.name = "worker"}, [] { throw std::runtime_error("disk full"); }).detach();
      yield();
    });
    return 0;
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
  EXPECT_TRUE(ended.says("'worker' ended with an unhandled error: std::runtime_error: disk full")) << describe(ended);
}

TEST(Fiber, AHandlerThatThrowsDoesNoHarm) {
  RunOptions options;
  options.on_unhandled_error = [](const UnhandledError&) { throw std::runtime_error("again"); };
  testing::internal::CaptureStderr();
  on_loop(options, [] {
    spawn([] { throw std::runtime_error("one"); }).detach();
    yield();
  });
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("could not be reported"));
}

// --- on_done ---------------------------------------------------------------------------------------------------------

// parity 8: links run in the order in which they were added
TEST(Fiber, DoneCallbacksRunInOrder) {
  on_loop([] {
    std::vector<int> order;
    auto fiber = spawn([] { yield(); });
    for (int i = 0; i < 1000; ++i) fiber.on_done([&order, i] { order.push_back(i); });
    EXPECT_TRUE(order.empty());
    fiber.join();
    while (order.size() < 1000) yield();
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    fiber.on_done([&] { order.push_back(-1); });  // the end has come already
    EXPECT_EQ(order.size(), 1000U) << "ran inline";
    while (order.size() == 1000) yield();
    EXPECT_EQ(order.back(), -1);
  });
}

// parity 4: a raising link does not stop others
// parity 10: TestExceptionInMainloop
TEST(Fiber, AThrowingDoneCallbackDoesNotStopTheOthers) {
  Collected collected;
  on_loop(collected.options, [] {
    int ran = 0;
    auto fiber = spawn([] { throw std::runtime_error("fiber's"); });
    fiber.on_done([&] { ++ran; });
    fiber.on_done([] { throw std::runtime_error("callback's"); });
    fiber.on_done([&] { ++ran; });
    EXPECT_THROW(fiber.get(), std::runtime_error);
    while (ran < 2) yield();
  });
  EXPECT_THAT(collected.errors, ElementsAre("a callback: std::runtime_error: callback's"));
}

TEST(Fiber, DoneCallbacksMaySpawnButNotWait) {
  on_loop([] {
    bool ran = false;
    auto fiber = spawn([] {});
    fiber.on_done([&] {
      EXPECT_FALSE(this_fiber::exists());
      spawn([&] {
        EXPECT_TRUE(this_fiber::exists());
        ran = true;
      }).detach();
    });
    while (!ran) yield();
  });
  const auto ended = in_child([] {
    run([] { spawn([] {}).on_done([] { yield(); }); });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("only a fiber can wait")) << describe(ended);
}

TEST(Fiber, DoneCallbacksOfTheLastFiberMayGoOn) {
  std::vector<std::string> log;
  run([&] {
    auto fiber = spawn([] {});
    fiber.join();
    spawn([] {}).on_done([&log] {
      log.emplace_back("callback");
      auto ended = spawn([&log] { log.emplace_back("fiber of the callback"); });
      ended.on_done([&log] {
        log.emplace_back("its callback");
        spawn([&log] { log.emplace_back("fiber of its callback"); }).detach();
      });
    });
  });
  EXPECT_THAT(log, ElementsAre("callback", "fiber of the callback", "its callback", "fiber of its callback"));
}

// A callback that only another callback asked for, when no fiber is left, may start a fiber, too.
TEST(Fiber, CallbacksOfCallbacksMaySpawnAtTheVeryEnd) {
  auto alive = std::make_shared<int>(0);
  bool ran = false;
  run([&] {
    auto done = std::make_shared<Fiber<>>(spawn([] {}));
    done->join();
    spawn([] {}).on_done(
        [&ran, alive, done] { done->on_done([&ran, alive] { spawn([&ran, alive] { ran = true; }).detach(); }); });
  });
  EXPECT_TRUE(ran);
  EXPECT_EQ(alive.use_count(), 1) << "a fiber was neither run nor unwound";
}

// --- The result and the arguments ------------------------------------------------------------------------------------

/// Counts its objects.
struct Counted {
  static inline int alive = 0;
  static inline int made = 0;
  Counted() { ++alive, ++made; }
  Counted(const Counted&) { ++alive, ++made; }
  Counted(Counted&&) noexcept { ++alive, ++made; }
  Counted& operator=(const Counted&) = default;
  ~Counted() { --alive; }
};

/// Its move may throw, so a Fiber keeps it on the heap.
struct ThrowingMove {
  explicit ThrowingMove(bool bad) : throws(bad) {}
  ThrowingMove(ThrowingMove&& other) : throws(other.throws) {  // NOLINT(performance-noexcept-move-constructor)
    if (throws && armed) throw std::runtime_error("move");
  }
  static inline bool armed = false;
  bool throws;
  Counted counted;
};

TEST(Fiber, ResultsAreDestroyedOnce) {
  Counted::alive = 0;
  on_loop([] {
    static_cast<void>(spawn([] { return Counted(); }).get());
    EXPECT_EQ(Counted::alive, 0);
    spawn([] { return Counted(); }).detach();
    yield();
    EXPECT_EQ(Counted::alive, 0);
    auto kept = spawn([] { return Counted(); });
    kept.join();
    EXPECT_EQ(Counted::alive, 1);
    kept.detach();
    EXPECT_EQ(Counted::alive, 0);
    auto boxed = spawn([] { return ThrowingMove(false); });
    boxed.join();
    EXPECT_EQ(Counted::alive, 1);
    boxed.detach();
    EXPECT_EQ(Counted::alive, 0);
  });
}

TEST(Fiber, AResultWhoseMoveThrows) {
  Counted::alive = 0;
  on_loop([] {
    ThrowingMove::armed = false;
    EXPECT_FALSE(spawn([] { return ThrowingMove(false); }).get().throws);
    auto fails = spawn([] { return ThrowingMove(true); });
    fails.join();
    ThrowingMove::armed = true;
    EXPECT_THROW(static_cast<void>(fails.get()), std::runtime_error);
    ThrowingMove::armed = false;
    EXPECT_TRUE(fails.get().throws);  // it is still there
  });
  EXPECT_EQ(Counted::alive, 0);
}

TEST(Fiber, TheCallableGoesBeforeTheFibersEndIsSeen) {
  Counted::alive = 0;
  on_loop([] {
    auto fiber = spawn([held = Counted()] { static_cast<void>(held); });
    EXPECT_EQ(Counted::alive, 1);
    fiber.join();
    EXPECT_EQ(Counted::alive, 0);
    auto fails = spawn([held = Counted()] {
      static_cast<void>(held);
      throw std::runtime_error("no");
    });
    EXPECT_THROW(fails.get(), std::runtime_error);
    EXPECT_EQ(Counted::alive, 0);
  });
}

TEST(Fiber, ArgumentsAreDestroyedWhenCancelledBeforeTheStart) {
  Counted::alive = 0;
  on_loop([] {
    bool ran = false;
    auto fiber = spawn([&ran](const Counted&, const std::string&) { ran = true; }, Counted(), std::string(100, 'x'));
    EXPECT_EQ(Counted::alive, 1);
    fiber.cancel();
    fiber.join();
    EXPECT_FALSE(ran);
    EXPECT_EQ(Counted::alive, 0);
  });
}

struct ThrowingCopy {
  ThrowingCopy() = default;
  ThrowingCopy(const ThrowingCopy&) { throw std::runtime_error("copy"); }
};

TEST(Fiber, ACallableThatCannotBeCopiedInLeavesNothing) {
  on_loop([] {
    const ThrowingCopy bad;
    EXPECT_THROW(static_cast<void>(spawn([](const ThrowingCopy&) {}, bad)), std::runtime_error);
    const LoopStats stats = this_loop::stats();
    EXPECT_EQ(stats.fibers_alive, 1U);
    const std::size_t stacks = stats.stacks_reserved;
    spawn([] {}).join();
    EXPECT_EQ(this_loop::stats().stacks_reserved, stacks) << "the stack was lost";
  });
}

TEST(Fiber, OverlargeCallablesAreRefused) {
  if (test::sanitized) GTEST_SKIP() << "sanitizer builds give every fiber four times the stack";
  struct Large {
    std::array<char, 100'000> bytes{};
  };
  on_loop([] {
    const std::size_t stacks = this_loop::stats().stacks_reserved;
    for (int i = 0; i < 3; ++i) {
      try {
        static_cast<void>(spawn({.stack_size = 64 * 1024}, [large = Large()] { static_cast<void>(large); }));
        FAIL() << "100 kB fit on a stack of 64 KiB";
      } catch (const std::system_error& error) {
        EXPECT_EQ(error.code(), std::errc::argument_list_too_long);
        EXPECT_THAT(error.what(), HasSubstr("its callable, arguments and result take"));
      }
    }
    EXPECT_LE(this_loop::stats().stacks_reserved, stacks + 1);
    auto fits = spawn({.stack_size = 256 * 1024}, [large = Large()] { return large.bytes.size(); });
    EXPECT_EQ(fits.get(), 100'000U);
  });
}

struct alignas(256) Aligned {
  std::array<char, 256> bytes{};
};

TEST(Fiber, OveralignedCallablesAndResults) {
  on_loop([] {
    for (int i = 0; i < 20; ++i) {
      auto fiber = spawn([aligned = Aligned()] {
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&aligned) % 256, 0U);
        return aligned;
      });
      const Aligned result = fiber.get();
      EXPECT_EQ(result.bytes[0], 0);
    }
  });
}

// --- Limits ----------------------------------------------------------------------------------------------------------

TEST(Fiber, FibersMaxIsAnErrorNotADeath) {
  RunOptions options;
  options.fibers_max = 10;
  on_loop(options, [] {
    Scope scope;
    for (int i = 0; i < 9; ++i) scope.spawn([] { sleep_for(1ms); });
    try {
      scope.spawn([] {});
      FAIL() << "an eleventh fiber";
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code(), std::errc::resource_unavailable_try_again);
      EXPECT_THAT(error.what(), HasSubstr("fibers_max = 10"));
    }
    scope.join();
    spawn([] {}).join();  // there is room again
  });
}

TEST(Fiber, StackSizesPerSpawn) {
  if (test::sanitized) GTEST_SKIP() << "sanitizer builds give every fiber four times the stack";
  on_loop([] {
    for (const std::size_t size : {std::size_t{32} << 10, std::size_t{1} << 20}) {
      auto fiber = spawn({.stack_size = size}, [] { return this_fiber::stack_left(); });
      const std::size_t left = fiber.get();
      EXPECT_LT(left, size);
      EXPECT_GT(left + 16 * 1024, size);
    }
    EXPECT_THROW(static_cast<void>(spawn({.stack_size = std::size_t{1} << 40}, [] {})), std::system_error);
  });
}

TEST(Fiber, SpawnAfter) {
  on_loop([] {
    const TimePoint start = now();
    EXPECT_EQ(spawn_after(
                  5ms, [](int a, int b) { return a + b; }, 2, 3)
                  .get(),
              5);
    EXPECT_GE(now() - start, 5ms);
    bool ran = false;
    auto cancelled = spawn_after(1h, [&ran] { ran = true; });
    yield();
    cancelled.cancel();
    cancelled.join();
    EXPECT_FALSE(ran);
    EXPECT_EQ(cancelled.status(), FiberStatus::cancelled);
  });
}

TEST(Fiber, YieldingFromDeepWithinKeepsEverything) {
  on_loop([] {
    const std::function<int(int)> descend = [&](int depth) -> int {
      if (depth == 0) {
        yield();
        return 0;
      }
      const int below = descend(depth - 1);
      return below + 1;
    };
    Scope scope;
    for (int i = 0; i < 5; ++i) {
      scope.spawn({.stack_size = 1 << 20}, [&] { EXPECT_EQ(descend(200), 200); });
    }
    scope.join();
  });
}

static_assert(!std::is_copy_constructible_v<Fiber<int>>);
static_assert(std::is_nothrow_move_constructible_v<Fiber<int>>);

// Whoever destroys it may wait, so it must be a fiber that has not ended.
TEST(Fiber, AResultThatNobodyWantsEndsInItsFiber) {
  struct Result {
    std::vector<std::string>* log = nullptr;
    explicit Result(std::vector<std::string>* where) : log(where) {}
    Result(Result&& other) noexcept : log(std::exchange(other.log, nullptr)) {}
    Result& operator=(Result&&) = delete;
    ~Result() {
      if (log == nullptr) return;
      sleep_for(1ms);
      log->push_back(std::string(this_fiber::name()));
    }
  };
  std::vector<std::string> log;
  on_loop([&] {
    spawn({.name = "detached"}, [&] { return Result(&log); }).detach();
    auto kept = spawn({.name = "kept"}, [&] { return Result(&log); });
    kept.join();
    while (log.empty()) yield();
    EXPECT_EQ(log, std::vector<std::string>{"detached"});
  });
  EXPECT_EQ(log.size(), 2U);
}

TEST(Fiber, AnErrorThatNobodyCanAskForIsReportedFromItsFiber) {
  std::string reported_by;
  RunOptions options;
  options.on_unhandled_error = [&](const UnhandledError&) {
    yield();
    reported_by = this_fiber::name();
  };
  on_loop(options, [&] {
    spawn({.name = "failing"}, [] { throw std::runtime_error("no"); }).detach();
    while (reported_by.empty()) yield();
    EXPECT_EQ(this_loop::stats().unhandled_errors, 1U);
  });
  EXPECT_EQ(reported_by, "failing");
}

}  // namespace
}  // namespace bight
