// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string_view>

namespace bight::detail {

/// Reports an error that nobody will handle the way an unwatched fiber's is: RunOptions::on_unhandled_error, else a
/// line on standard error. `where` says whose it is. For the libraries built on the runtime.
void report_unhandled(const std::exception_ptr& error, std::string_view where) noexcept;

}  // namespace bight::detail
