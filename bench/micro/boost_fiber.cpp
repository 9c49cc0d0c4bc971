// SPDX-License-Identifier: Apache-2.0

// The same as in switch.cpp, spawn.cpp and sync.cpp with Boost.Fiber, by the same names.

#include <boost/fiber/all.hpp>
#include <boost/fiber/pooled_fixedsize_stack.hpp>

#include <cstdint>
#include <memory>
#include <vector>

#include "harness.hpp"

namespace bench::micro {
namespace {

[[gnu::noinline]] void yield_rounds(std::int64_t count) {
  for (; count > 0; --count) boost::this_fiber::yield();
}

void yield(benchmark::State& state, std::int64_t rounds) {
  bool stop = false;
  std::vector<boost::fibers::fiber> others;
  boost::fibers::fixedsize_stack stacks(64 * 1024);
  for (std::int64_t i = 1; i < state.range(0); ++i) {
    others.emplace_back(std::allocator_arg, stacks, [&] {
      while (!stop) yield_rounds(rounds);
    });
  }
  yield_rounds(rounds);
  while (state.KeepRunningBatch(rounds * state.range(0))) yield_rounds(rounds);
  stop = true;
  for (auto& each : others) each.join();
}

// With the library's stack of its own for each fiber, and with its pool.
template <class Stacks>
void spawn_join(benchmark::State& state) {
  Stacks stacks(64 * 1024);
  for (auto _ : state) boost::fibers::fiber(std::allocator_arg, stacks, [] {}).join();
}

template <class Stacks>
void spawn_join_batch(benchmark::State& state) {
  Stacks stacks(64 * 1024);
  std::vector<boost::fibers::fiber> fibers;
  fibers.reserve(static_cast<std::size_t>(state.range(0)));
  while (state.KeepRunningBatch(state.range(0))) {
    for (std::int64_t i = 0; i < state.range(0); ++i) fibers.emplace_back(std::allocator_arg, stacks, [] {});
    for (auto& each : fibers) each.join();
    fibers.clear();
  }
}

void mutex_free(benchmark::State& state) {
  boost::fibers::mutex mutex;
  for (auto _ : state) {
    mutex.lock();
    benchmark::ClobberMemory();
    mutex.unlock();
    benchmark::ClobberMemory();
  }
}

void channel_messages(benchmark::State& state) {
  boost::fibers::buffered_channel<std::uint64_t> channel(static_cast<std::size_t>(state.range(0)));
  std::uint64_t sum = 0;
  boost::fibers::fiber other([&] {
    for (const std::uint64_t value : channel) sum += value;
  });
  for (auto _ : state) channel.push(1);
  channel.close();
  other.join();
  benchmark::DoNotOptimize(sum);
}

template <class Channel, class... Args>
void channel_round_trip(benchmark::State& state, Args... args) {
  Channel there(args...);
  Channel back(args...);
  boost::fibers::fiber other([&] {
    for (const std::uint64_t value : there) back.push(value);
  });
  for (auto _ : state) {
    there.push(1);
    benchmark::DoNotOptimize(back.value_pop());
  }
  there.close();
  other.join();
}

void rendezvous(benchmark::State& state) {
  channel_round_trip<boost::fibers::unbuffered_channel<std::uint64_t>>(state);
}

void add(const Scale& scale) {
  using Plain = boost::fibers::fixedsize_stack;
  using Pooled = boost::fibers::pooled_fixedsize_stack;
  const std::int64_t rounds = scale.of(256, 2);
  const std::int64_t most = scale.of(10'000, 300);
  const std::int64_t batch = scale.of(1000, 10);
  benchmark::RegisterBenchmark("mutex_free", mutex_free);
  benchmark::RegisterBenchmark("channel_message", channel_messages)->Arg(64);
  benchmark::RegisterBenchmark("channel_round_trip/0", rendezvous);
  benchmark::RegisterBenchmark("boost_fiber_yield", yield, rounds)->Arg(2);
  for (std::int64_t fibers = 100; fibers <= most; fibers *= 10) {
    benchmark::RegisterBenchmark("boost_fiber_yield", yield, rounds)->Arg(fibers);
  }
  benchmark::RegisterBenchmark("boost_fiber_spawn_join", spawn_join<Plain>);
  benchmark::RegisterBenchmark("boost_fiber_spawn_join_batch", spawn_join_batch<Plain>)->Arg(batch);
  benchmark::RegisterBenchmark("boost_fiber_pooled_spawn_join", spawn_join<Pooled>);
  benchmark::RegisterBenchmark("boost_fiber_pooled_spawn_join_batch", spawn_join_batch<Pooled>)->Arg(batch);
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
