// SPDX-License-Identifier: Apache-2.0
#include <bight/coroutine.hpp>

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "child.hpp"
#include "misuse.hpp"
#include "on_loop.hpp"
#include "socket_pair.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::Ended;
using test::expect_abort;
using test::in_child;
using test::on_loop;

using Ints = Coroutine<int, int>;

Ints running_sum() {
  return Ints([](Ints::Self& self, int next) -> int {
    for (int sum = 0;;) next = self.yield(sum += next);
  });
}

// --- Values ----------------------------------------------------------------------------------------------------------

TEST(Coroutine, ValuesGoBothWays) {
  on_loop([] {
    Ints sums = running_sum();
    EXPECT_EQ(sums.resume(1), 1);
    EXPECT_EQ(sums.resume(10), 11);
    EXPECT_EQ(sums.resume(100), 111);
    EXPECT_FALSE(sums.done());
  });
}

TEST(Coroutine, WhatItReturnsIsItsLastAnswer) {
  on_loop([] {
    Coroutine<int, std::string> twice([](auto& self, int first) {
      const int second = self.yield("first " + std::to_string(first));
      return "second " + std::to_string(second);
    });
    EXPECT_EQ(twice.resume(3), "first 3");
    EXPECT_FALSE(twice.done());
    EXPECT_EQ(twice.resume(4), "second 4");
    EXPECT_TRUE(twice.done());
  });
}

TEST(Coroutine, EitherWayMayBeVoid) {
  on_loop([] {
    std::vector<int> seen;
    Coroutine<void, int> source([](auto& self) {
      self.yield(1);
      return 2;
    });
    EXPECT_EQ(source.resume(), 1);
    EXPECT_EQ(source.resume(), 2);
    Coroutine<int, void> sink([&](auto& self, int next) {
      seen.push_back(next);
      seen.push_back(self.yield());
    });
    sink.resume(3);
    sink.resume(4);
    Coroutine<void, void> steps([&](auto& self) {
      seen.push_back(5);
      self.yield();
      seen.push_back(6);
    });
    steps.resume();
    seen.push_back(0);
    steps.resume();
    EXPECT_EQ(seen, (std::vector{3, 4, 5, 0, 6}));
    EXPECT_TRUE(source.done() && sink.done() && steps.done());
  });
}

TEST(Coroutine, ValuesMayBeMoveOnly) {
  on_loop([] {
    using Pointer = std::unique_ptr<int>;
    auto held = std::make_unique<int>(1000);
    Coroutine<Pointer, Pointer> doubles([held = std::move(held)](auto& self, Pointer next) {
      for (;;) {
        if (next == nullptr) return std::make_unique<int>(*held);
        *next *= 2;
        next = self.yield(std::move(next));
      }
    });
    EXPECT_EQ(*doubles.resume(std::make_unique<int>(21)), 42);
    EXPECT_EQ(*doubles.resume(std::make_unique<int>(4)), 8);
    EXPECT_EQ(*doubles.resume(nullptr), 1000);
  });
}

TEST(Coroutine, MovesAndSwapsItsHandle) {
  on_loop([] {
    Ints one = running_sum();
    EXPECT_EQ(one.resume(1), 1);
    Ints other = std::move(one);
    EXPECT_FALSE(one);  // NOLINT(bugprone-use-after-move): that is the test
    EXPECT_EQ(other.resume(1), 2);
    one = running_sum();
    one.swap(other);
    EXPECT_EQ(one.resume(1), 3);
    EXPECT_EQ(other.resume(1), 1);
    one = std::move(other);
    EXPECT_EQ(one.resume(1), 2);
  });
}

TEST(Coroutine, YieldsFromDeepWithin) {
  on_loop([] {
    Coroutine<void, int> countdown([](auto& self) {
      const std::function<void(int)> down = [&](int n) {
        self.yield(n);
        if (n > 1) down(n - 1);
        self.yield(-n);
      };
      down(3);
      return 0;
    });
    for (const int expected : {3, 2, 1, -1, -2, -3, 0}) EXPECT_EQ(countdown.resume(), expected);
  });
}

// --- Exceptions ------------------------------------------------------------------------------------------------------

