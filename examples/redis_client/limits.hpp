// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace redis {

/// What a single reply may be, at most. A server that sends more has its connection closed: what is in the way of the
/// next reply can not be skipped without reading it.
struct Limits {
  std::size_t depth_max = 32;                              ///< lists within lists
  std::size_t line_max = std::size_t{64} * 1024;           ///< bytes of a status, an error, a number
  std::size_t bulk_max = std::size_t{64} * 1024 * 1024;    ///< bytes of a string
  std::size_t elements_max = 1'000'000;                    ///< of all its lists together; a pair of a map is two
  std::size_t reply_max = std::size_t{256} * 1024 * 1024;  ///< bytes in all
};

}  // namespace redis
