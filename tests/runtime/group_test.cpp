// SPDX-License-Identifier: Apache-2.0
#include <bight/group.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/time.hpp>

#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

/// What was reported as nobody's, by name.
struct Reports {
  std::vector<std::string> texts;
  RunOptions options;
  Reports() {
    options.on_unhandled_error = [this](const UnhandledError& error) {
      texts.push_back(std::string(error.fiber_name) + ": " + std::string(error.text));
    };
  }
};

TEST(Group, MembersLeaveItWhenTheyEnd) {
  on_loop([] {
    Group group;
    EXPECT_TRUE(group.empty());
    group.join();
    for (int i = 0; i < 3; ++i) {
      group.spawn([i] {
        for (int k = 0; k < i; ++k) yield();
      });
    }
    EXPECT_EQ(group.size(), 3U);
    for (std::size_t left = 3; left > 0; --left) {
      EXPECT_EQ(group.size(), left);
      yield();
    }
    EXPECT_TRUE(group.empty());
    group.join();
    EXPECT_EQ(group.failures(), 0U);
  });
}

TEST(Group, ValuesThroughHandles) {
  on_loop([] {
    Group group;
    auto sum = group.spawn([](int a, int b) { return a + b; }, 2, 3);
    auto named = group.spawn({.name = "pump"}, [] { return std::string(this_fiber::name()); });
    auto owned = group.spawn([value = std::make_unique<int>(6)] { return *value; });
    EXPECT_EQ(sum.get(), 5);
    EXPECT_EQ(named.get(), "pump");
    EXPECT_EQ(owned.get(), 6);
  });
}

TEST(Group, AnErrorDoesNotConcernTheOthers) {
  on_loop([] {
    Group group;
    bool finished = false;
    group.spawn([] { throw std::runtime_error("its own"); });
    group.spawn([&] {
      sleep_for(1ms);
      finished = true;
    });
    EXPECT_THROW(group.join(), std::runtime_error);
    EXPECT_TRUE(finished) << "join waits for all";
    EXPECT_EQ(group.failures(), 1U);
    EXPECT_EQ(group.first_error(), nullptr);
    group.join();  // it is told once
  });
}

TEST(Group, ThrowsTheFirstErrorInTime) {
  on_loop([] {
    Group group;
    group.spawn([] {
      sleep_for(1ms);
      throw std::runtime_error("late");
    });
    group.spawn([] {
      yield();
      throw std::out_of_range("early");
    });
    EXPECT_THROW(group.join(), std::out_of_range);
    EXPECT_EQ(group.failures(), 2U);
    group.spawn([] { throw std::logic_error("of the next round"); });
    EXPECT_THROW(group.join(), std::logic_error);
    EXPECT_EQ(group.failures(), 3U) << "ever";
    group.join();
  });
}

// issue 521 of gevent: members that failed before the join
TEST(Group, ErrorsAreKeptUntilSomebodyAsks) {
  Reports reports;
  on_loop(reports.options, [] {
    Group group;
    group.spawn([] { throw std::runtime_error("kept"); });
    yield();
    EXPECT_TRUE(group.empty());
    EXPECT_EQ(group.failures(), 1U);
    EXPECT_NE(group.first_error(), nullptr);
    EXPECT_TRUE(group.join_for(0ms)) << "which does not throw them";
    EXPECT_TRUE(group.join_until(now() - 1h));
    EXPECT_THROW(group.join(), std::runtime_error);
  });
  EXPECT_THAT(reports.texts, IsEmpty());
}

TEST(Group, ErrorsThatNobodyAskedForAreReported) {
  Reports reports;
  on_loop(reports.options, [] {
    {
      Group group;
      group.spawn([] { throw std::runtime_error("first"); });
      group.spawn([] { throw std::runtime_error("second"); });
      yield();
    }
    EXPECT_EQ(this_loop::stats().unhandled_errors, 1U);
    {
      Group group;
      group.spawn([] {
        try {
          sleep_for(1h);
        } catch (const Cancelled&) {
          throw std::logic_error("while it was left");
        }
      });
      yield();
    }
  });
  EXPECT_THAT(reports.texts, ElementsAre(HasSubstr("first"), HasSubstr("while it was left")));
}

