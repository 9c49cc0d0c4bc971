// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string>

#include <bight/detail/fiber_control.hpp>

namespace bight::detail {

/// Appends a line: "#7 'echo' parked, waits for recv on descriptor 9, spawned at server.cpp:31".
void describe_fiber(const FiberControl& fiber, std::string& text);

/// "std::runtime_error: what() said this", or the type alone.
[[nodiscard]] std::string describe_error(const std::exception_ptr& error);

/// "std::vector<int>" for what typeid calls St6vectorIiSaIiEE.
[[nodiscard]] std::string demangle(const char* name);

}  // namespace bight::detail
