// SPDX-License-Identifier: Apache-2.0
#include <bight/queue.hpp>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
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

/// Everything that is in it, in the order in which it comes out.
template <class Q>
auto drain(Q& queue) {
  std::vector<std::remove_reference_t<decltype(*queue.try_get())>> values;
  while (auto value = queue.try_get()) values.push_back(std::move(*value));
  return values;
}

/// Counts down; then throws once.
struct Fuse {
  int left = 0;
  void burn() {
    if (left > 0 && --left == 0) throw std::runtime_error("the fuse");
  }
};

/// Moving or copying it may throw, and then it has not been moved.
struct Fragile {
  static inline Fuse fuse;

  explicit Fragile(int number) : value(number) {}
  Fragile(Fragile&& other) : value(other.value) {  // NOLINT(performance-noexcept-move-constructor)
    fuse.burn();
    other.value = 0;
  }
  Fragile(const Fragile& other) : value(other.value) { fuse.burn(); }
  Fragile& operator=(Fragile&& other) {  // NOLINT(performance-noexcept-move-constructor)
    fuse.burn();
    value = std::exchange(other.value, 0);
    return *this;
  }
  Fragile& operator=(const Fragile& other) = default;
  ~Fragile() = default;

  bool operator<(const Fragile& other) const { return value < other.value; }

  int value;
};

/// Comparing may throw.
struct Explosive {
  static inline Fuse fuse;
  bool operator()(int a, int b) const {
    fuse.burn();
    return a < b;
  }
};

template <template <class> class Q>
struct Kind {
  template <class T>
  using Of = Q<T>;
};
template <class T>
using Least = PriorityQueue<T>;

/// What holds for the queues of every kind.
template <class K>
class QueueOfAnyKind : public testing::Test {};
using Kinds = testing::Types<Kind<Queue>, Kind<LifoQueue>, Kind<Least>>;
TYPED_TEST_SUITE(QueueOfAnyKind, Kinds);

TEST(Queue, FirstInFirstOut) {
  on_loop([] {
    Queue<int> queue;
    for (const int value : {3, 1, 4, 1, 5}) queue.put(value);
    EXPECT_EQ(queue.size(), 5U);
    EXPECT_THAT(drain(queue), ElementsAre(3, 1, 4, 1, 5));
    EXPECT_TRUE(queue.empty());
  });
}

TEST(LifoQueue, LastInFirstOut) {
  on_loop([] {
    LifoQueue<int> queue;
    for (const int value : {3, 1, 4, 1, 5}) queue.put(value);
    EXPECT_EQ(queue.get(), 5);
    queue.put(9);
    EXPECT_THAT(drain(queue), ElementsAre(9, 1, 4, 1, 3));
  });
}

TEST(PriorityQueue, TheLeastFirst) {
  on_loop([] {
    PriorityQueue<int> queue;
    for (const int value : {3, 1, 4, 1, 5}) queue.put(value);
    EXPECT_EQ(queue.get(), 1);
    queue.put(2);
    EXPECT_THAT(drain(queue), ElementsAre(1, 2, 3, 4, 5));
    for (int i = 0; i < 500; ++i) queue.put(i * 7919 % 1009);
    const std::vector<int> sorted = drain(queue);
    EXPECT_EQ(sorted.size(), 500U);
    EXPECT_TRUE(std::is_sorted(sorted.begin(), sorted.end()));
  });
}

TEST(PriorityQueue, EqualsInTheOrderOfPut) {
  struct ByFirst {
    bool operator()(const std::pair<int, int>& a, const std::pair<int, int>& b) const { return a.first < b.first; }
  };
  on_loop([] {
    PriorityQueue<std::pair<int, int>, ByFirst> queue;
    for (int i = 0; i < 300; ++i) {
      queue.put({i % 3, i});
      if (i % 5 == 0) queue.put(*queue.get());  // goes behind its equals
    }
    int group = 0;
    std::vector<int> seen;
    std::size_t count = 0;
    while (auto next = queue.try_get()) {
      ++count;
      EXPECT_GE(next->first, group);
      group = next->first;
      seen.push_back(next->second);
    }
    EXPECT_EQ(count, 300U);
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
    for (int i = 0; i < 100; ++i) queue.put({7, i});
    for (int i = 0; i < 100; ++i) EXPECT_EQ(queue.get()->second, i);
  });
}

TEST(PriorityQueue, AComparisonOfOnesOwn) {
  on_loop([] {
    const std::vector<int> rank{2, 0, 1};
    const auto before = [&rank](int a, int b) {
      return rank[static_cast<std::size_t>(a)] < rank[static_cast<std::size_t>(b)];
    };
    PriorityQueue<int, decltype(before)> queue(10, before);
    for (const int value : {0, 1, 2}) queue.put(value);
    EXPECT_EQ(queue.capacity(), 10U);
    EXPECT_THAT(drain(queue), ElementsAre(1, 2, 0));
    PriorityQueue<std::string, std::greater<>> greatest;
    for (const char* value : {"b", "c", "a"}) greatest.put(value);
    EXPECT_THAT(drain(greatest), ElementsAre("c", "b", "a"));
  });
}