TEST(Coroutine, AnExceptionComesOutOfResumeAndEndsIt) {
  on_loop([] {
    Ints thrower([](auto& self, int next) -> int {
      self.yield(next);
      throw std::runtime_error("from within");
    });
    EXPECT_EQ(thrower.resume(1), 1);
    try {
      thrower.resume(2);
      ADD_FAILURE() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "from within");
    }
    EXPECT_TRUE(thrower.done());
    EXPECT_EQ(std::current_exception(), nullptr);
    EXPECT_EQ(std::uncaught_exceptions(), 0);
  });
}

TEST(Coroutine, AnExceptionThrownInCanBeHandledInThere) {
  on_loop([] {
    Coroutine<int, std::string> handler([](auto& self, int) {
      std::string answer = "ready";
      for (;;) {
        try {
          answer = "value " + std::to_string(self.yield(std::move(answer)));
        } catch (const std::exception& error) {
          answer = std::string("caught ") + error.what();
        }
      }
      return answer;
    });
    EXPECT_EQ(handler.resume(0), "ready");
    EXPECT_EQ(handler.resume_throw(std::make_exception_ptr(std::runtime_error("this"))), "caught this");
    EXPECT_EQ(handler.resume(5), "value 5");
    EXPECT_EQ(handler.resume_throw(std::make_exception_ptr(std::logic_error("that"))), "caught that");
  });
}

TEST(Coroutine, AnExceptionThrownInComesOutIfNobodyHandlesIt) {
  on_loop([] {
    Ints sums = running_sum();
    sums.resume(1);
    EXPECT_THROW(sums.resume_throw(std::make_exception_ptr(std::out_of_range("far"))), std::out_of_range);
    EXPECT_TRUE(sums.done());
  });
}

// parity: test_greenlet, throw into one that has not begun
TEST(Coroutine, ThrownIntoBeforeItBeganItNeverRuns) {
  on_loop([] {
    bool ran = false;
    auto held = std::make_shared<int>(1);
    Coroutine<void, void> unstarted([&ran, held](auto&) { ran = true; });
    EXPECT_EQ(held.use_count(), 2);
    EXPECT_THROW(unstarted.resume_throw(std::make_exception_ptr(std::runtime_error("early"))), std::runtime_error);
    EXPECT_TRUE(unstarted.done());
    EXPECT_FALSE(ran);
    EXPECT_EQ(held.use_count(), 1);
  });
}

TEST(Coroutine, ExceptionStateIsItsOwn) {
  on_loop([] {
    Coroutine<void, int> inside([](auto& self) {
      EXPECT_EQ(std::current_exception(), nullptr);
      try {
        throw 7;
      } catch (int mine) {
        self.yield(mine);
        try {
          throw;
        } catch (int again) {
          self.yield(again + 1);
        }
      }
      self.yield(std::uncaught_exceptions());
      return std::current_exception() == nullptr ? 1 : 0;
    });
    try {
      throw std::runtime_error("outer");
    } catch (const std::runtime_error& outer) {
      EXPECT_EQ(inside.resume(), 7);
      EXPECT_EQ(inside.resume(), 8);
      try {
        throw;
      } catch (const std::runtime_error& again) {
        EXPECT_EQ(&again, &outer);
      }
    }
    EXPECT_EQ(std::current_exception(), nullptr);
    EXPECT_EQ(inside.resume(), 0);
    EXPECT_EQ(inside.resume(), 1);
  });
}

// --- Ends ------------------------------------------------------------------------------------------------------------

struct Note {
  Note(std::vector<std::string>& all, std::string what) : notes(all), text(std::move(what)) {}
  ~Note() { notes.push_back(text); }
  std::vector<std::string>& notes;
  std::string text;
};

TEST(Coroutine, DestroyedUnfinishedItUnwindsItsStackInnermostFirst) {
  on_loop([] {
    std::vector<std::string> notes;
    {
      Coroutine<void, void> unfinished([&notes, held = std::make_shared<Note>(notes, "captured")](auto& self) {
        const Note outer(notes, "outer");
        const auto inner = [&] {
          const Note nested(notes, "inner");
          self.yield();
          notes.push_back("went on");
        };
        inner();
      });
      unfinished.resume();
      notes.push_back("leaving");
    }
    EXPECT_EQ(notes, (std::vector<std::string>{"leaving", "inner", "outer", "captured"}));
    EXPECT_EQ(std::uncaught_exceptions(), 0);
  });
}

