// SPDX-License-Identifier: Apache-2.0

// What the life of a fiber that does nothing costs: spawned, run, and joined or let go.

#include <cstdint>
#include <thread>
#include <vector>

#include <bight/fiber.hpp>
#include <bight/scope.hpp>

#include "harness.hpp"

namespace bench::micro {
namespace {

void spawn_join(benchmark::State& state) {
  in_loop(state, [&] {
    for (auto _ : state) bight::spawn([] {}).join();
  });
}

// A result is handed over, too.
void spawn_get(benchmark::State& state) {
  in_loop(state, [&] {
    for (auto _ : state) {
      if (bight::spawn([](int x) { return x + 1; }, 41).get() != 42) return fail(state, "a wrong result");
    }
  });
}

void spawn_join_batch(benchmark::State& state) {
  in_loop(state, [&] {
    const auto count = static_cast<std::size_t>(state.range(0));
    std::vector<bight::Fiber<>> fibers;
    fibers.reserve(count);
    while (state.KeepRunningBatch(state.range(0))) {
      for (std::size_t i = 0; i < count; ++i) fibers.push_back(bight::spawn([] {}));
      for (const bight::Fiber<>& each : fibers) each.join();
      fibers.clear();
    }
  });
}

void spawn_in_scope_batch(benchmark::State& state) {
  in_loop(state, [&] {
    while (state.KeepRunningBatch(state.range(0))) {
      bight::Scope scope;
      for (std::int64_t i = 0; i < state.range(0); ++i) scope.spawn([] {}).detach();
      scope.join();
    }
  });
}

void spawn_detached_batch(benchmark::State& state) {
  in_loop(state, [&] {
    std::int64_t spawned = 0;
    std::int64_t ended = 0;
    while (state.KeepRunningBatch(state.range(0))) {
      for (std::int64_t i = 0; i < state.range(0); ++i) bight::spawn([&ended] { ++ended; }).detach();
      spawned += state.range(0);
      bight::yield();  // returns when all of them, being ahead in the queue, have run
    }
    if (ended != spawned) fail(state, "not all fibers ran");
  });
}

// What one would do without fibers.
void thread_spawn_join(benchmark::State& state) {
  for (auto _ : state) std::thread([] {}).join();
}

void add(const Scale& scale) {
  const std::int64_t batch = scale.of(1000, 10);
  benchmark::RegisterBenchmark("spawn_join", spawn_join);
  benchmark::RegisterBenchmark("spawn_get", spawn_get);
  benchmark::RegisterBenchmark("spawn_join_batch", spawn_join_batch)->Arg(batch);
  benchmark::RegisterBenchmark("spawn_in_scope_batch", spawn_in_scope_batch)->Arg(batch);
  benchmark::RegisterBenchmark("spawn_detached_batch", spawn_detached_batch)->Arg(batch);
  benchmark::RegisterBenchmark("thread_spawn_join", thread_spawn_join)->UseRealTime();
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
