// SPDX-License-Identifier: Apache-2.0

// What it costs another thread to have a loop do something: many callbacks to a loop that is busy, and one at a time to
// a loop that sleeps. The latter is mostly the kernel's wake-up of a sleeping thread, so the barest ways to do that, an
// eventfd and a futex, are measured beside it: the difference is ours.

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <future>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <bight/fiber.hpp>
#include <bight/remote.hpp>
#include <bight/stop.hpp>

#include "cores.hpp"
#include "harness.hpp"

namespace bench::micro {
namespace {

using namespace std::chrono_literals;
using SteadyClock = std::chrono::steady_clock;

// --- Where threads run

// Puts the calling thread on the first core and tells where its partner goes, until the end of the block.
class Placement {
 public:
  explicit Placement(Cores cores) : all_(allowed_cores()) {
    if (cores == Cores::two && all_.size() < 2) throw std::runtime_error("there is only one core");
    partner_ = cores == Cores::two ? all_[1] : all_[0];
    keep_to({all_[0]});
  }
  Placement(const Placement&) = delete;
  Placement& operator=(const Placement&) = delete;
  ~Placement() { keep_to(all_); }
  [[nodiscard]] int partner() const { return partner_; }

 private:
  std::vector<int> all_;
  int partner_;
};

// --- A word to sleep on

class Futex {
 public:
  // Returns when the value is no longer `old`; `spins`: without sleeping.
  void wait(std::uint32_t old, bool spins) noexcept {
    while (value_.load(std::memory_order_acquire) == old) {
      if (!spins) ::syscall(SYS_futex, &value_, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
    }
  }
  void set(std::uint32_t value) noexcept {
    value_.store(value, std::memory_order_release);
    ::syscall(SYS_futex, &value_, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }
  [[nodiscard]] std::uint32_t value() const noexcept { return value_.load(std::memory_order_acquire); }

 private:
  std::atomic<std::uint32_t> value_{0};
};

// What the one who was woken answers: when it ran, and that it did.
struct Answer {
  SteadyClock::time_point ran;
  Futex count;

  void give() noexcept {
    ran = SteadyClock::now();
    count.set(count.value() + 1);
  }
};

// --- Those who sleep

// A loop in a thread of its own whose main fiber waits for the end, with or without fibers that keep it busy.
class LoopThread {
 public:
  LoopThread(int core, int busy_fibers) {
    std::promise<bight::Remote> made;
    auto remote = made.get_future();
    thread_ = std::thread([made = std::move(made), core, busy_fibers]() mutable {
      if (core >= 0) keep_to({core});
      bight::run([&] {
        made.set_value(bight::Remote());
        for (int i = 0; i < busy_fibers; ++i) {
          bight::spawn([] {
            while (!bight::stop_requested()) bight::yield();
          }).detach();
        }
        bight::wait_for_stop();
      });
    });
    remote_.emplace_back(remote.get());
  }
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;
  ~LoopThread() {
    remote_[0].post([] { bight::request_stop(); });
    remote_.clear();
    thread_.join();
  }

  [[nodiscard]] const bight::Remote& remote() const noexcept { return remote_[0]; }

 private:
  std::vector<bight::Remote> remote_;  // one
  std::thread thread_;
};

// Each of the following sleeps until wake() and then gives the answer.

class SleepingLoop {
 public:
  SleepingLoop(int core, Answer& answer) : answer_(answer), loop_(core, 0) {}
  void wake() {
    loop_.remote().post([this] { answer_.give(); });
  }

 private:
  Answer& answer_;
  LoopThread loop_;
};

class EventfdThread {
 public:
  EventfdThread(int core, Answer& answer)
      : fd_(::eventfd(0, EFD_CLOEXEC)), thread_([this, core, &answer] {
          keep_to({core});
          std::uint64_t count = 0;
          while (::read(fd_, &count, sizeof count) > 0 && count != kEnd) answer.give();
        }) {}
  EventfdThread(const EventfdThread&) = delete;
  EventfdThread& operator=(const EventfdThread&) = delete;
  ~EventfdThread() {
    add(kEnd);
    thread_.join();
    ::close(fd_);
  }
  void wake() { add(1); }

 private:
  static constexpr std::uint64_t kEnd = 1000;
  void add(std::uint64_t count) {
    if (::write(fd_, &count, sizeof count) < 0) throw std::system_error(errno, std::generic_category(), "write");
  }
  int fd_;
  std::thread thread_;
};

class FutexThread {
 public:
  FutexThread(int core, Answer& answer)
      : thread_([this, core, &answer] {
          keep_to({core});
          for (std::uint32_t seen = 0;; ++seen) {
            word_.wait(seen, false);
            if (word_.value() == kEnd) return;
            answer.give();
          }
        }) {}
  FutexThread(const FutexThread&) = delete;
  FutexThread& operator=(const FutexThread&) = delete;
  ~FutexThread() {
    word_.set(kEnd);
    thread_.join();
  }
  void wake() { word_.set(word_.value() + 1); }

 private:
  static constexpr std::uint32_t kEnd = 0xffffffff;
  Futex word_;
  std::thread thread_;
};

// --- Benchmarks

double quantile(std::vector<double>& values, double which) {
  const auto at = static_cast<std::ptrdiff_t>(which * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

double us_between(SteadyClock::time_point from, SteadyClock::time_point to) {
  return std::chrono::duration<double, std::micro>(to - from).count();
}

// Wakes a sleeper, waits for its answer, lets it go to sleep again. p50_us and p99_us: until it ran; round_p50_us:
// until its answer was here.
template <class Sleeper>
void wake_up(benchmark::State& state, Cores cores) try {
  const Placement placement(cores);
  Answer answer;
  Sleeper sleeper(placement.partner(), answer);
  std::vector<double> until_ran;
  std::vector<double> until_answered;
  for (auto _ : state) {
    std::this_thread::sleep_for(100us);  // time to fall asleep
    const std::uint32_t before = answer.count.value();
    const auto start = SteadyClock::now();
    sleeper.wake();
    // With a core of its own this thread would be busy with other things.
    answer.count.wait(before, cores == Cores::two);
    until_answered.push_back(us_between(start, SteadyClock::now()));
    until_ran.push_back(us_between(start, answer.ran));
    state.SetIterationTime(until_ran.back() / 1e6);
  }
  state.counters["p50_us"] = quantile(until_ran, 0.5);
  state.counters["p99_us"] = quantile(until_ran, 0.99);
  state.counters["round_p50_us"] = quantile(until_answered, 0.5);
} catch (const std::exception& error) {
  fail(state, error.what());
}

// Callbacks to a loop that has fibers to run all the time, from the first post() until all have run. poster_ns: what
// the posting thread itself spent on each.
void post_busy(benchmark::State& state, Cores cores) try {
  const Placement placement(cores);
  const LoopThread loop(placement.partner(), 2);
  std::int64_t ran = 0;  // the loop's
  std::chrono::duration<double, std::nano> posting{};
  while (state.KeepRunningBatch(state.range(0))) {
    const auto start = SteadyClock::now();
    for (std::int64_t i = 1; i < state.range(0); ++i) loop.remote().post([&ran] { ++ran; });
    std::promise<std::int64_t> all;
    loop.remote().post([&] { all.set_value(++ran); });
    posting += SteadyClock::now() - start;
    all.get_future().wait();
  }
  state.counters["poster_ns"] = posting.count() / static_cast<double>(state.iterations());
  std::promise<std::int64_t> counted;
  loop.remote().post([&] { counted.set_value(ran); });
  if (counted.get_future().get() != static_cast<std::int64_t>(state.iterations())) fail(state, "callbacks were lost");
} catch (const std::exception& error) {
  fail(state, error.what());
}

void add(const Scale& scale) {
  const std::int64_t wake_ups = scale.of(3000, 20);
  const std::int64_t burst = scale.of(100'000, 100);
  auto add_wake_up = [&](const char* name, void (*function)(benchmark::State&, Cores), Cores cores) {
    benchmark::RegisterBenchmark(name, function, cores)
        ->Iterations(wake_ups)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  };
  if (allowed_cores().size() > 1) {
    benchmark::RegisterBenchmark("post_busy/two_cores", post_busy, Cores::two)->Arg(burst)->UseRealTime();
    add_wake_up("post_sleeping/two_cores", wake_up<SleepingLoop>, Cores::two);
    add_wake_up("wake_eventfd/two_cores", wake_up<EventfdThread>, Cores::two);
    add_wake_up("wake_futex/two_cores", wake_up<FutexThread>, Cores::two);
  }
  benchmark::RegisterBenchmark("post_busy/one_core", post_busy, Cores::one)->Arg(burst)->UseRealTime();
  add_wake_up("post_sleeping/one_core", wake_up<SleepingLoop>, Cores::one);
  add_wake_up("wake_eventfd/one_core", wake_up<EventfdThread>, Cores::one);
  add_wake_up("wake_futex/one_core", wake_up<FutexThread>, Cores::one);
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
