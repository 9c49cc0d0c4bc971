// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include <bight/shards.hpp>

#include "shards/shard_table.hpp"
#include "shards/supervisor_signals.hpp"

namespace bight::detail {

/// What a worker gets from its supervisor.
struct WorkerContext {
  const ShardOptions& options;
  const std::function<void(Shard&)>& main;
  SupervisorSignals& signals;
  ShardTable& table;
  WorkerSlot& slot;
  std::size_t index;
  std::size_t count;
  std::uint64_t requests_max;
  pid_t parent;
};

/// A worker's life, in the process forked for it.
[[noreturn]] void work(const WorkerContext& context) noexcept;

}  // namespace bight::detail
