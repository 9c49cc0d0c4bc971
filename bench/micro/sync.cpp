// SPDX-License-Identifier: Apache-2.0

// What it costs to coordinate fibers: locks and permits that are free, a lock handed over, messages through channels,
// select; beside the bare Boost.Context jump of switch.cpp, to have a measure. The same by the same names with
// std::thread's tools where they have a like.

#include <cstdint>
#include <mutex>
#include <semaphore>
#include <thread>

#include <bight/channel.hpp>
#include <bight/event.hpp>
#include <bight/fiber.hpp>
#include <bight/mutex.hpp>
#include <bight/scope.hpp>
#include <bight/select.hpp>
#include <bight/semaphore.hpp>

#include "harness.hpp"

namespace bench::micro {
namespace {

// --- Nobody else there

void mutex_free(benchmark::State& state) {
  in_loop(state, [&] {
    bight::Mutex mutex;
    for (auto _ : state) {
      mutex.lock();
      benchmark::ClobberMemory();
      mutex.unlock();
      benchmark::ClobberMemory();
    }
  });
}

void semaphore_free(benchmark::State& state) {
  in_loop(state, [&] {
    bight::Semaphore semaphore(1);
    for (auto _ : state) {
      semaphore.acquire();
      benchmark::ClobberMemory();
      semaphore.release();
      benchmark::ClobberMemory();
    }
  });
}

void event_set(benchmark::State& state) {
  in_loop(state, [&] {
    bight::Event event;
    event.set();
    for (auto _ : state) {
      event.wait();
      benchmark::ClobberMemory();
    }
  });
}

void std_mutex_free(benchmark::State& state) {
  std::mutex mutex;
  for (auto _ : state) {
    mutex.lock();
    benchmark::ClobberMemory();
    mutex.unlock();
    benchmark::ClobberMemory();
  }
}

void std_semaphore_free(benchmark::State& state) {
  std::counting_semaphore<8> semaphore(1);
  for (auto _ : state) {
    semaphore.acquire();
    benchmark::ClobberMemory();
    semaphore.release();
    benchmark::ClobberMemory();
  }
}

// --- Two fibers

// A lock handed from fiber to fiber: nobody ever finds it free. `count` is never a constant: see switch.cpp.
[[gnu::noinline]] void hand_over_rounds(bight::Mutex& mutex, std::int64_t count) {
  for (; count > 0; --count) {
    mutex.unlock();
    mutex.lock();
  }
}

void mutex_hand_over(benchmark::State& state, std::int64_t rounds) {
  in_loop(state, [&] {
    bight::Mutex mutex;
    bool stop = false;
    bight::Scope others;
    mutex.lock();
    others
        .spawn([&] {
          mutex.lock();
          while (!stop) hand_over_rounds(mutex, rounds);
          mutex.unlock();
        })
        .detach();
    bight::yield();
    while (state.KeepRunningBatch(2 * rounds)) hand_over_rounds(mutex, rounds);
    stop = true;
    mutex.unlock();
  });
}

[[gnu::noinline]] void send_rounds(bight::Channel<std::uint64_t>& channel, std::int64_t count) {
  for (; count > 0; --count) channel.send(static_cast<std::uint64_t>(count));
}

void channel_messages(benchmark::State& state, std::int64_t rounds) {
  in_loop(state, [&] {
    bight::Channel<std::uint64_t> channel(static_cast<std::size_t>(state.range(0)));
    std::uint64_t sum = 0;
    bight::Scope others;
    others
        .spawn([&] {
          while (const auto value = channel.receive()) sum += *value;
        })
        .detach();
    while (state.KeepRunningBatch(rounds)) send_rounds(channel, rounds);
    channel.close();
    others.join();
    benchmark::DoNotOptimize(sum);
  });
}

[[gnu::noinline]] void ping_rounds(bight::Channel<std::uint64_t>& there, bight::Channel<std::uint64_t>& back,
                                   std::int64_t count) {
  for (; count > 0; --count) {
    there.send(static_cast<std::uint64_t>(count));
    benchmark::DoNotOptimize(back.receive());
  }
}

void channel_round_trip(benchmark::State& state, std::int64_t rounds) {
  in_loop(state, [&] {
    bight::Channel<std::uint64_t> there(static_cast<std::size_t>(state.range(0)));
    bight::Channel<std::uint64_t> back(static_cast<std::size_t>(state.range(0)));
    bight::Scope others;
    others
        .spawn([&] {
          while (const auto value = there.receive()) back.send(*value);
        })
        .detach();
    while (state.KeepRunningBatch(rounds)) ping_rounds(there, back, rounds);
    there.close();
  });
}

// --- select

using Numbers = bight::Channel<std::uint64_t>;

template <class Take>
std::size_t select_of_eight(Numbers (&channels)[8], Take&& take) {
  return bight::select(channels[0].on_receive(take), channels[1].on_receive(take), channels[2].on_receive(take),
                       channels[3].on_receive(take), channels[4].on_receive(take), channels[5].on_receive(take),
                       channels[6].on_receive(take), channels[7].on_receive(take));
}

void select_ready(benchmark::State& state) {
  in_loop(state, [&] {
    Numbers channels[8]{Numbers(1), Numbers(1), Numbers(1), Numbers(1), Numbers(1), Numbers(1), Numbers(1), Numbers(1)};
    for (Numbers& each : channels) each.send(1);
    std::uint64_t sum = 0;
    const auto take = [&](std::uint64_t value) { sum += value; };
    for (auto _ : state) channels[select_of_eight(channels, take)].send(1);
    benchmark::DoNotOptimize(sum);
  });
}

/// The receiver waits each time, for one of eight channels or for one alone: the sender sends and lets it run.
template <class Receive>
void receive_waiting(benchmark::State& state, Receive receive) {
  in_loop(state, [&] {
    Numbers channels[8]{Numbers(1), Numbers(1), Numbers(1), Numbers(1), Numbers(1), Numbers(1), Numbers(1), Numbers(1)};
    bool stop = false;
    bight::Scope others;
    others
        .spawn([&] {
          while (!stop) receive(channels);
        })
        .detach();
    bight::yield();
    for (auto _ : state) {
      channels[5].send(1);
      bight::yield();
    }
    stop = true;
    channels[5].send(1);
  });
}

void select_waiting(benchmark::State& state) {
  receive_waiting(state, [](Numbers(&channels)[8]) { select_of_eight(channels, [](std::uint64_t) {}); });
}

void plain_waiting(benchmark::State& state) {
  receive_waiting(state, [](Numbers(&channels)[8]) { benchmark::DoNotOptimize(channels[5].receive()); });
}

// --- Threads

void std_thread_round_trip(benchmark::State& state) {
  std::binary_semaphore there(0);
  std::binary_semaphore back(0);
  bool stop = false;
  std::thread other([&] {
    for (;;) {
      there.acquire();
      if (stop) return;
      back.release();
    }
  });
  for (auto _ : state) {
    there.release();
    back.acquire();
  }
  stop = true;
  there.release();
  other.join();
}

void add(const Scale& scale) {
  const std::int64_t rounds = scale.of(256, 2);
  benchmark::RegisterBenchmark("mutex_free", mutex_free);
  benchmark::RegisterBenchmark("semaphore_free", semaphore_free);
  benchmark::RegisterBenchmark("event_set", event_set);
  benchmark::RegisterBenchmark("mutex_hand_over", mutex_hand_over, rounds);
  benchmark::RegisterBenchmark("channel_message", channel_messages, rounds)->Arg(64)->Arg(1024);
  benchmark::RegisterBenchmark("channel_round_trip", channel_round_trip, rounds)->Arg(0)->Arg(1);
  benchmark::RegisterBenchmark("select_8_ready", select_ready);
  benchmark::RegisterBenchmark("select_8_waiting", select_waiting);
  benchmark::RegisterBenchmark("receive_waiting", plain_waiting);
  benchmark::RegisterBenchmark("std_mutex_free", std_mutex_free);
  benchmark::RegisterBenchmark("std_semaphore_free", std_semaphore_free);
  benchmark::RegisterBenchmark("std_thread_round_trip", std_thread_round_trip)->UseRealTime();
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
