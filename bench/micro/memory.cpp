// SPDX-License-Identifier: Apache-2.0

// What very many fibers cost that sleep at the same time: memory and time to create each of them, time to wake it and
// join it; and whether they woke in the order of their deadlines.
//
// Everything is done twice in one process. On a virtual machine the first touch of a page may be a fault in the host,
// too, and cost several times what it costs from then on; the second pass shows what is the runtime's and the kernel's.
// Between the two, what the kernel alone takes for as many stacks: a guard page and the first touch of another one.

#include <sys/mman.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <fstream>
#include <string>
#include <vector>

#include <bight/fiber.hpp>
#include <bight/time.hpp>

#include "harness.hpp"

namespace bench::micro {
namespace {

using namespace std::chrono_literals;

double kib_of(const std::string& name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(name + ":", 0) == 0) return std::stod(line.substr(name.size() + 1));
  }
  return 0;
}

double cpu_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

struct Watch {
  double cpu = cpu_ns();
  std::chrono::steady_clock::time_point real = std::chrono::steady_clock::now();
};

// Sets NAME_ns and NAME_cpu_ns: the time since `since`, over `count`.
void report(benchmark::State& state, const std::string& name, const Watch& since, std::int64_t count) {
  const auto real = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - since.real);
  state.counters[name + "_ns"] = real.count() / static_cast<double>(count);
  state.counters[name + "_cpu_ns"] = (cpu_ns() - since.cpu) / static_cast<double>(count);
}

// What the sleepers have to say.
struct Dormitory {
  bight::TimePoint first_wake;
  std::int64_t asleep = 0;
  std::int64_t awake = 0;
  bool in_order = true;

  void sleep(std::int64_t which) {
    ++asleep;
    bight::sleep_until(first_wake + which * 100ns);
    in_order = in_order && which == awake;
    ++awake;
  }
};

// Creates `count` fibers and returns when all of them sleep.
std::vector<bight::Fiber<>> fill(Dormitory& all, std::int64_t count) {
  std::vector<bight::Fiber<>> fibers;
  fibers.reserve(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) fibers.push_back(bight::spawn([&all, i] { all.sleep(i); }));
  bight::yield();  // returns when each of them, being ahead in the queue, has gone to sleep
  return fibers;
}

// Nobody may be due before the last one sleeps, but nobody wants to wait for ever either: how long to allow for
// creating `count` fibers is tried out with a few.
bight::Duration time_to_create(std::int64_t count) {
  constexpr std::int64_t kFew = 10'000;
  const bight::TimePoint start = bight::now();
  bight::run([&] {
    Dormitory few{.first_wake = start + 10h};
    for (const bight::Fiber<>& each : fill(few, kFew)) each.cancel();
  });
  return 100ms + (bight::now() - start) * 3 * count / kFew;
}

void asleep_at_once(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  const bight::Duration allowed = time_to_create(count);
  in_loop(state, [&] {
    const double rss = kib_of("VmRSS");
    const double tables = kib_of("VmPTE");
    while (state.KeepRunningBatch(count)) {
      Dormitory all{.first_wake = bight::now() + allowed};
      const Watch creation;
      const std::vector<bight::Fiber<>> fibers = fill(all, count);
      report(state, "create", creation, count);
      if (all.asleep != count || bight::now() > all.first_wake) return fail(state, "not all slept at once");
      state.counters["rss_bytes"] = (kib_of("VmRSS") - rss) * 1024 / static_cast<double>(count);
      state.counters["page_table_bytes"] = (kib_of("VmPTE") - tables) * 1024 / static_cast<double>(count);

      bight::sleep_until(all.first_wake);
      const Watch waking;
      for (const bight::Fiber<>& each : fibers) each.join();
      report(state, "wake_join", waking, count);
      state.counters["in_order"] = all.in_order ? 1 : 0;
      if (!all.in_order || all.awake != count) return fail(state, "they did not wake in the order of their deadlines");
    }
  });
}

void bare_stacks(benchmark::State& state) {
  constexpr int kAdviseGuardInstall = 102;  // MADV_GUARD_INSTALL, newer than the distribution's headers
  constexpr std::size_t kPage = 4096;
  constexpr std::size_t kStack = 64 * 1024;
  const std::size_t bytes = static_cast<std::size_t>(state.range(0)) * kStack;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return fail(state, "mmap of the stacks failed");
  ::madvise(memory, bytes, MADV_NOHUGEPAGE);
  auto* first = static_cast<std::byte*>(memory);
  if (::madvise(first, kPage, kAdviseGuardInstall) != 0) state.SetLabel("without guards: an older kernel");
  while (state.KeepRunningBatch(state.range(0))) {
    for (std::byte* stack = first; stack != first + bytes; stack += kStack) {
      ::madvise(stack, kPage, kAdviseGuardInstall);
      stack[kStack - kPage] = std::byte{1};
    }
  }
  ::munmap(memory, bytes);
}

void add(const Scale& scale) {
  const std::int64_t count = scale.of(1'000'000, 1000);
  benchmark::RegisterBenchmark("asleep_at_once/first", asleep_at_once)->Arg(count)->Iterations(count);
  benchmark::RegisterBenchmark("bare_stacks", bare_stacks)->Arg(count)->Iterations(count);
  benchmark::RegisterBenchmark("asleep_at_once/second", asleep_at_once)->Arg(count)->Iterations(count);
}

}  // namespace
}  // namespace bench::micro

int main(int argc, char** argv) { return bench::micro::run_program(argc, argv, bench::micro::add); }