TEST(Group, AnErrorThatGetCollectsCountsAsWell) {
  on_loop([] {
    Group group;
    auto fails = group.spawn([]() -> int { throw std::runtime_error("both"); });
    EXPECT_THROW(fails.get(), std::runtime_error);
    EXPECT_THROW(group.join(), std::runtime_error);
  });
}

TEST(Group, CancelledMembersAreNoErrors) {
  on_loop([] {
    Group group;
    auto one = group.spawn([] { sleep_for(1h); });
    yield();
    one.cancel();
    group.join();
    EXPECT_EQ(one.status(), FiberStatus::cancelled);
    EXPECT_EQ(group.failures(), 0U);
    EXPECT_EQ(group.first_error(), nullptr);
  });
}

TEST(Group, LeavingItCancelsAndWaits) {
  on_loop([] {
    std::vector<std::string> log;
    bool ran = false;
    {
      Group group;
      group.spawn([&] {
        try {
          sleep_for(1h);
        } catch (const Cancelled&) {
          Shield shield;
          sleep_for(1ms);
          log.emplace_back("cleaned up");
          throw;
        }
      });
      yield();
      group.spawn([&] { ran = true; });
    }
    EXPECT_THAT(log, ElementsAre("cleaned up"));
    EXPECT_FALSE(ran) << "cancelled before it has run";
    yield();
    EXPECT_FALSE(this_fiber::cancel_requested());
  });
}

TEST(Group, WhatMembersSpawnWhileItIsLeftIsCancelledToo) {
  on_loop([] {
    bool ran = false;
    {
      Group group;
      group.spawn([&] {
        try {
          sleep_for(1h);
        } catch (const Cancelled&) {
          group.spawn([&] { ran = true; });
          throw;
        }
      });
      yield();
    }
    EXPECT_FALSE(ran);
  });
}

TEST(Group, JoinCountsThoseWhoComeMeanwhile) {
  on_loop([] {
    Group group;
    std::vector<int> log;
    group.spawn([&] {
      sleep_for(1us);
      log.push_back(1);
      group.spawn([&] {
        sleep_for(1us);
        log.push_back(2);
        group.spawn([&] { log.push_back(3); });
      });
    });
    group.join();
    EXPECT_THAT(log, ElementsAre(1, 2, 3));
  });
}

TEST(Group, JoinIsNotFooledByAMomentOfEmptiness) {
  on_loop([] {
    Group group;
    bool finished = false;
    group.spawn([] {});
    auto other = spawn([&] {  // runs between the member's end and the joiner
      EXPECT_TRUE(group.empty());
      group.spawn([&] {
        yield();
        finished = true;
      });
    });
    group.join();
    EXPECT_TRUE(other.done());
    EXPECT_TRUE(finished);
  });
}

TEST(Group, JoinForALimit) {
  on_loop([] {
    Group group;
    Event go;
    group.spawn([&] {
      go.wait();
      throw std::runtime_error("kept");
    });
    const TimePoint start = now();
    EXPECT_FALSE(group.join_for(2ms));
    EXPECT_GE(now() - start, 2ms);
    EXPECT_FALSE(group.join_for(0ms));
    EXPECT_FALSE(group.join_until(now() - 1h));
    auto setter = spawn([&] { go.set(); });
    EXPECT_TRUE(group.join_for(1h));
    setter.join();
    EXPECT_THROW(group.join(), std::runtime_error);
  });
}

// parity 24: the joiner's own cancellation
TEST(Group, WhenTheJoinerIsCancelledTheMembersGoOn) {
  on_loop([] {
    Group group;
    bool finished = false;
    Event go;
    group.spawn([&] {
      go.wait();
      finished = true;
    });
    EXPECT_THROW(with_timeout(1ms, [&] { group.join(); }), TimedOut);
    EXPECT_THROW(with_timeout(1ms, [&] { return group.join_for(1h); }), TimedOut);
    auto joiner = spawn([&] { group.join(); });
    yield();
    joiner.cancel();
    joiner.join();
    EXPECT_EQ(joiner.status(), FiberStatus::cancelled);
    EXPECT_EQ(group.size(), 1U);
    go.set();
    group.join();
    EXPECT_TRUE(finished);
  });
}

