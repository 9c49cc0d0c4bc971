// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>

#include <cstdint>
#include <string>

namespace bight::detail {

struct SimInode;

/// An open file of the simulated kernel: what POSIX calls an open file description.
struct SimDescription {
  [[nodiscard]] bool only_path() const noexcept { return (flags & O_PATH) != 0; }
  [[nodiscard]] bool readable() const noexcept { return !only_path() && (flags & O_ACCMODE) != O_WRONLY; }
  [[nodiscard]] bool writable() const noexcept { return !only_path() && (flags & O_ACCMODE) != O_RDONLY; }

  SimInode* node;
  int flags;
  std::uint64_t serial;
  std::uint64_t cursor = 0;
  std::string path;  // as it was opened, for reports
};

}  // namespace bight::detail
