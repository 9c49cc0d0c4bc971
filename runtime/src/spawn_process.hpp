// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>

#include <bight/fd.hpp>

namespace bight::detail {

/// A descriptor of the parent's, and its number in the child.
struct DescriptorMove {
  int from;
  int to;
};

struct LimitChange {
  int resource;
  ::rlimit64 limit;
};

/// All that a child does between its birth and exec, prepared to the last byte: there it may neither allocate nor lock.
/// Plain data, for it is read by code that calls nothing. What it points to lives until spawn_process() has returned.
struct ProcessPlan {
  enum class Group : unsigned char { inherited, own, session };
  static constexpr int kNoTerminal = -1;
  static constexpr long kUnchanged = -1;

  const char* path = nullptr;
  char* const* arguments = nullptr;
  char* const* environment = nullptr;
  const char* directory = nullptr;  // null: the parent's
  DescriptorMove* moves = nullptr;  // in the order of `to`, of which no two are equal; all others are closed
  std::size_t move_count = 0;
  Group group = Group::inherited;
  int terminal = kNoTerminal;   // this number of the child's becomes its controlling terminal
  bool default_signals = true;  // else those that the parent ignores stay ignored,
  std::uint64_t mask = 0;       // and these are blocked: bits as the kernel has them
  long umask = kUnchanged;
  const LimitChange* limits = nullptr;
  std::size_t limit_count = 0;
  const gid_t* groups = nullptr;  // null: unchanged
  std::size_t group_count = 0;
  long group_id = kUnchanged;
  long user_id = kUnchanged;
  int death_signal = 0;  // 0: none
};

/// What went wrong.
enum class SpawnStage : unsigned char {
  clone,
  group,
  descriptors,
  directory,
  limits,
  identity,
  terminal,
  parent,
  exec
};

struct SpawnOutcome {
  pid_t pid = 0;
  Fd pidfd;
  int error = 0;  // 0: it runs
  SpawnStage stage = SpawnStage::clone;
};

/// Starts a process. The calling thread is suspended until the child executes its program (or could not): some 80 µs
/// where a processor is free for it, and milliseconds where none is. Until then the child shares the parent's memory,
/// so nothing is copied however big the parent is, and errors come back without a pipe. It runs no handler, and no code
/// but that in spawn_process.cpp.
[[nodiscard]] SpawnOutcome spawn_process(const ProcessPlan& plan) noexcept;

}  // namespace bight::detail