TEST(Coroutine, NeverBegunItOnlyEndsItsCallable) {
  on_loop([] {
    auto held = std::make_shared<int>(1);
    bool ran = false;
    {
      const Coroutine<void, void> unused([held, &ran](auto&) { ran = true; });
      EXPECT_EQ(held.use_count(), 2);
    }
    EXPECT_EQ(held.use_count(), 1);
    EXPECT_FALSE(ran);
  });
}

TEST(Coroutine, FinishedItHasEndedItsCallable) {
  on_loop([] {
    auto held = std::make_shared<int>(1);
    Coroutine<void, int> once([held](auto&) { return *held; });
    EXPECT_EQ(once.resume(), 1);
    EXPECT_EQ(held.use_count(), 1);
  });
}

TEST(Coroutine, AnUnwindingIsNoStdExceptionAndMayBeLookedAtOnItsWay) {
  on_loop([] {
    std::vector<int> seen;
    {
      Coroutine<void, void> passing([&](auto& self) {
        try {
          try {
            self.yield();
          } catch (const std::exception&) {
            seen.push_back(-1);
          }
        } catch (...) {
          seen.push_back(1);
          throw;
        }
      });
      passing.resume();
    }
    EXPECT_EQ(seen, (std::vector{1}));
  });
}

TEST(Coroutine, AnUnwindingThatIsSwallowedEndsItAllTheSame) {
  on_loop([] {
    bool ended = false;
    {
      Ints swallows([&](auto& self, int next) {
        try {
          next = self.yield(next);
        } catch (...) {  // and does not yield again
        }
        ended = true;
        return next;
      });
      swallows.resume(1);
    }
    EXPECT_TRUE(ended);
  });
}

TEST(Coroutine, WhatUnwindingThrowsIsReported) {
  std::vector<std::string> reports;
  RunOptions options;
  options.on_unhandled_error = [&](const UnhandledError& error) { reports.emplace_back(error.text); };
  on_loop(options, [] {
    Coroutine<void, void> clumsy([](auto& self) {
      try {
        self.yield();
      } catch (...) {
        throw std::runtime_error("on its way out");
      }
    });
    clumsy.resume();
  });
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_NE(reports[0].find("on its way out"), std::string::npos) << reports[0];
}

TEST(Coroutine, DestroyedByAnExceptionInFlight) {
  on_loop([] {
    std::vector<std::string> notes;
    try {
      Coroutine<void, void> unfinished([&](auto& self) {
        const Note note(notes, "unwound");
        self.yield();
      });
      unfinished.resume();
      throw std::runtime_error("passing by");
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "passing by");
    }
    EXPECT_EQ(notes, (std::vector<std::string>{"unwound"}));
    EXPECT_EQ(std::uncaught_exceptions(), 0);
  });
}

// --- Several of them -------------------------------------------------------------------------------------------------

TEST(Coroutine, OneResumesAnother) {
  on_loop([] {
    Ints outer([](auto& self, int next) -> int {
      Ints inner = running_sum();
      for (;;) next = self.yield(1000 + inner.resume(next));
    });
    EXPECT_EQ(outer.resume(1), 1001);
    EXPECT_EQ(outer.resume(2), 1003);
  });
}

// parity: greenlet's first example, test1 and test2: 12 56 34, and 78 is never printed
TEST(Coroutine, GreenletsPingPong) {
  on_loop([] {
    std::vector<int> printed;
    using Greenlet = Coroutine<void, void>;
    Greenlet one;
    Greenlet two;
    one = Greenlet([&](auto& self) {
      printed.push_back(12);
      self.transfer(two);
      printed.push_back(34);
    });
    two = Greenlet([&](auto& self) {
      printed.push_back(56);
      self.transfer(one);
      printed.push_back(78);
    });
    one.resume();
    EXPECT_EQ(printed, (std::vector{12, 56, 34}));
    EXPECT_TRUE(one.done());
    EXPECT_FALSE(two.done());
  });
}

