// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <cstdlib>
#include <string_view>

#include <gtest/gtest.h>

#include <bight/run.hpp>

#include "child.hpp"

namespace bight::test {

/// Tests with several processes, of which a simulated world has none.
class ProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* engine = std::getenv("BIGHT_ENGINE");  // NOLINT(concurrency-mt-unsafe)
    if (engine != nullptr && std::string_view(engine) == "sim") GTEST_SKIP() << "a simulated world has no processes";
  }
};

/// A child whose main fiber does `body`, which returns its exit status.
template <class Body>
Child fiber_in_child(Body body) {
  return Child([&] {
    int status = 0;
    run(RunOptions{.stop_on_signals = false}, [&] { status = body(); });
    return status;
  });
}

inline void expect_well(Child& child) {
  const Ended ended = child.wait();
  EXPECT_TRUE(ended.with(0)) << describe(ended);
}

inline void kill_and_wait(Child& child) {
  ::kill(child.pid(), SIGKILL);
  EXPECT_TRUE(child.wait().by(SIGKILL));
}

/// How many processes a test kills: `usual`, or what BIGHT_PROCESS_KILLS says.
inline int kills(int usual) {
  const char* more = std::getenv("BIGHT_PROCESS_KILLS");  // NOLINT(concurrency-mt-unsafe)
  return more != nullptr ? std::atoi(more) : usual;
}

}  // namespace bight::test