TEST(Queue, OfNothingAborts) {
  const auto ended = in_child([] { return run([] { Queue<int> queue(0); }); });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("a queue holds one value at least")) << describe(ended);
}

// parity 21: test_max_size
TYPED_TEST(QueueOfAnyKind, WhoPutsTooManyWaits) {
  on_loop([] {
    typename TypeParam::template Of<int> queue(2);
    std::vector<std::string> log;
    auto putter = spawn([&] {
      for (const char* name : {"one", "two", "three"}) {
        queue.put(1);
        log.emplace_back(name);
      }
    });
    yield();
    EXPECT_THAT(log, ElementsAre("one", "two"));
    EXPECT_TRUE(queue.full());
    EXPECT_EQ(queue.size(), 2U);
    EXPECT_EQ(queue.get(), 1);
    EXPECT_TRUE(queue.full()) << "the place is his who has waited for it";
    yield();
    EXPECT_THAT(log, ElementsAre("one", "two", "three"));
    EXPECT_EQ(queue.get(), 1);
    EXPECT_EQ(queue.get(), 1);
    EXPECT_EQ(queue.try_get(), std::nullopt);
    putter.get();
  });
}

TEST(Queue, WhoWaitsForRoomIsServedInTheOrderOfComing) {
  on_loop([] {
    Queue<int> queue(1);
    queue.put(0);
    Scope scope;
    for (int i = 1; i <= 5; ++i) scope.spawn([&, i] { queue.put(i); });
    yield();
    for (int i = 0; i <= 5; ++i) {
      EXPECT_FALSE(queue.try_put(99)) << "nobody overtakes";
      EXPECT_EQ(queue.get(), i);
    }
    scope.join();
    EXPECT_TRUE(queue.empty());
  });
}

TYPED_TEST(QueueOfAnyKind, WhoWaitsForAValueIsServedInTheOrderOfComing) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    std::vector<int> log;
    Scope scope;
    for (int i = 0; i < 5; ++i) {
      scope.spawn([&, i] { log.push_back(i * 10 + *queue.get()); });
    }
    yield();
    for (int i = 0; i < 5; ++i) {
      queue.put(i);
      EXPECT_EQ(queue.try_get(), std::nullopt) << "nobody overtakes";
      EXPECT_TRUE(queue.empty());
    }
    scope.join();
    EXPECT_THAT(log, ElementsAre(0, 11, 22, 33, 44));
  });
}

TYPED_TEST(QueueOfAnyKind, TryDoesNotWait) {
  on_loop([] {
    typename TypeParam::template Of<std::unique_ptr<int>> queue(1);
    EXPECT_EQ(queue.try_get(), std::nullopt);
    EXPECT_TRUE(queue.try_put(std::make_unique<int>(1)));
    auto mine = std::make_unique<int>(2);
    EXPECT_FALSE(queue.try_put(std::move(mine)));
    ASSERT_NE(mine, nullptr) << "what was not put is still the caller's";
    EXPECT_EQ(**queue.try_get(), 1);
    EXPECT_TRUE(queue.try_put(std::move(mine)));
    EXPECT_EQ(mine, nullptr);
    EXPECT_EQ(queue.unfinished(), 2U);
  });
}

TYPED_TEST(QueueOfAnyKind, APutThatTimesOutKeepsItsValue) {
  on_loop([] {
    typename TypeParam::template Of<std::unique_ptr<int>> queue(1);
    queue.put(std::make_unique<int>(1));
    auto mine = std::make_unique<int>(2);
    const TimePoint start = now();
    EXPECT_FALSE(queue.put_for(std::move(mine), 2ms));
    EXPECT_GE(now() - start, 2ms);
    EXPECT_FALSE(queue.put_for(std::move(mine), 0ms));
    EXPECT_FALSE(queue.put_for(std::move(mine), -1h));
    EXPECT_FALSE(queue.put_until(std::move(mine), now() + 1ms));
    EXPECT_FALSE(queue.put_until(std::move(mine), std::chrono::system_clock::now() - 1h));
    ASSERT_NE(mine, nullptr);
    EXPECT_EQ(queue.unfinished(), 1U);
    EXPECT_EQ(**queue.get(), 1);
    EXPECT_TRUE(queue.put_for(std::move(mine), 0ms)) << "with room there is no wait";
    EXPECT_EQ(**queue.get(), 2);
    EXPECT_EQ(queue.size(), 0U);
  });
}

TYPED_TEST(QueueOfAnyKind, PutForWithinItsLimit) {
  on_loop([] {
    typename TypeParam::template Of<int> queue(1);
    const int value = 2;
    EXPECT_TRUE(queue.put_for(1, 1h));
    auto getter = spawn([&] {
      sleep_for(1ms);
      return *queue.get();
    });
    EXPECT_TRUE(queue.put_for(value, 1h));
    EXPECT_EQ(getter.get(), 1);
    getter = spawn([&] { return *queue.get(); });
    EXPECT_TRUE(queue.put_until(3, now() + 1h));
    EXPECT_EQ(getter.get(), 2);
    EXPECT_EQ(queue.get(), 3);
  });
}

