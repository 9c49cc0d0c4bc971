// SPDX-License-Identifier: Apache-2.0
#include <bight/run.hpp>

#include "loop.hpp"

namespace bight {
namespace detail {

int run_loop(const RunOptions& options, void (*main)(void*), void* argument) {
  Loop loop(options);
  return loop.run(main, argument);
}

}  // namespace detail

namespace this_loop {

bool exists() noexcept { return detail::Loop::current() != nullptr; }

LoopStats stats() noexcept { return detail::Loop::require().stats(); }

std::string_view engine_name() noexcept { return detail::Loop::require().engine().name(); }

std::string dump_fibers() { return detail::Loop::require().dump_fibers(); }

}  // namespace this_loop
}  // namespace bight
