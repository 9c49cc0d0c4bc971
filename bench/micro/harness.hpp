// SPDX-License-Identifier: Apache-2.0
#pragma once

// What the micro benchmarks share: a main() that knows --smoke and --json, and loops to measure in.
//
// A benchmark that measures fibers opens a loop of its own, so that none inherits the stacks and timers that another
// one left, and has its timed loop in that loop's main fiber. Making the loop is not part of what is timed.

#include <benchmark/benchmark.h>

#include <cstdint>
#include <string_view>
#include <utility>

#include <bight/run.hpp>

namespace bench::micro {

// How many: --smoke has counts shrunk, to see that a benchmark works rather than how fast it is.
struct Scale {
  bool smoke = false;
  [[nodiscard]] std::int64_t of(std::int64_t full, std::int64_t tiny) const { return smoke ? tiny : full; }
};

// What main() returns. `add` registers the benchmarks. Beside Google Benchmark's own options:
//   --smoke  tiny counts and times, for the test suite
//   --json   --benchmark_format=json
int run_program(int argc, char** argv, void (*add)(const Scale& scale));

// Ends a benchmark whose result is wrong, and lets the program exit with 1.
void fail(benchmark::State& state, std::string_view why);

// Runs `body` in the main fiber of a loop of its own.
template <class Body>
void in_loop(benchmark::State& state, Body&& body) {
  try {
    bight::run(std::forward<Body>(body));
  } catch (const std::exception& error) {
    fail(state, error.what());
  }
}

}  // namespace bench::micro