// parity 24: time limits of gets
TYPED_TEST(QueueOfAnyKind, GetsWithLimits) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    const TimePoint start = now();
    EXPECT_EQ(queue.get_for(2ms), std::nullopt);
    EXPECT_GE(now() - start, 2ms);
    EXPECT_EQ(queue.get_for(0ms), std::nullopt);
    EXPECT_EQ(queue.get_for(-1h), std::nullopt);
    EXPECT_EQ(queue.get_until(now() + 1ms), std::nullopt);
    EXPECT_EQ(queue.get_until(std::chrono::system_clock::now() - 1h), std::nullopt);
    for (int i = 1; i <= 4; ++i) queue.put(7);
    EXPECT_EQ(queue.get_for(0ms), 7);
    EXPECT_EQ(queue.get_for(1h), 7);
    EXPECT_EQ(queue.get_until(now() - 1h), 7);
    EXPECT_EQ(queue.get_until(std::chrono::system_clock::now() + 1h), 7);
    auto putter = spawn([&] {
      sleep_for(1ms);
      queue.put(8);
    });
    EXPECT_EQ(queue.get_for(1h), 8);
    putter.join();
  });
}

// parity 24: own and outer limits; the outer one is not lost
TYPED_TEST(QueueOfAnyKind, OuterLimitsEndItsWaits) {
  on_loop([] {
    typename TypeParam::template Of<int> queue(1);
    EXPECT_THROW(with_timeout(1ms, [&] { return queue.get(); }), TimedOut);
    EXPECT_THROW(with_timeout(1ms, [&] { return queue.get_for(1h); }), TimedOut);
    EXPECT_EQ(with_timeout(1h, [&] { return queue.get_for(1ms); }), std::nullopt);
    EXPECT_THROW(with_timeout(2ms,
                              [&] {
                                EXPECT_EQ(queue.get_for(1ms), std::nullopt);
                                static_cast<void>(queue.get_for(1h));
                              }),
                 TimedOut);
    queue.put(1);
    EXPECT_THROW(with_timeout(1ms, [&] { queue.put(2); }), TimedOut);
    EXPECT_THROW(with_timeout(1ms, [&] { return queue.put_for(2, 1h); }), TimedOut);
    EXPECT_FALSE(with_timeout(1h, [&] { return queue.put_for(2, 1ms); }));
    EXPECT_THROW(with_timeout(1ms, [&] { queue.join(); }), TimedOut);
    EXPECT_THAT(drain(queue), ElementsAre(1));
    EXPECT_EQ(queue.unfinished(), 1U);
  });
}

// parity 21: test_waiters_that_cancel, test_two_waiters_one_dies
TYPED_TEST(QueueOfAnyKind, WhoHasTimedOutTakesNothing) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    auto impatient = spawn([&] { return queue.get_for(1ms); });
    auto patient = spawn([&] { return queue.get(); });
    EXPECT_EQ(impatient.get(), std::nullopt);
    queue.put(5);
    EXPECT_EQ(patient.get(), 5);
    impatient = spawn([&] { return queue.get_for(1ms); });
    EXPECT_EQ(impatient.get(), std::nullopt);
    queue.put(6);
    EXPECT_EQ(queue.size(), 1U) << "with nobody there it stays";
    EXPECT_EQ(queue.get(), 6);
  });
}

// parity 21: test_two_bogus_waiters
TYPED_TEST(QueueOfAnyKind, WhoIsCancelledTakesNothing) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    auto first = spawn([&] { return queue.get(); });
    auto second = spawn([&] { return queue.get(); });
    auto third = spawn([&] { return queue.get(); });
    yield();
    first.cancel();
    second.cancel();
    queue.put(5);  // before they have run
    first.join();
    second.join();
    EXPECT_EQ(first.status(), FiberStatus::cancelled);
    EXPECT_EQ(second.status(), FiberStatus::cancelled);
    EXPECT_EQ(third.get(), 5);
    auto fourth = spawn([&] { return queue.get(); });
    yield();
    fourth.cancel();
    queue.put(6);
    EXPECT_EQ(queue.size(), 1U);
    fourth.join();
    EXPECT_EQ(queue.get(), 6);
  });
}

TYPED_TEST(QueueOfAnyKind, WhoIsCancelledAfterHavingBeenServedHasItsValue) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    std::optional<int> got;
    auto getter = spawn([&] { got = queue.get(); });
    yield();
    queue.put(5);
    getter.cancel();
    getter.join();
    EXPECT_EQ(got, 5);
    EXPECT_TRUE(queue.empty());
  });
}

