// SPDX-License-Identifier: Apache-2.0
#include "timers.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

namespace bight::detail {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kTick = std::int64_t{1} << 20;  // nanoseconds: see timers.hpp

TimePoint at(std::int64_t nanoseconds) { return TimePoint(Duration(nanoseconds)); }

/// A timer that tells when it fires.
struct Probe : Timer {
  explicit Probe(std::function<void(Probe&)> what = {})
      : Timer([](Timer& timer) noexcept {
          auto& self = static_cast<Probe&>(timer);
          ++self.fired;
          if (self.on_fire) self.on_fire(self);
        }),
        on_fire(std::move(what)) {}
  std::function<void(Probe&)> on_fire;
  int fired = 0;
};

TEST(Timers, NothingArmedIsNeverDue) {
  Timers timers(at(0));
  EXPECT_EQ(timers.next(), TimePoint::max());
  EXPECT_EQ(timers.expire(TimePoint::max()), 0U);
  EXPECT_EQ(timers.armed(), 0U);
}

TEST(Timers, FireAtTheirTimeAndNotBefore) {
  for (const std::int64_t start : {std::int64_t{0}, kTick - 1, 123456789 * kTick + 17}) {
    Timers timers(at(start));
    Probe probe;
    timers.arm(probe, at(start + 1000));
    EXPECT_TRUE(probe.armed());
    EXPECT_EQ(timers.next(), at(start + 1000));
    EXPECT_EQ(timers.expire(at(start + 999)), 0U);
    EXPECT_EQ(timers.expire(at(start + 1000)), 1U);
    EXPECT_FALSE(probe.armed());
    EXPECT_EQ(timers.armed(), 0U);
  }
}

TEST(Timers, ADisarmedOneDoesNotFire) {
  Timers timers(at(0));
  Probe near;
  Probe far;
  timers.arm(near, at(10));
  timers.arm(far, at(1000 * kTick));
  timers.disarm(near);
  timers.disarm(far);
  timers.disarm(far);  // harmless
  EXPECT_EQ(timers.armed(), 0U);
  EXPECT_EQ(timers.next(), TimePoint::max());
  EXPECT_EQ(timers.expire(at(2000 * kTick)), 0U);
  EXPECT_EQ(near.fired + far.fired, 0);
}

TEST(Timers, ArmingAnArmedOneMovesIt) {
  Timers timers(at(0));
  Probe probe;
  timers.arm(probe, at(10));
  timers.arm(probe, at(5000 * kTick));
  EXPECT_EQ(timers.armed(), 1U);
  EXPECT_EQ(timers.expire(at(4999 * kTick)), 0U);
  EXPECT_EQ(timers.expire(at(5000 * kTick)), 1U);
}

// parity 8: equal times, in the order of arming; on every level of the wheel
TEST(Timers, EqualDeadlinesFireInTheOrderOfArming) {
  for (const std::int64_t distance : {std::int64_t{0}, std::int64_t{100}, 3 * kTick, 64 * kTick, 4096 * kTick + 5,
                                      300000 * kTick, std::int64_t{1} << 55}) {
    Timers timers(at(kTick * 77));
    std::vector<int> order;
    std::vector<std::unique_ptr<Probe>> probes;
    for (int i = 0; i < 40; ++i) {
      probes.push_back(std::make_unique<Probe>([&order, i](Probe&) { order.push_back(i); }));
      timers.arm(*probes.back(), at(kTick * 77 + distance));
    }
    EXPECT_EQ(timers.expire(at(kTick * 77 + distance)), 40U) << distance;
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end())) << distance;
  }
}