TEST(Group, InheritsTheCancellationOfWhereItWasMade) {
  on_loop([] {
    int cancelled = 0;
    const auto count = [&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        ++cancelled;
        throw;
      }
    };
    EXPECT_THROW(with_timeout(1h,
                              [&](Deadline& deadline) {
                                Group group;
                                group.spawn(count);
                                yield();
                                deadline.reset(Duration(0));
                                group.join();
                              }),
                 TimedOut);
    EXPECT_EQ(cancelled, 1);
    auto owner = spawn([&] {
      Group group;
      group.spawn(count);
      sleep_for(1h);
    });
    yield();
    yield();
    owner.cancel();
    owner.join();
    EXPECT_EQ(cancelled, 2);
  });
}

TEST(Group, CancelAllConcernsThePresentMembers) {
  on_loop([] {
    Group group;
    auto present = group.spawn([] { sleep_for(1h); });
    auto yet_to_run = group.spawn([] { ADD_FAILURE(); });
    group.cancel_all();
    EXPECT_EQ(group.size(), 2U) << "it does not wait";
    auto later = group.spawn([] {
      sleep_for(1ms);
      return 5;
    });
    group.join();
    EXPECT_EQ(present.status(), FiberStatus::cancelled);
    EXPECT_EQ(yet_to_run.status(), FiberStatus::cancelled);
    EXPECT_EQ(later.get(), 5);
    group.cancel_all();
    group.join();
  });
}

// parity 27: test_kill_fires_once, and block=True waits for the undead
TEST(Group, CancelAllTwiceCancelsOnceAndJoinWaitsForTheUndead) {
  on_loop([] {
    Group group;
    int cancelled = 0;
    bool ended = false;
    group.spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        ++cancelled;
        Shield shield;
        sleep_for(1ms);
        ended = true;
        throw;
      }
    });
    yield();
    for (int i = 0; i < 3; ++i) {
      group.cancel_all();
      yield();
    }
    EXPECT_EQ(cancelled, 1);
    EXPECT_FALSE(ended);
    group.join();
    EXPECT_TRUE(ended);
    EXPECT_EQ(cancelled, 1);
  });
}

TEST(Group, AnExceptionOfTheBodyCancelsThemAndGoesOn) {
  on_loop([] {
    bool cancelled = false;
    EXPECT_THROW(
        {
          Group group;
          group.spawn([&] {
            try {
              sleep_for(1h);
            } catch (const Cancelled&) {
              cancelled = true;
              throw;
            }
          });
          yield();
          throw std::out_of_range("body's");
        },
        std::out_of_range);
    EXPECT_TRUE(cancelled);
  });
}

TEST(Group, SpawnedIntoFromElsewhere) {
  on_loop([] {
    Group group;
    int ran = 0;
    auto other = spawn([&] { group.spawn([&] { ++ran; }); });
    auto hook = spawn([] {});
    hook.on_done([&] { group.spawn([&] { ++ran; }); });
    other.join();
    yield();
    sleep_for(1us);
    group.join();
    EXPECT_EQ(ran, 2);
  });
}

TEST(Group, SeveralJoin) {
  on_loop([] {
    Group group;
    group.spawn([] {
      sleep_for(1ms);
      throw std::runtime_error("one of them has it");
    });
    int thrown = 0;
    std::vector<Fiber<>> joiners;
    for (int i = 0; i < 3; ++i) joiners.push_back(spawn([&] { group.join(); }));
    for (auto& each : joiners) {
      try {
        each.get();
      } catch (const std::runtime_error&) {
        ++thrown;
      }
    }
    EXPECT_EQ(thrown, 1);
  });
}

TEST(Group, SaysWhatIsWaitedFor) {
  on_loop([] {
    Group group;
    Event go;
    for (int i = 0; i < 2; ++i) group.spawn([&] { go.wait(); });
    auto joiner = spawn([&] { group.join(); });
    yield();
    EXPECT_THAT(this_loop::dump_fibers(), HasSubstr("the 2 fibers that it owns"));
    go.set();
    joiner.get();
  });
}

}  // namespace
}  // namespace bight
