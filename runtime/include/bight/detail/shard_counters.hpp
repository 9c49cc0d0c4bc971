// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>

namespace bight::detail {

/// What a worker counts, in memory it shares with its supervisor and the other workers. In a process that is no worker,
/// one that nobody reads.
struct ShardCounters {
  std::atomic<std::uint64_t> connections_open{0};
  std::atomic<std::uint64_t> accepted{0};
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> requests_max{0};  // at this many the worker asks to be replaced; 0: never
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "processes share them");

/// Never null. Set once, in a worker, before its loop.
extern constinit ShardCounters* shard_counters;

void ask_for_replacement() noexcept;

}  // namespace bight::detail
