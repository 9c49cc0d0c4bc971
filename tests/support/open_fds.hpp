// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <iterator>

namespace bight::test {

/// How many descriptors this process has open.
[[nodiscard]] inline std::size_t open_fds() {
  const std::filesystem::directory_iterator folder("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(folder), end(folder))) - 1;  // without the folder's own
}

}  // namespace bight::test
