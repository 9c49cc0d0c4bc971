// SPDX-License-Identifier: Apache-2.0
#pragma once

// The yardstick: two contexts that jump to each other by the bare routine of Boost.Context, counted by the jump.

#include <benchmark/benchmark.h>

#include <boost/context/detail/fcontext.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace bench::micro {

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

[[gnu::noinline]] inline transfer_t jump_rounds(transfer_t other, std::int64_t count) {
  for (; count > 0; --count) other = jump_fcontext(other.fctx, nullptr);
  return other;
}

inline void jump_for_ever(transfer_t other) {
  const std::int64_t rounds = *static_cast<const std::int64_t*>(other.data);
  for (;;) other = jump_rounds(other, rounds);
}

inline void jump(benchmark::State& state, std::int64_t rounds) {
  std::vector<std::byte> stack(64 * 1024);
  const fcontext_t made = make_fcontext(stack.data() + stack.size(), stack.size(), jump_for_ever);
  transfer_t other = jump_fcontext(made, &rounds);
  while (state.KeepRunningBatch(2 * rounds)) other = jump_rounds(other, rounds);
}

}  // namespace bench::micro
