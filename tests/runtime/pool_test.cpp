// SPDX-License-Identifier: Apache-2.0
#include <bight/pool.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/queue.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "child.hpp"
#include "on_loop.hpp"
#include "ranges.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::in_child;
using test::on_loop;
using testing::ElementsAre;
using testing::IsEmpty;

/// Expects that a wait which could only end in a deadlock is refused.
template <class F>
void expect_deadlock_refused(F&& body) {
  try {
    body();
    ADD_FAILURE() << "it was not refused";
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::resource_deadlock_would_occur);
  }
}

/// How many are inside, and how many at most have been.
struct Gauge {
  std::size_t inside = 0;
  std::size_t most = 0;
  void enter() { most = std::max(most, ++inside); }
  void leave() { --inside; }
};

/// A range that ends with an error instead of an end.
auto failing_after(int count) {
  return test::mapped(test::iota(0), [count](int i) {
    if (i == count) throw std::out_of_range("the range");
    return i;
  });
}

TEST(Pool, RunsFunctionsInFibers) {
  on_loop([] {
    Pool pool(2);
    EXPECT_EQ(pool.size(), 2U);
    EXPECT_EQ(pool.available(), 2U);
    auto one = pool.spawn([] { return 5; });
    auto two = pool.spawn([value = std::make_unique<int>(6)] { return *value; });
    EXPECT_EQ(pool.busy(), 2U);
    EXPECT_TRUE(pool.full());
    EXPECT_FALSE(pool.member());
    EXPECT_EQ(one.get(), 5);
    EXPECT_EQ(two.get(), 6);
    EXPECT_EQ(pool.busy(), 0U);
    EXPECT_TRUE(pool.spawn([&] { return pool.member(); }).get());
    EXPECT_EQ(*pool.spawn([] { return std::make_unique<int>(7); }).get(), 7);
    pool.spawn([] {}).get();
    pool.join();
  });
}

// parity 25: TestSpawn, spawn blocks when it is full
TEST(Pool, SpawnWaitsForRoomInTheOrderOfComing) {
  on_loop([] {
    Pool pool(1);
    Event go;
    std::vector<int> log;
    auto first = pool.spawn([&] { go.wait(); });
    Scope scope;
    for (int i = 0; i < 4; ++i) {
      scope.spawn([&, i] {
        pool.spawn([&, i] {
              log.push_back(i);
              yield();
            })
            .detach();
      });
    }
    yield();
    EXPECT_EQ(pool.try_spawn([&] { log.push_back(99); }), std::nullopt);
    EXPECT_THAT(log, IsEmpty());
    EXPECT_EQ(pool.busy(), 1U);
    go.set();
    first.join();
    EXPECT_FALSE(pool.try_spawn([&] { log.push_back(99); })) << "nobody overtakes";
    scope.join();
    pool.join();
    EXPECT_THAT(log, ElementsAre(0, 1, 2, 3));
    EXPECT_EQ(pool.busy(), 0U);
  });
}

TEST(Pool, NeverMoreThanItsSize) {
  on_loop([] {
    Pool pool(3);
    Gauge gauge;
    for (int i = 0; i < 50; ++i) {
      pool.spawn([&, i] {
            gauge.enter();
            for (int k = 0; k < i % 4; ++k) yield();
            gauge.leave();
          })
          .detach();
    }
    pool.join();
    EXPECT_EQ(gauge.most, 3U);
  });
}

TEST(Pool, SpawnForALimit) {
  on_loop([] {
    Pool pool(1);
    Event go;
    auto first = pool.spawn_for(1h, [&] { go.wait(); });
    ASSERT_TRUE(first.has_value());
    auto held = std::make_shared<int>(1);
    const TimePoint start = now();
    EXPECT_FALSE(pool.spawn_for(2ms, [held] { ADD_FAILURE(); }));
    EXPECT_GE(now() - start, 2ms);
    EXPECT_FALSE(pool.spawn_for(0ms, [held] { ADD_FAILURE(); }));
    EXPECT_FALSE(pool.try_spawn([held] { ADD_FAILURE(); }));
    EXPECT_EQ(held.use_count(), 1);
    auto setter = spawn([&] {
      sleep_for(1ms);
      go.set();
    });
    EXPECT_EQ(pool.spawn_for(1h, [] { return 5; })->get(), 5);
    EXPECT_EQ(pool.try_spawn([] { return 6; })->get(), 6);
    setter.join();
    EXPECT_EQ(pool.available(), 1U);
  });
}

