// SPDX-License-Identifier: Apache-2.0
#include <bight/wait_any.hpp>

#include <array>
#include <chrono>
#include <deque>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/future.hpp>
#include <bight/latch.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>
#include <bight/wait_group.hpp>

#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;
using testing::ElementsAre;
using testing::IsEmpty;

/// How many links there are in the lists of all.
std::size_t waiting(const std::deque<Event>& events) {
  std::size_t count = 0;
  for (const Event& each : events) count += each.waiting();
  return count;
}

// parity 18: TestWait_count1, test_count2: exactly n, in the order of time
TEST(WaitN, ExactlyNInTheOrderOfTime) {
  on_loop([] {
    std::deque<Event> events(5);
    auto setter = spawn([&] {
      for (const std::size_t which : {3U, 0U, 4U}) {
        yield();
        events[which].set();
      }
    });
    EXPECT_THAT(wait_n(events, 1), ElementsAre(3U));
    EXPECT_EQ(waiting(events), 0U);
    EXPECT_THAT(wait_n(events, 3), ElementsAre(3U, 0U, 4U));
    EXPECT_EQ(waiting(events), 0U);
    setter.join();
    EXPECT_THAT(wait_n(events, 3), ElementsAre(0U, 3U, 4U)) << "those that were so before, in their own order";
  });
}

TEST(WaitN, SeveralAtTheSameTimeGiveNoMoreThanN) {
  on_loop([] {
    std::deque<Event> events(4);
    auto setter = spawn([&] {
      for (const std::size_t which : {2U, 1U, 3U, 0U}) events[which].set();
    });
    EXPECT_THAT(wait_n(events, 2), ElementsAre(2U, 1U));
    setter.join();
    EXPECT_THAT(wait_n(events, 2), ElementsAre(0U, 1U));
    EXPECT_THAT(wait_n(events, 0), IsEmpty());
  });
}

TEST(WaitN, MoreThanThereAreMeansAll) {
  on_loop([] {
    std::deque<Event> events(2);
    auto setter = spawn([&] {
      events[1].set();
      events[0].set();
    });
    EXPECT_THAT(wait_n(events, 99), ElementsAre(1U, 0U));
    setter.join();
    std::deque<Event> none;
    EXPECT_THAT(wait_n(none, 5), IsEmpty());
  });
}

// parity 47: WaitTests, timeout
TEST(WaitN, UntilATime) {
  on_loop([] {
    std::deque<Event> events(3);
    const TimePoint start = now();
    EXPECT_THAT(wait_n(events, 1, now() + 2ms), IsEmpty());
    EXPECT_GE(now() - start, 2ms);
    events[2].set();
    EXPECT_THAT(wait_n(events, 2, now() + 1ms), ElementsAre(2U));
    EXPECT_THAT(wait_n(events, 1, now() - 1h), ElementsAre(2U));
    EXPECT_THAT(wait_n(events, 3, now() - 1h), ElementsAre(2U));
    EXPECT_EQ(waiting(events), 0U);
    auto setter = spawn([&] { events[0].set(); });
    EXPECT_THAT(wait_n(events, 2, now() + 1h), ElementsAre(2U, 0U));
    setter.join();
  });
}

TEST(WaitN, OfZeroDoesNotWait) {
  on_loop([] {
    std::deque<Event> events(3);
    EXPECT_THAT(wait_n(events, 0), IsEmpty());
    EXPECT_EQ(waiting(events), 0U);
  });
}

TEST(WaitN, WhatCameUpAndWentDownCounts) {
  on_loop([] {
    std::deque<Event> events(2);
    auto setter = spawn([&] {
      events[1].set();
      events[1].clear();
      yield();
      yield();
      events[0].set();
    });
    EXPECT_THAT(wait_n(events, 2), ElementsAre(1U, 0U));
    setter.join();
  });
}

TEST(WaitN, DoesNotThrowTheirErrors) {
  on_loop([] {
    std::vector<Fiber<int>> fibers;
    fibers.push_back(spawn([]() -> int {
      yield();
      throw std::runtime_error("its own");
    }));
    fibers.push_back(spawn([] { return 5; }));
    fibers.push_back(spawn([] {
      sleep_for(1h);
      return 6;
    }));
    EXPECT_THAT(wait_n(fibers, 2), ElementsAre(1U, 0U));
    EXPECT_THROW(fibers[0].get(), std::runtime_error);
    EXPECT_EQ(fibers[1].get(), 5);
    fibers[2].cancel();
    EXPECT_THAT(wait_n(fibers, 3), ElementsAre(0U, 1U, 2U));
    EXPECT_THROW(fibers[2].get(), FiberCancelled);
  });
}

