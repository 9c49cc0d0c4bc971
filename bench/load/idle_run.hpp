// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "connecting.hpp"
#include "options.hpp"
#include "pattern.hpp"

#include <vector>

namespace bench::load {

// Many connections that say nothing, or one message each, and stay open: for measuring what a server keeps for them.
class IdleRun {
 public:
  IdleRun(const Options& options, const Connecting& connecting);

  void echo_once(const Pattern& pattern) const;

 private:
  void echo(const Pattern& pattern, std::uint32_t id) const;

  const Options& options_;
  std::vector<Descriptor> sockets_;
};

}  // namespace bench::load
