// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace bight {

/// Counters of one loop since its start, and gauges of its present state. Plain reads: this_loop::stats() costs a copy.
struct LoopStats {
  // Gauges
  std::uint64_t fibers_alive = 0;
  std::uint64_t fibers_ready = 0;
  std::uint64_t timers_armed = 0;
  std::uint64_t operations_in_flight = 0;  ///< handed to the engine, not completed
  std::uint64_t descriptors_open = 0;      ///< owned by Socket objects of this loop
  std::uint64_t stacks_reserved = 0;       ///< in slabs, used or not
  std::uint64_t stacks_cached = 0;         ///< unused, memory kept
  std::uint64_t receive_buffers_lent = 0;  ///< held by Chunk objects

  // Counters
  std::uint64_t fibers_spawned = 0;
  std::uint64_t switches = 0;  ///< into a fiber
  std::uint64_t turns = 0;     ///< looks at the engine
  std::uint64_t sleeps = 0;    ///< of those, ones that could block
  std::uint64_t operations_started = 0;
  std::uint64_t operations_immediate = 0;  ///< of those, completed without waiting
  std::uint64_t operations_cancelled = 0;
  std::uint64_t timers_fired = 0;
  std::uint64_t posts = 0;           ///< callbacks that came from other threads
  std::uint64_t engine_calls = 0;    ///< io_uring_enter or epoll_wait
  std::uint64_t engine_entries = 0;  ///< submission entries (uring), epoll_ctl calls (epoll), events (sim)
  std::uint64_t unhandled_errors = 0;
  std::uint64_t stalls = 0;  ///< fibers that kept the loop for too long: RunOptions::watchdog
};

}  // namespace bight