TEST(Pool, WhoIsCancelledWaitingForRoomTakesNone) {
  on_loop([] {
    Pool pool(1);
    Event go;
    pool.spawn([&] { go.wait(); }).detach();
    auto gone = spawn([&] { pool.spawn([] { ADD_FAILURE(); }).detach(); });
    auto stays = spawn([&] { return pool.spawn([] { return 5; }).get(); });
    yield();
    gone.cancel();
    go.set();
    gone.join();
    EXPECT_EQ(gone.status(), FiberStatus::cancelled);
    EXPECT_EQ(stays.get(), 5);
    EXPECT_THROW(with_timeout(1ms,
                              [&] {
                                pool.spawn([] { sleep_for(5ms); }).detach();
                                pool.spawn([] { ADD_FAILURE(); }).detach();
                              }),
                 TimedOut);
    pool.join();
    EXPECT_EQ(pool.available(), 1U);
  });
}

TEST(Pool, AMemberCancelledBeforeItHasRunGivesItsSlotBack) {
  on_loop([] {
    Pool pool(1);
    for (int i = 0; i < 3; ++i) {
      auto fiber = pool.spawn([] { ADD_FAILURE(); });
      fiber.cancel();
      fiber.join();
      EXPECT_EQ(fiber.status(), FiberStatus::cancelled);
      EXPECT_EQ(pool.available(), 1U);
    }
    auto waiting = pool.spawn([] { sleep_for(1h); });
    yield();
    pool.cancel_all();
    EXPECT_EQ(pool.spawn([] { return 5; }).get(), 5);
    EXPECT_EQ(waiting.status(), FiberStatus::cancelled);
  });
}

TEST(Pool, ASpawnThatFailsGivesItsSlotBack) {
  struct Thorny {
    Thorny() = default;
    Thorny(const Thorny&) { throw std::runtime_error("no copies"); }
    void operator()() const {}
  };
  on_loop([] {
    Pool pool(1);
    const Thorny thorny;
    EXPECT_THROW(pool.spawn(thorny), std::runtime_error);
    EXPECT_THROW(static_cast<void>(pool.try_spawn(thorny)), std::runtime_error);
    EXPECT_THROW(static_cast<void>(pool.spawn_for(1h, thorny)), std::runtime_error);
    EXPECT_EQ(pool.available(), 1U);
  });
  RunOptions few;
  few.fibers_max = 1;
  on_loop(few, [] {
    Pool pool(1);
    EXPECT_THROW(pool.spawn([] {}), std::system_error);
    const std::array<int, 1> one{1};
    EXPECT_THROW(pool.map(one, [](int) {}), std::system_error);
    EXPECT_EQ(pool.available(), 1U);
    EXPECT_EQ(pool.run([] { return 5; }), 5);
  });
}

// parity 25: test_stderr_raising: an error in the reporting of an error does not lose a slot
TEST(Pool, ErrorsLoseNoSlot) {
  RunOptions options;
  options.on_unhandled_error = [](const UnhandledError&) { throw std::runtime_error("the reporter's"); };
  on_loop(options, [] {
    Pool pool(1);
    for (int i = 0; i < 3; ++i) pool.spawn([] { throw std::runtime_error("a member's"); }).detach();
    EXPECT_EQ(pool.run([] { return 5; }), 5);
    EXPECT_EQ(pool.available(), 1U);
    EXPECT_EQ(pool.failures(), 3U);
    EXPECT_THROW(pool.join(), std::runtime_error);
    pool.join();
    EXPECT_THROW(pool.run([] { throw std::out_of_range("run's"); }), std::out_of_range);
    EXPECT_EQ(pool.available(), 1U);
  });
}

