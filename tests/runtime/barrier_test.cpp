// SPDX-License-Identifier: Apache-2.0
#include <bight/barrier.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;
using testing::ElementsAre;

// parity 42: BarrierTests.test_barrier
TEST(Barrier, NobodyGoesOnBeforeAllAreThere) {
  on_loop([] {
    Barrier barrier(3);
    EXPECT_EQ(barrier.parties(), 3U);
    std::vector<std::size_t> places;
    int passed = 0;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&, i] {
        for (int k = 0; k < i; ++k) yield();
        EXPECT_EQ(passed, 0);
        EXPECT_EQ(barrier.waiting(), static_cast<std::size_t>(i));
        places.push_back(barrier.wait());
        ++passed;
      });
    }
    scope.join();
    EXPECT_THAT(places, testing::UnorderedElementsAre(0U, 1U, 2U));
    EXPECT_EQ(barrier.waiting(), 0U);
    EXPECT_FALSE(barrier.broken());
  });
}

TEST(Barrier, PlacesAreInTheOrderOfComing) {
  on_loop([] {
    Barrier barrier(4);
    std::vector<std::size_t> places(4, 99);
    Scope scope;
    for (std::size_t i = 0; i < 4; ++i) {
      scope.spawn([&, i] { places[i] = i % 2 == 0 ? barrier.wait() : barrier.wait_for(1h); });
    }
    scope.join();
    EXPECT_THAT(places, ElementsAre(0U, 1U, 2U, 3U));
  });
}

// parity 42: test_barrier_10, the same one again and again
TEST(Barrier, MeetsAgainAndAgain) {
  on_loop([] {
    constexpr std::size_t kParties = 5;
    constexpr int kMeetings = 50;
    Barrier barrier(kParties);
    std::vector<int> round(kParties, 0);
    Scope scope;
    for (std::size_t i = 0; i < kParties; ++i) {
      scope.spawn([&, i] {
        for (int k = 0; k < kMeetings; ++k) {
          ++round[i];
          static_cast<void>(barrier.wait());
          for (const int other : round) {
            EXPECT_GE(other, k + 1);
            EXPECT_LE(other, k + 2);
          }
        }
      });
    }
    scope.join();
    EXPECT_EQ(barrier.waiting(), 0U);
  });
}

// parity 42: test_single_thread
TEST(Barrier, ForOneItNeverWaits) {
  on_loop([] {
    int called = 0;
    Barrier barrier(1, [&] { ++called; });
    for (int i = 0; i < 3; ++i) EXPECT_EQ(barrier.wait(), 0U);
    EXPECT_EQ(barrier.wait_for(0ms), 0U);
    EXPECT_EQ(called, 4);
  });
}

// parity 42: test_action
TEST(Barrier, TheActionIsCalledByTheLastBeforeAnyGoesOn) {
  on_loop([] {
    int acted = 0;
    std::uint64_t actor = 0;
    Barrier barrier(3, [&] {
      ++acted;
      actor = this_fiber::id();
    });
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&] {
        for (int k = 1; k <= 3; ++k) {
          const std::size_t place = barrier.wait();
          EXPECT_EQ(acted, k);
          EXPECT_EQ(place == 2, actor == this_fiber::id());
          yield();
        }
      });
    }
    scope.join();
    EXPECT_EQ(acted, 3);
  });
}

TEST(Barrier, WhoComesWhileTheActionWaitsIsOfTheNextMeeting) {
  on_loop([] {
    std::vector<std::string> log;
    Barrier barrier(2, [&] {
      log.emplace_back("action");
      sleep_for(1ms);
      log.emplace_back("acted");
    });
    Scope scope;
    for (const char* name : {"a", "b", "c", "d"}) {
      scope.spawn([&, name] {
        const std::size_t place = barrier.wait();
        log.push_back(name + std::to_string(place));
      });
    }
    scope.join();
    EXPECT_THAT(log, testing::UnorderedElementsAre("action", "acted", "a0", "b1", "action", "acted", "c0", "d1"));
    EXPECT_EQ(log[0], "action");
    EXPECT_EQ(log[1], "acted");
  });
}

TEST(Barrier, AnActionThatThrowsBreaksIt) {
  on_loop([] {
    bool fails = true;
    Barrier barrier(2, [&] {
      if (fails) throw std::out_of_range("action's");
    });
    auto waiter = spawn([&] { return barrier.wait(); });
    yield();
    EXPECT_THROW(barrier.wait(), std::out_of_range);
    EXPECT_TRUE(barrier.broken());
    EXPECT_THROW(waiter.get(), BrokenBarrier);
    EXPECT_THROW(barrier.wait(), BrokenBarrier);
    fails = false;
    barrier.reset();
    waiter = spawn([&] { return barrier.wait(); });
    yield();
    EXPECT_EQ(barrier.wait(), 1U);
    EXPECT_EQ(waiter.get(), 0U);
  });
}