TEST(WaitN, CancelledItLeavesNothing) {
  on_loop([] {
    std::deque<Event> events(3);
    EXPECT_THROW(with_timeout(1ms, [&] { return wait_n(events, 2); }), TimedOut);
    EXPECT_EQ(waiting(events), 0U);
    auto waiter = spawn([&] { return wait_n(events, 2); });
    yield();
    EXPECT_EQ(waiting(events), 3U);
    waiter.cancel();
    events[0].set();
    waiter.join();
    EXPECT_EQ(waiter.status(), FiberStatus::cancelled);
    EXPECT_EQ(waiting(events), 0U);
    auto served = spawn([&] { return wait_n(events, 2); });
    yield();
    events[1].set();
    served.cancel();  // too late
    EXPECT_THAT(served.get(), ElementsAre(0U, 1U));
  });
}

TEST(WaitN, ACancelledFiberSeesWhatIsThere) {
  on_loop([] {
    std::deque<Event> events(3);
    events[1].set();
    auto fiber = spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        EXPECT_THAT(wait_n(events, 1), ElementsAre(1U));
        EXPECT_EQ(wait_any(events), 1U);
        EXPECT_THROW(static_cast<void>(wait_n(events, 2)), Cancelled);
        throw;
      }
    });
    yield();
    fiber.cancel();
    fiber.join();
    EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
    EXPECT_EQ(waiting(events), 0U);
  });
}

TEST(WaitN, AnyKindOfRange) {
  on_loop([] {
    std::array<Event, 2> array;
    array[1].set();
    EXPECT_THAT(wait_n(array, 1), ElementsAre(1U));
    EXPECT_THAT(wait_n(std::span(array), 1), ElementsAre(1U));
    std::array<Latch, 2> latches{Latch(1), Latch(0)};
    EXPECT_THAT(wait_n(latches, 1), ElementsAre(1U));
    std::array<WaitGroup, 2> groups;
    groups[0].add();
    EXPECT_THAT(wait_n(groups, 1), ElementsAre(1U));
    groups[0].done();
    Promise<int> promise;
    const std::vector<Future<int>> futures{promise.future(), promise.future()};
    auto setter = spawn([&] { promise.set_value(1); });
    EXPECT_THAT(wait_n(futures, 2), ElementsAre(0U, 1U));
    setter.join();
  });
}

