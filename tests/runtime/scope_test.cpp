// SPDX-License-Identifier: Apache-2.0
#include <bight/scope.hpp>

#include <chrono>
#include <csignal>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;
using testing::ElementsAre;

// parity 6: scope exit joins
TEST(Scope, LeavingItJoins) {
  on_loop([] {
    int ended = 0;
    {
      Scope scope;
      for (int i = 0; i < 5; ++i) {
        scope.spawn([&, i] {
          for (int k = 0; k < i; ++k) yield();
          ++ended;
        });
      }
      EXPECT_EQ(scope.size(), 5U);
    }
    EXPECT_EQ(ended, 5);
    {
      Scope empty;
      empty.join();
      empty.join();
      EXPECT_EQ(empty.size(), 0U);
    }
  });
}

// parity 44: siblings and body cancelled on a child's error
TEST(Scope, TheFirstErrorCancelsTheOthersAndIsRethrown) {
  on_loop([] {
    std::vector<std::string> log;
    Scope scope;
    scope.spawn([&] {
      try {
        sleep_for(1h);
      } catch (...) {
        log.emplace_back("left cancelled");
        throw;
      }
    });
    scope.spawn([&] {
      yield();
      log.emplace_back("fails");
      throw std::runtime_error("first");
    });
    scope.spawn([&] {
      try {
        sleep_for(1h);
      } catch (...) {
        log.emplace_back("right fails, too");
        throw std::runtime_error("second");
      }
    });
    try {
      scope.join();
      FAIL() << "no error";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "first");
    }
    EXPECT_EQ(log.size(), 3U);
    EXPECT_EQ(log[0], "fails");
    scope.join();  // it is told once
  });
}

// parity 5: the error that came first in time, not in the order of spawning
TEST(Scope, FirstMeansFirstInTime) {
  on_loop([] {
    Scope scope;
    scope.spawn([] {
      Shield shield;
      sleep_for(2ms);
      throw std::runtime_error("late");
    });
    scope.spawn([] {
      yield();
      throw std::logic_error("early");
    });
    EXPECT_THROW(scope.join(), std::logic_error);
  });
}

TEST(Scope, TheDestructorThrowsWhatJoinWould) {
  on_loop([] {
    EXPECT_THROW(
        {
          Scope scope;
          scope.spawn([] { throw std::out_of_range("child's"); });
        },
        std::out_of_range);
  });
}

// parity 6: an exception in the body kills and propagates
TEST(Scope, AnExceptionOfTheBodyCancelsAndGoesOn) {
  on_loop([] {
    bool cancelled = false;
    bool finished_clean_up = false;
    try {
      Scope scope;
      scope.spawn([&] {
        try {
          sleep_for(1h);
        } catch (...) {
          cancelled = true;
          Shield shield;
          sleep_for(1ms);
          finished_clean_up = true;
          throw;
        }
      });
      scope.spawn([] {
        Shield shield;
        yield();
        yield();
        throw std::runtime_error("child's, dropped");
      });
      yield();
      throw std::logic_error("body's");
    } catch (const std::logic_error& error) {
      EXPECT_STREQ(error.what(), "body's");
      EXPECT_TRUE(cancelled);
      EXPECT_TRUE(finished_clean_up) << "the scope was left before its fibers had ended";
    }
  });
}

TEST(Scope, MadeWhileUnwindingItStillJoins) {
  struct InDestructor {
    bool& done;
    ~InDestructor() {
      Scope scope;
      scope.spawn([this] {
        yield();
        done = true;
      });
      scope.join();
    }
  };
  on_loop([] {
    bool done = false;
    try {
      const InDestructor object{done};
      throw std::runtime_error("in flight");
    } catch (const std::runtime_error&) {
    }
    EXPECT_TRUE(done);
  });
}

TEST(Scope, CancelReachesFibersYetToCome) {
  on_loop([] {
    Scope scope;
    scope.cancel();
    bool ran = false;
    auto fiber = scope.spawn([&] { ran = true; });
    scope.join();
    EXPECT_FALSE(ran);
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
  });
}