TEST(Coroutine, TransfersCarryValuesAndAnswersGoToTheResumer) {
  on_loop([] {
    Ints white;
    Ints black;
    white = Ints([&](auto& self, int ball) -> int {
      while (ball < 10) ball = self.transfer(black, ball + 1);
      return ball;
    });
    black = Ints([&](auto& self, int ball) -> int {
      for (;;) {
        if (ball == 5) ball = self.yield(-ball);
        ball = self.transfer(white, ball + 1);
      }
    });
    EXPECT_EQ(white.resume(0), -5);  // from black, who had the ball
    EXPECT_EQ(black.resume(5), 10);  // from white, who has ended
    EXPECT_TRUE(white.done());
  });
}

TEST(Coroutine, AnErrorAfterATransferGoesToTheResumer) {
  on_loop([] {
    using Step = Coroutine<void, void>;
    Step failing([](auto&) { throw std::runtime_error("behind the scenes"); });
    Step first([&](auto& self) { self.transfer(failing); });
    EXPECT_THROW(first.resume(), std::runtime_error);
    EXPECT_TRUE(failing.done());
    EXPECT_FALSE(first.done());
    first.resume();
    EXPECT_TRUE(first.done());
  });
}

TEST(Coroutine, TheOneThatTookItsPlaceMayDestroyIt) {
  on_loop([] {
    using Step = Coroutine<void, void>;
    std::vector<std::string> notes;
    std::optional<Step> first;
    Step second([&](auto& self) {
      first.reset();
      Step reuses_its_stack([](auto&) {});
      reuses_its_stack.resume();
      self.yield();
    });
    first.emplace([&](auto& self) {
      const Note note(notes, "first unwound");
      self.transfer(second);
    });
    first->resume();
    EXPECT_EQ(notes, (std::vector<std::string>{"first unwound"}));
    second.resume();
    EXPECT_TRUE(second.done());
  });
}

TEST(Coroutine, DeeplyNested) {
  on_loop([] {
    std::function<int(int)> nest = [&](int depth) -> int {
      if (depth == 0) return 0;
      Coroutine<void, int> level([&](auto& self) {
        self.yield(nest(depth - 1) + 1);
        return 0;
      });
      return level.resume();
    };
    EXPECT_EQ(nest(1000), 1000);
  });
}

TEST(Coroutine, ManyAtOnce) {
  on_loop([] {
    const int count = test::this_many(10'000, 500);
    std::vector<Ints> all;
    all.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) all.push_back(running_sum());
    for (int round = 1; round <= 3; ++round) {
      for (int i = 0; i < count; ++i) EXPECT_EQ(all[static_cast<std::size_t>(i)].resume(i), round * i);
    }
  });
}

TEST(Coroutine, StacksAreUsedAgain) {
  on_loop([] {
    const auto some = [] {
      Ints sums = running_sum();
      sums.resume(1);
      const Ints unused = running_sum();
    };
    some();
    const auto before = this_loop::stats().stacks_reserved;
    for (int i = 0; i < 100; ++i) some();
    EXPECT_EQ(this_loop::stats().stacks_reserved, before);
  });
}

// --- Fibers ----------------------------------------------------------------------------------------------------------

TEST(Coroutine, ItsBodyWaitsAndItsFiberWithIt) {
  on_loop([] {
    std::vector<std::string> order;
    Coroutine<int, int> slow([&](auto& self, int next) -> int {
      for (;;) {
        sleep_for(1ms);
        order.push_back("slept");
        next = self.yield(next + 1);
      }
    });
    auto other = spawn([&] {
      for (int i = 0; i < 3; ++i) {
        order.push_back("other");
        yield();
      }
    });
    EXPECT_EQ(slow.resume(1), 2);
    EXPECT_EQ(order, (std::vector<std::string>{"other", "other", "other", "slept"}));
    EXPECT_EQ(slow.resume(5), 6);
    other.join();
  });
}

