// SPDX-License-Identifier: Apache-2.0

// What it costs to switch from one fiber to the next: `yield` through the scheduler, beside the bare Boost.Context jump
// that it is made of. All fibers run the same function, as the connections of a server do.

#include <cstdint>

#include <bight/fiber.hpp>
#include <bight/scope.hpp>

#include "harness.hpp"
#include "jump.hpp"

namespace bench::micro {
namespace {

// --- Fibers

// `count` is never a constant, or else the compiler makes a copy of this function for it. Fibers that wait in different
// copies are fibers that wait in different places.
[[gnu::noinline]] void yield_rounds(std::int64_t count) {
  for (; count > 0; --count) bight::yield();
}

[[gnu::noinline]] void yield_rounds_elsewhere(std::int64_t count) {
  for (; count > 0; --count) bight::yield();
  benchmark::ClobberMemory();  // not the same code: they are not to be merged
}

void yield(benchmark::State& state, std::int64_t rounds, void (*of_the_others)(std::int64_t)) {
  in_loop(state, [&] {
    bool stop = false;
    bight::Scope others;
    for (std::int64_t i = 1; i < state.range(0); ++i) {
      others
          .spawn([&] {
            while (!stop) of_the_others(rounds);
          })
          .detach();
    }
    yield_rounds(rounds);
    while (state.KeepRunningBatch(rounds * state.range(0))) yield_rounds(rounds);
    stop = true;
  });
}

void add(const Scale& scale) {
  const std::int64_t rounds = scale.of(256, 2);
  const std::int64_t most = scale.of(10'000, 300);
  benchmark::RegisterBenchmark("jump", jump, rounds);
  // Where the fibers that take turns wait in different functions, the processor mispredicts a return at each switch.
  benchmark::RegisterBenchmark("yield_two_functions", yield, rounds, yield_rounds_elsewhere)->Arg(2);
  benchmark::RegisterBenchmark("yield", yield, rounds, yield_rounds)->Arg(1)->Arg(2);
  for (std::int64_t fibers = 100; fibers <= most; fibers *= 10) {
    benchmark::RegisterBenchmark("yield", yield, rounds, yield_rounds)->Arg(fibers);
  }
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