TEST(WaitN, ManyWaitForTheSame) {
  on_loop([] {
    std::deque<Event> events(10);
    std::vector<std::size_t> counts;
    Scope scope;
    for (std::size_t i = 0; i <= 10; ++i) {
      scope.spawn([&, i] {
        const auto ready = wait_n(events, i);
        EXPECT_EQ(ready.size(), i);
        for (std::size_t k = 0; k < ready.size(); ++k) EXPECT_EQ(ready[k], 9 - k);
        counts.push_back(i);
      });
    }
    yield();
    for (std::size_t i = 10; i > 0; --i) {
      events[i - 1].set();
      yield();
    }
    scope.join();
    EXPECT_THAT(counts, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
    EXPECT_EQ(waiting(events), 0U);
  });
}

TEST(WaitAny, TheFirstOfARange) {
  on_loop([] {
    std::vector<Fiber<>> fibers;
    for (const Duration time : {Duration(1h), Duration(1ms), Duration(1h)}) {
      fibers.push_back(spawn([time] { sleep_for(time); }));
    }
    EXPECT_EQ(wait_any(fibers), 1U);
    EXPECT_EQ(wait_any(fibers), 1U);
    for (const auto& each : fibers) each.cancel();
    join_all(fibers);
  });
}

TEST(WaitAny, OfSeveralKinds) {
  on_loop([] {
    Event event;
    Latch latch(1);
    Promise<> promise;
    const Future<> future = promise.future();
    WaitGroup group;
    group.add();
    auto fiber = spawn([] { sleep_for(1h); });
    const auto any = [&] { return wait_any(event, latch, future, group, fiber); };
    const auto nobody_waits = [&] {
      return event.waiting() == 0 && latch.waiters().empty() && future.waiters().empty() && group.waiters().empty() &&
             fiber.end_of_it().waiters().empty();
    };
    EXPECT_THROW(with_timeout(1ms, any), TimedOut);
    EXPECT_TRUE(nobody_waits());
    fiber.cancel();
    EXPECT_EQ(any(), 4U);
    auto other = spawn([&] { group.done(); });
    EXPECT_EQ(wait_any(event, latch, future, group), 3U);
    promise.set_value();
    EXPECT_EQ(any(), 2U) << "the first in their order, when several are up";
    latch.count_down();
    EXPECT_EQ(any(), 1U);
    event.set();
    EXPECT_EQ(any(), 0U);
    EXPECT_TRUE(nobody_waits());
    other.join();
    fiber.join();
  });
}

TEST(WaitAny, OfNothingAborts) {
  const auto ended = in_child([] {
    return run([] {
      std::vector<Fiber<>> none;
      static_cast<void>(wait_any(none));
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("wait_any of nothing would wait for ever")) << describe(ended);
}

TEST(WaitAny, SaysWhatIsWaitedFor) {
  on_loop([] {
    std::deque<Event> events(3);
    events[0].set();
    auto waiter = spawn([&] { return wait_n(events, 2); });
    yield();
    EXPECT_NE(this_loop::dump_fibers().find("some of 3 things, of which 1 have come"), std::string::npos)
        << this_loop::dump_fibers();
    events[1].set();
    waiter.join();
  });
}

// parity 47: WaitTests, ALL_COMPLETED
TEST(JoinAll, WaitsForAllWhateverTheyEndWith) {
  on_loop([] {
    int ended = 0;
    std::vector<Fiber<>> fibers;
    for (int i = 0; i < 5; ++i) {
      fibers.push_back(spawn([&, i] {
        for (int k = 0; k < i; ++k) yield();
        ++ended;
        if (i % 2 == 0) throw std::runtime_error("its own");
      }));
    }
    join_all(fibers);
    EXPECT_EQ(ended, 5);
    for (std::size_t i = 0; i < 5; i += 2) EXPECT_THROW(fibers[i].get(), std::runtime_error);
    join_all(std::vector<Fiber<>>());
    join_all(std::vector<Fiber<>>(), RaiseFirst::yes);
  });
}

// parity 5: test_joinall_exception_order; parity 47: FIRST_EXCEPTION
TEST(JoinAll, RaisesTheErrorThatHappenedFirst) {
  on_loop([] {
    std::vector<Fiber<>> fibers;
    fibers.push_back(spawn([] { sleep_for(1h); }));
    fibers.push_back(spawn([] {
      for (int i = 0; i < 3; ++i) yield();
      throw std::runtime_error("second");
    }));
    fibers.push_back(spawn([] {}));
    fibers.push_back(spawn([] {
      yield();
      throw std::out_of_range("first");
    }));
    EXPECT_THROW(join_all(fibers, RaiseFirst::yes), std::out_of_range);
    EXPECT_FALSE(fibers[0].done()) << "the others go on";
    EXPECT_FALSE(fibers[1].done());
    EXPECT_TRUE(fibers[0].end_of_it().waiters().empty());
    fibers[1].join();
    fibers[0].cancel();
    EXPECT_THROW(join_all(fibers, RaiseFirst::yes), std::runtime_error) << "ended before: in their own order";
    join_all(fibers);
    EXPECT_THROW(fibers[1].get(), std::runtime_error);
  });
}

TEST(JoinAll, ACancelledOneIsAnError) {
  on_loop([] {
    std::vector<Fiber<>> fibers;
    for (int i = 0; i < 2; ++i) fibers.push_back(spawn([] { sleep_for(1h); }));
    yield();
    fibers[1].cancel();
    EXPECT_THROW(join_all(fibers, RaiseFirst::yes), FiberCancelled);
    fibers[0].cancel();
    join_all(fibers);
  });
}

TEST(JoinAll, WithoutErrorsItWaitsForAll) {
  on_loop([] {
    std::vector<Fiber<>> fibers;
    for (int i = 5; i > 0; --i) {
      fibers.push_back(spawn([i] {
        for (int k = 0; k < i; ++k) yield();
      }));
    }
    join_all(fibers, RaiseFirst::yes);
    for (const auto& each : fibers) EXPECT_TRUE(each.done());
  });
}

TEST(JoinAll, OfFutures) {
  on_loop([] {
    std::array<Promise<int>, 2> promises;
    const std::vector<Future<int>> futures{promises[0].future(), promises[1].future()};
    auto setter = spawn([&] { promises[1].set_exception(std::make_exception_ptr(std::out_of_range("first"))); });
    EXPECT_THROW(join_all(futures, RaiseFirst::yes), std::out_of_range);
    EXPECT_TRUE(futures[0].waiters().empty());
    setter.join();
    promises[0].set_value(1);
    join_all(futures);
  });
}

// parity 24: cancelled while joining
TEST(JoinAll, CancelledTheFibersGoOn) {
  on_loop([] {
    for (const RaiseFirst raise : {RaiseFirst::no, RaiseFirst::yes}) {
      std::vector<Fiber<>> fibers;
      for (int i = 0; i < 3; ++i) fibers.push_back(spawn([] { sleep_for(1h); }));
      EXPECT_THROW(with_timeout(1ms, [&] { join_all(fibers, raise); }), TimedOut);
      for (const auto& each : fibers) {
        EXPECT_FALSE(each.done());
        EXPECT_TRUE(each.end_of_it().waiters().empty());
        each.cancel();
      }
      join_all(fibers);
    }
  });
}

// parity 47: as_completed
TEST(AsCompleted, InTheOrderInWhichTheyEnd) {
  on_loop([] {
    std::vector<Fiber<int>> fibers;
    const std::vector<int> turns{3, 1, 2, 0};
    for (const int count : turns) {
      fibers.push_back(spawn([count] {
        for (int i = 0; i < count; ++i) yield();
        if (count == 2) throw std::runtime_error("its own");
        return count;
      }));
    }
    std::vector<std::size_t> order;
    for (const std::size_t which : as_completed(fibers)) {
      order.push_back(which);
      EXPECT_TRUE(fibers[which].done());
      if (which == 2) {
        EXPECT_THROW(fibers[which].get(), std::runtime_error);
      } else {
        EXPECT_EQ(fibers[which].get(), turns[which]);
      }
    }
    EXPECT_THAT(order, ElementsAre(3U, 1U, 2U, 0U));
  });
}

TEST(AsCompleted, WhatEndsBetweenTwoStepsIsRemembered) {
  on_loop([] {
    std::deque<Event> events(4);
    events[2].set();
    std::vector<std::size_t> order;
    for (const std::size_t which : as_completed(events)) {
      order.push_back(which);
      if (which != 2) continue;
      events[3].set();
      events[3].clear();
      events[0].set();
      sleep_for(1us);
      events[1].set();
    }
    EXPECT_THAT(order, ElementsAre(2U, 3U, 0U, 1U));
    std::deque<Event> none;
    for (const std::size_t which : as_completed(none)) ADD_FAILURE() << which;
  });
}

// parity 28: test__iwait: leaving the iterator early removes the links
TEST(AsCompleted, LeftEarlyItRemovesItsLinks) {
  on_loop([] {
    std::deque<Event> events(4);
    events[1].set();
    for (const std::size_t which : as_completed(events)) {
      EXPECT_EQ(which, 1U);
      EXPECT_EQ(waiting(events), 3U);
      break;
    }
    EXPECT_EQ(waiting(events), 0U);
    try {
      for ([[maybe_unused]] const std::size_t which : as_completed(events)) throw std::runtime_error("the body's");
    } catch (const std::runtime_error&) {
      EXPECT_EQ(waiting(events), 0U);
    }
    std::vector<Fiber<>> fibers;
    for (int i = 0; i < 3; ++i) fibers.push_back(spawn([i] { sleep_for(i == 1 ? Duration(1us) : Duration(1h)); }));
    for (const std::size_t which : as_completed(fibers)) {
      EXPECT_EQ(which, 1U);
      break;
    }
    for (const auto& each : fibers) {
      EXPECT_TRUE(each.end_of_it().waiters().empty());
      each.cancel();
    }
    join_all(fibers);
  });
}

TEST(AsCompleted, CancelledWhileItWaits) {
  on_loop([] {
    std::deque<Event> events(3);
    events[0].set();
    std::vector<std::size_t> order;
    EXPECT_THROW(with_timeout(1ms,
                              [&] {
                                for (const std::size_t which : as_completed(events)) order.push_back(which);
                              }),
                 TimedOut);
    EXPECT_THAT(order, ElementsAre(0U));
    EXPECT_EQ(waiting(events), 0U);
    AsCompleted all(events);  // a limit on one step takes nothing from the next
    auto at = all.begin();
    ++at;
    EXPECT_FALSE(move_on_after(1ms, [&] { return *at; }));
    events[2].set();
    EXPECT_EQ(*at, 2U);
    EXPECT_EQ(*at, 2U);
    events[1].set();
    ++at;
    EXPECT_EQ(*at, 1U);
    at++;
    EXPECT_TRUE(at == all.end());
  });
}

}  // namespace
}  // namespace bight
