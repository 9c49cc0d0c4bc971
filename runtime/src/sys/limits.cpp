// SPDX-License-Identifier: Apache-2.0
#include "sys/limits.hpp"

#include <cstdio>

namespace bight::detail::sys {

std::size_t max_map_count() noexcept {
  std::size_t value = 65530;
  if (std::FILE* file = std::fopen("/proc/sys/vm/max_map_count", "re")) {
    std::size_t read = 0;
    if (std::fscanf(file, "%zu", &read) == 1 && read > 0)
      value = read;  // NOLINT(cert-err34-c): a number the kernel wrote
    std::fclose(file);
  }
  return value;
}

}  // namespace bight::detail::sys