TEST(Coroutine, WaitsInsideCatchBlocksOfBoth) {
  on_loop([] {
    Scope scope;
    for (int i = 0; i < 5; ++i) {
      scope.spawn([i] {
        try {
          throw i;
        } catch (int outer) {
          Coroutine<void, int> inside([i](auto& self) {
            try {
              throw 100 + i;
            } catch (int inner) {
              for (int k = 0; k < i; ++k) yield();
              self.yield(inner);
              yield();
              try {
                throw;
              } catch (int again) {
                return again;
              }
            }
          });
          EXPECT_EQ(inside.resume(), 100 + i);
          yield();
          EXPECT_EQ(inside.resume(), 100 + i);
          EXPECT_EQ(outer, i);
          try {
            throw;
          } catch (int again) {
            EXPECT_EQ(again, i);
          }
        }
      });
    }
    scope.join();
  });
}

TEST(Coroutine, EachResumeMayBeAnotherFibers) {
  on_loop([] {
    Coroutine<void, std::string> who([](auto& self) -> std::string {
      for (;;) {
        yield();
        self.yield(std::string(this_fiber::name()));
      }
    });
    for (const char* name : {"one", "two", "three"}) {
      EXPECT_EQ(spawn({.name = name}, [&] { return who.resume(); }).get(), name);
    }
  });
}

TEST(Coroutine, IsDestroyedByAnotherFiberThanItBeganIn) {
  on_loop([] {
    std::vector<std::string> notes;
    auto made = spawn([&] {
      Coroutine<void, void> unfinished([&](auto& self) {
        const Note note(notes, "unwound");
        self.yield();
      });
      unfinished.resume();
      return unfinished;
    });
    { const Coroutine<void, void> taken = made.get(); }
    EXPECT_EQ(notes, (std::vector<std::string>{"unwound"}));
  });
}

TEST(Coroutine, ReadsFromASocketOnItsOwnStack) {
  on_loop([] {
    test::SocketPair pair = test::connect_pair();
    Coroutine<void, std::string> reader([&](auto& self) -> std::string {
      for (;;) {
        std::array<std::byte, 16> buffer{};
        std::error_code error;
        const std::size_t count = pair.server.read(buffer, error);
        test::require_ok(error, "read");
        if (count == 0) return "end";
        self.yield(std::string(reinterpret_cast<const char*>(buffer.data()), count));
      }
    });
    auto writer = spawn([&] {
      for (const char* text : {"one", "two"}) {
        std::error_code error;
        pair.client.write_all(test::bytes_of(text), error);
        test::require_ok(error, "write");
        sleep_for(1ms);
      }
      pair.client.close();
    });
    EXPECT_EQ(reader.resume(), "one");
    EXPECT_EQ(reader.resume(), "two");
    EXPECT_EQ(reader.resume(), "end");
    writer.join();
  });
}

TEST(Coroutine, CancelledInsideItUnwindsThroughResume) {
  on_loop([] {
    std::vector<std::string> notes;
    auto fiber = spawn([&] {
      const Note outer(notes, "fiber unwound");
      Coroutine<void, void> waits([&](auto&) {
        const Note inner(notes, "coroutine unwound");
        sleep_for(1h);
      });
      waits.resume();
      notes.push_back("went on");
    });
    yield();
    fiber.cancel();
    EXPECT_THROW(fiber.get(), FiberCancelled);
    EXPECT_EQ(notes, (std::vector<std::string>{"coroutine unwound", "fiber unwound"}));
  });
}

TEST(Coroutine, ADeadlineAroundResumeReachesInside) {
  on_loop([] {
    Coroutine<void, void> waits([&](auto&) { sleep_for(1h); });
    EXPECT_THROW(with_timeout(1ms, [&] { waits.resume(); }), TimedOut);
    EXPECT_TRUE(waits.done());
  });
}

TEST(Coroutine, ADeadlineInsideIsFineUntilItYields) {
  on_loop([] {
    Coroutine<void, bool> limited([](auto& self) {
      self.yield(move_on_after(1ms, [] { sleep_for(1h); }));
      return move_on_after(1h, [] { yield(); });
    });
    EXPECT_FALSE(limited.resume());
    EXPECT_TRUE(limited.resume());
  });
}

