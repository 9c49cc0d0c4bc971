// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/file_op.hpp"
#include "engine/sim_core.hpp"
#include "engine/sim_files.hpp"

namespace bight::detail {

/// Carries out operations on files: what the system calls of their names would do on a disk that may fail.
class SimFileAttempts {
 public:
  SimFileAttempts(SimCore& core, SimFiles& files, const SimDescriptors& descriptors) noexcept
      : core_(core), files_(files), descriptors_(descriptors) {}

  /// The operation's result, with faults.
  [[nodiscard]] int attempt(FileOp& op);
  /// The same without.
  [[nodiscard]] int carry_out(FileOp& op);

 private:
  [[nodiscard]] std::int64_t on_descriptor(FileOp& op);
  [[nodiscard]] int on_path(FileOp& op);
  [[nodiscard]] int open(FileOp& op);
  [[nodiscard]] int fault(const FileOp& op);
  [[nodiscard]] int transfer_fault(const FileOp& op);
  [[nodiscard]] int copy_fault(const FileOp& op);
  [[nodiscard]] int sync_fault(const FileOp& op);
  [[nodiscard]] int open_fault();
  [[nodiscard]] bool disk_full();
  void fill_disk();
  [[nodiscard]] int transfer_less(FileOp& op);
  [[nodiscard]] int copy_less(FileOp& op);

  SimCore& core_;
  SimFiles& files_;
  const SimDescriptors& descriptors_;
  TimePoint exhausted_until_{};
  TimePoint full_until_{};
};

/// How much a power failure leaves, as the seed decides: nothing, everything, or anything between.
struct SimOutage {
  explicit SimOutage(SimRandom& random) noexcept;

  double names_kept = 0;
  SimSurvival survival;
};

}  // namespace bight::detail
