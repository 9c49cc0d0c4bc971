// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "clock.hpp"
#include "histogram.hpp"

#include <cstdint>
#include <string>

namespace bench::load {

// What one phase of a run brought.
struct Measurement {
  Histogram latency;  // nanoseconds
  std::uint64_t operations = 0;
  std::uint64_t unsent =
      0;  // messages of a fixed schedule whose turn never came; in `latency` with the time they waited
  std::uint64_t errors = 0;
  std::string first_error;
  Nanoseconds elapsed = 0;

  void count(Nanoseconds from, Nanoseconds to) {
    ++operations;
    latency.record(to > from ? to - from : 0);
  }

  void count_unsent(Nanoseconds due, Nanoseconds end) {
    ++unsent;
    latency.record(end - due);
  }

  void count_error(std::string what) {
    if (errors++ == 0) first_error = std::move(what);
  }
};

}  // namespace bench::load
