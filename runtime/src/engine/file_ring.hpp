// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <liburing.h>

#include <array>
#include <cstddef>

#include "engine/file_op.hpp"

namespace bight::detail {

/// Which operations on files this kernel's ring knows, and what an entry for each looks like.
class FileRing {
 public:
  /// Asks the kernel, and bounds the threads that it may make for operations which it can not carry out without
  /// waiting.
  void init(io_uring& ring, unsigned workers) noexcept;

  /// Whether the ring can carry out `op`; if not, a thread has to.
  [[nodiscard]] bool offers(const FileOp& op) const noexcept;

  /// Fills in the entry. `op` is one that the ring offers. An operation that would keep the submitting thread busy for
  /// long goes to the kernel's threads without an attempt.
  static void prepare(io_uring_sqe& sqe, FileOp& op) noexcept;

  /// Takes a completion. Whether the operation is over; if not, it is to be submitted once more.
  [[nodiscard]] static bool settle(FileOp& op, int result) noexcept;

 private:
  static constexpr std::size_t kCodes = 64;  // of operations; those beyond are newer than this file
  std::array<bool, kCodes> known_{};
};

}  // namespace bight::detail