TYPED_TEST(QueueOfAnyKind, APutThatIsCancelledHasNotHappened) {
  on_loop([] {
    typename TypeParam::template Of<std::unique_ptr<int>> queue(1);
    queue.put(std::make_unique<int>(1));
    auto mine = std::make_unique<int>(2);
    auto putter = spawn([&] { queue.put(std::move(mine)); });
    auto next = spawn([&] { queue.put(std::make_unique<int>(3)); });
    yield();
    putter.cancel();
    EXPECT_EQ(**queue.get(), 1);  // before it has run
    putter.join();
    EXPECT_EQ(putter.status(), FiberStatus::cancelled);
    ASSERT_NE(mine, nullptr);
    EXPECT_EQ(**queue.get(), 3);
    next.get();
    EXPECT_EQ(queue.unfinished(), 2U);
  });
}

TYPED_TEST(QueueOfAnyKind, APutThatIsCancelledTooLateHasHappened) {
  on_loop([] {
    typename TypeParam::template Of<int> queue(1);
    queue.put(1);
    bool put = false;
    auto putter = spawn([&] {
      queue.put(2);
      put = true;
    });
    yield();
    EXPECT_EQ(queue.get(), 1);
    putter.cancel();
    putter.join();
    EXPECT_TRUE(put);
    EXPECT_EQ(queue.get(), 2);
  });
}

TYPED_TEST(QueueOfAnyKind, ACancelledFiberDoesWhatNeedNotWait) {
  on_loop([] {
    typename TypeParam::template Of<int> queue(1);
    auto fiber = spawn([&] { yield(); });
    yield();
    auto cancelled = spawn([&] {
      try {
        sleep_for(1h);
      } catch (const Cancelled&) {
        queue.put(1);
        EXPECT_THROW(queue.put(2), Cancelled);
        EXPECT_THROW(static_cast<void>(queue.put_for(2, 1h)), Cancelled);
        EXPECT_THROW(queue.join(), Cancelled);
        EXPECT_EQ(queue.get(), 1);
        EXPECT_THROW(static_cast<void>(queue.get()), Cancelled);
        EXPECT_THROW(static_cast<void>(queue.get_for(1h)), Cancelled);
        queue.task_done();
        queue.join();
        throw;
      }
    });
    yield();
    cancelled.cancel();
    cancelled.join();
    EXPECT_EQ(cancelled.status(), FiberStatus::cancelled);
    EXPECT_TRUE(queue.empty());
    fiber.join();
  });
}

// parity 23: shutdown that drains
TYPED_TEST(QueueOfAnyKind, ShutDownWhatIsInItCanStillBeHad) {
  on_loop([] {
    typename TypeParam::template Of<int> queue(3);
    for (int i = 0; i < 3; ++i) queue.put(7);
    EXPECT_FALSE(queue.closed());
    queue.shutdown();
    EXPECT_TRUE(queue.closed());
    EXPECT_THROW(queue.put(8), ChannelClosed);
    EXPECT_THROW(static_cast<void>(queue.try_put(8)), ChannelClosed);
    EXPECT_THROW(static_cast<void>(queue.put_for(8, 1h)), ChannelClosed);
    EXPECT_THROW(static_cast<void>(queue.put_until(8, now() + 1h)), ChannelClosed);
    EXPECT_EQ(queue.get(), 7);
    EXPECT_EQ(queue.get_for(1h), 7);
    EXPECT_EQ(queue.try_get(), 7);
    EXPECT_EQ(queue.get(), std::nullopt);
    EXPECT_EQ(queue.get_for(1h), std::nullopt);
    EXPECT_EQ(queue.get_until(now() + 1h), std::nullopt);
    EXPECT_EQ(queue.try_get(), std::nullopt);
    EXPECT_EQ(queue.unfinished(), 3U);
    for (int i = 0; i < 3; ++i) queue.task_done();
    queue.join();
    queue.shutdown();
  });
}

// parity 23: shutdown that throws away
TYPED_TEST(QueueOfAnyKind, ShutDownAtOnceItIsEmptyAndDone) {
  on_loop([] {
    typename TypeParam::template Of<std::shared_ptr<int>> queue;
    auto value = std::make_shared<int>(7);
    for (int i = 0; i < 10; ++i) queue.put(value);
    static_cast<void>(queue.get());  // which is being dealt with
    bool joined = false;
    auto joiner = spawn([&] {
      queue.join();
      joined = true;
    });
    yield();
    queue.shutdown(Shutdown::immediate);
    EXPECT_TRUE(queue.empty());
    EXPECT_EQ(value.use_count(), 1) << "thrown away is thrown away now";
    EXPECT_EQ(queue.unfinished(), 1U);
    EXPECT_EQ(queue.get(), std::nullopt);
    yield();
    EXPECT_FALSE(joined);
    queue.task_done();
    joiner.get();
    EXPECT_TRUE(joined);
    EXPECT_THROW(queue.task_done(), std::logic_error);
    queue.shutdown(Shutdown::immediate);
    queue.join();
  });
}

