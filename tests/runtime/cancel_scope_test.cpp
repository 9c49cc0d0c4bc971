// SPDX-License-Identifier: Apache-2.0
// Cancellation: in every state of a fiber and in every kind of wait.
#include <bight/detail/cancel_scope.hpp>

#include <chrono>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/stop.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;

/// The waits that throw Cancelled. Each waits for ever.
std::vector<std::pair<std::string, std::function<void()>>> waits() {
  return {
      {"sleep_for", [] { sleep_for(1h); }},
      {"sleep_until", [] { sleep_until(TimePoint::max()); }},
      {"yield",
       [] {
         for (;;) yield();
       }},
      {"sleep_for(0)",
       [] {
         for (;;) sleep_for(0s);
       }},
      {"checkpoint",
       [] {
         Shield shield;
         sleep_for(1ms);
       }},
      {"join",
       [] {
         auto never = spawn([] { sleep_for(1h); });
         struct End {
           Fiber<>& fiber;
           ~End() { fiber.cancel(); }
         } end{never};
         never.join();
       }},
      {"get",
       [] {
         auto never = spawn([] {
           sleep_for(1h);
           return 1;
         });
         struct End {
           Fiber<int>& fiber;
           ~End() { fiber.cancel(); }
         } end{never};
         never.get();
       }},
      {"Scope::join",
       [] {
         Scope scope;
         scope.spawn([] { sleep_for(1h); });
         scope.join();
       }},
      {"an empty Scope's join",
       [] {
         for (;;) {
           Scope scope;
           scope.join();
           yield();
         }
       }},
      {"wait_for_stop", [] { wait_for_stop(); }},
      {"inside a deadline", [] { with_timeout(1h, [] { sleep_for(1h); }); }},
      {"inside move_on_after", [] { static_cast<void>(move_on_after(1h, [] { sleep_for(1h); })); }},
  };
}

class EachWait : public testing::TestWithParam<std::size_t> {
 protected:
  [[nodiscard]] static const auto& wait() {
    static const auto all = waits();
    return all[GetParam()];
  }
};
INSTANTIATE_TEST_SUITE_P(Cancel, EachWait, testing::Range(std::size_t{0}, waits().size()));

/// A fiber in wait(), and how it came out of it.
struct Waiter {
  bool reached = false;
  bool unwound = false;
  bool passed = false;
  Fiber<> fiber;

  void start(const std::function<void()>& wait) {
    fiber = spawn([this, &wait] {
      struct Unwound {
        bool& flag;
        ~Unwound() { flag = true; }
      } note{unwound};
      reached = true;
      wait();
      this_fiber::checkpoint();
      passed = true;
    });
  }
};

// parity 2: killed in each of the states
TEST_P(EachWait, EndsWithCancelled) {
  on_loop([&] {
    Waiter waiter;
    waiter.start(wait().second);
    yield();
    yield();
    EXPECT_TRUE(waiter.reached);
    waiter.fiber.cancel();
    waiter.fiber.cancel();  // twice is harmless
    EXPECT_FALSE(waiter.unwound) << "cancel() ran it inline";
    waiter.fiber.join();
    waiter.fiber.cancel();  // so is after the end
    EXPECT_TRUE(waiter.unwound);
    EXPECT_FALSE(waiter.passed);
    EXPECT_EQ(waiter.fiber.status(), FiberStatus::cancelled);
    yield();
    yield();
  });
}

// parity 2: killed before its first switch never runs
TEST_P(EachWait, NeverBeginsWhenCancelledBeforeItsFirstRun) {
  on_loop([&] {
    Waiter waiter;
    waiter.start(wait().second);
    waiter.fiber.cancel();
    waiter.fiber.join();
    EXPECT_FALSE(waiter.reached);
    EXPECT_EQ(waiter.fiber.status(), FiberStatus::cancelled);
  });
}