TEST(Coroutine, UnwindingMayWait) {
  on_loop([] {
    bool waited = false;
    struct Waits {
      bool& done;
      ~Waits() {
        sleep_for(1ms);
        done = true;
      }
    };
    {
      Coroutine<void, void> unfinished([&](auto& self) {
        const Waits waits{waited};
        self.yield();
      });
      unfinished.resume();
    }
    EXPECT_TRUE(waited);
  });
}

TEST(Coroutine, AScopeInsideMayBeYieldedFrom) {
  on_loop([] {
    Coroutine<void, int> fetches([](auto& self) {
      Scope scope;
      Fiber<int> one = scope.spawn([] { return 1; });
      Fiber<int> two = scope.spawn([] { return 2; });
      self.yield(one.get());
      self.yield(two.get());
      scope.join();
      return 3;
    });
    for (const int expected : {1, 2, 3}) EXPECT_EQ(fetches.resume(), expected);
  });
}

TEST(Coroutine, StackLeftIsThatOfItsOwnStack) {
  on_loop([] {
    const std::size_t outside = this_fiber::stack_left();
    Coroutine<void, std::size_t> small({.stack_size = 16 * 1024}, [](auto& self) {
      self.yield(this_fiber::stack_left());
      yield();
      return this_fiber::stack_left();
    });
    Coroutine<void, std::size_t> large({.stack_size = 1024 * 1024}, [](auto&) { return this_fiber::stack_left(); });
    const std::size_t factor = test::sanitized ? 4 : 1;
    const std::size_t before = small.resume();
    EXPECT_LT(before, 16 * 1024 * factor);
    EXPECT_EQ(this_fiber::stack_left(), outside);
    EXPECT_LT(small.resume(), 16 * 1024 * factor);
    EXPECT_GT(large.resume(), 1000 * 1024 * factor);
    EXPECT_EQ(this_fiber::stack_left(), outside);
  });
}

TEST(Coroutine, ATooLargeCallableIsRefused) {
  on_loop([] {
    const std::array<char, (test::sanitized ? 80 : 20) * 1024> large{};
    EXPECT_THROW((Coroutine<void, void>({.stack_size = 16 * 1024}, [large](auto&) { EXPECT_EQ(large[0], 0); })),
                 std::system_error);
    struct Refuses {
      Refuses() = default;
      Refuses(const Refuses&) { throw std::runtime_error("no copies"); }
      void operator()(Coroutine<void, void>::Self&) const {}
    };
    const Refuses refuses;
    EXPECT_THROW((Coroutine<void, void>(refuses)), std::runtime_error);
  });
}

// --- Misuse ----------------------------------------------------------------------------------------------------------

TEST(CoroutineMisuse, ResumingOneThatHasEnded) {
  expect_abort("this coroutine has ended", [] {
    Coroutine<void, void> ended([](auto&) {});
    ended.resume();
    ended.resume();
  });
  expect_abort("this coroutine has ended", [] {
    Coroutine<void, void> ended([](auto&) {});
    ended.resume();
    ended.resume_throw(std::make_exception_ptr(1));
  });
}

TEST(CoroutineMisuse, ResumingWhatRuns) {
  expect_abort("this coroutine runs already", [] {
    Coroutine<void, void> itself;
    itself = Coroutine<void, void>([&](auto&) { itself.resume(); });
    itself.resume();
  });
  expect_abort("this coroutine runs already", [] {
    Coroutine<void, void> waits([](auto&) { sleep_for(1h); });
    auto inside = spawn([&] { waits.resume(); });
    yield();
    waits.resume();
  });
  expect_abort("this coroutine runs already", [] {
    Coroutine<void, void> itself;
    itself = Coroutine<void, void>([&](auto& self) { self.transfer(itself); });
    itself.resume();
  });
}

TEST(CoroutineMisuse, DestroyingWhatRuns) {
  expect_abort("a coroutine is destroyed while it runs", [] {
    std::optional<Coroutine<void, void>> itself;
    itself.emplace([&](auto&) { itself.reset(); });
    itself->resume();
  });
}

TEST(CoroutineMisuse, YieldingForAnother) {
  expect_abort("only the coroutine that is running can yield", [] {
    Coroutine<void, void>::Self* leaked = nullptr;
    Coroutine<void, void> leaks([&](auto& self) {
      leaked = &self;
      self.yield();
    });
    leaks.resume();
    leaked->yield();
  });
  expect_abort("by the Self (or Yield) of another one", [] {
    Ints outer([](auto& self, int next) {
      Ints inner([&](auto&, int) { return self.yield(3); });
      return inner.resume(next);
    });
    outer.resume(1);
  });
}

