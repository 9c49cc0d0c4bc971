// SPDX-License-Identifier: Apache-2.0

// What a task in a worker process costs: one at a time, there and back, and ten thousand on two workers. Beside it the
// bare round trip of 64 bytes through a socket pair between two processes, which sleep in between. multiprocessing.Pool
// is measured by process_pool.py, by the same names.

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <numeric>
#include <vector>

#include <bight/fiber.hpp>
#include <bight/process_pool.hpp>
#include <bight/time.hpp>

#include "harness.hpp"

namespace bench::micro {
namespace {

using SteadyClock = std::chrono::steady_clock;

int identity(int x) { return x; }

void report(benchmark::State& state, std::vector<double>& us) {
  if (us.empty()) return;
  std::sort(us.begin(), us.end());
  state.counters["p50_us"] = us[us.size() / 2];
  state.counters["p99_us"] = us[us.size() * 99 / 100];
}

template <class Trip>
void measure_trips(benchmark::State& state, Trip&& trip) {
  std::vector<double> us;
  for (auto _ : state) {
    const auto start = SteadyClock::now();
    trip();
    us.push_back(std::chrono::duration<double, std::micro>(SteadyClock::now() - start).count());
  }
  report(state, us);
}

void apply(benchmark::State& state) {
  in_loop(state, [&] {
    bight::ProcessPool pool({.workers = 2});
    pool.apply(identity, 0);
    int next = 0;
    measure_trips(state, [&] {
      ++next;
      if (pool.apply(identity, next) != next) fail(state, "a wrong result");
    });
  });
}

/// With a pause between tasks in which both sides go to sleep.
void apply_rarely(benchmark::State& state) {
  in_loop(state, [&] {
    bight::ProcessPool pool({.workers = 2});
    pool.apply(identity, 0);
    std::vector<double> us;
    for (auto _ : state) {
      state.PauseTiming();
      bight::sleep_for(std::chrono::milliseconds(1));
      state.ResumeTiming();
      const auto start = SteadyClock::now();
      if (pool.apply(identity, 1) != 1) fail(state, "a wrong result");
      us.push_back(std::chrono::duration<double, std::micro>(SteadyClock::now() - start).count());
    }
    report(state, us);
  });
}

void bare_round_trip(benchmark::State& state) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) return fail(state, "socketpair");
  std::array<char, 64> buffer{};
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::close(ends[0]);
    ssize_t count = 0;
    while ((count = ::recv(ends[1], buffer.data(), buffer.size(), 0)) > 0) {
      if (::send(ends[1], buffer.data(), static_cast<std::size_t>(count), MSG_NOSIGNAL) != count) break;
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  measure_trips(state, [&] {
    const auto sent = ::send(ends[0], buffer.data(), buffer.size(), MSG_NOSIGNAL);
    if (sent != ::recv(ends[0], buffer.data(), buffer.size(), MSG_WAITALL)) fail(state, "a lost message");
  });
  ::close(ends[0]);
  ::waitpid(child, nullptr, 0);
}

void map(benchmark::State& state, std::int64_t tasks) {
  in_loop(state, [&] {
    bight::ProcessPool pool({.workers = 2});
    std::vector<int> numbers(static_cast<std::size_t>(tasks));
    std::iota(numbers.begin(), numbers.end(), 0);
    static_cast<void>(pool.map(std::vector<int>(100), identity));
    while (state.KeepRunningBatch(tasks)) {
      if (pool.map(numbers, identity) != numbers) fail(state, "wrong results");
    }
  });
}

void add(const Scale& scale) {
  const std::int64_t trips = scale.of(20'000, 20);
  const std::int64_t tasks = scale.of(10'000, 50);
  benchmark::RegisterBenchmark("apply", apply)->Iterations(trips)->UseRealTime()->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("apply_rarely", apply_rarely)
      ->Iterations(scale.of(2'000, 5))
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("bare_round_trip", bare_round_trip)
      ->Iterations(trips)
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("map", map, tasks)->Iterations(5 * tasks)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
