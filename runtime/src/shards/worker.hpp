// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include <bight/time.hpp>

#include "shards/hang_watch.hpp"
#include "shards/shard_table.hpp"

namespace bight::detail {

/// A worker process, as its supervisor knows it.
struct Worker {
  pid_t pid = 0;
  WorkerSlot* slot = nullptr;
  TimePoint started{};
  bool ready = false;
  bool told_late = false;  // that it is not ready in time
  int sent = 0;            // the last signal that was to end it
  TimePoint kill_at = TimePoint::max();
  std::string verdict;  // why it was ended by force: part of what its end is called
  HangWatch hang;
};

/// The place of one shard: whoever works there, who is to follow, and who still drains.
struct Seat {
  std::size_t index = 0;
  std::optional<Worker> worker;          // starting or ready
  std::optional<Worker> successor;       // starting, to take over when it is ready
  std::vector<Worker> leaving;           // told to go
  TimePoint restart = TimePoint::max();  // when there is no worker: when there will be one
  std::vector<TimePoint> crashes;        // in a row
  unsigned boots_failed = 0;             // in a row
  TimePoint renewal_after{};             // a worker that wants a successor has to wait until then: one has failed
  bool renew = false;                    // a successor is to be started, as soon as there may be one
  bool in_reload = false;                // which is a reload's doing
  bool closed = false;                   // by SIGTTOU: nobody is to sit there any more

  [[nodiscard]] bool empty() const noexcept { return !worker && !successor && leaving.empty(); }
};

}  // namespace bight::detail
