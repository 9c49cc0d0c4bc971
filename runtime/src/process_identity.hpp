// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <sys/types.h>

#include <bight/fd.hpp>

namespace bight::detail {

/// Which process, in one word that fits into shared memory: its pid, and when it was started, since the system gives
/// the pid of one that has ended to another. 0: none. All processes that compare them are to see the same pids (one pid
/// namespace).
using ProcessId = std::uint64_t;

inline constexpr unsigned kPidBits = 22;  // the kernel's largest pid_max is 2^22
inline constexpr unsigned kFlagBits = 2;  // between pid and start, for the users of the word
inline constexpr ProcessId kPidMask = (ProcessId{1} << kPidBits) - 1;
inline constexpr ProcessId kIdMask = ~(((ProcessId{1} << kFlagBits) - 1) << kPidBits);

/// The calling process. Cheap but for the first time after a fork.
[[nodiscard]] ProcessId this_process() noexcept;

[[nodiscard]] constexpr pid_t pid_of(ProcessId id) noexcept { return static_cast<pid_t>(id & kPidMask); }

/// A process that is watched: by a descriptor (a pidfd) that becomes readable when it ends.
struct WatchedProcess {
  bool ended = false;  // already
  Fd fd;               // empty also where there is none to be had; then ask again later
};
[[nodiscard]] WatchedProcess watch_process(ProcessId id) noexcept;

/// Whether it has ended; a zombie has. Some microseconds.
[[nodiscard]] bool has_ended(ProcessId id) noexcept;

}  // namespace bight::detail
