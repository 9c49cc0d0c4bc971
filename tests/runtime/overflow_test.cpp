// SPDX-License-Identifier: Apache-2.0
// reliability 3: stack overflow in a fiber.
#include "overflow.hpp"

#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <string>
#include <thread>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/run.hpp>
#include <bight/time.hpp>

#include "build.hpp"
#include "child.hpp"

namespace bight {
namespace {

using namespace std::chrono_literals;
using test::describe;
using test::Ended;
using test::in_child;

class Overflow : public testing::Test {
 protected:
  void SetUp() override {
    if (test::sanitized) GTEST_SKIP() << "the sanitizers have their own report";
  }
};

[[gnu::noinline]] int recurse(int depth) {
  std::array<volatile char, 300> frame{};
  frame[0] = static_cast<char>(depth);
  return depth == 0 ? 0 : recurse(depth - 1) + frame[0];
}

[[gnu::noinline]] int large_array() {
  std::array<volatile char, 1024 * 1024> frame;  // not initialized: only -fstack-clash-protection touches each page
  asm volatile("" : : "r"(&frame) : "memory");   // somebody may use all of it
  frame[0] = 1;
  return frame[0];
}

void expect_report(const Ended& ended, const char* name) {
  EXPECT_TRUE(ended.by(SIGSEGV)) << describe(ended);
  EXPECT_TRUE(ended.says(name)) << describe(ended);
  EXPECT_TRUE(ended.says("overflowed its stack of")) << describe(ended);
  EXPECT_TRUE(ended.says("SpawnOptions::stack_size")) << describe(ended);
}

TEST_F(Overflow, ByRecursionNamesTheFiber) {
  const auto ended =
      in_child([] { return run([] { spawn({.name = "deep diver"}, [] { return recurse(1'000'000); }).join(); }); });
  expect_report(ended, "fiber #2 'deep diver'");
  EXPECT_TRUE(ended.says("overflow_test.cpp")) << describe(ended);
}

TEST_F(Overflow, ByOneLargeFrameDoesNotStepOverTheGuard) {
  const auto ended = in_child([] {
    return run([] {
      auto neighbour = spawn([] { sleep_for(1h); });  // what the frame would reach into
      spawn({.name = "big frame"}, [] { return large_array(); }).join();
    });
  });
  expect_report(ended, "'big frame'");
}

TEST_F(Overflow, OfMainItself) {
  const auto ended = in_child([] { return run([] { return recurse(10'000'000); }); });
  expect_report(ended, "fiber #1 'main'");
}

TEST_F(Overflow, OnALoopOfAnotherThread) {
  const auto ended = in_child([] {
    std::thread([] { run([] { spawn({.name = "elsewhere"}, [] { return recurse(1'000'000); }).join(); }); }).join();
    return 0;
  });
  expect_report(ended, "'elsewhere'");
}

TEST_F(Overflow, OfAReusedStackNamesItsPresentOwner) {
  const auto ended = in_child([] {
    return run([] {
      for (int i = 0; i < 10; ++i) spawn({.name = "earlier"}, [] {}).join();
      spawn({.name = "present"}, [] { return recurse(1'000'000); }).join();
    });
  });
  expect_report(ended, "'present'");
}

TEST_F(Overflow, OtherFaultsAreLeftAlone) {
  const auto ended = in_child([] {
    return run([] {
      volatile int* nowhere = nullptr;
      *nowhere = 1;  // NOLINT(clang-analyzer-core.NullDereference): that is the test
    });
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << describe(ended);
  EXPECT_FALSE(ended.says("overflowed")) << describe(ended);
}

TEST_F(Overflow, AnEarlierHandlerStillGetsOtherFaults) {
  const auto ended = in_child([] {
    std::signal(SIGSEGV, [](int) { ::_exit(42); });
    return run([] {
      volatile int* nowhere = nullptr;
      *nowhere = 1;  // NOLINT(clang-analyzer-core.NullDereference): that is the test
    });
  });
  EXPECT_TRUE(ended.with(42)) << describe(ended);
}

TEST_F(Overflow, EnoughStackIsEnough) {
  const auto ended = in_child([] {
    return run([] {
      spawn({.stack_size = 4 << 20}, [] {
        static_cast<void>(recurse(5000));
        static_cast<void>(large_array());
      }).join();
    });
  });
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

TEST_F(Overflow, ASentSignalEndsTheProcessToo) {
  const auto ended = in_child([] {
    run([] { ::kill(::getpid(), SIGSEGV); });
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGSEGV)) << describe(ended);
}

}  // namespace
}  // namespace bight
