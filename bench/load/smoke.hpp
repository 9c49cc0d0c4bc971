// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "options.hpp"

namespace bench::load {

// Does what the options say; the exit code. Defined beside main.
int run(const Options& options);

// Runs every mode for a moment against an echo server in a child process, and checks that a wrong echo is noticed.
int smoke();

}  // namespace bench::load
