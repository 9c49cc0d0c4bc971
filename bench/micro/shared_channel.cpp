// SPDX-License-Identifier: Apache-2.0

// Values from one loop to another, each on a thread of its own, through a SharedChannel: many in a row, and one at a
// time there and back. Beside it the barest channel between threads there is: a std::deque, a std::mutex and two
// std::condition_variables.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <bight/run.hpp>
#include <bight/shared_channel.hpp>

#include "harness.hpp"

namespace bench::micro {
namespace {

using SteadyClock = std::chrono::steady_clock;

// --- The bare channel

class BareChannel {
 public:
  explicit BareChannel(std::size_t capacity) : capacity_(capacity) {}

  void send(std::uint64_t value) {
    {
      std::unique_lock lock(mutex_);
      room_.wait(lock, [&] { return values_.size() < capacity_; });
      values_.push_back(value);
    }
    any_.notify_one();
  }
  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    any_.notify_all();
  }
  [[nodiscard]] std::optional<std::uint64_t> receive() {
    std::optional<std::uint64_t> value;
    {
      std::unique_lock lock(mutex_);
      any_.wait(lock, [&] { return closed_ || !values_.empty(); });
      if (values_.empty()) return std::nullopt;
      value = values_.front();
      values_.pop_front();
    }
    room_.notify_one();
    return value;
  }

 private:
  const std::size_t capacity_;
  std::mutex mutex_;
  std::condition_variable any_;
  std::condition_variable room_;
  std::deque<std::uint64_t> values_;
  bool closed_ = false;
};

// How either end is run.
struct Loops {
  template <class Body>
  static void run(Body&& body) {
    bight::run([&] { body(); });
  }
};
struct Threads {
  template <class Body>
  static void run(Body&& body) {
    body();
  }
};

// --- Benchmarks

template <class Channel, class Ends>
void stream(benchmark::State& state, std::int64_t values) try {
  const auto capacity = static_cast<std::size_t>(state.range(0));
  while (state.KeepRunningBatch(values)) {
    Channel channel(capacity);
    std::thread sender([&] {
      Ends::run([&] {
        for (std::int64_t i = 0; i < values; ++i) channel.send(static_cast<std::uint64_t>(i));
        channel.close();
      });
    });
    std::uint64_t expected = 0;
    bool in_order = true;
    Ends::run([&] {
      while (auto value = channel.receive()) in_order = *value == expected++ && in_order;
    });
    sender.join();
    if (!in_order || expected != static_cast<std::uint64_t>(values)) fail(state, "values were lost");
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations()));
} catch (const std::exception& error) {
  fail(state, error.what());
}

// p50_us, p99_us: half of the way there and back.
template <class Channel, class Ends>
void hop(benchmark::State& state) try {
  Channel there(16);
  Channel back(16);
  std::thread other([&] {
    Ends::run([&] {
      while (auto value = there.receive()) back.send(*value);
    });
  });
  std::vector<double> us;
  Ends::run([&] {
    for (auto _ : state) {
      const auto start = SteadyClock::now();
      there.send(us.size());
      if (back.receive() != us.size()) fail(state, "a value was lost");
      us.push_back(std::chrono::duration<double, std::micro>(SteadyClock::now() - start).count() / 2);
    }
    there.close();
  });
  other.join();
  std::sort(us.begin(), us.end());
  state.counters["p50_us"] = us[us.size() / 2];
  state.counters["p99_us"] = us[us.size() * 99 / 100];
} catch (const std::exception& error) {
  fail(state, error.what());
}

using Channel = bight::SharedChannel<std::uint64_t>;

void add(const Scale& scale) {
  const std::int64_t values = scale.of(5'000'000, 1000);
  const std::int64_t hops = scale.of(50'000, 50);
  for (const std::int64_t capacity : {16, 1024, 65536}) {
    benchmark::RegisterBenchmark("stream", stream<Channel, Loops>, values)
        ->Arg(capacity)
        ->Iterations(values)
        ->UseRealTime();
  }
  benchmark::RegisterBenchmark("stream_threads", stream<Channel, Threads>, values)
      ->Arg(1024)
      ->Iterations(values)
      ->UseRealTime();
  benchmark::RegisterBenchmark("stream_bare", stream<BareChannel, Threads>, values)
      ->Arg(1024)
      ->Iterations(values)
      ->UseRealTime();
  benchmark::RegisterBenchmark("hop", hop<Channel, Loops>)->Iterations(hops)->UseRealTime();
  benchmark::RegisterBenchmark("hop_threads", hop<Channel, Threads>)->Iterations(hops)->UseRealTime();
  benchmark::RegisterBenchmark("hop_bare", hop<BareChannel, Threads>)->Iterations(hops)->UseRealTime();
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