// What one level of the wheel hands down to the next one: 63 and 64 ticks, 4095 and 4096 ...
TEST(Timers, BoundariesOfTheLevels) {
  std::vector<std::int64_t> ticks;
  for (unsigned bits = 0; bits <= 42; ++bits) {
    const std::int64_t power = std::int64_t{1} << bits;
    for (const std::int64_t each : {power - 1, power, power + 1}) ticks.push_back(each);
  }
  for (const std::int64_t start_tick : {std::int64_t{0}, std::int64_t{1}, std::int64_t{63}, std::int64_t{64},
                                        std::int64_t{4095}, std::int64_t{4096}, std::int64_t{262143}}) {
    for (const std::int64_t tick : ticks) {
      if (tick > (std::numeric_limits<std::int64_t>::max() >> 20) - start_tick - 1) continue;
      Timers timers(at(start_tick * kTick));
      Probe probe;
      const TimePoint deadline = at((start_tick + tick) * kTick + 3);
      timers.arm(probe, deadline);
      ASSERT_EQ(timers.next(), deadline);
      ASSERT_EQ(timers.expire(deadline - 1ns), 0U) << start_tick << " + " << tick;
      ASSERT_EQ(timers.next(), deadline);
      ASSERT_EQ(timers.expire(deadline), 1U) << start_tick << " + " << tick;
    }
  }
}

