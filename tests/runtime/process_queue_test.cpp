// SPDX-License-Identifier: Apache-2.0
#include <bight/process_queue.hpp>

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include <bight/connection.hpp>
#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/shared_memory.hpp>

#include "child.hpp"
#include "misuse.hpp"
#include "on_loop.hpp"
#include "open_fds.hpp"
#include "processes.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;

class ProcessQueueTest : public ProcessTest {};

// gevent-parity, row "process Queue": the child puts, the parent gets, and its other fibers run meanwhile.
TEST_F(ProcessQueueTest, values_cross_processes) {
  using Value = std::tuple<int, std::optional<int>, int>;
  ProcessQueue<Value> queue;
  const SharedCounter asked;
  Child child([&] {
    while (asked.get() == 0) ::sched_yield();
    queue.put({42, std::nullopt, 156161});
    return 0;
  });
  run(RunOptions{.stop_on_signals = false}, [&] {  // not on_loop(): the queue, and with it a watch, outlives the loop
    auto other = spawn([&] { ++asked; });          // has its turn while the main fiber waits
    EXPECT_EQ(queue.get(), Value(42, std::nullopt, 156161));
    other.join();
  });
  expect_well(child);
}

void many_to_many(std::size_t maxsize) {
  constexpr int kProducers = 4;
  constexpr int kConsumers = 3;
  constexpr int kEach = 500;
  using Value = std::pair<int, std::string>;
  ProcessQueue<Value> queue(maxsize);
  ProcessQueue<std::pair<int, int>> results;
  std::vector<Child> producers;
  std::vector<Child> consumers;
  for (int i = 0; i < kProducers; ++i) {
    producers.push_back(fiber_in_child([&queue, i] {
      // Of many sizes: a few of these are too large for a socket's message.
      for (int k = 0; k < kEach; ++k) queue.put({i, std::string(k % 100 == 7 ? 100'000 : k % 50, 'x')});
      return 0;
    }));
  }
  for (int i = 0; i < kConsumers; ++i) {
    consumers.push_back(fiber_in_child([&] {
      std::map<int, int> counts;
      while (auto value = queue.get()) ++counts[value->first];
      for (const auto& each : counts) results.put(each);
      return 0;
    }));
  }
  for (Child& each : producers) expect_well(each);
  queue.close();
  std::map<int, int> counts;
  on_loop([&] {
    for (Child& each : consumers) expect_well(each);
    while (auto each = results.try_get()) counts[each->first] += each->second;
  });
  ASSERT_EQ(counts.size(), std::size_t{kProducers});
  for (const auto& [producer, count] : counts) EXPECT_EQ(count, kEach) << producer;
}

TEST_F(ProcessQueueTest, many_put_and_many_get) { many_to_many(ProcessQueue<int>::kUnbounded); }
TEST_F(ProcessQueueTest, many_put_and_many_get_through_little_room) { many_to_many(3); }

TEST_F(ProcessQueueTest, has_room_for_so_many) {
  on_loop([] {
    ProcessQueue<std::string> queue(2);
    EXPECT_TRUE(queue.empty());
    EXPECT_TRUE(queue.try_put("a"));
    EXPECT_TRUE(queue.put_for("b", 0s));
    EXPECT_FALSE(queue.try_put("c"));
    EXPECT_FALSE(queue.put_for("c", 2ms));
    EXPECT_FALSE(queue.empty());
    auto putter = spawn([&] { queue.put("d"); });
    auto second = spawn([&] { queue.put("e"); });
    sleep_for(1ms);
    EXPECT_EQ(queue.get(), "a");
    EXPECT_EQ(queue.get(), "b");
    EXPECT_EQ(std::set<std::string>({*queue.get(), *queue.get()}), std::set<std::string>({"d", "e"}));
    putter.join();
    second.join();
    EXPECT_EQ(queue.try_get(), std::nullopt);
    EXPECT_EQ(queue.get_for(1ms), std::nullopt);
    EXPECT_FALSE(queue.closed());
  });
}

TEST_F(ProcessQueueTest, an_unbounded_one_has_the_sockets_room) {
  on_loop([] {
    ProcessQueue<int> queue;
    int count = 0;
    while (queue.try_put(count)) ++count;
    EXPECT_GT(count, 100);
    EXPECT_FALSE(queue.put_for(-1, 1ms));
    auto putter = spawn([&] { queue.put(count); });
    yield();
    for (int i = 0; i <= count; ++i) ASSERT_EQ(queue.get(), i);
    putter.join();
  });
}

TEST_F(ProcessQueueTest, a_closed_one_is_drained) {
  on_loop([] {
    ProcessQueue<int> queue(2);
    auto getter = spawn([&] {
      int count = 0;
      while (queue.get()) ++count;
      return count;
    });
    auto second = spawn([&] { return queue.get(); });
    yield();
    queue.put(1);
    queue.put(2);
    queue.put(3);
    queue.close();
    const int rest = second.get() ? 1 : 0;
    EXPECT_EQ(getter.get() + rest, 3);
    EXPECT_TRUE(queue.closed());
    EXPECT_THROW(queue.put(4), ChannelClosed);
    EXPECT_THROW(static_cast<void>(queue.try_put(4)), ChannelClosed);
    EXPECT_EQ(queue.get(), std::nullopt);
    // Who waits for room finds it closed.
    ProcessQueue<int> full(1);
    full.put(1);
    auto putter = spawn([&] { EXPECT_THROW(full.put(2), ChannelClosed); });
    sleep_for(1ms);
    full.close();
    putter.join();
  });
}

TEST_F(ProcessQueueTest, limits_and_cancellation_take_nothing) {
  const std::size_t before = open_fds();
  on_loop([] {
    ProcessQueue<int> queue(1);
    auto getter = spawn([&] { static_cast<void>(queue.get()); });
    yield();
    getter.cancel();
    getter.join();
    queue.put(1);
    auto putter = spawn([&] { queue.put(2); });
    sleep_for(1ms);
    putter.cancel();
    putter.join();
    EXPECT_THROW(with_timeout(1ms, [&] { queue.put(3); }), TimedOut);
    EXPECT_EQ(queue.get(), 1);
    EXPECT_EQ(queue.try_get(), std::nullopt);
    queue.task_done();
    queue.join();
    EXPECT_THROW(queue.task_done(), std::logic_error);
  });
  EXPECT_EQ(open_fds(), before);
}

TEST_F(ProcessQueueTest, join_waits_for_the_work_of_all) {
  ProcessQueue<int> queue;
  const SharedCounter done;
  std::vector<Child> workers;
  for (int i = 0; i < 3; ++i) {
    workers.push_back(fiber_in_child([&] {
      while (auto number = queue.get()) {
        sleep_for(100us);
        if (*number % 10 == 0) queue.put(*number + 1);  // work that brings more work
        ++done;
        queue.task_done();
      }
      return 0;
    }));
  }
  on_loop([&] {
    queue.join();
    for (int round = 1; round <= 3; ++round) {
      for (int i = 0; i < 100; ++i) queue.put(i);
      queue.join();
      EXPECT_EQ(done.get(), 110 * round);
    }
    queue.close();
  });
  for (Child& each : workers) expect_well(each);
  EXPECT_EQ(queue.lost_tasks(), 0U);
}

TEST_F(ProcessQueueTest, the_tasks_of_the_dead_are_waited_for_by_nobody) {
  ProcessQueue<int> queue;
  const SharedCounter got;
  Child worker([&] {
    static_cast<void>(queue.get());
    static_cast<void>(queue.get());
    ++got;
    for (;;) ::pause();
    return 0;
  });
  on_loop([&] {
    queue.put(1);
    queue.put(2);
    while (got.get() == 0) sleep_for(1ms);
    EXPECT_FALSE(queue.join_for(1ms));
    auto joiner = spawn([&] { queue.join(); });
    sleep_for(1ms);
    kill_and_wait(worker);
    EXPECT_TRUE(move_on_after(30s, [&] { joiner.join(); }));
  });
  EXPECT_EQ(queue.lost_tasks(), 2U);
}

TEST_F(ProcessQueueTest, misuse_is_told) {
  expect_abort("holds one value at least", [] { ProcessQueue<int>(0); });
  on_loop([] {
    ProcessQueue<int> queue;
    EXPECT_THROW(queue.task_done(), std::logic_error);
  });
}

TEST_F(ProcessQueueTest, what_nobody_could_get_can_not_be_put) {
  const std::size_t size = connection_message_max + 1;
  void* const nothing = ::mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(nothing, MAP_FAILED);
  detail::ByteQueue queue(1);
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(nothing), size);
  EXPECT_THROW(static_cast<void>(queue.put(bytes, TimePoint::max())), std::system_error);
  ::munmap(nothing, size);
}

/// Producers and consumers are killed at any moment. What those who live have put arrives, in order; nobody is wedged;
/// and there are never more than maxsize there.
void survive_kills(std::size_t maxsize) {
  using Value = std::tuple<int, std::uint64_t, std::string>;  // who, which, and something to make sizes differ
  ProcessQueue<Value> queue(maxsize);
  const SharedCounter got;
  const SharedCounter disorder;
  int next_name = 0;
  auto produce = [&](int name) {
    return Child([&queue, name] {
      for (std::uint64_t i = 0;; ++i) queue.put({name, i, std::string(i % 40, 'x')});
      return 0;
    });
  };
  auto consume = [&] {
    return Child([&] {
      std::map<int, std::uint64_t> last;
      while (auto value = queue.get()) {
        auto [name, which, text] = *value;
        const auto [known, fresh] = last.try_emplace(name, which);
        if ((!fresh && known->second >= which) || text.size() != which % 40) ++disorder;
        known->second = which;
        ++got;
        queue.task_done();
      }
      return 0;
    });
  };
  std::mt19937 random(4711);
  std::vector<Child> producers;
  std::vector<Child> consumers;
  for (int i = 0; i < 2; ++i) {
    producers.push_back(produce(next_name++));
    consumers.push_back(consume());
  }
  on_loop([&] {
    for (int i = 0; i < kills(150); ++i) {
      sleep_for(std::chrono::microseconds(random() % 1000));
      const std::size_t which = random() % 2;
      if (random() % 2 == 0) {
        kill_and_wait(producers[which]);
        producers[which] = produce(next_name++);
      } else {
        kill_and_wait(consumers[which]);
        consumers[which] = consume();
      }
    }
    const std::int64_t before = got.get();
    for (int i = 0; i < 3000 && got.get() < before + 100; ++i) sleep_for(10ms);
    EXPECT_GE(got.get(), before + 100) << "it is wedged";
    for (Child& each : producers) kill_and_wait(each);
    EXPECT_TRUE(queue.join_for(30s));
    for (Child& each : consumers) kill_and_wait(each);
    // The count is right, too.
    if (maxsize != ProcessQueue<Value>::kUnbounded) {
      for (std::size_t i = 0; i < maxsize; ++i) EXPECT_TRUE(queue.try_put({0, 0, ""})) << i;
      EXPECT_FALSE(queue.try_put({0, 0, ""}));
    }
  });
  EXPECT_EQ(disorder.get(), 0);
}

TEST_F(ProcessQueueTest, survives_kills_at_any_moment) { survive_kills(5); }
TEST_F(ProcessQueueTest, survives_kills_without_a_bound) { survive_kills(ProcessQueue<int>::kUnbounded); }

}  // namespace
}  // namespace bight::test
