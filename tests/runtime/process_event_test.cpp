// SPDX-License-Identifier: Apache-2.0
#include <bight/process_event.hpp>

#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/shared_memory.hpp>

#include "child.hpp"
#include "on_loop.hpp"
#include "open_fds.hpp"
#include "processes.hpp"

namespace bight::test {
namespace {

using namespace std::chrono_literals;

class ProcessEventTest : public ProcessTest {};

TEST_F(ProcessEventTest, lets_everybody_go) {
  ProcessEvent event;
  const SharedCounter waiting;
  std::vector<Child> children;
  for (int i = 0; i < 3; ++i) {
    children.push_back(fiber_in_child([&] {
      Scope scope;
      for (int k = 0; k < 3; ++k) {
        scope.spawn([&] {
          ++waiting;
          event.wait();
          --waiting;
        });
      }
      scope.join();
      return event.is_set() ? 0 : 1;
    }));
  }
  children.emplace_back([&] {  // without a loop
    ++waiting;
    event.wait();
    --waiting;
    return 0;
  });
  on_loop([&] {
    while (waiting.get() < 10) sleep_for(1ms);
    EXPECT_FALSE(event.wait_for(1ms));
    event.set();
    event.set();
    event.wait();
  });
  for (Child& each : children) expect_well(each);
  EXPECT_EQ(waiting.get(), 0);
  event.clear();
  EXPECT_FALSE(event.is_set());
  EXPECT_FALSE(event.wait_for(0s));
  event.set();
  EXPECT_TRUE(event.wait_for(0s));
}

TEST_F(ProcessEventTest, a_pulse_lets_go_who_waited) {
  ProcessEvent event;
  const SharedCounter waiting;
  Child child = fiber_in_child([&] {
    ++waiting;
    event.wait();
    return 0;
  });
  on_loop([&] {
    while (waiting.get() < 1) sleep_for(1ms);
    sleep_for(5ms);
    event.set();
    event.clear();
    EXPECT_FALSE(event.wait_for(1ms));
  });
  expect_well(child);
}

TEST_F(ProcessEventTest, cancellation_and_limits_end_a_wait) {
  const std::size_t before = open_fds();
  on_loop([] {
    ProcessEvent event;
    auto waiting = spawn([&] { event.wait(); });
    yield();
    waiting.cancel();
    waiting.join();
    EXPECT_THROW(with_timeout(1ms, [&] { event.wait(); }), TimedOut);
    EXPECT_FALSE(event.wait_for(1ms));
  });
  EXPECT_EQ(open_fds(), before);
}

/// Processes set and clear it all the time and are killed at it; who waits is let go of, every time.
TEST_F(ProcessEventTest, survives_kills_at_any_moment) {
  ProcessEvent event;
  auto work = [&] {
    for (;;) {
      event.set();
      event.clear();
    }
    return 0;
  };
  std::mt19937 random(4711);
  std::vector<Child> children;
  for (int i = 0; i < 2; ++i) children.emplace_back(work);
  on_loop([&] {
    for (int i = 0; i < kills(200); ++i) {
      sleep_for(std::chrono::microseconds(random() % 300));
      Child& victim = children[random() % children.size()];
      kill_and_wait(victim);
      victim = Child(work);
      EXPECT_TRUE(event.wait_for(30s));
    }
    for (Child& each : children) kill_and_wait(each);
    event.clear();
    auto waiting = spawn([&] { event.wait(); });
    sleep_for(1ms);
    event.set();
    waiting.join();
  });
}

TEST(ProcessEvent, a_simulated_world_has_one_process) {
  on_loop([] {
    if (!on_sim()) GTEST_SKIP() << "of the sim engine";
    ProcessEvent event;
    EXPECT_THROW(event.wait(), std::system_error);
    event.set();
    event.wait();
  });
}

}  // namespace
}  // namespace bight::test
