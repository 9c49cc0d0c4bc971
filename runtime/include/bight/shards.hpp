// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>

#include <bight/run.hpp>
#include <bight/time.hpp>

namespace bight {

/// How many processors this process may run on (its affinity mask, so taskset and cpusets count). At least 1.
[[nodiscard]] std::size_t cpu_count() noexcept;

/// One worker process of run_shards, as its `main` sees it.
class Shard {
 public:
  Shard(std::size_t index, std::size_t count, Duration drain) noexcept : index_(index), count_(count), drain_(drain) {}
  [[nodiscard]] std::size_t index() const noexcept {
    return index_;
  }  ///< 0 … count-1; a replacement has its predecessor's
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] Duration drain() const noexcept {
    return drain_;
  }  ///< how long it has from the stop request to its end

 private:
  std::size_t index_;
  std::size_t count_;
  Duration drain_;
};

struct ShardOptions {
  std::size_t count = 0;                      ///< worker processes; 0: cpu_count()
  Duration drain = std::chrono::seconds(10);  ///< what workers have from SIGTERM on to end
  Duration kill_after =
      std::chrono::seconds(2);  ///< from the end of that to SIGKILL: who drains to the last needs some time to leave
  Duration back_off =
      std::chrono::milliseconds(100);  ///< before a worker that crashed is replaced; doubles with each crash
  Duration back_off_max = std::chrono::seconds(10);   ///< at most this
  Duration healthy_after = std::chrono::seconds(10);  ///< a worker that lived this long starts the back-off anew
  unsigned crashes_max = 0;  ///< give up after so many crashes in a row without a healthy worker; 0: never
  RunOptions run{};          ///< of each worker's loop
  /// Called in the parent when the drain begins, before workers are sent SIGTERM. The place to close listening sockets
  /// (net::ShardedListener::close): as long as the parent has them open, clients can connect to where nobody accepts.
  std::function<void()> on_drain{};
};

/// Forks `count` worker processes and runs `main(shard)` in a loop of its own in each. What was opened before,
/// listening sockets above all, is open in every worker, and stays open in the parent, so that connections queued on it
/// outlive the worker. Call it before any thread or loop exists in the process (it checks both).
///
/// A worker that dies from a signal or exits with a status other than 0 is replaced; one that returns 0 before a stop
/// was requested is replaced too. SIGTERM or SIGINT to the parent: workers are sent SIGTERM, get `drain` to finish, and
/// SIGKILL when they are still there `kill_after` later. Workers die with the parent. Returns 0 if every worker ended
/// well after the stop; 1 if one had to be killed, failed while draining, or `crashes_max` was reached. With count 1 a
/// single worker is forked all the same. Throws std::system_error when fork fails at the start.
int run_shards(const ShardOptions& options, const std::function<void(Shard&)>& main);

}  // namespace bight
