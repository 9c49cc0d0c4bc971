// SPDX-License-Identifier: Apache-2.0
// parity 48 and reliability 2a: very many fibers.
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <fstream>
#include <vector>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "on_loop.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::on_loop;

constexpr std::size_t kMany = test::thread_sanitized ? 2'000 : test::address_sanitized ? 10'000 : 100'000;
constexpr bool kFull = kMany == 100'000;

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t total = 0;
  std::size_t resident = 0;
  file >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

TEST(ManyFibers, SleepAndWakeInOrder) {
  on_loop([] {
    std::size_t next = 0;
    std::size_t out_of_order = 0;
    const TimePoint wake_up = now() + 50ms;
    Scope scope;
    for (std::size_t i = 0; i < kMany; ++i) {
      scope.spawn([&, i] {
        sleep_until(wake_up);
        if (next++ != i) ++out_of_order;
      });
    }
    yield();
    EXPECT_EQ(this_loop::stats().fibers_alive, kMany + 1);
    scope.join();
    EXPECT_EQ(next, kMany);
    if (test::on_sim()) {  // elsewhere the time may come before all have gone to sleep
      EXPECT_EQ(out_of_order, 0U);
    }
    EXPECT_GE(now(), wake_up);
  });
}

TEST(ManyFibers, MemoryComesBack) {
  on_loop([] {
    const auto burst = [] {
      Scope scope;
      for (std::size_t i = 0; i < kMany; ++i) scope.spawn([] { sleep_for(20ms); });
      yield();
      const std::size_t full = resident_bytes();
      scope.join();
      return full;
    };
    static_cast<void>(burst());
    yield();
    sleep_for(1ms);
    const std::size_t before = resident_bytes();
    const std::size_t full = burst();
    yield();
    sleep_for(1ms);
    const std::size_t after = resident_bytes();
    if (!kFull) return;
    EXPECT_LT(after, before + before / 20 + (1 << 20));
    EXPECT_GT(full, after + kMany * 3000);
    const LoopStats stats = this_loop::stats();
    EXPECT_LE(stats.stacks_cached, 4096U + 256U);
    EXPECT_LT(stats.stacks_reserved, kMany + 1000);
  });
}

TEST(ManyFibers, ChurnReusesStacks) {
  on_loop([] {
    for (std::size_t i = 0; i < kMany; ++i) spawn([] {}).join();
    EXPECT_LT(this_loop::stats().stacks_reserved, 10U);
    EXPECT_EQ(this_loop::stats().fibers_spawned, kMany + 1);
  });
}

TEST(SlowManyFibers, AMillionAsleepAtOnce) {
  if (!kFull) GTEST_SKIP() << "too large under a sanitizer";
  on_loop([] {
    constexpr std::size_t kCount = 1'000'000;
    const std::size_t before = resident_bytes();
    std::size_t woken = 0;
    Scope scope;
    const TimePoint wake_up = now() + 10s;
    for (std::size_t i = 0; i < kCount; ++i) {
      scope.spawn([&] {
        sleep_until(wake_up);
        ++woken;
      });
    }
    yield();
    EXPECT_LT((resident_bytes() - before) / kCount, 4700U);
    scope.join();
    EXPECT_EQ(woken, kCount);
  });
}

}  // namespace
}  // namespace bight
