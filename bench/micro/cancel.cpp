// SPDX-License-Identifier: Apache-2.0

// What the less happy ways cost: a fiber that is cancelled, one that fails, a time limit that expires; beside them a
// plain throw, which is most of each.

#include <chrono>
#include <cstdint>
#include <stdexcept>

#include <bight/deadline.hpp>
#include <bight/error.hpp>
#include <bight/fiber.hpp>
#include <bight/time.hpp>

#include "harness.hpp"

namespace bench::micro {
namespace {

using namespace std::chrono_literals;

[[gnu::noinline]] void throw_error() { throw std::runtime_error("as planned"); }

void throw_catch(benchmark::State& state) {
  for (auto _ : state) {
    try {
      throw_error();
    } catch (const std::runtime_error& error) {
      benchmark::DoNotOptimize(error.what());
    }
  }
}

void cancel_asleep(benchmark::State& state) {
  in_loop(state, [&] {
    for (auto _ : state) {
      auto sleeper = bight::spawn([] { bight::sleep_for(1h); });
      bight::yield();  // it sleeps now
      sleeper.cancel();
      sleeper.join();
    }
  });
}

void cancel_unstarted(benchmark::State& state) {
  in_loop(state, [&] {
    for (auto _ : state) {
      auto fiber = bight::spawn([] {});
      fiber.cancel();
      fiber.join();
    }
  });
}

void fail_and_get(benchmark::State& state) {
  in_loop(state, [&] {
    for (auto _ : state) {
      auto fiber = bight::spawn(throw_error);
      try {
        fiber.get();
      } catch (const std::runtime_error& error) {
        benchmark::DoNotOptimize(error.what());
      }
    }
  });
}

void timeout_expired(benchmark::State& state) {
  in_loop(state, [&] {
    for (auto _ : state) {
      const bool finished = bight::move_on_after(0s, [] { bight::yield(); });
      if (finished) return fail(state, "the limit did not expire");
    }
  });
}

// Two fibers that wait in catch blocks: a switch then exchanges exceptions that are there.
[[gnu::noinline]] void yield_rounds_in_catch(std::int64_t count) {
  try {
    throw_error();
  } catch (const std::runtime_error&) {
    for (; count > 0; --count) bight::yield();
  }
}

void yield_in_catch(benchmark::State& state, std::int64_t rounds) {
  in_loop(state, [&] {
    bool stop = false;
    auto other = bight::spawn([&] {
      while (!stop) yield_rounds_in_catch(rounds);
    });
    while (state.KeepRunningBatch(2 * rounds)) yield_rounds_in_catch(rounds);
    stop = true;
    other.join();
  });
}

void add(const Scale& scale) {
  benchmark::RegisterBenchmark("throw_catch", throw_catch);
  benchmark::RegisterBenchmark("cancel_asleep", cancel_asleep);
  benchmark::RegisterBenchmark("cancel_unstarted", cancel_unstarted);
  benchmark::RegisterBenchmark("fail_and_get", fail_and_get);
  benchmark::RegisterBenchmark("timeout_expired", timeout_expired);
  benchmark::RegisterBenchmark("yield_in_catch", yield_in_catch, scale.of(10'000, 10));
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
