// SPDX-License-Identifier: Apache-2.0
#include <bight/error.hpp>

namespace bight {

TimedOut::TimedOut(const std::string& what) : std::system_error(std::make_error_code(std::errc::timed_out), what) {}

namespace detail {

void throw_error(std::error_code error, const std::string& what) {
  if (error == std::errc::operation_canceled) throw Cancelled{};
  throw std::system_error(error, what);
}

}  // namespace detail
}  // namespace bight