TYPED_TEST(QueueOfAnyKind, ShutDownTwiceTheSecondTimeAtOnce) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    queue.put(1);
    queue.put(2);
    auto joiner = spawn([&] { queue.join(); });
    yield();
    queue.shutdown(Shutdown::drain);
    EXPECT_EQ(queue.size(), 2U);
    queue.shutdown(Shutdown::immediate);
    EXPECT_EQ(queue.size(), 0U);
    joiner.get();
    queue.shutdown(Shutdown::drain);
    EXPECT_EQ(queue.get(), std::nullopt);
  });
}

// parity 23: blocked putters and getters are woken
TYPED_TEST(QueueOfAnyKind, ShutdownWakesAllWhoWait) {
  for (const Shutdown how : {Shutdown::drain, Shutdown::immediate}) {
    on_loop([how] {
      typename TypeParam::template Of<std::unique_ptr<int>> full(1);
      full.put(std::make_unique<int>(0));
      typename TypeParam::template Of<int> empty;
      int refused = 0;
      int ended = 0;
      Scope scope;
      for (int i = 0; i < 3; ++i) {
        scope.spawn([&, i] {
          auto mine = std::make_unique<int>(i);
          if (i == 2) {
            EXPECT_THROW(static_cast<void>(full.put_for(std::move(mine), 1h)), ChannelClosed);
          } else {
            EXPECT_THROW(full.put(std::move(mine)), ChannelClosed);
          }
          EXPECT_NE(mine, nullptr);
          ++refused;
        });
        scope.spawn([&, i] {
          EXPECT_EQ(i == 2 ? empty.get_for(1h) : empty.get(), std::nullopt);
          ++ended;
        });
      }
      yield();
      full.shutdown(how);
      empty.shutdown(how);
      scope.join();
      EXPECT_EQ(refused, 3);
      EXPECT_EQ(ended, 3);
      EXPECT_EQ(full.size(), how == Shutdown::drain ? 1U : 0U);
      EXPECT_EQ(full.unfinished(), how == Shutdown::drain ? 1U : 0U);
    });
  }
}

TYPED_TEST(QueueOfAnyKind, WhoWasServedBeforeTheShutdownHasIt) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    auto getter = spawn([&] { return queue.get(); });
    yield();
    queue.put(5);
    queue.shutdown(Shutdown::immediate);
    EXPECT_EQ(getter.get(), 5);
    EXPECT_EQ(queue.unfinished(), 1U);
  });
}

// parity 43: test_queue_task_done, test_queue_join
TYPED_TEST(QueueOfAnyKind, JoinWaitsUntilAllIsDone) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    int sum = 0;
    Scope scope;
    for (int i = 0; i < 2; ++i) {
      scope.spawn([&] {
        for (const int value : queue) {
          sleep_for(1us);
          sum += value;
          queue.task_done();
        }
      });
    }
    for (int i = 0; i < 100; ++i) queue.put(i);
    queue.join();
    EXPECT_EQ(sum, 4950);
    for (int i = 0; i < 100; ++i) queue.put(i);
    queue.join();
    EXPECT_EQ(sum, 9900);
    EXPECT_THROW(queue.task_done(), std::logic_error);
    queue.shutdown();
    scope.join();
  });
}

// parity 23: test_issue_45
TYPED_TEST(QueueOfAnyKind, JoinOfWhatIsNewReturnsAtOnce) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    queue.join();
    EXPECT_TRUE(queue.join_for(0ms));
    EXPECT_EQ(queue.unfinished(), 0U);
    EXPECT_THROW(queue.task_done(), std::logic_error);
    EXPECT_EQ(queue.unfinished(), 0U);
  });
}

TYPED_TEST(QueueOfAnyKind, JoinForALimit) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    queue.put(1);
    EXPECT_FALSE(queue.join_for(1ms));
    EXPECT_FALSE(queue.join_for(0ms));
    EXPECT_EQ(queue.get(), 1);
    EXPECT_FALSE(queue.join_for(1ms)) << "got is not done";
    auto worker = spawn([&] {
      sleep_for(1ms);
      queue.task_done();
    });
    EXPECT_TRUE(queue.join_for(1h));
    worker.join();
  });
}

TYPED_TEST(QueueOfAnyKind, JoinReturnsWhenAllWasDoneMeanwhile) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    queue.put(1);
    std::vector<int> log;
    Scope scope;
    for (int i = 0; i < 3; ++i) {
      scope.spawn([&, i] {
        queue.join();
        log.push_back(i);
      });
    }
    yield();
    queue.task_done();
    queue.put(2);  // before they have run
    scope.join();
    EXPECT_THAT(log, ElementsAre(0, 1, 2));
    EXPECT_EQ(queue.unfinished(), 1U);
  });
}

TYPED_TEST(QueueOfAnyKind, ACancelledJoinLeavesTheOthers) {
  on_loop([] {
    typename TypeParam::template Of<int> queue;
    queue.put(1);
    auto first = spawn([&] { queue.join(); });
    auto second = spawn([&] { queue.join(); });
    yield();
    first.cancel();
    first.join();
    EXPECT_EQ(first.status(), FiberStatus::cancelled);
    EXPECT_FALSE(second.done());
    queue.task_done();
    second.get();
  });
}

