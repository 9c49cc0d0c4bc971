// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <bight/shards.hpp>

#include "shards/shard_table.hpp"
#include "shards/worker.hpp"

namespace bight::detail {

/// What is to be told about a supervisor and its workers.
struct StatusSource {
  const std::vector<Seat>& seats;
  const ShardTable& table;
  const std::vector<std::string>& counters;
  std::string state;  // "running", "reloading", "upgrading", "draining"
  TimePoint started;
  std::uint64_t restarts;
  std::uint64_t reloads;
};

/// For people: a line each.
[[nodiscard]] std::string status_text(const StatusSource& source);
/// For programs: one object. Names do not change, new ones may come.
[[nodiscard]] std::string status_json(const StatusSource& source);

}  // namespace bight::detail
