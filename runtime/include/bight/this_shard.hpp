// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <bight/detail/shard_counters.hpp>

/// What servers tell the supervisor of the worker process they run in, and what they may ask it. net::serve and
/// http::serve do so already. All of it may be called anywhere, by any thread; in a process that is no worker of
/// run_shards it does nothing. None waits, allocates or throws. Counting takes a few nanoseconds.
namespace bight::this_shard {

/// Whether this process is a worker of run_shards.
[[nodiscard]] bool exists() noexcept;

/// The worker is up: Shard::ready(). Only the first call counts. wait_for_stop() calls it, so every server does.
void ready() noexcept;

/// A connection has been accepted, has ended.
inline void note_accepted() noexcept {
  detail::shard_counters->accepted.fetch_add(1, std::memory_order_relaxed);
  detail::shard_counters->connections_open.fetch_add(1, std::memory_order_relaxed);
}
inline void note_closed() noexcept { detail::shard_counters->connections_open.fetch_sub(1, std::memory_order_relaxed); }

/// A request has been served; of those ShardOptions::requests_max counts. http::serve calls this once per request,
/// net::serve once per connection unless ServeOptions says that the handler does.
inline void note_request() noexcept {
  detail::ShardCounters& mine = *detail::shard_counters;
  const std::uint64_t served = mine.requests.fetch_add(1, std::memory_order_relaxed) + 1;
  if (served == mine.requests_max.load(std::memory_order_relaxed)) [[unlikely]]
    detail::ask_for_replacement();
}

/// The worker has been asked to stop while the others go on (a reload, requests_max, SIGTTOU, a binary upgrade): who
/// comes from now on is theirs, and there is time to let clients go gently.
[[nodiscard]] bool is_retiring() noexcept;

/// Whether this worker has clearly more connections open than the workers have on average. One that shares a listener
/// with the others then leaves new ones to them.
[[nodiscard]] bool has_more_than_its_share() noexcept;

/// One of the program's own counters, ShardOptions::counters, by its place in that list. Beyond it, one that nobody
/// reads. Shown by the status socket, one by one and added up, with those of workers that have ended.
[[nodiscard]] std::atomic<std::uint64_t>& counter(std::size_t place) noexcept;

}  // namespace bight::this_shard