TEST(Queue, WhatIsHandedToAWaitingGetterCountsAsUnfinished) {
  on_loop([] {
    Queue<int> queue;
    auto getter = spawn([&] { return queue.get(); });
    yield();
    queue.put(1);
    EXPECT_EQ(queue.unfinished(), 1U);
    queue.task_done();
    EXPECT_EQ(getter.get(), 1);
    queue.join();
  });
}

TYPED_TEST(QueueOfAnyKind, AsARangeUntilTheShutdown) {
  on_loop([] {
    typename TypeParam::template Of<std::unique_ptr<int>> queue(2);
    int sum = 0;
    auto reader = spawn([&] {
      for (std::unique_ptr<int>& value : queue) sum += *value;
    });
    for (int i = 1; i <= 10; ++i) queue.put(std::make_unique<int>(i));
    queue.shutdown();
    reader.get();
    EXPECT_EQ(sum, 55);
    for (auto& value : queue) ADD_FAILURE() << *value;
  });
}

TYPED_TEST(QueueOfAnyKind, AsCasesOfSelect) {
  on_loop([] {
    typename TypeParam::template Of<std::unique_ptr<int>> queue(1);
    auto mine = std::make_unique<int>(1);
    EXPECT_EQ(select(queue.on_put(std::move(mine), [] {}), after(1h, [] {})), 0U);
    EXPECT_EQ(mine, nullptr);
    mine = std::make_unique<int>(2);
    EXPECT_EQ(select(queue.on_put(std::move(mine), [] {}), after(1ms, [] {})), 1U);
    ASSERT_NE(mine, nullptr) << "the case was not chosen";
    int got = 0;
    const auto take = [&](std::unique_ptr<int> value) { got = *value; };
    EXPECT_EQ(select(queue.on_get(take), otherwise([] {})), 0U);
    EXPECT_EQ(got, 1);
    EXPECT_EQ(select(queue.on_get(take), after(1ms, [] {})), 1U);
    queue.put(std::move(mine));
    EXPECT_EQ(queue.size(), 1U) << "who has left takes nothing";
    EXPECT_EQ(**queue.get(), 2);
    auto putter = spawn([&] { queue.put(std::make_unique<int>(3)); });
    EXPECT_EQ(select(after(1h, [] {}), queue.on_get(take)), 1U);
    EXPECT_EQ(got, 3);
    EXPECT_EQ(queue.unfinished(), 3U);
    queue.shutdown();
    EXPECT_THROW(select(queue.on_get(take)), ChannelClosed);
    EXPECT_THROW(select(queue.on_put(std::make_unique<int>(4), [] {})), ChannelClosed);
    EXPECT_EQ(select(queue.on_get([](std::optional<std::unique_ptr<int>> value) { EXPECT_EQ(value, std::nullopt); })),
              0U);
    putter.join();
  });
}

TYPED_TEST(QueueOfAnyKind, WaitingInASelectToPut) {
  on_loop([] {
    typename TypeParam::template Of<int> queue(1);
    queue.put(1);
    bool put = false;
    const int value = 2;
    auto selector = spawn([&] { select(queue.on_put(value, [&] { put = true; }), after(1h, [] {})); });
    yield();
    EXPECT_EQ(queue.get(), 1);
    EXPECT_TRUE(queue.full());
    selector.get();
    EXPECT_TRUE(put);
    EXPECT_EQ(queue.get(), 2);
  });
}

// parity 43: FailingQueueTest; whatever move throws, each value is in one place
TYPED_TEST(QueueOfAnyKind, APutWhoseMoveThrowsHasNotHappened) {
  on_loop([] {
    for (int nth = 1;; ++nth) {
      typename TypeParam::template Of<Fragile> queue;
      for (int i = 1; i <= 4; ++i) queue.put(Fragile(i));
      Fragile mine(5);
      bool thrown = false;
      Fragile::fuse.left = nth;
      try {
        queue.put(std::move(mine));
      } catch (const std::runtime_error&) {
        thrown = true;
      }
      Fragile::fuse.left = 0;
      EXPECT_EQ(mine.value, thrown ? 5 : 0) << nth;
      EXPECT_EQ(queue.size(), thrown ? 4U : 5U) << nth;
      EXPECT_EQ(queue.unfinished(), queue.size()) << nth;
      int sum = 0;
      while (auto each = queue.try_get()) sum += each->value;
      EXPECT_EQ(sum, thrown ? 10 : 15) << nth;
      if (!thrown) return;
    }
  });
}