TEST(Pool, LeavingTheBlockCancelsThem) {
  on_loop([] {
    int cancelled = 0;
    Fiber<> spawner;
    {
      Pool pool(2);
      for (int i = 0; i < 2; ++i) {
        pool.spawn([&] {
              try {
                sleep_for(1h);
              } catch (const Cancelled&) {
                ++cancelled;
                throw;
              }
            })
            .detach();
      }
      spawner = spawn([&] { pool.spawn([] { ADD_FAILURE(); }).detach(); });  // waits for room
      yield();
    }
    EXPECT_EQ(cancelled, 2);
    spawner.get();
  });
}

TEST(Pool, JoinAndItsLimits) {
  on_loop([] {
    Pool pool(2);
    Event go;
    pool.spawn([&] { go.wait(); }).detach();
    EXPECT_FALSE(pool.join_for(1ms));
    go.set();
    EXPECT_TRUE(pool.join_for(1h));
  });
}

TEST(Pool, RunIsDoneHere) {
  on_loop([] {
    Pool pool(1);
    const std::uint64_t here = this_fiber::id();
    pool.run([&] {
      EXPECT_EQ(this_fiber::id(), here);
      EXPECT_TRUE(pool.member());
      EXPECT_EQ(pool.busy(), 1U);
    });
    EXPECT_FALSE(pool.member());
    int value = 3;
    EXPECT_EQ(&pool.run([&]() -> int& { return value; }), &value);
    Event go;
    pool.spawn([&] { go.wait(); }).detach();
    EXPECT_THROW(with_timeout(1ms, [&] { pool.run([] { ADD_FAILURE(); }); }), TimedOut);
    auto setter = spawn([&] { go.set(); });
    EXPECT_EQ(pool.run([] { return 5; }), 5) << "when there is room";
    setter.join();
    EXPECT_EQ(pool.available(), 1U);
  });
}

// parity 25: test_reentrant: in a pool of one
TEST(Pool, RunAndMapInsideAMemberNeedNoFurtherSlot) {
  on_loop([] {
    Pool pool(1);
    const std::array<int, 3> numbers{1, 2, 3};
    auto fiber = pool.spawn([&] {
      const int inner = pool.run([&] { return pool.run([] { return 5; }); });
      const std::vector<int> squares = pool.map(numbers, [&](int i) {
        EXPECT_TRUE(pool.member());
        return pool.run([i] { return i * i; });
      });
      EXPECT_THAT(squares, ElementsAre(1, 4, 9));
      return inner;
    });
    EXPECT_EQ(fiber.get(), 5);
    const auto nested = pool.map(numbers, [&](int i) {
      const auto row = pool.map(numbers, [i](int k) { return i * k; });
      return row[0] + row[1] + row[2];
    });
    EXPECT_THAT(nested, ElementsAre(6, 12, 18));
    EXPECT_EQ(pool.available(), 1U);
    EXPECT_TRUE(pool.spawn([&] { return pool.member(); }).get());
  });
}

TEST(Pool, MapInsideAMemberUsesTheRoomThereIs) {
  on_loop([] {
    Pool pool(3);
    Gauge gauge;
    pool.run([&] {
      pool.map(test::iota(0, 12), [&](int) {
        gauge.enter();
        yield();
        gauge.leave();
      });
    });
    EXPECT_GT(gauge.most, 1U);
    EXPECT_LE(gauge.most, 3U);
    EXPECT_EQ(pool.available(), 3U);
  });
}

// parity 25: nested spawn from a full pool's members, where gevent deadlocks
TEST(Pool, ASpawnForWhichAllMembersWouldWaitIsRefused) {
  on_loop([] {
    Pool one(1);
    one.run([&] { expect_deadlock_refused([&] { one.spawn([] {}).detach(); }); });
    one.spawn([&] { expect_deadlock_refused([&] { one.spawn([] {}).detach(); }); }).get();
    Pool pool(3);
    std::vector<Fiber<int>> members;
    int refused = 0;
    for (int i = 0; i < 3; ++i) {
      members.push_back(pool.spawn([&, i] {
        yield();
        try {
          return pool.spawn([i] { return 10 * i; }).get();
        } catch (const std::system_error& error) {
          EXPECT_EQ(error.code(), std::errc::resource_deadlock_would_occur);
          ++refused;
          return -1;
        }
      }));
    }
    EXPECT_EQ(members[0].get(), 0);
    EXPECT_EQ(members[1].get(), 10);
    EXPECT_EQ(members[2].get(), -1);
    EXPECT_EQ(refused, 1);
    EXPECT_EQ(pool.available(), 3U);
  });
}

