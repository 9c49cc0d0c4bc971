// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace bight::detail::sys {

/// /proc/sys/vm/max_map_count; the kernel's default, 65530, where that can not be read.
[[nodiscard]] std::size_t max_map_count() noexcept;

}  // namespace bight::detail::sys
