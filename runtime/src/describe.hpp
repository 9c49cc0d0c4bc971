// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string>

#include <bight/detail/fiber_control.hpp>

namespace bight::detail {

/// Appends a line: "#7 'echo' parked, waits for recv on descriptor 9, spawned at server.cpp:31".
void describe_fiber(const FiberControl& fiber, std::string& text);

/// Appends where a fiber was spawned, "server.cpp:31": `site`, unless there is an `address` instead.
void describe_site(const CallSite& site, const void* address, std::string& text);

/// Appends a frame of a stack, "serve(int)+0x1c (/usr/bin/server+0x4a10c)": the symbol if it is an exported one, and
/// what addr2line(1) takes.
void describe_frame(const void* address, std::string& text);

/// "std::runtime_error: what() said this", or the type alone.
[[nodiscard]] std::string describe_error(const std::exception_ptr& error);

/// "std::vector<int>" for what typeid calls St6vectorIiSaIiEE.
[[nodiscard]] std::string demangle(const char* name);

}  // namespace bight::detail
