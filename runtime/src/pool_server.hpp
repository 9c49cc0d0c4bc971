// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <bight/connection.hpp>
#include <bight/process_pool.hpp>

namespace bight::detail {

/// What a ProcessPool says to its server, the process that forks its workers. `start` brings along the worker's end of
/// its lane: the socket and the memory.
struct PoolOrder {
  enum class Kind : std::uint32_t { start, kill, finish };
  Kind kind;
  std::uint32_t worker;
};

/// What the server says.
struct PoolReport {
  enum class Kind : std::uint32_t { started, not_started, ended };
  Kind kind;
  std::uint32_t worker;
  std::int32_t value;  // the pid, the errno, or the exit status (-signal)
};

/// What goes through a lane.
struct LaneKind {
  static constexpr std::uint32_t kTask = 1;    // thunk, function, arguments
  static constexpr std::uint32_t kReady = 2;   // the worker serves
  static constexpr std::uint32_t kUnfit = 3;   // its initializer failed: a RemoteFailure
  static constexpr std::uint32_t kResult = 4;  // of the task of that ticket
  static constexpr std::uint32_t kError = 5;   // a RemoteFailure
};

/// The server's whole life, in a process without a loop and without threads: forks, reaps and reports until the other
/// end of `control` is gone, and then kills what is left; at kFinish it first waits for it.
int serve_pool(Connection& control, const ProcessPoolOptions& options);

/// A worker's whole life, in a process that serve_pool() has forked.
[[noreturn]] void run_worker(Fd socket, Fd memory, const ProcessPoolOptions& options);

}  // namespace bight::detail
