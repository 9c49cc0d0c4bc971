// SPDX-License-Identifier: Apache-2.0

// What a hop to a thread that may block costs, there and back: one at a time, and many fibers at once. Beside it the
// barest pool there is, a std::mutex and a std::condition_variable, driven with the same concurrency: there a thread
// stands for each fiber, which waits on a condition variable of its own.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

#include <bight/offload.hpp>
#include <bight/scope.hpp>

#include "harness.hpp"

namespace bench::micro {
namespace {

using SteadyClock = std::chrono::steady_clock;

// --- The bare pool

class BarePool {
 public:
  explicit BarePool(std::size_t threads) {
    for (std::size_t i = 0; i < threads; ++i) {
      threads_.emplace_back([this] { work(); });
    }
  }
  BarePool(const BarePool&) = delete;
  BarePool& operator=(const BarePool&) = delete;
  ~BarePool() {
    {
      const std::lock_guard lock(mutex_);
      ends_ = true;
    }
    any_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  template <class F>
  void run(F&& f) {
    Job job;
    job.run = [](void* callable) { (*static_cast<std::remove_reference_t<F>*>(callable))(); };
    job.callable = &f;
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(&job);
    }
    any_.notify_one();
    std::unique_lock lock(job.mutex);
    job.done.wait(lock, [&] { return job.over; });
  }

 private:
  struct Job {
    void (*run)(void*) = nullptr;
    void* callable = nullptr;
    std::mutex mutex;
    std::condition_variable done;
    bool over = false;
  };

  void work() {
    for (;;) {
      Job* job = nullptr;
      {
        std::unique_lock lock(mutex_);
        any_.wait(lock, [&] { return ends_ || !jobs_.empty(); });
        if (jobs_.empty()) return;
        job = jobs_.front();
        jobs_.pop_front();
      }
      job->run(job->callable);
      const std::lock_guard lock(job->mutex);
      job->over = true;
      job->done.notify_one();  // under the lock: without it the job may be gone
    }
  }

  std::mutex mutex_;
  std::condition_variable any_;
  std::deque<Job*> jobs_;
  bool ends_ = false;
  std::vector<std::thread> threads_;
};

// --- One hop at a time

void report(benchmark::State& state, std::vector<double>& us) {
  std::sort(us.begin(), us.end());
  state.counters["p50_us"] = us[us.size() / 2];
  state.counters["p99_us"] = us[us.size() * 99 / 100];
}

template <class Hop>
void measure_hops(benchmark::State& state, Hop&& hop) {
  std::int64_t calls = 0;
  std::int64_t made = 0;
  std::vector<double> us;
  for (auto _ : state) {
    const auto start = SteadyClock::now();
    hop([&calls] { ++calls; });
    us.push_back(std::chrono::duration<double, std::micro>(SteadyClock::now() - start).count());
    ++made;
  }
  if (calls != made) fail(state, "calls were lost");
  report(state, us);
}

bight::OffloadOptions with_threads(std::int64_t threads) {
  bight::OffloadOptions options;
  options.threads_max = static_cast<std::size_t>(threads);
  return options;
}

void hop(benchmark::State& state) {
  in_loop(state, [&] {
    bight::OffloadPool pool(with_threads(1));
    measure_hops(state, [&](auto job) { pool.run(job); });
  });
}

void hop_bare(benchmark::State& state) {
  BarePool pool(1);
  measure_hops(state, [&](auto job) { pool.run(job); });
}

// --- Many callers, two threads

void throughput(benchmark::State& state, std::int64_t jobs) {
  in_loop(state, [&] {
    bight::OffloadPool pool(with_threads(2));
    std::uint64_t made = 0;
    while (state.KeepRunningBatch(jobs)) {
      bight::Scope callers;
      for (std::int64_t i = 0; i < state.range(0); ++i) {
        callers.spawn([&] {
          for (std::int64_t left = jobs / state.range(0); left > 0; --left) {
            pool.run([] {});
            ++made;
          }
        });
      }
      callers.join();
    }
    if (pool.stats().completed != made) fail(state, "jobs were lost");
  });
}

void throughput_bare(benchmark::State& state, std::int64_t jobs) {
  BarePool pool(2);
  while (state.KeepRunningBatch(jobs)) {
    std::vector<std::thread> callers;
    for (std::int64_t i = 0; i < state.range(0); ++i) {
      callers.emplace_back([&] {
        for (std::int64_t left = jobs / state.range(0); left > 0; --left) pool.run([] {});
      });
    }
    for (auto& caller : callers) caller.join();
  }
}

void add(const Scale& scale) {
  const std::int64_t hops = scale.of(100'000, 50);
  const std::int64_t jobs = scale.of(100'000, 64);
  benchmark::RegisterBenchmark("hop", hop)->Iterations(hops)->UseRealTime()->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("hop_bare", hop_bare)->Iterations(hops)->UseRealTime()->Unit(benchmark::kMicrosecond);
  for (const std::int64_t callers : {2, 16, 64}) {
    benchmark::RegisterBenchmark("offloads", throughput, jobs)->Arg(callers)->Iterations(jobs)->UseRealTime();
    benchmark::RegisterBenchmark("offloads_bare", throughput_bare, jobs)->Arg(callers)->Iterations(jobs)->UseRealTime();
  }
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