TYPED_TEST(QueueOfAnyKind, AGetWhoseMoveThrowsHasNotHappened) {
  using Fragiles = typename TypeParam::template Of<Fragile>;
  const std::vector<std::optional<Fragile> (*)(Fragiles&)> gets{
      [](Fragiles& queue) { return queue.get(); },
      [](Fragiles& queue) { return queue.try_get(); },
      [](Fragiles& queue) { return queue.get_for(1h); },
      [](Fragiles& queue) { return queue.get_until(now() + 1h); },
  };
  on_loop([&] {
    for (auto* get : gets) {
      bool thrown = true;
      for (int nth = 1; thrown; ++nth) {
        Fragiles queue;
        for (int i = 1; i <= 5; ++i) queue.put(Fragile(i));
        int sum = 0;
        Fragile::fuse.left = nth;
        try {
          sum += get(queue)->value;
          thrown = false;
        } catch (const std::runtime_error&) {
        }
        Fragile::fuse.left = 0;
        EXPECT_EQ(queue.size(), thrown ? 5U : 4U) << nth;
        while (auto each = queue.try_get()) sum += each->value;
        EXPECT_EQ(sum, 15) << nth;
        EXPECT_EQ(queue.unfinished(), 5U);
      }
    }
  });
}

TYPED_TEST(QueueOfAnyKind, AValueThatCanNotBeHandedOverStaysWithThePutter) {
  on_loop([] {
    typename TypeParam::template Of<Fragile> queue;
    auto getter = spawn([&] { return queue.get_for(1h)->value; });
    yield();
    Fragile mine(3);
    Fragile::fuse.left = 1;
    EXPECT_THROW(queue.put(std::move(mine)), std::runtime_error);
    Fragile::fuse.left = 0;
    EXPECT_EQ(mine.value, 3);
    EXPECT_EQ(queue.unfinished(), 0U);
    yield();
    EXPECT_FALSE(getter.done());
    queue.put(std::move(mine));
    EXPECT_EQ(getter.get(), 3);
  });
}

TYPED_TEST(QueueOfAnyKind, AWaitingPuttersErrorIsItsOwn) {
  on_loop([] {
    typename TypeParam::template Of<Fragile> queue(1);
    queue.put(Fragile(1));
    Fragile mine(2);
    auto putter = spawn([&] { queue.put(std::move(mine)); });
    auto next = spawn([&] { queue.put(Fragile(3)); });
    yield();
    Fragile::fuse.left = 2;  // the getter's own is the first
    EXPECT_EQ(queue.get()->value, 1);
    Fragile::fuse.left = 0;
    EXPECT_THROW(putter.get(), std::runtime_error);
    EXPECT_EQ(mine.value, 2);
    next.get();
    EXPECT_EQ(queue.get()->value, 3);
    EXPECT_EQ(queue.unfinished(), 2U);
  });
}

TYPED_TEST(QueueOfAnyKind, ShutdownAtOnceMovesNothing) {
  on_loop([] {
    typename TypeParam::template Of<Fragile> queue;
    for (int i = 0; i < 5; ++i) queue.put(Fragile(i));
    Fragile::fuse.left = 2;
    EXPECT_NO_THROW(queue.shutdown(Shutdown::immediate));
    Fragile::fuse.left = 0;
    EXPECT_EQ(queue.size(), 0U);
    EXPECT_EQ(queue.unfinished(), 0U);
    queue.join();
  });
}

// parity 43: FailingQueueTest
TEST(PriorityQueue, APutWhoseComparisonThrowsHasNotHappened) {
  on_loop([] {
    for (int nth = 1;; ++nth) {
      PriorityQueue<int, Explosive> queue;
      for (int i = 9; i > 1; --i) queue.put(i);
      bool thrown = false;
      Explosive::fuse.left = nth;
      try {
        queue.put(1);
      } catch (const std::runtime_error&) {
        thrown = true;
      }
      Explosive::fuse.left = 0;
      EXPECT_EQ(queue.size(), thrown ? 8U : 9U) << nth;
      EXPECT_EQ(queue.unfinished(), queue.size()) << nth;
      for (int i = thrown ? 2 : 1; i < 10; ++i) EXPECT_EQ(queue.get(), i) << nth;
      if (!thrown) return;
    }
  });
}

TEST(PriorityQueue, AGetWhoseComparisonThrowsHasNotHappened) {
  on_loop([] {
    bool thrown = true;
    for (int nth = 1; thrown; ++nth) {
      PriorityQueue<int, Explosive> queue;
      for (int i = 9; i > 0; --i) queue.put(i);
      thrown = false;
      Explosive::fuse.left = nth;
      try {
        EXPECT_EQ(queue.get(), 1);
      } catch (const std::runtime_error&) {
        thrown = true;
      }
      Explosive::fuse.left = 0;
      for (int i = thrown ? 1 : 2; i < 10; ++i) EXPECT_EQ(queue.get(), i) << nth;
      EXPECT_TRUE(queue.empty());
      EXPECT_EQ(queue.unfinished(), 9U);
    }
  });
}