TEST(Barrier, AnActionThatIsCancelledBreaksIt) {
  on_loop([] {
    Barrier barrier(2, [] { sleep_for(1h); });
    auto waiter = spawn([&] { return barrier.wait(); });
    auto actor = spawn([&] { return barrier.wait(); });
    auto next = spawn([&] { return barrier.wait(); });
    yield();
    actor.cancel();
    actor.join();
    EXPECT_EQ(actor.status(), FiberStatus::cancelled);
    EXPECT_TRUE(barrier.broken());
    EXPECT_THROW(waiter.get(), BrokenBarrier);
    EXPECT_THROW(next.get(), BrokenBarrier);
  });
}

// parity 42: test_abort
TEST(Barrier, AbortBreaksItForAll) {
  on_loop([] {
    Barrier barrier(4);
    Scope scope;
    int broken = 0;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&] {
        EXPECT_THROW(barrier.wait(), BrokenBarrier);
        ++broken;
      });
    }
    yield();
    EXPECT_EQ(barrier.waiting(), 3U);
    barrier.abort();
    EXPECT_EQ(barrier.waiting(), 0U);
    EXPECT_TRUE(barrier.broken());
    scope.join();
    EXPECT_EQ(broken, 3);
    EXPECT_THROW(barrier.wait(), BrokenBarrier);
    EXPECT_THROW(barrier.wait_for(1h), BrokenBarrier);
    EXPECT_THROW(barrier.wait_until(now() + 1h), BrokenBarrier);
    barrier.abort();
  });
}

// parity 42: test_reset, test_abort_and_reset
TEST(Barrier, ResetMakesItAsNew) {
  on_loop([] {
    for (const bool aborted : {false, true}) {
      Barrier barrier(2);
      auto waiter = spawn([&] { return barrier.wait(); });
      yield();
      if (aborted) barrier.abort();
      barrier.reset();
      EXPECT_FALSE(barrier.broken());
      auto first = spawn([&] { return barrier.wait(); });  // of the new one
      EXPECT_THROW(waiter.get(), BrokenBarrier);
      EXPECT_EQ(barrier.waiting(), 1U);
      EXPECT_EQ(barrier.wait(), 1U);
      EXPECT_EQ(first.get(), 0U);
    }
  });
}

// parity 42: test_timeout
TEST(Barrier, ALimitThatRunsOutBreaksItForAll) {
  on_loop([] {
    Barrier barrier(4);
    auto patient = spawn([&] { return barrier.wait(); });
    auto other = spawn([&] { return barrier.wait_for(1h); });
    yield();
    const TimePoint start = now();
    EXPECT_THROW(barrier.wait_for(2ms), BrokenBarrier);
    EXPECT_GE(now() - start, 2ms);
    EXPECT_TRUE(barrier.broken());
    EXPECT_THROW(patient.get(), BrokenBarrier);
    EXPECT_THROW(other.get(), BrokenBarrier);
    barrier.reset();
    EXPECT_THROW(barrier.wait_until(std::chrono::system_clock::now() - 1h), BrokenBarrier);
    EXPECT_TRUE(barrier.broken());
  });
}

TEST(Barrier, WhoIsCancelledHasNotCome) {
  on_loop([] {
    Barrier barrier(3);
    auto gone = spawn([&] { return barrier.wait(); });
    auto stays = spawn([&] { return barrier.wait(); });
    yield();
    gone.cancel();
    gone.join();
    EXPECT_EQ(gone.status(), FiberStatus::cancelled);
    EXPECT_FALSE(barrier.broken());
    EXPECT_EQ(barrier.waiting(), 1U);
    auto comes = spawn([&] { return barrier.wait(); });
    yield();
    EXPECT_FALSE(stays.done());
    EXPECT_EQ(barrier.wait(), 2U);
    EXPECT_EQ(stays.get(), 0U);
    EXPECT_EQ(comes.get(), 1U);
  });
}