TEST(Timers, NeverIsFarAway) {
  Timers timers(at(1'000'000'000));
  Probe never;
  Probe days;
  timers.arm(never, TimePoint::max());
  timers.arm(days, at(1'000'000'000) + 24h * 400);
  EXPECT_EQ(timers.next(), at(1'000'000'000) + 24h * 400);
  EXPECT_EQ(timers.expire(at(1'000'000'000) + 24h * 399), 0U);
  EXPECT_EQ(timers.expire(at(1'000'000'000) + 24h * 400), 1U);
  EXPECT_EQ(timers.next(), TimePoint::max());
  EXPECT_EQ(never.fired, 0);
  timers.disarm(never);
}

TEST(Timers, TimesThatHavePassedAreDueAtOnce) {
  Timers timers(at(50 * kTick));
  Probe past;
  Probe before_the_epoch;
  timers.arm(past, at(3));
  timers.arm(before_the_epoch, TimePoint::min());
  EXPECT_LE(timers.next(), at(50 * kTick));
  EXPECT_EQ(timers.expire(at(50 * kTick)), 2U);
}

TEST(Timers, OneThatRearmsItselfForNowFiresOnceACall) {
  Timers timers(at(0));
  Probe probe([&](Probe& self) { timers.arm(self, at(10)); });
  timers.arm(probe, at(10));
  EXPECT_EQ(timers.expire(at(10)), 1U);
  EXPECT_EQ(timers.expire(at(10)), 1U);
  EXPECT_EQ(probe.fired, 2);
  timers.disarm(probe);
}

TEST(Timers, OneThatRearmsItselfForThePastDoesNotKeepOthersWaiting) {
  Timers timers(at(0));
  Probe eager([&](Probe& self) { timers.arm(self, at(1)); });
  Probe other;
  timers.arm(eager, at(1));
  timers.arm(other, at(10));
  timers.expire(at(10));
  timers.expire(at(10));
  EXPECT_EQ(other.fired, 1);
  timers.disarm(eager);
}

TEST(Timers, FiringMayArmAndDisarmOthers) {
  Timers timers(at(0));
  Probe victim;
  Probe later;
  Probe killer([&](Probe&) {
    timers.disarm(victim);
    timers.arm(later, at(100));
  });
  timers.arm(killer, at(5));
  timers.arm(victim, at(5));
  EXPECT_EQ(timers.expire(at(5)), 1U);
  EXPECT_EQ(victim.fired, 0);
  EXPECT_EQ(timers.next(), at(100));
  EXPECT_EQ(timers.expire(at(100)), 1U);
}

/// The same calls against a multimap that says what is right.
class Model {
 public:
  explicit Model(std::uint64_t seed) : random_(seed), now_(below(kTick * 100'000)), timers_(at(now_)) {
    for (int i = 0; i < 300; ++i) {
      probes_.push_back(std::make_unique<Probe>([this](Probe& probe) { on_fire(probe); }));
    }
  }

  void step() {
    switch (below(10)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4: arm(*probes_[static_cast<std::size_t>(below(300))], now_ + some_distance()); break;
      case 5:
      case 6: disarm(*probes_[static_cast<std::size_t>(below(300))]); break;
      case 7: expire_at(now_ + below(kTick * 3)); break;
      case 8: expire_at(now_ + some_distance()); break;
      default: expire_at(first_deadline()); break;
    }
    check();
  }

  void finish() {
    for (const auto& probe : probes_) disarm(*probe);
    check();
  }

 private:
  std::int64_t below(std::int64_t limit) { return std::uniform_int_distribution<std::int64_t>(0, limit - 1)(random_); }

  std::int64_t some_distance() {
    static constexpr unsigned kBits[] = {0, 5, 14, 20, 21, 24, 26, 27, 32, 33, 38, 40, 45, 50};
    const unsigned bits = kBits[below(std::size(kBits))];
    return below(std::int64_t{1} << bits) - (below(20) == 0 ? 1000 : 0);
  }

  void arm(Probe& probe, std::int64_t deadline) {
    forget(probe);
    due_.emplace(deadline, &probe);  // equal keys keep the order of insertion
    timers_.arm(probe, at(deadline));
  }

  void disarm(Probe& probe) {
    forget(probe);
    timers_.disarm(probe);
  }

  void forget(const Probe& probe) {
    for (auto each = due_.begin(); each != due_.end(); ++each) {
      if (each->second == &probe) {
        due_.erase(each);
        return;
      }
    }
  }

  [[nodiscard]] std::int64_t first_deadline() const { return due_.empty() ? now_ : due_.begin()->first; }

  void expire_at(std::int64_t time) {
    if (time > (std::int64_t{1} << 61)) return;
    now_ = std::max(now_, time);
    std::size_t expected = 0;
    for (const auto& [deadline, probe] : due_) expected += deadline <= now_ ? 1 : 0;
    const std::size_t rearmed_before = rearmed_;
    fired_ = 0;
    expiring_ = true;
    EXPECT_EQ(timers_.expire(at(now_)), expected);
    expiring_ = false;
    EXPECT_EQ(fired_, expected);
    EXPECT_LE(rearmed_ - rearmed_before, expected);
  }

  void on_fire(Probe& probe) {
    ++fired_;
    ASSERT_TRUE(expiring_);
    ASSERT_FALSE(due_.empty());
    EXPECT_EQ(due_.begin()->second, &probe) << "out of order";
    EXPECT_LE(due_.begin()->first, now_) << "early";
    forget(probe);
    if (below(4) == 0) {
      ++rearmed_;
      arm(probe, now_ + 1 + below(kTick * 200));
    }
  }

  void check() {
    ASSERT_EQ(timers_.armed(), due_.size());
    const TimePoint next = timers_.next();
    if (due_.empty()) {
      EXPECT_EQ(next, TimePoint::max());
      return;
    }
    EXPECT_LE(next, at(due_.begin()->first)) << "would wake late";
    if (due_.begin()->first > now_) {
      EXPECT_GT(next, at(now_ - kTick)) << "would spin";
    }
  }

  std::mt19937_64 random_;
  std::int64_t now_;
  Timers timers_;
  std::vector<std::unique_ptr<Probe>> probes_;
  std::multimap<std::int64_t, Probe*> due_;
  std::size_t fired_ = 0;
  std::size_t rearmed_ = 0;
  bool expiring_ = false;
};

TEST(Timers, AgreeWithAModel) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Model model(seed);
    for (int i = 0; i < 1500; ++i) {
      model.step();
      if (testing::Test::HasFailure()) return;
    }
    model.finish();
  }
}

// A loop that sleeps until next() and expires makes progress, and not many more turns than there are timers.
TEST(Timers, SleepingUntilNextComesToAnEnd) {
  std::mt19937_64 random(7);
  Timers timers(at(0));
  std::vector<std::unique_ptr<Probe>> probes;
  for (int i = 0; i < 5000; ++i) {
    probes.push_back(std::make_unique<Probe>());
    timers.arm(*probes.back(), at(static_cast<std::int64_t>(random() % (kTick * 20'000))));
  }
  TimePoint now = at(0);
  int turns = 0;
  while (timers.armed() > 0) {
    ASSERT_LT(++turns, 20'000);
    now = std::max(now, timers.next());
    timers.expire(now);
  }
  for (const auto& probe : probes) EXPECT_EQ(probe->fired, 1);
}

}  // namespace
}  // namespace bight::detail
