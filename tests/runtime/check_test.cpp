// SPDX-License-Identifier: Apache-2.0
#include <bight/check.hpp>

#include <csignal>

#include <gtest/gtest.h>

#include <bight/fiber.hpp>
#include <bight/run.hpp>

#include "child.hpp"

namespace bight {
namespace {

using test::describe;
using test::in_child;

TEST(Check, PassesWhatHolds) {
  int evaluated = 0;
  BIGHT_CHECK(++evaluated == 1, "it is evaluated once");
  EXPECT_EQ(evaluated, 1);
}

TEST(Check, AbortsWithASentence) {
  const auto ended = in_child([] {
    const int apples = 3;
    BIGHT_CHECK(apples == 4, "there are not enough apples");
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("check_test.cpp:")) << describe(ended);
  EXPECT_TRUE(ended.says("check failed: apples == 4: there are not enough apples\n")) << describe(ended);
}

TEST(Check, NamesTheFiber) {
  const auto ended =
      in_child([] { return run([] { spawn({.name = "picker"}, [] { BIGHT_CHECK(false, "no ladder"); }).join(); }); });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("no ladder (in fiber 'picker')\n")) << describe(ended);
}

TEST(Check, ALongSentenceIsCutOff) {
  const auto ended = in_child([] {
    const std::string sentence(5000, 'x');
    BIGHT_CHECK(false, sentence.c_str());
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
  EXPECT_TRUE(ended.says("xxxxxxxxxx")) << describe(ended);
}

// What the checks are for: uses outside of where a function may be used.
TEST(Check, WaitsOutsideALoopAreRefused) {
  void (*const waits[])() = {
      [] { yield(); },
      [] { this_fiber::set_name("nobody"); },
      [] { static_cast<void>(spawn([] {})); },
      [] { static_cast<void>(this_loop::stats()); },
  };
  for (auto* wait : waits) {
    const auto ended = in_child([wait] {
      wait();
      return 0;
    });
    EXPECT_TRUE(ended.by(SIGABRT)) << describe(ended);
    EXPECT_TRUE(ended.says("there is no loop on this thread: call this inside run()")) << describe(ended);
  }
}

}  // namespace
}  // namespace bight
