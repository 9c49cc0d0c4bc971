// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "process_identity.hpp"

namespace bight::detail {

/// How many of something each of several processes holds, in shared memory that starts as zeros. What processes held
/// that have ended comes back.
class ProcessTable {
 public:
  struct Slot {
    std::atomic<ProcessId> process;
    std::atomic<std::uint64_t> held;
  };
  [[nodiscard]] static constexpr std::size_t bytes_for(std::size_t processes) noexcept {
    return processes * sizeof(Slot);
  }

  explicit ProcessTable(std::span<Slot> slots) noexcept : slots_(slots) {}

  /// The calling process's place, taken when there was none; one thread of a process at a time. Null: all are taken by
  /// processes that live.
  [[nodiscard]] Slot* mine() noexcept;
  /// What all hold. Looks at one after the other.
  [[nodiscard]] std::uint64_t total() const noexcept;
  /// Takes away what processes hold that have ended. How many that were. Some microseconds for each process in the
  /// table.
  std::uint64_t reap() noexcept;

 private:
  std::span<Slot> slots_;
};

}  // namespace bight::detail
