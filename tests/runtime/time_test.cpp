// SPDX-License-Identifier: Apache-2.0
#include <bight/time.hpp>

#include <algorithm>
#include <chrono>
#include <vector>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/scope.hpp>

#include "build.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;
using test::on_sim;

static_assert(detail::saturating_add(TimePoint::max(), 1ns) == TimePoint::max());
static_assert(detail::saturating_add(TimePoint(5ns), Duration::max()) == TimePoint::max());
static_assert(detail::saturating_add(TimePoint(5ns), 2ns) == TimePoint(7ns));
static_assert(detail::saturating_add(TimePoint(5ns), -2ns) == TimePoint(3ns));

TEST(Time, NowAlsoOutsideALoop) {
  const TimePoint before = now();
  EXPECT_LE(before, now());
  on_loop([] {
    const TimePoint first = now();
    EXPECT_LE(first, now());
  });
  EXPECT_LE(before, now());
}

TEST(Time, SleepsAreNeverShort) {
  on_loop([] {
    for (const Duration duration : {Duration(1ns), Duration(1us), Duration(500us), Duration(1ms), Duration(1048577ns),
                                    Duration(7ms), Duration(67ms), Duration(80ms)}) {
      const TimePoint start = now();
      sleep_for(duration);
      const Duration took = now() - start;
      EXPECT_GE(took, duration);
      if (on_sim()) {
        EXPECT_EQ(took, duration);
      } else {
        EXPECT_LT(took, duration + 1s) << "not late beyond measure";
      }
    }
  });
}

TEST(Time, APastTimeIsAYield) {
  on_loop([] {
    std::vector<int> order;
    auto other = spawn([&] { order.push_back(1); });
    sleep_for(-5s);
    order.push_back(2);
    auto another = spawn([&] { order.push_back(3); });
    sleep_until(TimePoint::min());
    order.push_back(4);
    auto last = spawn([&] { order.push_back(5); });
    sleep_for(0s);
    order.push_back(6);
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4, 5, 6}));
    other.join();
    another.join();
    last.join();
  });
}

TEST(Time, WakesInTheOrderOfTime) {
  on_loop([] {
    std::vector<int> order;
    const TimePoint start = now() + 20ms;
    Scope scope;
    for (const int i : {7, 3, 9, 1, 8, 2, 6, 4, 5}) {
      scope.spawn([&, i] {
        sleep_until(start + i * 3ms);
        order.push_back(i);
      });
    }
    scope.join();
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  });
}

TEST(Time, EqualTimesWakeInTheOrderOfGoingToSleep) {
  on_loop([] {
    for (const Duration ahead : {Duration(50ms), Duration(300ms)}) {
      std::vector<int> order;
      const TimePoint when = now() + ahead;
      Scope scope;
      for (int i = 0; i < 200; ++i) {
        scope.spawn([&, i] {
          sleep_until(when);
          order.push_back(i);
        });
      }
      scope.join();
      EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    }
  });
}

// Times of one tick of the timer wheel, in the wrong order.
TEST(Time, OrderWithinATick) {
  on_loop([] {
    std::vector<int> order;
    const TimePoint start = now() + 500ms;  // all of them sleep by then
    Scope scope;
    for (int i = 49; i >= 0; --i) {
      scope.spawn([&, i] {
        sleep_until(start + i * 10us);
        order.push_back(i);
      });
    }
    scope.join();
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  });
}

TEST(Time, VirtualTimeJumps) {
  on_loop([] {
    if (!on_sim()) GTEST_SKIP() << "real time";
    const auto real_start = std::chrono::steady_clock::now();
    const TimePoint start = now();
    sleep_for(24h * 365);
    EXPECT_EQ(now() - start, Duration(24h * 365));
    EXPECT_LT(std::chrono::steady_clock::now() - real_start, 10s);
  });
}

TEST(Time, VirtualTimeStandsStillWhileFibersRun) {
  on_loop([] {
    if (!on_sim()) GTEST_SKIP() << "real time";
    const TimePoint start = now();
    for (int i = 0; i < 100; ++i) yield();
    EXPECT_EQ(now(), start);
  });
}

// Seed row: 50 fibers that sleep at the same time take as long as one.
TEST(Time, SleepsOverlap) {
  on_loop([] {
    const TimePoint start = now();
    Scope scope;
    for (int i = 0; i < 50; ++i) scope.spawn([] { sleep_for(40ms); });
    scope.join();
    EXPECT_GE(now() - start, 40ms);
    EXPECT_LT(now() - start, 1s);
  });
}

TEST(Time, AHundredThousandDifferentSleeps) {
  constexpr int kCount = test::this_many(50'000, 2000);
  on_loop([&] {
    int early = 0;
    int done = 0;
    Scope scope;
    for (int i = 0; i < kCount; ++i) {
      scope.spawn([&, i] {
        const TimePoint when = now() + Duration((i * 7919L) % 60'000'000);
        sleep_until(when);
        if (now() < when) ++early;
        ++done;
      });
    }
    scope.join();
    EXPECT_EQ(done, kCount);
    EXPECT_EQ(early, 0);
  });
}

}  // namespace
}  // namespace bight
