// SPDX-License-Identifier: Apache-2.0
#include <bight/deadline.hpp>

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;

constexpr Duration kNever = 1h;

/// Passes `duration` without a wait.
void spin_for(Duration duration) {
  const TimePoint end = now() + duration;
  if (test::on_sim()) {  // where time stands still while a fiber runs
    Shield shield;
    sleep_until(end);
  } else {
    while (now() < end) {
    }
  }
}

TEST(Deadline, ReturnsWhatTheBodyReturns) {
  on_loop([] {
    EXPECT_EQ(with_timeout(kNever, [] { return 5; }), 5);
    EXPECT_EQ(*with_timeout(kNever, [] { return std::make_unique<int>(6); }), 6);
    int here = 7;
    EXPECT_EQ(&with_timeout(kNever, [&]() -> int& { return here; }), &here);
    with_timeout(kNever, [] {});
    EXPECT_EQ(with_deadline(now() + kNever, [] { return 8; }), 8);
    EXPECT_TRUE(move_on_after(kNever, [] {}));
    EXPECT_TRUE(move_on_after(kNever, [] { return 9; }));
    EXPECT_EQ(this_loop::stats().timers_armed, 0U);
  });
}

TEST(Deadline, IsExactInVirtualTime) {
  on_loop([] {
    if (!test::on_sim()) GTEST_SKIP() << "real time is never exact";
    for (const Duration limit : {Duration(1ns), Duration(3ms), Duration(1s), Duration(24h)}) {
      const TimePoint start = now();
      EXPECT_FALSE(move_on_after(limit, [] { sleep_until(TimePoint::max()); }));
      EXPECT_EQ(now() - start, limit);
    }
  });
}

TEST(Deadline, ThrowsTimedOutAtItsBoundary) {
  on_loop([] {
    const TimePoint start = now();
    bool cancelled_inside = false;
    try {
      with_timeout(3ms, [&] {
        try {
          sleep_for(kNever);
        } catch (const Cancelled&) {
          cancelled_inside = true;
          throw;
        }
      });
      FAIL() << "no error";
    } catch (const TimedOut& error) {
      EXPECT_EQ(error.code(), std::errc::timed_out);
      EXPECT_NE(std::string(error.what()).find("timed out after 0.003"), std::string::npos) << error.what();
    }
    EXPECT_TRUE(cancelled_inside);
    EXPECT_GE(now() - start, 3ms);
    if (test::on_sim()) {
      EXPECT_EQ(now() - start, 3ms);
    }
    EXPECT_THROW(with_deadline(now() + 1ms, [] { sleep_for(kNever); }), TimedOut);
    EXPECT_FALSE(move_on_after(1ms, [] { sleep_for(kNever); }));
    sleep_for(1ms);  // and it is over: waits wait again
  });
}

// A limit of 100 ms and more is counted from a coarse clock; it, too, is never early.
TEST(Deadline, LongLimitsAreNotEarly) {
  on_loop([] {
    for (const Duration limit : {99ms, 100ms, 101ms}) {
      const TimePoint start = now();
      EXPECT_FALSE(move_on_after(limit, [] { sleep_for(kNever); }));
      EXPECT_GE(now() - start, limit);
      EXPECT_LT(now() - start, 10 * limit);
    }
  });
}

// parity 12: test_nested_timeout, the inner one expires
TEST(Deadline, NestedTheInnerExpires) {
  on_loop([] {
    bool after_inner = false;
    with_timeout(kNever, [&] {
      EXPECT_THROW(with_timeout(2ms, [] { sleep_for(kNever); }), TimedOut);
      sleep_for(1ms);  // the outer one has not expired
      after_inner = true;
    });
    EXPECT_TRUE(after_inner);
  });
}

// parity 12 and 45: test_nested_timeouts, only the outermost becomes TimedOut
TEST(Deadline, NestedTheOuterExpires) {
  on_loop([] {
    bool inner_caught = false;
    bool inner_skipped = true;
    EXPECT_THROW(with_timeout(2ms,
                              [&] {
                                try {
                                  with_timeout(kNever, [] { sleep_for(kNever); });
                                  inner_skipped = false;
                                } catch (const TimedOut&) {
                                  inner_caught = true;
                                }
                                inner_skipped = false;
                              }),
                 TimedOut);
    EXPECT_FALSE(inner_caught);
    EXPECT_TRUE(inner_skipped);
  });
}