TEST(CoroutineMisuse, YieldingWhileItIsUnwound) {
  expect_abort("this coroutine yields while it is being destroyed", [] {
    Ints stubborn([](auto& self, int next) -> int {
      for (;;) {
        try {
          next = self.yield(next);
        } catch (...) {
        }
      }
    });
    stubborn.resume(1);
  });
}

TEST(CoroutineMisuse, YieldingInsideADeadlineOfItsOwn) {
  expect_abort("a coroutine yields inside a deadline or shield of its own", [] {
    Coroutine<void, void> limited([](auto& self) { with_timeout(1h, [&] { self.yield(); }); });
    limited.resume();
  });
}

TEST(CoroutineMisuse, OutsideALoop) {
  const Ended made = in_child([] {
    const Coroutine<void, void> nowhere([](auto&) {});
    return 0;
  });
  EXPECT_TRUE(made.by(SIGABRT)) << describe(made);
  EXPECT_TRUE(made.says("there is no loop on this thread")) << describe(made);
  const Ended kept = in_child([] {
    Coroutine<void, void> held;
    run(RunOptions{.stop_on_signals = false}, [&] { held = Coroutine<void, void>([](auto&) {}); });
    return 0;
  });
  EXPECT_TRUE(kept.by(SIGABRT)) << describe(kept);
  EXPECT_TRUE(kept.says("a Coroutine or Generator outlives its loop")) << describe(kept);
}

TEST(CoroutineMisuse, OnAnotherThread) {
  expect_abort("was resumed on another thread than its loop's", [] {
    Ints sums = running_sum();
    std::thread([&] { sums.resume(1); }).join();
  });
}

TEST(CoroutineMisuse, InACallback) {
  expect_abort("only a fiber can wait", [] {
    Ints sums = running_sum();
    auto fiber = spawn([] {});
    fiber.on_done([&] { sums.resume(1); });
    sleep_for(1ms);
  });
  expect_abort("an unfinished coroutine is destroyed in a callback", [] {
    auto sums = std::make_unique<Ints>(running_sum());
    sums->resume(1);
    auto fiber = spawn([] {});
    fiber.on_done([&] { sums.reset(); });
    sleep_for(1ms);
  });
}

TEST(CoroutineMisuse, UsingAnEmptyHandle) {
  expect_abort("this Coroutine is empty", [] { Ints{}.resume(1); });
}

// --- Overflow --------------------------------------------------------------------------------------------------------

[[gnu::noinline]] int recurse(int depth) {
  std::array<volatile char, 300> frame{};
  frame[0] = static_cast<char>(depth);
  return depth == 0 ? 0 : recurse(depth - 1) + frame[0];
}

TEST(CoroutineOverflow, NamesTheFiberAndSaysThatItIsACoroutines) {
  if (test::sanitized) GTEST_SKIP() << "the sanitizers have their own report";
  const Ended ended = in_child([] {
    run([] {
      spawn({.name = "host"}, [] {
        Coroutine<void, int> deep([](auto&) { return recurse(1'000'000); });
        deep.resume();
      }).join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << describe(ended);
  EXPECT_TRUE(ended.says("fiber #2 'host' overflowed a coroutine's stack of ")) << describe(ended);
  EXPECT_TRUE(ended.says("CoroutineOptions::stack_size")) << describe(ended);
}

TEST(CoroutineOverflow, OfTheFiberOutsideIsStillTheFibers) {
  if (test::sanitized) GTEST_SKIP() << "the sanitizers have their own report";
  const Ended ended = in_child([] {
    run([] {
      spawn({.name = "host"}, [] {
        Ints sums = running_sum();
        sums.resume(1);
        return recurse(1'000'000) + sums.resume(1);
      }).join();
    });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << describe(ended);
  EXPECT_TRUE(ended.says("'host' overflowed its stack of ")) << describe(ended);
}

}  // namespace
}  // namespace bight