TEST(Scope, CancelDoesNotTouchTheOwner) {
  on_loop([] {
    Scope scope;
    scope.spawn([] { sleep_for(1h); });
    yield();
    scope.cancel();
    scope.join();
    yield();
    EXPECT_FALSE(this_fiber::cancel_requested());
  });
}

TEST(Scope, FibersMayJoinItLate) {
  on_loop([] {
    std::vector<int> log;
    Scope scope;
    scope.spawn([&] {
      yield();
      log.push_back(1);
      scope.spawn([&] {
        sleep_for(1ms);
        log.push_back(2);
        scope.spawn([&] { log.push_back(3); });
      });
    });
    scope.join();
    EXPECT_THAT(log, ElementsAre(1, 2, 3));
  });
}

TEST(Scope, AnErrorThatGetCollectsCountsAsWell) {
  on_loop([] {
    Scope scope;
    auto fails = scope.spawn([]() -> int { throw std::runtime_error("both"); });
    EXPECT_THROW(fails.get(), std::runtime_error);
    EXPECT_THROW(scope.join(), std::runtime_error);
  });
}

TEST(Scope, ValuesThroughHandles) {
  on_loop([] {
    Scope scope;
    std::vector<Fiber<int>> squares;
    for (int i = 0; i < 10; ++i) squares.push_back(scope.spawn([i] { return i * i; }));
    scope.join();
    int sum = 0;
    for (auto& each : squares) sum += each.get();
    EXPECT_EQ(sum, 285);
  });
}

TEST(Scope, CancellingTheWaitingFiberCancelsTheFibers) {
  on_loop([] {
    std::vector<std::string> log;
    auto owner = spawn([&] {
      Scope scope;
      scope.spawn([&] {
        try {
          sleep_for(1h);
        } catch (...) {
          Shield shield;
          sleep_for(2ms);
          log.emplace_back("child");
          throw;
        }
      });
      try {
        scope.join();
      } catch (const Cancelled&) {
        log.emplace_back("owner");
        throw;
      }
    });
    yield();
    yield();
    owner.cancel();
    owner.join();
    EXPECT_THAT(log, ElementsAre("child", "owner"));
    EXPECT_EQ(owner.status(), FiberStatus::cancelled);
  });
}

// A child's error beats the Cancelled of the owner: it would be lost otherwise.
TEST(Scope, AnErrorWhileCancelledIsTold) {
  on_loop([] {
    auto owner = spawn([] {
      Scope scope;
      scope.spawn([] {
        try {
          sleep_for(1h);
        } catch (const Cancelled&) {
          throw std::runtime_error("clean-up failed");
        }
      });
      scope.join();
    });
    yield();
    yield();
    owner.cancel();
    EXPECT_THROW(owner.get(), std::runtime_error);
  });
}

TEST(Scope, WaitUntil) {
  on_loop([] {
    Scope scope;
    EXPECT_TRUE(scope.wait_until(now() + 1h));
    auto slow = scope.spawn([] { sleep_for(1h); });
    const TimePoint limit = now() + 2ms;
    EXPECT_FALSE(scope.wait_until(limit));
    EXPECT_GE(now(), limit);
    EXPECT_FALSE(scope.wait_until(now() - 1h));
    EXPECT_EQ(scope.size(), 1U);
    scope.spawn([&] {
      sleep_for(1ms);
      slow.cancel();
    });
    EXPECT_TRUE(scope.wait_until(TimePoint::max()));
    EXPECT_EQ(scope.size(), 0U);
    EXPECT_EQ(this_loop::stats().timers_armed, 0U);
  });
}

TEST(Scope, WaitUntilInACancelledFiberWaitsAllTheSame) {
  on_loop([] {
    bool child_done = false;
    auto owner = spawn([&] {
      Scope scope;
      scope.spawn([&] {
        Shield shield;
        sleep_for(2ms);
        child_done = true;
      });
      EXPECT_TRUE(scope.wait_until(now() + 1h));
    });
    yield();
    yield();
    owner.cancel();
    owner.join();
    EXPECT_TRUE(child_done);
  });
}

TEST(Scope, TwoMayWaitForIt) {
  on_loop([] {
    Scope scope;
    scope.spawn([] { sleep_for(2ms); });
    bool other_saw_the_end = false;
    auto other = spawn([&] { other_saw_the_end = scope.wait_until(now() + 1h); });
    yield();
    scope.join();
    other.join();
    EXPECT_TRUE(other_saw_the_end);
  });
}

