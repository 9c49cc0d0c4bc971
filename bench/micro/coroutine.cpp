// SPDX-License-Identifier: Apache-2.0

// What it costs to go into a coroutine and come back, beside the two bare Boost.Context jumps that it is made of.

#include <cstdint>

#include <bight/coroutine.hpp>
#include <bight/generator.hpp>

#include "harness.hpp"
#include "jump.hpp"

namespace bench::micro {
namespace {

using bight::Coroutine;
using bight::Generator;

using Adder = Coroutine<std::int64_t, std::int64_t>;

std::int64_t add_up(Adder::Self& self, std::int64_t next) {
  for (std::int64_t sum = 0;;) next = self.yield(sum += next);
}

void resume_yield(benchmark::State& state) {
  in_loop(state, [&] {
    Adder sums(add_up);
    std::int64_t sum = 0;
    std::int64_t count = 0;
    for (auto _ : state) {
      sum = sums.resume(1);
      ++count;
    }
    if (sum != count) fail(state, "a value was lost");
  });
}

void generate(benchmark::State& state) {
  in_loop(state, [&] {
    Generator<std::int64_t> numbers([](auto& yield) {
      for (std::int64_t i = 1;; ++i) yield(i);
    });
    std::int64_t last = 0;
    std::int64_t count = 0;
    for (auto _ : state) {
      last = *numbers.next();
      ++count;
    }
    if (last != count) fail(state, "a value was lost");
  });
}

// Each transfer is one switch, so this is a ping or a pong.
void transfer(benchmark::State& state, std::int64_t rounds) {
  using Player = Coroutine<std::int64_t, void>;
  in_loop(state, [&] {
    Player white;
    Player black;
    white = Player([&](Player::Self& self, std::int64_t count) {
      for (; count > 0; --count) self.transfer(black, count);
    });
    black = Player([&](Player::Self& self, std::int64_t count) {
      for (;;) count = self.transfer(white, count);
    });
    while (state.KeepRunningBatch(2 * rounds)) {
      white = Player([&](Player::Self& self, std::int64_t count) {
        for (; count > 0; --count) self.transfer(black, count);
      });
      white.resume(rounds);
    }
  });
}

void make_and_drop(benchmark::State& state) {
  in_loop(state, [&] {
    for (auto _ : state) {
      const Adder unused(add_up);
      benchmark::DoNotOptimize(unused);
    }
  });
}

// All of a short life: made, asked for three values, ended.
void three_values(benchmark::State& state) {
  in_loop(state, [&] {
    for (auto _ : state) {
      std::int64_t sum = 0;
      const auto body = [](auto& yield) {
        for (std::int64_t i = 1; i <= 3; ++i) yield(i);
      };
      for (std::int64_t& each : Generator<std::int64_t>(body)) sum += each;
      if (sum != 6) fail(state, "a value was lost");
    }
  });
}

void unwind(benchmark::State& state) {
  in_loop(state, [&] {
    for (auto _ : state) {
      Adder sums(add_up);
      benchmark::DoNotOptimize(sums.resume(1));
    }
  });
}

void add(const Scale& scale) {
  const std::int64_t rounds = scale.of(256, 2);
  benchmark::RegisterBenchmark("jump", jump, rounds);
  benchmark::RegisterBenchmark("resume_yield", resume_yield);
  benchmark::RegisterBenchmark("generate", generate);
  benchmark::RegisterBenchmark("transfer", transfer, rounds);
  benchmark::RegisterBenchmark("make_and_drop", make_and_drop);
  benchmark::RegisterBenchmark("three_values", three_values);
  benchmark::RegisterBenchmark("unwind", unwind);
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