TEST(Pool, AMembersSpawnWithALimitIsNotRefused) {
  on_loop([] {
    Pool pool(1);
    pool.run([&] {
      EXPECT_FALSE(pool.try_spawn([] {}));
      EXPECT_FALSE(pool.spawn_for(1ms, [] {}));
    });
    EXPECT_TRUE(pool.spawn_for(1ms, [] {}));
    pool.join();
  });
}

// Who has been cancelled waits no longer, though it has yet to run: its slot will be free.
TEST(Pool, ASpawnIsNotRefusedForTheSakeOfTheCancelled) {
  on_loop([] {
    Pool pool(2);
    auto waits = pool.spawn([&] { pool.spawn([] { ADD_FAILURE(); }).detach(); });
    pool.run([&] {
      yield();
      waits.cancel();
      EXPECT_EQ(pool.spawn([] { return 5; }).get(), 5);
    });
    EXPECT_EQ(waits.status(), FiberStatus::cancelled);
    EXPECT_EQ(pool.available(), 2U);
  });
}

TEST(PoolMap, ResultsInTheRangesOrder) {
  on_loop([] {
    Pool pool(4);
    std::vector<int> ended;
    const auto squares = pool.map(test::iota(0, 10), [&](int i) {
      for (int k = 10; k > i; --k) yield();
      ended.push_back(i);
      return i * i;
    });
    EXPECT_THAT(squares, ElementsAre(0, 1, 4, 9, 16, 25, 36, 49, 64, 81));
    EXPECT_FALSE(std::is_sorted(ended.begin(), ended.end()));
    EXPECT_THAT(pool.map(std::vector<int>(), [](int i) { return i; }), IsEmpty());
    EXPECT_EQ(pool.available(), 4U);
  });
}

TEST(PoolMap, NeverMoreThanItsSize) {
  on_loop([] {
    Pool pool(3);
    Gauge gauge;
    pool.map(test::iota(0, 20), [&](int i) {
      gauge.enter();
      for (int k = -2; k < i % 3; ++k) yield();
      gauge.leave();
    });
    EXPECT_EQ(gauge.most, 3U);
  });
}

TEST(PoolMap, ElementsAreReferredToWhereTheyStay) {
  on_loop([] {
    Pool pool(2);
    std::vector<std::string> words{"a", "b", "c"};
    pool.map(words, [](std::string& word) { word += word; });
    EXPECT_THAT(words, ElementsAre("aa", "bb", "cc"));
    const auto addresses = pool.map(words, [](const std::string& word) { return &word; });
    EXPECT_THAT(addresses, ElementsAre(&words[0], &words[1], &words[2]));
    std::vector<std::unique_ptr<int>> pointers;
    for (int i = 0; i < 3; ++i) pointers.push_back(std::make_unique<int>(i));
    EXPECT_THAT(pool.map(pointers, [](const std::unique_ptr<int>& each) { return *each; }), ElementsAre(0, 1, 2));
    std::vector<bool> flags{true, false, true};
    EXPECT_THAT(pool.map(flags, [](bool flag) { return flag ? 1 : 0; }), ElementsAre(1, 0, 1));
  });
}

TEST(PoolMap, ElementsThatCanOnlyBeMoved) {
  on_loop([] {
    Pool pool(2);
    const auto made = test::mapped(test::iota(0, 4), [](int i) { return std::make_unique<int>(i); });
    const auto doubled = pool.map(made, [](std::unique_ptr<int> each) {
      yield();
      *each *= 2;
      return each;
    });
    ASSERT_EQ(doubled.size(), 4U);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(*doubled[static_cast<std::size_t>(i)], 2 * i);
    pool.run([&] { EXPECT_EQ(pool.map(made, [](std::unique_ptr<int> each) { return *each; }).size(), 4U); });
  });
}