TEST(PriorityQueue, AWaitingPutterWhoseComparisonThrows) {
  on_loop([] {
    PriorityQueue<int, Explosive> queue(2);
    queue.put(1);
    queue.put(2);
    auto putter = spawn([&] { queue.put(3); });
    yield();
    Explosive::fuse.left = 1;
    EXPECT_EQ(queue.get(), 1);  // of two, without a comparison
    Explosive::fuse.left = 0;
    EXPECT_THROW(putter.get(), std::runtime_error);
    EXPECT_EQ(queue.unfinished(), 2U);
    EXPECT_EQ(queue.get(), 2);
    EXPECT_TRUE(queue.empty());
  });
}

TEST(PriorityQueue, OfWhatCanNotBeAssigned) {
  struct Fixed {
    const int value;
    bool operator<(const Fixed& other) const { return value < other.value; }
  };
  on_loop([] {
    PriorityQueue<Fixed> queue;
    for (const int value : {2, 3, 1}) queue.put(Fixed{value});
    for (const int value : {1, 2, 3}) EXPECT_EQ(queue.get()->value, value);
  });
}

TEST(Queue, UsedInCallbacksAndWithoutALoop) {
  Queue<int> queue;
  EXPECT_TRUE(queue.try_put(1));
  EXPECT_EQ(queue.try_get(), 1);
  queue.task_done();
  on_loop([&] {
    auto getter = spawn([&] { return queue.get(); });
    yield();
    spawn([] {}).on_done([&] { EXPECT_TRUE(queue.try_put(2)); });
    EXPECT_EQ(getter.get(), 2);
    auto joiner = spawn([&] { queue.join(); });
    spawn([] {}).on_done([&] { queue.task_done(); });
    joiner.get();
    EXPECT_TRUE(queue.try_put(3));
  });
  EXPECT_EQ(queue.try_get(), 3);
  queue.shutdown();
}

// parity 43: test_many_threads, as fibers
TYPED_TEST(QueueOfAnyKind, ManyPuttersAndGetters) {
  on_loop([] {
    constexpr int kEach = 200;
    typename TypeParam::template Of<int> queue(3);
    std::vector<int> got;
    Scope getters;
    for (int i = 0; i < 7; ++i) {
      getters.spawn([&, i] {
        while (auto value = i % 2 == 0 ? queue.get() : queue.get_for(1h)) {
          got.push_back(*value);
          if (*value % 3 == 0) yield();
          queue.task_done();
        }
      });
    }
    Scope putters;
    for (int i = 0; i < 11; ++i) {
      putters.spawn([&, i] {
        for (int k = 0; k < kEach; ++k) {
          while (!queue.put_for(i * kEach + k, k % 5 == 0 ? Duration(0) : Duration(1h))) yield();
        }
      });
    }
    putters.join();
    queue.join();
    queue.shutdown();
    getters.join();
    std::sort(got.begin(), got.end());
    ASSERT_EQ(got.size(), 11U * kEach);
    for (int i = 0; i < 11 * kEach; ++i) EXPECT_EQ(got[static_cast<std::size_t>(i)], i);
  });
}

TEST(Queue, SaysWhatIsWaitedFor) {
  on_loop([] {
    Queue<int> queue(1);
    auto getter = spawn([&] { return queue.get(); });
    yield();
    EXPECT_NE(this_loop::dump_fibers().find("a value to receive"), std::string::npos) << this_loop::dump_fibers();
    queue.put(1);
    getter.join();
    auto joiner = spawn([&] { queue.join(); });
    yield();
    EXPECT_NE(this_loop::dump_fibers().find("the tasks of a queue"), std::string::npos) << this_loop::dump_fibers();
    queue.task_done();
    joiner.get();
  });
}

TEST(Queue, DestroyedWhileFibersWaitAborts) {
  void (*const waits[])(Queue<int>&) = {
      [](Queue<int>& queue) {
        queue.put(1);
        queue.put(2);
      },
      [](Queue<int>& queue) { static_cast<void>(queue.get()); },
      [](Queue<int>& queue) {
        queue.put(1);
        queue.join();
      },
  };
  for (auto* wait : waits) {
    const auto ended = in_child([wait] {
      return run([wait] {
        auto queue = std::make_unique<Queue<int>>(1);
        auto fiber = spawn([&] { wait(*queue); });
        yield();
        queue.reset();
      });
    });
    EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
    EXPECT_TRUE(ended.says("is destroyed while fibers wait")) << describe(ended);
  }
}

TEST(Queue, OfAnotherThreadsLoopAborts) {
  void (*const uses[])(Queue<int>&) = {
      [](Queue<int>& queue) { queue.put(1); },
      [](Queue<int>& queue) { static_cast<void>(queue.try_get()); },
      [](Queue<int>& queue) { queue.shutdown(); },
  };
  for (auto* use : uses) {
    const auto ended = in_child([use] {
      return run([use] {
        Queue<int> queue;
        queue.put(1);
        std::thread([&] { run([&] { use(queue); }); }).join();
      });
    });
    EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
    EXPECT_TRUE(ended.says("belongs to the loop of another thread")) << describe(ended);
  }
}

}  // namespace
}  // namespace bight
