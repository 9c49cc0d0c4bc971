// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string_view>
#include <typeinfo>
#include <utility>

#include <gtest/gtest.h>

#include <bight/error.hpp>
#include <bight/run.hpp>

namespace bight::test {

/// What a body has left behind on its loop is a failure: everything is to be as it was.
inline void expect_nothing_left() {
  const LoopStats stats = this_loop::stats();
  EXPECT_EQ(stats.fibers_alive, 1U) << this_loop::dump_fibers();
  EXPECT_EQ(stats.timers_armed, 0U);
  EXPECT_EQ(stats.operations_in_flight, 0U);
  EXPECT_EQ(stats.descriptors_open, 0U);
  EXPECT_EQ(stats.receive_buffers_lent, 0U);
}

/// Runs `body` as the main fiber of a loop of its own, on the engine that BIGHT_ENGINE names. An exception that escapes
/// is a failure, and so is anything that is left behind. ASSERT_ macros end the body.
template <class Body>
void on_loop(RunOptions options, Body&& body) {
  options.stop_on_signals = false;
  try {
    run(options, [&] {
      body();
      expect_nothing_left();
    });
  } catch (const std::exception& error) {
    ADD_FAILURE() << "run() threw " << typeid(error).name() << ": " << error.what();
  } catch (...) {
    ADD_FAILURE() << "run() threw something that is no std::exception";
  }
}

template <class Body>
void on_loop(Body&& body) {
  on_loop(RunOptions{}, std::forward<Body>(body));
}

[[nodiscard]] inline bool on_sim() { return this_loop::engine_name() == "sim"; }

}  // namespace bight::test