// Their iterators hold one value at a time.
TEST(PoolMap, RangesThatAreGoneThroughOnce) {
  on_loop([] {
    Pool pool(3);
    Queue<int> queue;
    for (int i = 0; i < 6; ++i) queue.put(i);
    queue.shutdown();
    EXPECT_THAT(pool.map(queue,
                         [](int& i) {
                           yield();
                           return i;
                         }),
                ElementsAre(0, 1, 2, 3, 4, 5));
    Queue<std::unique_ptr<int>> pointers;
    for (int i = 0; i < 6; ++i) pointers.put(std::make_unique<int>(i));
    pointers.shutdown();
    std::vector<int> seen;
    for (auto& outcome : pool.imap(pointers, [](std::unique_ptr<int>& each) {
           yield();
           return *each;
         })) {
      seen.push_back(outcome.get());
    }
    EXPECT_THAT(seen, ElementsAre(0, 1, 2, 3, 4, 5));
  });
}

TEST(PoolMap, WaitsForAllAndThrowsTheFirstInOrder) {
  on_loop([] {
    Pool pool(2);
    int ended = 0;
    try {
      pool.map(test::iota(0, 6), [&](int i) {
        for (int k = 6; k > i; --k) yield();
        ++ended;
        if (i % 2 == 1) throw std::runtime_error(std::to_string(i));
        return i;
      });
      FAIL() << "no error";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "1");
    }
    EXPECT_EQ(ended, 6);
    EXPECT_EQ(pool.available(), 2U);
    EXPECT_EQ(pool.failures(), 0U);
    pool.run([&] {
      EXPECT_THROW(pool.map(test::iota(0, 3),
                            [](int i) {
                              if (i == 1) throw std::out_of_range("inside");
                            }),
                   std::out_of_range);
    });
  });
}

TEST(PoolMap, CancelledItCancelsWhatRuns) {
  on_loop([] {
    Pool pool(2);
    for (const int elements : {9, 2}) {  // while it waits for room, and for the last ones
      int begun = 0;
      int cancelled = 0;
      auto mapper = spawn([&] {
        pool.map(test::iota(0, elements), [&](int) {
          ++begun;
          try {
            sleep_for(1h);
          } catch (const Cancelled&) {
            ++cancelled;
            throw;
          }
        });
      });
      while (begun < 2) yield();
      mapper.cancel();
      mapper.join();
      EXPECT_EQ(mapper.status(), FiberStatus::cancelled);
      EXPECT_EQ(begun, 2);
      EXPECT_EQ(cancelled, 2);
      EXPECT_EQ(pool.available(), 2U);
    }
  });
}

TEST(PoolMap, AnErrorOfTheRangeCancelsWhatRuns) {
  on_loop([] {
    Pool pool(2);
    int cancelled = 0;
    EXPECT_THROW(pool.map(failing_after(1),
                          [&](int) {
                            try {
                              sleep_for(1h);
                            } catch (const Cancelled&) {
                              ++cancelled;
                              throw;
                            }
                          }),
                 std::out_of_range);
    EXPECT_LE(cancelled, 1) << "it need not have begun";
    EXPECT_EQ(pool.available(), 2U);
  });
}

// A function may throw Cancelled of its own accord; there is no result then.
TEST(PoolMap, AnElementThatEndsAsCancelled) {
  on_loop([] {
    Pool pool(2);
    const auto third = [](int i) {
      if (i == 2) throw Cancelled{};
      return i;
    };
    EXPECT_THROW(pool.map(test::iota(0, 5), third), FiberCancelled);
    for (const bool ordered : {true, false}) {
      int sum = 0;
      int cancelled = 0;
      for (auto& outcome : pool.imap(test::iota(0, 5), third, {.ordered = ordered})) {
        try {
          sum += outcome.get();
        } catch (const FiberCancelled&) {
          EXPECT_EQ(outcome.index(), 2U);
          ++cancelled;
        }
      }
      EXPECT_EQ(sum, 8);
      EXPECT_EQ(cancelled, 1);
    }
    EXPECT_EQ(pool.available(), 2U);
  });
}

