// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <utility>

#include <gtest/gtest.h>

#include <bight/run.hpp>

#include "child.hpp"

namespace bight::test {

/// `body`, in the main fiber of a loop in a child process, is to end that process by abort(), with `sentence` on
/// standard error.
template <class Body>
void expect_abort(const char* sentence, Body&& body) {
  const Ended ended = in_child([&] {
    run(RunOptions{.stop_on_signals = false}, body);
    return 0;
  });
  EXPECT_TRUE(ended.by(SIGABRT) && ended.says(sentence)) << describe(ended);
}

}  // namespace bight::test