// It has left when it is cancelled, not when it has run.
TEST(Barrier, WhoIsCancelledHasNotComeEvenBeforeItHasRun) {
  on_loop([] {
    Barrier barrier(2);
    auto gone = spawn([&] { return barrier.wait(); });
    yield();
    gone.cancel();
    EXPECT_EQ(barrier.waiting(), 0U);
    EXPECT_FALSE(move_on_after(1ms, [&] { static_cast<void>(barrier.wait()); })) << "there was nobody to meet";
    EXPECT_EQ(gone.status(), FiberStatus::cancelled);
    EXPECT_FALSE(barrier.broken());
    for (int i = 0; i < 3; ++i) {
      auto waiter = spawn([&] { return barrier.wait(); });
      yield();
      EXPECT_EQ(barrier.waiting(), 1U);
      EXPECT_EQ(barrier.wait(), 1U);
      EXPECT_EQ(waiter.get(), 0U);
    }
  });
}

TEST(Barrier, SeveralCancelledWhileOthersCome) {
  on_loop([] {
    Barrier barrier(3);
    std::vector<Fiber<std::size_t>> gone;
    for (int i = 0; i < 2; ++i) gone.push_back(spawn([&] { return barrier.wait(); }));
    yield();
    for (const auto& each : gone) each.cancel();
    std::vector<Fiber<std::size_t>> come;
    for (int i = 0; i < 2; ++i) come.push_back(spawn([&] { return barrier.wait(); }));
    EXPECT_EQ(barrier.wait(), 0U) << "it came before the cancelled have run";
    EXPECT_EQ(come[0].get(), 1U);
    EXPECT_EQ(come[1].get(), 2U);
    for (const auto& each : gone) EXPECT_EQ(each.status(), FiberStatus::cancelled);
    EXPECT_EQ(barrier.waiting(), 0U);
  });
}

TEST(Barrier, WhoIsCancelledAfterTheMeetingHasMet) {
  on_loop([] {
    Barrier barrier(2);
    std::optional<std::size_t> place;
    auto waiter = spawn([&] { place = barrier.wait(); });
    yield();
    EXPECT_EQ(barrier.wait(), 1U);
    waiter.cancel();
    waiter.join();
    EXPECT_EQ(place, 0U);
  });
}

TEST(Barrier, ACancelledFiberMayBeTheLast) {
  on_loop([] {
    Barrier barrier(2);
    auto waiter = spawn([&] { return barrier.wait(); });
    auto last = spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        EXPECT_EQ(barrier.wait(), 1U);  // which needs no wait
        EXPECT_THROW(barrier.wait(), Cancelled);
        throw;
      }
    });
    yield();
    last.cancel();
    last.join();
    EXPECT_EQ(waiter.get(), 0U);
    EXPECT_EQ(barrier.waiting(), 0U);
    EXPECT_FALSE(barrier.broken());
  });
}

TEST(Barrier, OuterLimitsDoNotBreakIt) {
  on_loop([] {
    Barrier barrier(2);
    EXPECT_THROW(with_timeout(1ms, [&] { return barrier.wait(); }), TimedOut);
    EXPECT_THROW(with_timeout(1ms, [&] { return barrier.wait_for(1h); }), TimedOut);
    EXPECT_FALSE(barrier.broken());
    EXPECT_EQ(barrier.waiting(), 0U);
  });
}

// Its limit has run out, and before it could say so the barrier was made as new.
TEST(Barrier, ALimitOfTheOldOneDoesNotBreakTheNew) {
  on_loop([] {
    if (!test::on_sim()) GTEST_SKIP() << "needs two things at the same time";
    Barrier barrier(2);
    const TimePoint when = now() + 1ms;
    auto resets = spawn([&] {
      sleep_until(when);
      barrier.reset();
    });
    auto waiter = spawn([&] { return barrier.wait_until(when); });
    EXPECT_THROW(waiter.get(), BrokenBarrier);
    resets.join();
    EXPECT_FALSE(barrier.broken());
    waiter = spawn([&] { return barrier.wait_until(now() + 1ms); });
    auto after = spawn([&] {
      sleep_until(now() + 1ms);
      barrier.reset();
    });
    EXPECT_THROW(waiter.get(), BrokenBarrier);
    after.join();
    EXPECT_FALSE(barrier.broken());
  });
}

TEST(Barrier, BrokenUpWhileTheActionWaits) {
  on_loop([] {
    for (const bool aborts : {true, false}) {
      Event go;
      Barrier barrier(2, [&] { go.wait(); });
      auto waiter = spawn([&] { return barrier.wait(); });
      auto actor = spawn([&] { return barrier.wait(); });
      auto next = spawn([&] { return barrier.wait(); });
      yield();
      if (aborts) {
        barrier.abort();
      } else {
        barrier.reset();
      }
      // At once, not when the action has come to its end.
      EXPECT_THROW(waiter.get(), BrokenBarrier);
      EXPECT_THROW(next.get(), BrokenBarrier);
      if (aborts) {
        EXPECT_THROW(barrier.wait(), BrokenBarrier);
      }
      EXPECT_FALSE(actor.done());
      go.set();
      EXPECT_THROW(actor.get(), BrokenBarrier);
      EXPECT_EQ(barrier.broken(), aborts);
      barrier.reset();
      waiter = spawn([&] { return barrier.wait(); });
      yield();
      EXPECT_EQ(barrier.wait(), 1U);
      EXPECT_EQ(waiter.get(), 0U);
    }
  });
}