TEST(PoolImap, InTheRangesOrder) {
  on_loop([] {
    Pool pool(3);
    std::vector<int> seen;
    std::size_t index = 0;
    for (auto& outcome : pool.imap(test::iota(0, 9), [](int i) {
           for (int k = i % 3; k < 3; ++k) yield();
           return i * i;
         })) {
      EXPECT_EQ(outcome.index(), index++);
      EXPECT_EQ(outcome.error(), nullptr);
      seen.push_back(outcome.get());
    }
    EXPECT_THAT(seen, ElementsAre(0, 1, 4, 9, 16, 25, 36, 49, 64));
    EXPECT_EQ(pool.available(), 3U);
  });
}

TEST(PoolImap, InTheOrderOfCompletion) {
  on_loop([] {
    Pool pool(3);
    const std::array<int, 3> turns{5, 1, 3};
    std::vector<std::size_t> order;
    for (auto& outcome : pool.imap(turns,
                                   [](int count) {
                                     for (int i = 0; i < count; ++i) sleep_for(1ms);
                                     return count;
                                   },
                                   {.ordered = false})) {
      EXPECT_EQ(outcome.get(), turns[outcome.index()]);
      order.push_back(outcome.index());
    }
    EXPECT_EQ(order.size(), 3U);
    if (test::on_sim()) {
      EXPECT_THAT(order, ElementsAre(1U, 2U, 0U));
    }
  });
}

TEST(PoolImap, OfNothingAndOfVoid) {
  on_loop([] {
    Pool pool(2);
    for (const bool ordered : {true, false}) {
      const ImapOptions options{.ordered = ordered};
      for ([[maybe_unused]] auto& each : pool.imap(
               std::vector<int>(), [](int) {}, options))
        ADD_FAILURE();
      int count = 0;
      int sum = 0;
      for (auto& outcome : pool.imap(
               test::iota(0, 5), [&](int i) { sum += i; }, options)) {
        outcome.get();
        ++count;
      }
      EXPECT_EQ(count, 5);
      EXPECT_EQ(sum, 10);
    }
  });
}

// parity 26: TestErrorInHandler: at its place, and the iteration goes on
TEST(PoolImap, ErrorsAreAtTheirPlace) {
  on_loop([] {
    Pool pool(3);
    for (const bool ordered : {true, false}) {
      std::vector<std::size_t> failed;
      std::vector<int> values;
      for (auto& outcome : pool.imap(test::iota(0, 9),
                                     [](int i) {
                                       yield();
                                       if (i % 4 == 1) throw std::runtime_error(std::to_string(i));
                                       return i;
                                     },
                                     {.ordered = ordered})) {
        try {
          values.push_back(outcome.get());
        } catch (const std::runtime_error& error) {
          EXPECT_EQ(error.what(), std::to_string(outcome.index()));
          EXPECT_NE(outcome.error(), nullptr);
          failed.push_back(outcome.index());
        }
      }
      std::sort(values.begin(), values.end());
      EXPECT_THAT(failed, ElementsAre(1U, 5U));
      EXPECT_THAT(values, ElementsAre(0, 2, 3, 4, 6, 7, 8));
    }
    EXPECT_EQ(pool.available(), 3U);
  });
}

// parity 26: TestErrorInIterator
TEST(PoolImap, AnErrorOfTheRangeComesAtTheEnd) {
  on_loop([] {
    Pool pool(2);
    for (const bool ordered : {true, false}) {
      auto outcomes = pool.imap(failing_after(5),
                                [](int i) {
                                  for (int k = i; k < 5; ++k) yield();
                                  return i;
                                },
                                {.ordered = ordered});
      int sum = 0;
      int count = 0;
      EXPECT_THROW(
          {
            for (auto& outcome : outcomes) {
              sum += outcome.get();
              ++count;
            }
          },
          std::out_of_range);
      EXPECT_EQ(count, 5);
      EXPECT_EQ(sum, 10);
      EXPECT_FALSE(outcomes.next().has_value());
    }
    EXPECT_EQ(pool.available(), 2U);
  });
}