// parity 12: the outer one is silent, and skips the rest of the inner
TEST(Deadline, NestedTheOuterIsSilent) {
  on_loop([] {
    bool reached = false;
    const bool finished = move_on_after(2ms, [&] {
      static_cast<void>(move_on_after(kNever, [] { sleep_for(kNever); }));
      reached = true;
    });
    EXPECT_FALSE(finished);
    EXPECT_FALSE(reached);
  });
}

TEST(Deadline, NestedBothExpireAtTheSameTime) {
  on_loop([] {
    const TimePoint when = now() + 2ms;
    bool inner_boundary_passed = false;
    EXPECT_THROW(with_deadline(when,
                               [&] {
                                 EXPECT_THROW(with_deadline(when, [] { sleep_for(kNever); }), Cancelled);
                                 inner_boundary_passed = true;
                                 throw Cancelled{};
                               }),
                 TimedOut);
    EXPECT_TRUE(inner_boundary_passed);
  });
}

// parity 45: test_nested_timeouts_loop_busy
TEST(Deadline, NestedWithABusyLoop) {
  on_loop([] {
    bool inner_caught = false;
    EXPECT_THROW(with_timeout(2ms,
                              [&] {
                                try {
                                  with_timeout(1ms, [] {
                                    spin_for(6ms);  // both are due before the next wait
                                    yield();
                                    yield();
                                    sleep_for(kNever);
                                  });
                                } catch (const TimedOut&) {
                                  inner_caught = true;
                                }
                              }),
                 TimedOut);
    EXPECT_FALSE(inner_caught);
  });
}

TEST(Deadline, ThreeDeepTheMiddleExpires) {
  on_loop([] {
    std::vector<int> log;
    with_timeout(kNever, [&] {
      try {
        with_timeout(2ms, [&] {
          try {
            with_timeout(kNever, [] { sleep_for(kNever); });
          } catch (const TimedOut&) {
            log.push_back(3);
          }
        });
      } catch (const TimedOut&) {
        log.push_back(2);
      }
    });
    EXPECT_EQ(log, (std::vector<int>{2}));
  });
}

// parity 45: test_foreign_exception_passed, also when the time is over
TEST(Deadline, ForeignExceptionsPass) {
  on_loop([] {
    EXPECT_THROW(with_timeout(kNever, [] { throw std::out_of_range("body's"); }), std::out_of_range);
    EXPECT_THROW(with_timeout(1ms,
                              [] {
                                try {
                                  sleep_for(kNever);
                                } catch (const Cancelled&) {
                                  throw std::out_of_range("clean-up's");
                                }
                              }),
                 std::out_of_range);
    EXPECT_THROW(with_timeout(kNever, [] { throw TimedOut("a foreign one"); }), TimedOut);
    EXPECT_EQ(this_loop::stats().timers_armed, 0U);
  });
}