TEST(Scope, NestedScopesJoinInsideOut) {
  on_loop([] {
    std::vector<std::string> log;
    {
      Scope outer;
      outer.spawn([&] {
        {
          Scope inner;
          inner.spawn([&] {
            sleep_for(1ms);
            log.emplace_back("inner child");
          });
        }
        log.emplace_back("outer child");
      });
    }
    log.emplace_back("after");
    EXPECT_THAT(log, ElementsAre("inner child", "outer child", "after"));
  });
}

TEST(Scope, AThousandFailingFibersAreOneError) {
  RunOptions options;
  int reported = 0;
  options.on_unhandled_error = [&](const UnhandledError&) { ++reported; };
  on_loop(options, [] {
    Scope scope;
    for (int i = 0; i < 1000; ++i) {
      scope.spawn([i] {
        if (i % 2 == 0) yield();
        throw i;
      });
    }
    try {
      scope.join();
      FAIL() << "no error";
    } catch (int first) {
      EXPECT_EQ(first, 1);
    }
  });
  EXPECT_EQ(reported, 0) << "errors of a Scope's fibers are the Scope's";
}

TEST(Scope, SpawnForms) {
  on_loop([] {
    Scope scope;
    auto with_options = scope.spawn(
        {.name = "named"}, [](int x) { return x; }, 1);
    auto with_arguments = scope.spawn([](int a, int b) { return a + b; }, 1, 2);
    EXPECT_EQ(with_options.name(), "named");
    EXPECT_EQ(with_options.get() + with_arguments.get(), 4);
    scope.join();
  });
}

TEST(Scope, ALimitOnTheJoinCancelsTheFibers) {
  on_loop([] {
    Scope scope;
    auto endless = scope.spawn([] { sleep_for(1h); });
    EXPECT_FALSE(move_on_after(2ms, [&] { scope.join(); })) << "the limit is not above the scope: it is passed on";
    EXPECT_EQ(endless.status(), FiberStatus::cancelled);
    EXPECT_EQ(scope.size(), 0U);
  });
}

TEST(Scope, CancellingAnotherFiberThatJoinsItCancelsItsFibers) {
  on_loop([] {
    Scope scope;
    scope.spawn([] { sleep_for(1h); }).detach();
    auto joining = spawn([&] { scope.join(); });
    yield();
    joining.cancel();
    joining.join();
    EXPECT_EQ(joining.status(), FiberStatus::cancelled);
    EXPECT_EQ(scope.size(), 0U);
  });
}

TEST(Scope, AShieldProtectsItsFibersFromTheLoopsEnd) {
  int done = 0;
  EXPECT_THROW(run([&] {
                 spawn([&] {
                   const Shield shield;
                   Scope scope;
                   scope
                       .spawn([&] {
                         sleep_for(5ms);
                         ++done;
                         scope.spawn([&] { ++done; }).detach();  // born while the loop ends
                       })
                       .detach();
                 }).detach();
                 yield();
                 throw std::runtime_error("the end");
               }),
               std::runtime_error);
  EXPECT_EQ(done, 2);
}

TEST(Scope, OutlivingTheDeadlineItWasMadeInIsRefused) {
  const auto ended = test::in_child([] {
    run([] {
      std::optional<Scope> scope;
      with_timeout(1h, [&] { scope.emplace(); });
    });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << test::describe(ended);
  EXPECT_TRUE(ended.says("a Scope outlives the deadline")) << test::describe(ended);
}

// A list that is searched for each would take minutes here.
TEST(Scope, CancellingManyWhoWaitForTheSameTakesLinearTime) {
  static constexpr int kCount = test::this_many(50'000, 2'000);
  on_loop([] {
    auto awaited = spawn([] { sleep_for(1h); });
    Scope scope;
    for (int i = 0; i < kCount; ++i) scope.spawn([&] { awaited.join(); }).detach();
    yield();
    scope.cancel();
    scope.join();
    awaited.cancel();
    awaited.join();
  });
}

}  // namespace
}  // namespace bight