// parity 26: test_imap_unordered_bounded_queue
TEST(PoolImap, LooksAheadSoFarAndNoFurther) {
  on_loop([] {
    Pool pool(4);
    for (const bool ordered : {true, false}) {
      for (const std::size_t look_ahead : {1U, 2U, 5U}) {
        const ImapOptions options{.ordered = ordered, .look_ahead = look_ahead};
        auto outcomes = pool.imap(
            test::iota(0), [](int i) { return i; }, options);
        for (std::size_t read = 1; read < 20; ++read) {
          ASSERT_TRUE(outcomes.next().has_value());
          for (int i = 0; i < 20; ++i) yield();
          EXPECT_EQ(outcomes.begun(), read + look_ahead);
        }
      }
    }
    auto outcomes = pool.imap(test::iota(0), [](int i) { return i; });
    for (int i = 0; i < 50; ++i) yield();
    EXPECT_EQ(outcomes.begun(), 8U) << "twice the pool's size unless told otherwise";
  });
}

// An endless range, left early
TEST(PoolImap, LeftEarlyItCancelsWhatRuns) {
  on_loop([] {
    Pool pool(2);
    for (const bool ordered : {true, false}) {
      int running = 0;
      int seen = 0;
      for (auto& outcome : pool.imap(test::iota(0),
                                     [&](int i) {
                                       struct Count {
                                         int& of;
                                         explicit Count(int& counter) : of(counter) { ++of; }
                                         ~Count() { --of; }
                                       };
                                       const Count count(running);
                                       if (i >= 5) sleep_for(1h);
                                       yield();
                                       return i;
                                     },
                                     {.ordered = ordered})) {
        static_cast<void>(outcome.get());
        if (++seen == 5) break;
      }
      EXPECT_EQ(running, 0);
      EXPECT_EQ(pool.available(), 2U);
    }
    EXPECT_THROW(
        {
          for (auto& outcome : pool.imap(test::iota(0), [](int i) { return i; })) {
            if (outcome.get() == 3) throw std::out_of_range("the body's");
          }
        },
        std::out_of_range);
    EXPECT_EQ(pool.available(), 2U);
  });
}

// A limit on one step takes nothing from the next.
TEST(PoolImap, AStepThatTimesOutLosesNothing) {
  on_loop([] {
    Pool pool(2);
    for (const bool ordered : {true, false}) {
      Event go;
      auto outcomes = pool.imap(test::iota(0, 6),
                                [&](int i) {
                                  go.wait();
                                  return i;
                                },
                                {.ordered = ordered, .look_ahead = 2});
      std::vector<int> seen;
      for (int i = 0; i < 4; ++i) {
        EXPECT_THROW(with_timeout(1ms, [&] { return outcomes.next(); }), TimedOut);
      }
      go.set();
      for (auto& outcome : outcomes) seen.push_back(outcome.get());
      EXPECT_THAT(seen, ElementsAre(0, 1, 2, 3, 4, 5));
    }
  });
}

TEST(PoolImap, CancelledWithItsReader) {
  on_loop([] {
    Pool pool(2);
    for (const bool ordered : {true, false}) {
      for (int turns = 0; turns < 12; ++turns) {
        auto reader = spawn([&, turns] {
          auto outcomes = pool.imap(test::iota(0), [](int) { sleep_for(1h); }, {.ordered = ordered});
          for (int i = 0; i < turns / 3; ++i) yield();
          for (auto& outcome : outcomes) outcome.get();
        });
        for (int i = 0; i < turns % 4; ++i) yield();
        reader.cancel();
        reader.join();
        EXPECT_EQ(reader.status(), FiberStatus::cancelled) << turns;
        EXPECT_EQ(pool.available(), 2U);
      }
    }
  });
}

TEST(PoolImap, ResultsThatCanOnlyBeMoved) {
  on_loop([] {
    Pool pool(2);
    std::vector<std::unique_ptr<int>> seen;
    const auto made = test::mapped(test::iota(0, 4), [](int i) { return std::make_unique<int>(i); });
    for (auto& outcome : pool.imap(made, [](std::unique_ptr<int> each) { return each; })) {
      seen.push_back(outcome.get());
    }
    ASSERT_EQ(seen.size(), 4U);
    EXPECT_EQ(*seen[3], 3);
  });
}