TEST_P(EachWait, ThrowsAtOnceInACancelledFiber) {
  on_loop([&] {
    bool unwound = false;
    auto fiber = spawn([&] {
      struct Unwound {
        bool& flag;
        ~Unwound() { flag = true; }
      } note{unwound};
      {
        Shield shield;
        yield();  // main cancels now
      }
      wait().second();
      this_fiber::checkpoint();
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_TRUE(unwound);
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
    yield();
    yield();
  });
}

// parity 3 and 0.4: swallowed by catch(...), it is thrown again at the next wait
TEST_P(EachWait, ComesAgainWhenSwallowed) {
  on_loop([&] {
    int swallowed = 0;
    bool finished = false;
    auto fiber = spawn([&] {
      for (int i = 0; i < 3; ++i) {
        try {
          wait().second();
          this_fiber::checkpoint();
        } catch (...) {
          ++swallowed;
        }
      }
      finished = true;
    });
    yield();
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_EQ(swallowed, 3);
    EXPECT_TRUE(finished);
    EXPECT_EQ(fiber.status(), FiberStatus::done) << "it ended by itself";
    yield();
    yield();
  });
}

TEST(Cancel, OfAReadyFiberComesAtItsNextWait) {
  on_loop([] {
    std::vector<int> log;
    auto fiber = spawn([&] {
      yield();
      log.push_back(1);
      sleep_for(1h);
      log.push_back(2);
    });
    yield();
    EXPECT_EQ(fiber.status(), FiberStatus::ready);
    fiber.cancel();
    fiber.join();
    EXPECT_TRUE(log.empty());
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
  });
}

// A wake-up that has been made before the cancel is not undone: the wait has succeeded.
TEST(Cancel, AfterTheWakeUpLeavesThatWaitAlone) {
  on_loop([] {
    auto target = spawn([] { sleep_for(1ms); });
    bool joined = false;
    bool cancelled = false;
    Fiber<> waiter;
    auto first = spawn([&] {
      target.join();
      EXPECT_EQ(waiter.status(), FiberStatus::ready);
      waiter.cancel();
    });
    waiter = spawn([&] {
      target.join();
      joined = true;
      try {
        yield();
      } catch (const Cancelled&) {
        cancelled = true;
        throw;
      }
    });
    waiter.join();
    first.join();
    EXPECT_TRUE(joined);
    EXPECT_TRUE(cancelled);
  });
}

TEST(Cancel, OfOneselfComesAtTheNextWait) {
  on_loop([] {
    bool before = false;
    bool after = false;
    Fiber<> self;
    self = spawn([&] {
      self.cancel();
      EXPECT_TRUE(this_fiber::cancel_requested());
      before = true;
      yield();
      after = true;
    });
    self.join();
    EXPECT_TRUE(before);
    EXPECT_FALSE(after);
  });
}

TEST(Cancel, IsNoStdException) {
  on_loop([] {
    bool swallowed = false;
    auto fiber = spawn([&] {
      try {
        sleep_for(1h);
      } catch (const std::exception&) {
        swallowed = true;
      }
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_FALSE(swallowed);
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
  });
}

// parity 48: kill while inside a destructor, or noexcept
TEST(Cancel, WhileADestructorWaitsUnderAShield) {
  struct CleansUp {
    bool& done;
    ~CleansUp() {
      Shield shield;
      sleep_for(2ms);
      yield();
      done = true;
    }
  };
  on_loop([] {
    bool cleaned = false;
    auto fiber = spawn([&] {
      const CleansUp clean{cleaned};
      sleep_for(1ms);
    });
    yield();
    sleep_for(2ms);
    fiber.cancel();
    fiber.join();
    EXPECT_TRUE(cleaned);
    auto again = spawn([&] {
      cleaned = false;
      const CleansUp clean{cleaned};
      sleep_for(1h);
    });
    yield();
    again.cancel();
    yield();
    again.cancel();  // in the midst of the clean-up
    again.join();
    EXPECT_TRUE(cleaned);
  });
}

TEST(Cancel, ShieldsNest) {
  on_loop([] {
    std::vector<int> log;
    auto fiber = spawn([&] {
      {
        Shield outer;
        {
          Shield inner;
          yield();
          log.push_back(1);
        }
        yield();
        log.push_back(2);
        EXPECT_FALSE(this_fiber::cancel_requested());
      }
      EXPECT_TRUE(this_fiber::cancel_requested());
      yield();
      log.push_back(3);
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_EQ(log, (std::vector<int>{1, 2}));
  });
}

TEST(Cancel, AScopeInsideAShieldIsShielded) {
  on_loop([] {
    bool child_finished = false;
    auto fiber = spawn([&] {
      Shield shield;
      Scope scope;
      scope.spawn([&] {
        sleep_for(2ms);
        child_finished = true;
      });
      scope.join();
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_TRUE(child_finished);
    EXPECT_EQ(fiber.status(), FiberStatus::done);
  });
}

TEST(Cancel, ADeadlineInsideAShieldStillWorks) {
  on_loop([] {
    bool timed_out = false;
    auto fiber = spawn([&] {
      Shield shield;
      try {
        with_timeout(2ms, [] { sleep_for(1h); });
      } catch (const TimedOut&) {
        timed_out = true;
      }
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_TRUE(timed_out);
  });
}

// A tree of scopes as deep as it gets does not overflow the canceller's stack.
TEST(Cancel, ReachesAThousandNestedScopes) {
  on_loop([] {
    int unwound = 0;
    std::function<void(int)> nest = [&](int depth) {
      struct Count {
        int& count;
        ~Count() { ++count; }
      } count{unwound};
      if (depth == 0) sleep_for(1h);
      Scope scope;
      scope.spawn({.stack_size = 128 * 1024}, [&nest, depth] { nest(depth - 1); });
      scope.join();
    };
    auto root = spawn([&] { nest(300); });
    for (int i = 0; i < 310; ++i) yield();
    root.cancel();
    root.join();
    EXPECT_EQ(unwound, 301);
  });
}

// parity 48: kill storm
TEST(Cancel, OfThousandsInAllKindsOfWaits) {
  static constexpr int kCount = test::this_many(10'000, 1000);
  on_loop([] {
    const auto all = waits();
    int unwound = 0;
    std::vector<Fiber<>> fibers;
    fibers.reserve(kCount);
    for (int i = 0; i < kCount; ++i) {
      fibers.push_back(spawn([&, i] {
        struct Count {
          int& count;
          ~Count() { ++count; }
        } count{unwound};
        all[static_cast<std::size_t>(i) % all.size()].second();
      }));
    }
    yield();
    yield();
    for (std::size_t i = 0; i < fibers.size(); i += 2) fibers[i].cancel();
    for (std::size_t i = 1; i < fibers.size(); i += 2) fibers[fibers.size() - i].cancel();
    for (const auto& fiber : fibers) fiber.cancel();
    for (const auto& fiber : fibers) fiber.join();
    EXPECT_EQ(unwound, kCount);
    while (this_loop::stats().fibers_alive > 1) yield();
  });
}

TEST(Cancel, FromACallback) {
  on_loop([] {
    auto victim = spawn([] { sleep_for(1h); });
    auto trigger = spawn([] {});
    trigger.on_done([&] { victim.cancel(); });
    victim.join();
    EXPECT_EQ(victim.status(), FiberStatus::cancelled);
  });
}

}  // namespace
}  // namespace bight
