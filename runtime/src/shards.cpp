// SPDX-License-Identifier: Apache-2.0
#include <bight/shards.hpp>

#include <sched.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <system_error>

#include <bight/check.hpp>

#include "loop.hpp"
#include "sanitizer_threads.hpp"
#include "shards/shard_table.hpp"
#include "shards/supervisor.hpp"

namespace bight {
namespace {

std::size_t thread_count() noexcept {
  std::error_code error;
  const auto tasks = std::filesystem::directory_iterator("/proc/self/task", error);
  return error ? 1 : static_cast<std::size_t>(std::distance(begin(tasks), end(tasks)));
}

}  // namespace

std::size_t cpu_count() noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return static_cast<std::size_t>(std::max(1, CPU_COUNT(&set)));
}

int run_shards(const ShardOptions& options, const std::function<void(Shard&)>& main) {
  BIGHT_CHECK(detail::Loop::current() == nullptr, "run_shards forks, so it must come before any loop");
  BIGHT_CHECK(thread_count() <= 1 + detail::sanitizer_threads, "run_shards forks, so it must come before any thread");
  BIGHT_CHECK(options.counters.size() <= detail::kUserCounters, "there are 16 counters of the program's own at most");
  ShardOptions complete = options;
  if (complete.count == 0) complete.count = cpu_count();
  return detail::Supervisor(complete, main).run();
}

}  // namespace bight