TEST(PoolImap, AResultThatCanNotBeMovedOutIsAnErrorAtItsPlace) {
  struct Thorny {
    Thorny(int number, int nth) : value(number), left(nth) {}
    Thorny(Thorny&& other)
        : value(other.value), left(other.left - 1) {  // NOLINT(performance-noexcept-move-constructor)
      if (left == 0) throw std::range_error("can not be moved");
    }
    Thorny& operator=(Thorny&&) = delete;
    int value;
    int left;
  };
  on_loop([] {
    Pool pool(2);
    for (const bool ordered : {true, false}) {
      for (const int nth : {1, 2}) {  // on its way into the outcome, and with the outcome
        std::vector<std::size_t> failed;
        int count = 0;
        const auto make = [nth](int i) { return Thorny(i, i == 1 ? nth : 99); };
        for (auto& outcome : pool.imap(test::iota(0, 4), make, {.ordered = ordered})) {
          ++count;
          if (outcome.error() != nullptr) failed.push_back(outcome.index());
        }
        EXPECT_EQ(count, 4);
        EXPECT_THAT(failed, ElementsAre(1U));
      }
    }
  });
}

TEST(PoolImap, IsRefusedInsideAMember) {
  on_loop([] {
    Pool pool(2);
    pool.run([&] {
      expect_deadlock_refused([&] {
        for ([[maybe_unused]] auto& each : pool.imap(test::iota(0, 3), [](int i) { return i; })) {
        }
      });
    });
    EXPECT_EQ(pool.available(), 2U);
  });
}

TEST(PoolImap, AFiberThatCanNotBeStartedEndsIt) {
  RunOptions few;
  few.fibers_max = 4;  // main, the one that feeds, two elements
  on_loop(few, [] {
    Pool pool(8);
    for (const bool ordered : {true, false}) {
      int count = 0;
      EXPECT_THROW(
          {
            for (auto& outcome : pool.imap(test::iota(0),
                                           [](int i) {
                                             sleep_for(1us);
                                             return i;
                                           },
                                           {.ordered = ordered})) {
              static_cast<void>(outcome.get());
              ++count;
            }
          },
          std::system_error);
      EXPECT_EQ(count, 2);
      EXPECT_EQ(pool.available(), 8U);
    }
  });
}

TEST(PoolImap, SharesThePoolWithOthers) {
  on_loop([] {
    Pool pool(2);
    Gauge gauge;
    const auto work = [&](int i) {
      gauge.enter();
      for (int k = 0; k < i % 3; ++k) yield();
      gauge.leave();
      return i;
    };
    Scope scope;
    scope.spawn([&] { EXPECT_EQ(pool.map(test::iota(0, 20), work).size(), 20U); });
    scope.spawn([&] {
      for (int i = 0; i < 20; ++i) pool.spawn([&, i] { work(i); }).detach();
    });
    scope.spawn([&] {
      for (int i = 0; i < 20; ++i) EXPECT_EQ(pool.run([&] { return work(i); }), i);
    });
    int sum = 0;
    for (auto& outcome : pool.imap(test::iota(0, 20), work, {.ordered = false})) sum += outcome.get();
    EXPECT_EQ(sum, 190);
    scope.join();
    pool.join();
    EXPECT_EQ(gauge.most, 2U);
  });
}

TEST(Pool, MisuseAborts) {
  auto ended = in_child([] { return run([] { Pool pool(0); }); });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("a Pool has room for one fiber at least")) << describe(ended);
  ended = in_child([] {
    return run([] {
      auto pool = std::make_unique<Pool>(1);
      auto runner = spawn([&] { pool->run([] { sleep_for(1h); }); });
      auto waiter = spawn([&] { pool->spawn([] {}).detach(); });
      yield();
      pool.reset();
    });
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("is destroyed while fibers wait")) << describe(ended);
}

}  // namespace
}  // namespace bight
