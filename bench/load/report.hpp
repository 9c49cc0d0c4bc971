// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "measurement.hpp"
#include "options.hpp"

namespace bench::load {

// Writes what was measured to standard output: a few lines to read, or one JSON object.
void report(const Options& options, const char* engine, const Measurement& measurement);

}  // namespace bench::load