TEST(Barrier, LimitsThatRunOutWhileTheActionWaits) {
  on_loop([] {
    Event go;
    Barrier barrier(2, [&] { go.wait(); });
    auto waiter = spawn([&] { return barrier.wait_for(1ms); });
    auto actor = spawn([&] { return barrier.wait(); });
    EXPECT_THROW(waiter.get(), BrokenBarrier);
    EXPECT_TRUE(barrier.broken());
    go.set();
    EXPECT_THROW(actor.get(), BrokenBarrier);

    barrier.reset();
    go.clear();
    waiter = spawn([&] { return barrier.wait(); });
    actor = spawn([&] { return barrier.wait(); });
    auto next = spawn([&] { return barrier.wait_for(1ms); });
    EXPECT_THROW(next.get(), BrokenBarrier);
    EXPECT_THROW(waiter.get(), BrokenBarrier);
    go.set();
    EXPECT_THROW(actor.get(), BrokenBarrier);
  });
}

TEST(Barrier, AnActionMayBreakItUp) {
  on_loop([] {
    Barrier* self = nullptr;
    Barrier barrier(2, [&] { self->abort(); });
    self = &barrier;
    auto waiter = spawn([&] { return barrier.wait(); });
    yield();
    EXPECT_THROW(barrier.wait(), BrokenBarrier);
    EXPECT_THROW(waiter.get(), BrokenBarrier);
  });
}

TEST(Barrier, MayBeDestroyedRightAfterTheMeeting) {
  on_loop([] {
    auto barrier = std::make_unique<Barrier>(3);
    std::vector<Fiber<std::size_t>> waiters;
    for (int i = 0; i < 2; ++i) waiters.push_back(spawn([&] { return barrier->wait(); }));
    yield();
    EXPECT_EQ(barrier->wait(), 2U);
    barrier.reset();
    EXPECT_EQ(waiters[0].get(), 0U);
    EXPECT_EQ(waiters[1].get(), 1U);
  });
}

TEST(Barrier, SaysWhatIsWaitedFor) {
  on_loop([] {
    Barrier barrier(5);
    auto waiter = spawn([&] { return barrier.wait(); });
    yield();
    EXPECT_NE(this_loop::dump_fibers().find("the others at a Barrier, where 1 of 5 are"), std::string::npos)
        << this_loop::dump_fibers();
    barrier.abort();
    waiter.join();
    EXPECT_THROW(waiter.get(), BrokenBarrier);
  });
}

TEST(Barrier, MisuseAborts) {
  auto ended = in_child([] { return run([] { Barrier barrier(0); }); });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("a Barrier is for one fiber at least")) << describe(ended);
  ended = in_child([] {
    return run([] {
      auto barrier = std::make_unique<Barrier>(2);
      auto waiter = spawn([&] { return barrier->wait(); });
      yield();
      barrier.reset();
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("a Barrier is destroyed while fibers wait at it")) << describe(ended);
}

TEST(Barrier, ManyPartiesSomeOfWhomAreCancelled) {
  on_loop([] {
    constexpr std::size_t kParties = 200;
    Barrier barrier(kParties);
    std::size_t sum = 0;
    Scope scope;
    std::vector<Fiber<>> leavers;
    for (std::size_t i = 0; i < kParties; ++i) {
      leavers.push_back(spawn([&] { static_cast<void>(barrier.wait()); }));
      leavers.back().cancel();  // before it has run
      if (i + 1 < kParties) leavers.push_back(spawn([&] { static_cast<void>(barrier.wait()); }));
    }
    yield();
    EXPECT_EQ(barrier.waiting(), kParties - 1);
    for (const auto& each : leavers) each.cancel();
    for (std::size_t i = 0; i < kParties; ++i) scope.spawn([&] { sum += barrier.wait(); });
    scope.join();
    EXPECT_EQ(sum, kParties * (kParties - 1) / 2);
    for (const auto& each : leavers) EXPECT_EQ(each.status(), FiberStatus::cancelled);
  });
}

}  // namespace
}  // namespace bight