// parity 45: test_foreign_cancel_doesnt_timeout_if_not_expired
TEST(Deadline, ForeignCancellationIsNoTimeout) {
  on_loop([] {
    bool timed_out = false;
    auto fiber = spawn([&] {
      try {
        with_timeout(kNever, [] { sleep_for(kNever); });
      } catch (const TimedOut&) {
        timed_out = true;
      }
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_FALSE(timed_out);
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
  });
}

TEST(Deadline, CancelledWhileUnwindingFromATimeout) {
  on_loop([] {
    bool timed_out = false;
    auto fiber = spawn([&] {
      try {
        with_timeout(1ms, [] {
          struct Slow {
            ~Slow() {
              Shield shield;
              sleep_for(20ms);
            }
          } slow;
          sleep_for(kNever);
        });
      } catch (const TimedOut&) {
        timed_out = true;
      }
    });
    sleep_for(10ms);
    fiber.cancel();
    fiber.join();
    EXPECT_FALSE(timed_out) << "the whole fiber was cancelled: that goes further than the timeout";
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
  });
}

// parity 45: test_reschedule; parity 13: cancel inside the scope
TEST(Deadline, CanBeMovedAndLifted) {
  on_loop([] {
    EXPECT_EQ(with_timeout(1ms,
                           [](Deadline& deadline) {
                             deadline.reset(kNever);
                             sleep_for(5ms);
                             EXPECT_FALSE(deadline.expired());
                             return 1;
                           }),
              1);
    EXPECT_THROW(with_timeout(kNever,
                              [](Deadline& deadline) {
                                deadline.reset(now() + 1ms);
                                sleep_for(kNever);
                              }),
                 TimedOut);
    with_timeout(1ms, [](Deadline& deadline) {
      deadline.disarm();
      sleep_for(5ms);
    });
    with_timeout(1ms, [](Deadline& deadline) {
      deadline.disarm();
      deadline.disarm();
      deadline.reset(kNever);
      sleep_for(5ms);
      deadline.disarm();
    });
    EXPECT_FALSE(move_on_after(kNever, [](Deadline& deadline) {
      deadline.reset(now() - 1s);
      EXPECT_TRUE(deadline.expired());
      yield();
    }));
  });
}

TEST(Deadline, MovingItAfterItExpiredIsTooLate) {
  on_loop([] {
    EXPECT_FALSE(move_on_after(1ms, [](Deadline& deadline) {
      try {
        sleep_for(kNever);
      } catch (const Cancelled&) {
        EXPECT_TRUE(deadline.expired());
        deadline.reset(kNever);
        deadline.disarm();
        EXPECT_TRUE(deadline.expired());
        yield();  // throws again
      }
    }));
  });
}

// parity 45: test_timeout_zero
TEST(Deadline, ZeroAndLessExpireAtTheFirstWait) {
  on_loop([] {
    for (const Duration limit : {Duration(0), Duration(-1s), Duration::min()}) {
      bool began = false;
      bool went_on = false;
      EXPECT_THROW(with_timeout(limit,
                                [&] {
                                  began = true;
                                  sleep_for(1ms);
                                  went_on = true;
                                }),
                   TimedOut);
      EXPECT_TRUE(began);
      EXPECT_FALSE(went_on);
    }
    EXPECT_EQ(with_timeout(Duration(0), [] { return 3; }), 3) << "a body that does not wait finishes";
  });
}

// parity 13: None disables
TEST(Deadline, NeverIsNever) {
  on_loop([] {
    with_timeout(Duration::max(), [] { sleep_for(1ms); });
    with_deadline(TimePoint::max(), [] { sleep_for(1ms); });
    with_timeout(24h * 365 * 200, [] { sleep_for(1ms); });
  });
}

TEST(Deadline, ABodyThatFinishesAllTheSameKeepsItsResult) {
  on_loop([] {
    EXPECT_EQ(with_timeout(1ms,
                           [](Deadline& deadline) {
                             spin_for(3ms);
                             static_cast<void>(move_on_after(kNever, [] {}));
                             try {
                               sleep_for(5ms);
                             } catch (...) {  // swallowed
                             }
                             EXPECT_TRUE(deadline.expired());
                             return 11;
                           }),
              11);
    EXPECT_TRUE(move_on_after(1ms, [] {
      Shield shield;
      sleep_for(5ms);
    }));
    sleep_for(1ms);
  });
}

TEST(Deadline, TimedOutOfAnInnerOnePassesTheOuter) {
  on_loop([] {
    bool caught = false;
    try {
      with_timeout(kNever, [] { with_timeout(1ms, [] { sleep_for(kNever); }); });
    } catch (const TimedOut& error) {
      caught = true;
      EXPECT_NE(std::string(error.what()).find("0.001"), std::string::npos) << error.what();
    }
    EXPECT_TRUE(caught);
    EXPECT_THROW(static_cast<void>(move_on_after(kNever, [] { with_timeout(1ms, [] { sleep_for(kNever); }); })),
                 TimedOut);
  });
}

TEST(Deadline, InheritedByTheFibersOfAScope) {
  on_loop([] {
    int cancelled = 0;
    EXPECT_THROW(with_timeout(3ms,
                              [&] {
                                Scope scope;
                                for (int i = 0; i < 5; ++i) {
                                  scope.spawn([&] {
                                    Scope deeper;
                                    deeper.spawn([&] {
                                      try {
                                        sleep_for(kNever);
                                      } catch (const Cancelled&) {
                                        ++cancelled;
                                        throw;
                                      }
                                    });
                                  });
                                }
                                scope.join();
                              }),
                 TimedOut);
    EXPECT_EQ(cancelled, 5);
  });
}

TEST(Deadline, NotInheritedByFibersOfRun) {
  on_loop([] {
    Fiber<> independent;
    EXPECT_FALSE(move_on_after(2ms, [&] {
      independent = spawn([] { sleep_for(5ms); });
      sleep_for(kNever);
    }));
    EXPECT_FALSE(independent.done());
    independent.get();
  });
}

TEST(Deadline, OpenedAfterTheScopeItDoesNotReachTheScopesFibers) {
  on_loop([] {
    Scope scope;
    bool finished = false;
    EXPECT_FALSE(move_on_after(2ms, [&] {
      scope.spawn([&] {
        sleep_for(5ms);
        finished = true;
      });
      sleep_for(kNever);
    }));
    scope.join();
    EXPECT_TRUE(finished);
  });
}

// parity 9 and 45: a fiber that never really waits
TEST(Deadline, EndsABusyLoopOfYields) {
  on_loop([] {
    long rounds = 0;
    const TimePoint start = now();
    EXPECT_THROW(with_timeout(10ms,
                              [&] {
                                for (;; ++rounds) yield();
                              }),
                 TimedOut);
    EXPECT_GT(rounds, 0);
    EXPECT_GE(now() - start, 10ms);
    EXPECT_LT(now() - start, 2s);
  });
}

TEST(Deadline, EndsALongComputationThatChecks) {
  on_loop([] {
    long rounds = 0;
    auto timer = spawn([] { sleep_for(1ms); });
    EXPECT_THROW(with_timeout(2ms,
                              [&] {
                                for (;; ++rounds) {
                                  this_fiber::checkpoint();
                                  if (rounds % 64 == 0) yield();
                                }
                              }),
                 TimedOut);
    timer.join();
  });
}

TEST(Deadline, ShieldsKeepItOut) {
  on_loop([] {
    std::vector<int> log;
    EXPECT_THROW(with_timeout(1ms,
                              [&] {
                                {
                                  Shield shield;
                                  sleep_for(4ms);
                                  log.push_back(1);
                                }
                                log.push_back(2);
                                yield();
                                log.push_back(3);
                              }),
                 TimedOut);
    EXPECT_EQ(log, (std::vector<int>{1, 2}));
  });
}

TEST(Deadline, ThousandsThatDoNotExpireLeaveNothing) {
  on_loop([] {
    for (int i = 0; i < 10'000; ++i) {
      with_timeout(1s + i * 1ms, [i] {
        if (i % 100 == 0) yield();
      });
    }
    EXPECT_EQ(this_loop::stats().timers_armed, 0U);
    EXPECT_EQ(this_loop::stats().timers_fired, 0U);
  });
}

TEST(Deadline, ManyFibersWithManyLimits) {
  on_loop([] {
    int timed_out = 0;
    int finished = 0;
    Scope scope;
    for (int i = 0; i < 500; ++i) {
      scope.spawn([&, i] {
        const bool slow = i % 2 == 0;
        const bool in_time =
            move_on_after(slow ? Duration(1ms * (i % 7)) : kNever, [&] { sleep_for(slow ? kNever : 1ms * (i % 5)); });
        EXPECT_EQ(in_time, !slow);
        ++(in_time ? finished : timed_out);
      });
    }
    scope.join();
    EXPECT_EQ(finished, 250);
    EXPECT_EQ(timed_out, 250);
  });
}

}  // namespace
}  // namespace bight
