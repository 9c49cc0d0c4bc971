// SPDX-License-Identifier: Apache-2.0

// What time limits that do not expire cost, and sleeps.

#include <chrono>
#include <cstdint>

#include <bight/deadline.hpp>
#include <bight/fiber.hpp>
#include <bight/scope.hpp>
#include <bight/time.hpp>

#include "harness.hpp"

namespace bench::micro {
namespace {

using namespace std::chrono_literals;

void set_limits(benchmark::State& state, bight::Duration limit) {
  int done = 0;
  for (auto _ : state) {
    bight::with_timeout(limit, [&] { benchmark::DoNotOptimize(++done); });
  }
}

void timeout(benchmark::State& state, bight::Duration limit) {
  in_loop(state, [&] { set_limits(state, limit); });
}

// The same among many timers of others: whether arming and cancelling really is O(1).
void timeout_among_sleepers(benchmark::State& state, bight::Duration limit) {
  in_loop(state, [&] {
    bight::Scope sleepers;
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      sleepers.spawn([i] { bight::sleep_for(1h + i * 1ms); }).detach();
    }
    bight::yield();
    set_limits(state, limit);
    sleepers.cancel();
    sleepers.join();
  });
}

// Fibers that sleep again and again, so many that some are always due: the loop never rests, and the time over the
// sleeps is what one costs, from going to sleep to running again.
void sleep_and_wake(benchmark::State& state) {
  const std::int64_t sleepers = state.range(0);
  const auto rounds = static_cast<std::int64_t>(state.max_iterations) / sleepers;
  in_loop(state, [&] {
    auto gate = bight::spawn([] { bight::sleep_for(1h); });
    bight::Scope scope;
    for (std::int64_t i = 0; i < sleepers; ++i) {
      auto sleeper = scope.spawn([&, pause = 1ms + i % 1000 * 1us] {
        gate.join();
        for (std::int64_t round = 0; round < rounds; ++round) bight::sleep_for(pause);
      });
      sleeper.detach();
    }
    bight::yield();  // all of them wait at the gate
    while (state.KeepRunningBatch(rounds * sleepers)) {
      gate.cancel();
      scope.join();
    }
  });
}

void add(const Scale& scale) {
  const std::int64_t sleepers = scale.of(100'000, 100);
  benchmark::RegisterBenchmark("timeout_10s", timeout, 10s);
  benchmark::RegisterBenchmark("timeout_10ms", timeout, 10ms);
  benchmark::RegisterBenchmark("timeout_10s_among", timeout_among_sleepers, 10s)->Arg(sleepers);
  benchmark::RegisterBenchmark("sleep_and_wake", sleep_and_wake)->Arg(sleepers)->Iterations(scale.of(10, 2) * sleepers);
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
